"""/etc/hosts, /etc/hostname and /etc/resolv.conf of a container: what is in them, and where they lie.

Rendering is pure. Contents are those of Docker Engine 28.5. docker-run(1), "--dns" and "--add-host".
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path

from wherry.model.containers import Container, ContainerSpec
from wherry.model.errors import Invalid
from wherry.model.networks import Endpoint
from wherry.network.dns import resolvers

_HOSTS = """\
127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::\tip6-localnet
ff00::\tip6-mcastprefix
ff02::1\tip6-allnodes
ff02::2\tip6-allrouters
"""
HOST_GATEWAY = "host-gateway"
_LARGEST = 1 << 20  # characters: a container may write its own /etc/hosts


@dataclass(frozen=True, slots=True)
class HostFiles:
    """Where the three files of one container are."""

    hosts: str
    hostname: str
    resolv_conf: str


def check_extra_host(entry: str) -> None:
    """Raise Invalid unless `entry` is NAME:ADDRESS (Docker's words)."""
    name, colon, address = entry.partition(":")
    if not colon or not name:
        raise Invalid(f'bad format for add-host: "{entry}"')
    if address == HOST_GATEWAY:
        return
    if not _is_address(address):
        raise Invalid(f'invalid IP address in add-host: "{address}"')


def check_names(spec: ContainerSpec) -> None:
    """Raise Invalid for extra hosts or resolvers that cannot be written."""
    for entry in spec.extra_hosts:
        check_extra_host(entry)
    for address in spec.dns:
        if not _is_address(address):
            raise Invalid(f"bad nameserver address: {address!r} is not an IP address")
    for text in (*spec.dns_search, *spec.dns_options, spec.hostname, spec.domainname):
        if any(character.isspace() or character == "\0" for character in text):
            raise Invalid(f"white space in {text!r}")
    if len(spec.hostname) > 64:
        raise Invalid(f"invalid hostname: {spec.hostname!r} is longer than 64 characters")


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text.strip("[]"))
    except ValueError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class DnsDefaults:
    """The daemon's --dns, --dns-search and --dns-opt: for containers that say nothing themselves."""

    servers: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
    options: tuple[str, ...] = ()

    def applied(self, spec: ContainerSpec) -> ContainerSpec:
        """Return `spec` with these where it says nothing."""
        if self == DnsDefaults():
            return spec
        return replace(
            spec,
            dns=spec.dns or self.servers,
            dns_search=spec.dns_search or self.search,
            dns_options=spec.dns_options or self.options,
        )


class Resolving(Enum):
    """Whom a container's resolver asks."""

    HOST = "host"
    """The host's network namespace: the host's servers, loopback ones too."""
    DIRECT = "direct"
    """The servers themselves, from its own network namespace."""
    SERVICE = "service"
    """127.0.0.11, which knows the other containers."""


def render_hosts(
    extra: Iterable[str],
    *,
    base: str = _HOSTS,
    gateways: Sequence[str] = (),
    lines: Iterable[str] = (),
) -> str:
    """Return /etc/hosts: the standard lines, `extra` (NAME:ADDRESS), and `lines`.

    `gateways` are the addresses that `host-gateway` stands for. Raises Invalid where there are none.
    """
    found = [base if base.endswith("\n") or not base else base + "\n"]
    for entry in extra:
        name, _, address = entry.partition(":")
        addresses: Sequence[str] = (address.strip("[]"),)
        if address == HOST_GATEWAY:
            addresses = gateways
            if not addresses:
                raise Invalid(
                    "unable to derive the IP value for host-gateway",
                    hint="there is no default bridge: set host-gateway-ip",
                )
        found += [f"{one}\t{name}\n" for one in addresses]
    found += [f"{line}\n" for line in lines]
    return "".join(found)


