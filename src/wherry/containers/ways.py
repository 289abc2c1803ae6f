"""Where a container's default routes lead, by its networks' priorities; and its ports, asked for again. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

from wherry.model.networks import Endpoint, PortWish, PublishedPort
from wherry.model.wiring import Link, Way

_DEFAULT_WAY = "default"


def is_way_out(way: Way) -> bool:
    """Return whether it is a default route."""
    return way.to == _DEFAULT_WAY


def one_way_out(
    links: Sequence[Link], endpoints: Sequence[Endpoint], order: Sequence[str]
) -> list[Link]:
    """Return `links` with default routes only where the first network that has one gives it, by family."""
    by_interface = {endpoint.interface: endpoint.network for endpoint in endpoints}
    chosen: dict[bool, str] = {}
    ranked = sorted(links, key=lambda link: order.index(by_interface[link.name]))
    for link in ranked:
        for way in link.ways:
            if is_way_out(way):
                chosen.setdefault(_is_v6(way, link), link.name)
    return [
        replace(
            link,
            ways=tuple(
                way
                for way in link.ways
                if not is_way_out(way) or chosen[_is_v6(way, link)] == link.name
            ),
        )
        for link in links
    ]


def _is_v6(way: Way, link: Link) -> bool:
    if way.via:
        return ":" in way.via
    return all(":" in address for address in link.addresses)


def ways_out(endpoints: Collection[Endpoint], order: Sequence[str]) -> dict[str, tuple[Way, ...]]:
    """Return the default routes of a container by interface: each family's first gateway in `order`."""
    by_name = {endpoint.network: endpoint for endpoint in endpoints}
    found: dict[str, tuple[Way, ...]] = {}
    for field in ("gateway4", "gateway6"):
        for name in order:
            endpoint = by_name.get(name)
            gateway: str = getattr(endpoint, field) if endpoint is not None else ""
            if endpoint is not None and gateway:
                way = Way(_DEFAULT_WAY, gateway)
                found[endpoint.interface] = (*found.get(endpoint.interface, ()), way)
                break
    return found


def rewished(ports: Iterable[PublishedPort]) -> tuple[PortWish, ...]:
    """Return wishes for just these ports."""
    return tuple(
        PortWish(port.proto, port.container_port, port.host_address, port.host_port)
        for port in ports
    )
