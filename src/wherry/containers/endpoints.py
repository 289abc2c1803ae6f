"""What a container asks of networks, held against the networks: endpoints, their order, names and ports. Pure.

Messages are those of Docker Engine 28.5. Source: Engine API v1.51, EndpointSettings; docker-run(1), "--network".
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from wherry.model.containers import Container, ContainerSpec
from wherry.model.errors import Invalid
from wherry.model.networks import (
    DEFAULT_BRIDGE,
    Driver,
    Endpoint,
    EndpointSpec,
    Network,
    Pool,
    PortWish,
    parse_port,
)
from wherry.network.options import interface_prefix, sysctls

HOST, NONE = "host", "none"
SHARED = (
    "container sharing network namespace with another container or host cannot be connected to any "
    "other network"
)
NOT_HOST = (
    "cannot connect container to host network - container must be created in host network mode"
)
ALONE = "container cannot be connected to multiple networks with one of the networks in private (none) mode"
BUILT_IN = frozenset({DEFAULT_BRIDGE, HOST, NONE})
DEFAULT_MODES = frozenset({"", "default"})
IFNAME_OPTION = "com.docker.network.endpoint.ifname"
_SHORT = 12
_LONGEST_LINK = 15  # IFNAMSIZ less its NUL
_MAC = re.compile(r"[0-9a-fA-F]{2}([:-][0-9a-fA-F]{2}){5}")
_NAME = re.compile(r"[^\s\0/]{1,253}")


def wanted_endpoints(spec: ContainerSpec) -> tuple[EndpointSpec, ...]:
    """Return an endpoint for each network that `spec` names, its network mode's first, or for that alone.

    Raises Invalid where one network is named twice.
    """
    mode = spec.namespaces.network
    if mode.startswith("container:") or spec.network_disabled:
        if any(wish.ipv4 or wish.ipv6 for wish in spec.endpoints if wish.network == mode):
            raise Invalid(
                f"invalid config for network {mode}: invalid endpoint settings:\n"
                "user specified IP address is supported on user defined networks only"
            )
        return ()
    by_name: dict[str, EndpointSpec] = {}
    for wish in spec.endpoints:
        name = DEFAULT_BRIDGE if wish.network in DEFAULT_MODES else wish.network
        if name in by_name:
            raise Invalid(f"network {name} is named twice")
        by_name[name] = replace(wish, network=name)
    if by_name and mode not in by_name and not spec.mac_address:
        # Whoever names networks gets these alone: the network mode's is not added.
        return tuple(by_name.values())
    first = by_name.pop(mode, EndpointSpec(mode))
    if spec.mac_address and not first.mac:
        first = replace(first, mac=spec.mac_address)
    elif spec.mac_address and spec.mac_address.lower() != first.mac.lower():
        raise Invalid(
            "the container-wide MAC address must match the endpoint-specific MAC address for the main "
            "network, or be left empty"
        )
    return (first, *by_name.values())


def check_together(networks: Iterable[Network], mode: str) -> None:
    """Raise Invalid where a container of the network mode `mode` cannot be in all of `networks` at once."""
    drivers = [network.spec.driver for network in networks]
    if len(drivers) < 2:
        return
    if Driver.HOST in drivers:
        raise Invalid(SHARED if mode == HOST else NOT_HOST)
    if Driver.NONE in drivers:
        raise Invalid(ALONE)


def check_endpoint(wish: EndpointSpec, network: Network) -> None:
    """Raise Invalid, naming all that is wrong, where `wish` cannot be had of `network`."""
    found = [
        *_problems_of_built_in(wish, network),
        *_problems_of_addresses(wish),
        *_problems_of_subnets(wish, network),
        *(f"invalid alias: {alias!r}" for alias in wish.aliases if not _NAME.fullmatch(alias)),
    ]
    try:
        sysctls(wish.options)
    except Invalid as error:
        found.append(error.message)
    found = list(dict.fromkeys(found))
    if len(found) == 1:
        raise Invalid(f"invalid endpoint settings:\n{found[0]}")
    if found:
        raise Invalid("invalid endpoint settings:\n" + "\n".join(f"* {text}" for text in found))
    if wish.mac and not _MAC.fullmatch(wish.mac):
        raise Invalid(f"invalid MAC address {wish.mac}")
    if wish.mac and int(wish.mac[:2], 16) & 1:
        raise Invalid(f"invalid MAC address {wish.mac}", hint="it is a group's, not one link's")
    name = dict(wish.options).get(IFNAME_OPTION, "")
    if name and not _is_link_name(name):
        raise Invalid(
            f"invalid interface name: {name!r}", hint="1 to 15 bytes without / or space, not lo"
        )


def _problems_of_built_in(wish: EndpointSpec, network: Network) -> Iterator[str]:
    if network.name not in BUILT_IN:
        return
    if wish.aliases:
        yield "network-scoped alias is supported only for containers in user defined networks"
    if wish.ipv4 or wish.ipv6:
        yield "user specified IP address is supported on user defined networks only"


def _problems_of_addresses(wish: EndpointSpec) -> Iterator[str]:
    if wish.ipv4 and not is_address(wish.ipv4, 4):
        yield f"invalid IPv4 address: {wish.ipv4}"
    if wish.ipv6 and not is_address(wish.ipv6, 6):
        yield f"invalid IPv6 address: {wish.ipv6}"
    for text in wish.link_local:
        if not is_address(text) or not ipaddress.ip_address(text).is_link_local:
            yield f"invalid link-local IP address: {text}"


def _problems_of_subnets(wish: EndpointSpec, network: Network) -> Iterator[str]:
    if network.name == DEFAULT_BRIDGE:
        return
    for text, version in ((wish.ipv4, 4), (wish.ipv6, 6)):
        pools = [pool for pool in network.asked if _version(pool) == version]
        if text and not pools:
            yield (
                "user specified IP address is supported only when connecting to networks with user "
                "configured subnets"
            )
        elif text and not any(_within(text, pool) for pool in pools):
            yield f"no configured subnet or ip-range contain the IP address {text}"


def is_address(text: str, version: int = 0) -> bool:
    """Return whether `text` is an address of that version (0: any)."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    return version in (0, address.version)