def own_lines(container: Container, endpoints: Iterable[Endpoint]) -> list[str]:
    """Return the lines by which a container finds its own host name, an address a line."""
    domain = container.spec.domainname
    names = f"{container.hostname}.{domain}" if domain else container.hostname
    label, dot, _ = names.partition(".")
    if dot:
        names = f"{names} {label}"
    return [
        f"{address}\t{names}"
        for endpoint in endpoints
        for address in (endpoint.ipv4, endpoint.ipv6)
        if address
    ]


def render_resolv_conf(host: str, spec: ContainerSpec, resolving: Resolving) -> str:
    """Return /etc/resolv.conf made of the host's and of `--dns`, `--dns-search`, `--dns-option`."""
    conf = resolvers.parse_resolv_conf(host)
    servers, search, options = spec.dns, spec.dns_search, spec.dns_options
    if resolving is Resolving.SERVICE:
        return resolvers.render_for_service(conf, servers=servers, search=search, options=options)
    return resolvers.render_direct(
        conf,
        servers=servers,
        search=search,
        options=options,
        host_network=resolving is Resolving.HOST,
    )


def place_files(folder: Path) -> HostFiles:
    """Return where the files of the container that owns `folder` are (whether or not they exist)."""
    base = str(folder)
    return HostFiles(f"{base}/hosts", f"{base}/hostname", f"{base}/resolv.conf")


def targets(files: HostFiles) -> tuple[tuple[str, str], ...]:
    """Return where each of them is seen inside, and its place."""
    return (
        ("/etc/resolv.conf", files.resolv_conf),
        ("/etc/hostname", files.hostname),
        ("/etc/hosts", files.hosts),
    )


def write_files(
    folder: Path,
    container: Container,
    resolving: Resolving,
    *,
    gateways: Sequence[str] = (),
    lines: Iterable[str] = (),
) -> HostFiles:
    """Write the three files below `folder` and return where they are; `lines` end /etc/hosts.

    They are written at every start and need no fsync: the next start writes them anew.
    """
    files = place_files(folder)
    spec = container.spec
    base = _read("/etc/hosts") if resolving is Resolving.HOST else _HOSTS
    hosts = render_hosts(spec.extra_hosts, base=base, gateways=gateways, lines=lines)
    _write(files.hosts, hosts)
    _write(files.hostname, f"{container.hostname}\n")
    write_resolv_conf(folder, spec, resolving)
    return files


def write_resolv_conf(folder: Path, spec: ContainerSpec, resolving: Resolving) -> None:
    """Write resolv.conf, of a running container too: it sees the same file."""
    host = read_host_resolv_conf()
    plain = not (spec.dns or spec.dns_search or spec.dns_options)
    text = host
    if not (resolving is Resolving.HOST and plain):
        text = render_resolv_conf(host, spec, resolving)
    _write(place_files(folder).resolv_conf, text)


def read_host_resolv_conf() -> str:
    """Return the host's resolv.conf; that of systemd-resolved where only its stub is named in /etc."""
    text = _read("/etc/resolv.conf")
    if resolvers.is_only_stub(resolvers.parse_resolv_conf(text)):
        return _read(resolvers.SYSTEMD) or text
    return text


def change_hosts(
    folder: Path,
    *,
    add: Iterable[str] = (),
    remove: Collection[str] = (),
    remove_names: Collection[str] = (),
) -> None:
    """Change lines of a running container's /etc/hosts, leaving what it wrote there itself.

    Lines of the addresses `remove`, or whose first name is in `remove_names`, go; `add` comes last.
    """
    path = place_files(folder).hosts
    kept: list[str] = []
    for line in _read(path).splitlines():
        words = line.split()
        if words and (words[0] in remove or (len(words) > 1 and words[1] in remove_names)):
            continue
        kept.append(line)
    _write(path, "".join(f"{line}\n" for line in (*kept, *add)))


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read(_LARGEST)
    except FileNotFoundError:
        return ""


def _write(path: str, text: str) -> None:
    # open() asks the file five things that nobody needs here; three files are written at each start.
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    try:
        data = memoryview(text.encode(errors="surrogateescape"))
        while data:
            data = data[os.write(fd, data) :]
    finally:
        os.close(fd)
