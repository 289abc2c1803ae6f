"""`-p` and `--expose`: the Engine API's ExposedPorts and PortBindings."""

from __future__ import annotations

from wherry.cli.failure import Failure
from wherry.model.literals import quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_PROTOCOLS = ("tcp", "udp", "sctp")


def _range(text: str) -> tuple[int, int] | None:
    """The first and last port of `80` or `80-82`, or None."""
    first, dash, last = text.partition("-")
    words = (first, last) if dash else (first, first)
    if not all(w.isascii() and w.isdecimal() and int(w) < 65536 for w in words):
        return None
    start, end = int(words[0]), int(words[1])
    return (start, end) if start <= end else None


def published_ports(
    specs: list[str],
) -> tuple[dict[str, dict[str, Any]], dict[str, list[dict[str, str]]]]:
    """Return ExposedPorts and PortBindings of the `-p` specs. Raises Failure (125)."""
    exposed: dict[str, dict[str, Any]] = {}
    bindings: dict[str, list[dict[str, str]]] = {}
    for spec in specs:
        for port, binding in _published(_short(spec)):
            exposed[port] = {}
            bindings.setdefault(port, []).append(binding)
    return exposed, bindings


def _short(spec: str) -> str:
    """The long form `published=8080,target=80` as `8080:80/tcp`."""
    if "=" not in spec:
        return spec
    words: dict[str, str] = {}
    for field in spec.split(","):
        key, _, value = field.partition("=")
        words[key.lower()] = value
    return f"{words.get('published', '')}:{words.get('target', '')}/{words.get('protocol', 'tcp')}"


def _published(spec: str) -> list[tuple[str, dict[str, str]]]:
    rest, _, protocol = spec.partition("/")
    protocol = protocol.lower() or "tcp"
    head, _, container = rest.rpartition(":")
    address, _, host = head.rpartition(":")
    if address.startswith("[") and address.endswith("]"):
        address = address[1:-1]
    if not container:
        raise Failure(f"no port specified: {spec}<empty>", 125)
    ports = _range(container)
    if ports is None:
        raise Failure(f"invalid containerPort: {container}", 125)
    hosts = _range(host) if host else None
    if host and hosts is None:
        raise Failure(f"invalid hostPort: {host}", 125)
    if address and not _is_address(address):
        raise Failure(f"invalid IP address: {address}", 125)
    if protocol not in _PROTOCOLS:
        raise Failure(f"invalid proto: {protocol}", 125)
    count = ports[1] - ports[0]
    if hosts is not None and hosts[1] - hosts[0] != count and count:
        raise Failure(
            f"invalid ranges specified for container and host Ports: {container} and {host}", 125
        )
    out: list[tuple[str, dict[str, str]]] = []
    for i in range(count + 1):
        host_port = ""
        if hosts is not None:
            free_choice = count == 0 and hosts[0] != hosts[1]
            host_port = f"{hosts[0]}-{hosts[1]}" if free_choice else str(hosts[0] + i)
        out.append((f"{ports[0] + i}/{protocol}", {"HostIp": address, "HostPort": host_port}))
    return out


def _is_address(text: str) -> bool:
    import ipaddress

    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def exposed_ports(specs: list[str]) -> list[str]:
    """Return the `port/protocol` names that `--expose` lists. Raises Failure (125)."""
    out: list[str] = []
    for spec in specs:
        if ":" in spec:
            raise Failure(f"invalid port format for --expose: {spec}", 125)
        ports, _, protocol = spec.partition("/")
        span = _range(ports)
        if span is None:
            raise Failure(f"invalid range format for --expose: {spec}, error: {_why(ports)}", 125)
        out += [f"{port}/{protocol.lower() or 'tcp'}" for port in range(span[0], span[1] + 1)]
    return out


def _why(ports: str) -> str:
    if not ports:
        return "empty string specified for ports"
    for word in ports.split("-", 1):
        if not (word.isascii() and word.isdecimal()):
            return f"strconv.ParseUint: parsing {quote(word)}: invalid syntax"
        if int(word) > 65535:
            return f"strconv.ParseUint: parsing {quote(word)}: value out of range"
    return f"invalid range specified for port: {ports}"