def _version(pool: Pool) -> int:
    return 6 if ":" in pool.subnet else 4


def _within(text: str, pool: Pool) -> bool:
    try:
        return ipaddress.ip_address(text) in ipaddress.ip_network(pool.subnet, strict=False)
    except ValueError:
        return False


def _is_link_name(name: str) -> bool:
    plain = name not in (".", "..", "lo") and not any(c.isspace() or c in "/:\0" for c in name)
    return plain and 0 < len(name.encode()) <= _LONGEST_LINK


def without(container: Container, endpoint: Endpoint) -> Container:
    """Return a container that is in one network less, and does not wish to be there."""
    wishes = tuple(w for w in container.spec.endpoints if w.network != endpoint.network)
    held = container.state.attachments
    left = tuple(e for e in held.endpoints if e.id != endpoint.id)
    state = replace(container.state, attachments=replace(held, endpoints=left))
    return replace(container, spec=replace(container.spec, endpoints=wishes), state=state)


def connect_order(endpoints: Iterable[EndpointSpec], mode: str) -> list[EndpointSpec]:
    """Return endpoints in the order in which they are made: by priority, the network mode's, by name."""
    return sorted(
        endpoints, key=lambda wish: (-wish.gateway_priority, wish.network != mode, wish.network)
    )


def gateway_order(wishes: Iterable[EndpointSpec], endpoints: Iterable[Endpoint]) -> list[str]:
    """Return the names of networks in the order in which they are asked for the way out.

    By priority; of the same one those with both families first, then by name.
    """
    both = {endpoint.network for endpoint in endpoints if endpoint.gateway4 and endpoint.gateway6}
    ranked = sorted(wishes, key=lambda w: (-w.gateway_priority, w.network not in both, w.network))
    return [wish.network for wish in ranked]


def interface_name(wish: EndpointSpec, network: Network, taken: Iterable[str]) -> str:
    """Return the name of the new interface inside: as asked, or the first free eth0, eth1, …"""
    if name := dict(wish.options).get(IFNAME_OPTION, ""):
        return name
    prefix = interface_prefix(network)
    used = frozenset(taken)
    number = 0
    while f"{prefix}{number}" in used:
        number += 1
    return f"{prefix}{number}"


def dns_names(container: Container, wish: EndpointSpec) -> tuple[str, ...]:
    """Return what others in a user-defined network call the container."""
    short = container.id[:_SHORT]
    hostname = container.hostname if container.hostname != short else ""
    names = (container.name, *wish.aliases, short, hostname)
    return tuple(dict.fromkeys(name for name in names if name))


def has_names(network: Network) -> bool:
    """Return whether containers in `network` find each other by name: those that users make."""
    return network.name not in BUILT_IN


def is_plain(network: Network) -> bool:
    """Return whether nothing is made for an endpoint: the host's own namespace, or none."""
    return network.spec.driver in (Driver.HOST, Driver.NONE)


def check_published(spec: ContainerSpec) -> None:
    """Raise Invalid for host ports and addresses that are none."""
    for port, address, host in spec.published:
        if host and _span(host) is None:
            raise Invalid(f'invalid port specification: "{host}"')
        if address and not is_address(address.strip("[]")):
            raise Invalid(f"invalid IP address: {address}", hint=f"publishing {port}")
        if "-" in port.partition("/")[0]:
            raise Invalid(f'invalid port specification: "{port.partition("/")[0]}"')


def _span(text: str) -> tuple[int, int] | None:
    first, dash, last = text.partition("-")
    start, end = parse_port(first), parse_port(last if dash else first)
    return None if start is None or end is None or start > end else (start, end)


def exposed(ports: Sequence[str]) -> list[tuple[str, int]]:
    """Return (protocol, port) of `80/tcp`, `8000-8002/udp`, sorted."""
    found: set[tuple[str, int]] = set()
    for text in ports:
        numbers, _, proto = text.partition("/")
        span = _span(numbers)
        if span is not None:
            found |= {(proto or "tcp", port) for port in range(span[0], span[1] + 1)}
    return sorted(found, key=lambda item: (item[1], item[0]))


def port_wishes(spec: ContainerSpec) -> tuple[PortWish, ...]:
    """Return what is to be published: `-p` as asked, and with `-P` every exposed port that no `-p` names.

    A binding of a port that is not exposed is passed over, as Docker does; clients expose what they bind.
    """
    known = set(exposed(spec.exposed_ports))
    wishes: list[PortWish] = []
    named: set[tuple[str, int]] = set()
    for port, address, host in spec.published:
        number, _, proto = port.partition("/")
        span = _span(host) if host else (0, 0)
        start, end = span or (0, 0)
        if (proto or "tcp", int(number)) not in known:
            continue
        named.add((proto or "tcp", int(number)))
        wishes.append(
            PortWish(
                proto or "tcp",
                int(number),
                address.strip("[]"),
                start,
                end if end != start else 0,
            )
        )
    if spec.publish_all:
        wishes += [PortWish(p, n) for p, n in sorted(known - named)]
    return tuple(wishes)
