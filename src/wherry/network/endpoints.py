"""What a container gets of a network: its addresses' facts, and the plan of its link. Pure."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, replace

from wherry.kernel.links import pack_mac
from wherry.model.errors import Invalid
from wherry.model.networks import Driver, Endpoint, EndpointSpec, Network, Pool
from wherry.model.wiring import Link, LinkKind, Way
from wherry.network import naming, options
from wherry.network.addresses import GATEWAY, Space, parse_address, parse_subnet

_KINDS = {Driver.MACVLAN: LinkKind.MACVLAN, Driver.IPVLAN: LinkKind.IPVLAN}
_LINK_LOCAL4, _LINK_LOCAL6 = 16, 64


def make_spaces(network: Network) -> list[Space]:
    """Return the addresses of a network, its gateways and auxiliary ones taken. Raises Invalid, Conflict."""
    found: list[Space] = []
    for pool in network.spec.pools:
        inner = parse_subnet(pool.ip_range, "ip-range") if pool.ip_range else None
        space = Space.of(network.name, parse_subnet(pool.subnet), inner)
        if pool.gateway:
            space.claim_gateway(pool.gateway)
        for name, address in pool.auxiliary:
            space.claim_auxiliary(name, address)
        found.append(space)
    return found


def with_gateways(network: Network) -> Network:
    """Return the network with a gateway in each pool: the one that was asked for, or the first address."""
    fixed: list[Pool] = []
    for pool in network.spec.pools:
        if not pool.gateway:
            inner = parse_subnet(pool.ip_range, "ip-range") if pool.ip_range else None
            space = Space.of(network.name, parse_subnet(pool.subnet), inner)
            for name, address in pool.auxiliary:
                space.claim_auxiliary(name, address)
            pool = replace(pool, gateway=str(space.take(GATEWAY)))
        fixed.append(pool)
    return replace(network, spec=replace(network.spec, pools=tuple(fixed)))


def parse_mac(text: str) -> str:
    """Return a MAC address in canonical form; empty stays empty. Raises Invalid."""
    if not text:
        return ""
    try:
        return pack_mac(text).hex(":")
    except ValueError:
        raise Invalid(f"invalid MAC address: {text}") from None


def plan_endpoint(
    network: Network, interface: str, mac: str, ipv4: str, ipv6: str, *, gateways: tuple[str, str]
) -> Endpoint:
    """Return the endpoint of a container whose addresses are taken; `gateways` are the network's."""
    endpoint_id = naming.new_endpoint_id()
    driver = network.spec.driver
    return Endpoint(
        id=endpoint_id,
        network_id=network.id,
        network=network.name,
        interface=interface,
        host_link=naming.endpoint_link(endpoint_id) if driver is Driver.BRIDGE else "",
        # An ipvlan child has its parent's.
        mac="" if driver is Driver.IPVLAN else mac or naming.endpoint_mac(ipv4, ipv6),
        ipv4=ipv4,
        prefix4=_length(network, ipv4),
        gateway4=gateways[0],
        ipv6=ipv6,
        prefix6=_length(network, ipv6),
        gateway6=gateways[1],
    )


def gateway_of(network: Network, address: str) -> str:
    """Return what the default route of a container with this address leads to; empty where nothing does."""
    pool = _pool_of(network, address)
    if pool is None or network.spec.internal:
        return ""
    chosen = options.MODE6 if ":" in address else options.MODE4
    return "" if options.mode(network.spec.options, chosen) == "isolated" else pool.gateway


def _pool_of(network: Network, address: str) -> Pool | None:
    if not address:
        return None
    parsed = ipaddress.ip_address(address)
    return next(
        (pool for pool in network.spec.pools if parsed in ipaddress.ip_network(pool.subnet)), None
    )


def _length(network: Network, address: str) -> int:
    pool = _pool_of(network, address)
    return ipaddress.ip_network(pool.subnet).prefixlen if pool else 0


@dataclass(frozen=True, slots=True)
class Placing:
    """What a link's plan depends on besides network and endpoint."""

    alias: str
    default4: bool
    default6: bool
    isolated: bool


def plan_link(network: Network, endpoint: Endpoint, wish: EndpointSpec, placing: Placing) -> Link:
    """Return the plan of a container's link. Raises Invalid for a wish that cannot be."""
    driver = network.spec.driver
    mode = child_mode(network)
    addresses = [f"{endpoint.ipv4}/{endpoint.prefix4}"] if endpoint.ipv4 else []
    addresses += [f"{endpoint.ipv6}/{endpoint.prefix6}"] if endpoint.ipv6 else []
    for address in wish.link_local:
        length = _LINK_LOCAL6 if parse_address(address).version == 6 else _LINK_LOCAL4
        addresses.append(f"{address}/{length}")
    ways: list[Way] = []
    for wanted, address, gateway, every in (
        (placing.default4, endpoint.ipv4, endpoint.gateway4, "0.0.0.0/0"),
        (placing.default6, endpoint.ipv6, endpoint.gateway6, "::/0"),
    ):
        if not wanted or not address:
            continue
        if driver is Driver.IPVLAN and mode.startswith("l3"):
            ways.append(Way(every))
        elif gateway:
            ways.append(Way("default", gateway))
    return Link(
        kind=_KINDS.get(driver, LinkKind.VETH),
        parent=network.link,
        name=endpoint.interface,
        host_name=endpoint.host_link,
        alias=placing.alias,
        mac=endpoint.mac,
        mtu=options.mtu(network.spec.options, ipv6=bool(endpoint.ipv6)),
        addresses=tuple(addresses),
        ways=tuple(ways),
        ipv6=bool(endpoint.ipv6) or any(":" in address for address in wish.link_local),
        isolated=placing.isolated,
        mode=mode,
        sysctls=options.sysctls(wish.options),
    )


def child_mode(network: Network) -> str:
    """Return the mode of a macvlan or ipvlan child; empty for others."""
    given = dict(network.spec.options)
    match network.spec.driver:
        case Driver.MACVLAN:
            return given.get("macvlan_mode", "") or "bridge"
        case Driver.IPVLAN:
            flag = given.get("ipvlan_flag", "")
            return (given.get("ipvlan_mode", "") or "l2") + (f"/{flag}" if flag else "")
        case _:
            return ""
