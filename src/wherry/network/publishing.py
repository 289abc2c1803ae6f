"""From `-p` to ports, elements and listeners: which addresses, which target, what stands in for a rule. Pure.

A family is published by one map element where the container has an address of that family in a network
whose gateway translates; by the container's own address in routed mode; and by a listener where the
kernel cannot: for [::1], and for IPv6 to a container that has only IPv4.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from wherry.model.errors import Invalid
from wherry.model.networks import Driver, Endpoint, Network, PortWish, PublishedPort
from wherry.network import options
from wherry.network.addresses import parse_address
from wherry.network.ports import Candidate
from wherry.network.rules import PROTOCOLS, Element, direct_element, port_element

_PORTS = range(65536)


@dataclass(frozen=True, slots=True)
class Reach:
    """How a container is reached in one family: its address, and the network's gateway mode."""

    address: str
    mode: str
    trusted: tuple[str, ...] = ()
    """Links of the host whose neighbours may use the address."""


@dataclass(frozen=True, slots=True)
class Reaches:
    """How a container is reached; None where it has no address of the family to publish."""

    four: Reach | None = None
    six: Reach | None = None
    binding: str = ""
    """The network's own host_binding_ipv4."""


def reaches(endpoints: Iterable[Endpoint], networks: Mapping[str, Network]) -> Reaches:
    """Return where a container's ports lead: the first bridge network, of each family, that is not internal."""
    four: Reach | None = None
    six: Reach | None = None
    binding = ""
    for endpoint in endpoints:
        network = networks.get(endpoint.network_id)
        if network is None or network.spec.driver is not Driver.BRIDGE or network.spec.internal:
            continue
        if four is None and endpoint.ipv4:
            four = _reach(endpoint.ipv4, network, options.MODE4)
            binding = options.host_address(network.spec.options)
        if six is None and endpoint.ipv6:
            six = _reach(endpoint.ipv6, network, options.MODE6)
    return Reaches(four, six, binding)


def _reach(address: str, network: Network, mode: str) -> Reach:
    given = network.spec.options
    return Reach(address, options.mode(given, mode), options.trusted(given))


def check_wish(wish: PortWish) -> None:
    """Raise Invalid for what cannot be published."""
    if wish.proto not in PROTOCOLS:
        raise Invalid(f"invalid protocol: {wish.proto}", hint="tcp, udp or sctp")
    for port in (wish.container_port, wish.host_port, wish.host_port_end):
        if port not in _PORTS:
            raise Invalid(f"invalid port: {port}")
    if not wish.container_port:
        raise Invalid("invalid port: 0 of the container cannot be published")
    if wish.host_port_end and wish.host_port_end < wish.host_port:
        raise Invalid(f"invalid port range: {wish.host_port}-{wish.host_port_end}")
    if wish.host_address:
        parse_address(wish.host_address)


@dataclass(frozen=True, slots=True)
class Publication:
    """One wish resolved: host ports to take, and what is opened without any."""

    candidate: Candidate | None
    routed: tuple[PublishedPort, ...] = ()


def plan_publication(
    wish: PortWish,
    way: Reaches,
    *,
    default_address: str,
    ipv6: bool,
    ports: Iterable[int],
) -> Publication:
    """Return what one wish comes to. `default_address` is the daemon's --ip; `ipv6` whether the host has it.

    `ports` are tried in turn where the wish leaves the number open.
    """
    check_wish(wish)
    if wish.host_address:
        addresses: tuple[str, ...] = (str(parse_address(wish.host_address)),)
    elif (first := way.binding or default_address) and first != "0.0.0.0":
        addresses = (first,)
    else:
        addresses = ("0.0.0.0", "::") if ipv6 else ("0.0.0.0",)
    bound: list[str] = []
    routed: list[PublishedPort] = []
    listening: set[str] = set()
    for address in addresses:
        reach = way.six if ":" in address else way.four
        if reach is not None and reach.mode == "routed":
            routed.append(PublishedPort(wish.proto, wish.container_port, address, 0))
            continue
        if ":" in address:
            if way.six is None and (way.four is None or way.four.mode == "routed"):
                continue
            if needs_listener(address, way):
                listening.add(address)
        elif reach is None:
            continue
        bound.append(address)
    if not bound:
        return Publication(None, tuple(routed))
    if wish.host_port:
        tried: Iterable[int] = range(wish.host_port, max(wish.host_port, wish.host_port_end) + 1)
    else:
        tried = ports
    target = way.four or way.six
    return Publication(
        Candidate(
            wish.proto,
            tuple(bound),
            tried,
            wish.container_port,
            target.address if target else "",
            frozenset(listening),
        ),
        tuple(routed),
    )


def needs_listener(address: str, way: Reaches) -> bool:
    """Whether connections to a host address reach no rule: [::1], [::] for [::1]'s sake, IPv6 to IPv4."""
    return address in ("::", "::1") or (":" in address and way.six is None)


def rule_target(address: str, way: Reaches) -> str:
    """Return the container's address that a rule sends a host address to; empty where a listener does it."""
    if ":" not in address:
        return way.four.address if way.four else ""
    return way.six.address if way.six and address != "::1" else ""


def port_elements(
    ports: Iterable[PublishedPort], way: Reaches, *, allow_direct: bool
) -> tuple[Element, ...]:
    """Return what the rules have to know of ports: where they lead, and who may come by another way."""
    found: list[Element] = []
    for port in ports:
        if port.host_port and (target := rule_target(port.host_address, way)):
            where = port.proto, port.host_address, port.host_port
            found.append(port_element(*where, target, port.container_port))
        reach = way.six if ":" in port.host_address else way.four
        if reach is None:
            continue
        to = port.proto, reach.address, port.container_port
        if allow_direct or not port.host_port:
            found.append(direct_element(*to))
        else:
            found += [direct_element(*to, link) for link in reach.trusted]
    return tuple({element.identity: element for element in found}.values())


def listener_target(way: Reaches) -> str:
    """Return the container's address that a listener connects to."""
    reach = way.six or way.four
    return reach.address if reach else ""


def in_order(wishes: Sequence[PortWish]) -> list[PortWish]:
    """Return fixed ports first: an open wish must not take what a later one names."""
    return sorted(wishes, key=lambda wish: (not wish.host_port, bool(wish.host_port_end)))
