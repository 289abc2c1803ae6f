"""Which subnets a network gets: those asked for, checked, or the first free one of the defaults. Pure."""

from __future__ import annotations

import bisect
import functools
import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from wherry.model.errors import Forbidden, Full, Invalid
from wherry.model.networks import Network, NetworkSpec, Pool
from wherry.network.addresses import Subnet, parse_address, parse_subnet
from wherry.network.settings import PoolSource

_LONGEST4 = 30


@dataclass(frozen=True, slots=True)
class Use:
    """A prefix that is in use, and by whom."""

    subnet: Subnet
    holder: str
    network: bool = True
    """Whether a network of this engine has it, and not the host."""


@functools.lru_cache(8192)
def _parse(prefix: str) -> Subnet:
    """The same thousands of prefixes are looked at whenever a network is made."""
    return ipaddress.ip_network(prefix, strict=False)


def uses_of(networks: Iterable[Network]) -> list[Use]:
    """Return the subnets of networks."""
    return [
        Use(_parse(pool.subnet), network.name)
        for network in networks
        for pool in network.spec.pools
        if pool.subnet
    ]


def uses_of_routes(prefixes: Iterable[str]) -> list[Use]:
    """Return the host's routes that a default subnet must not cover; the default route says nothing."""
    found = map(_parse, prefixes)
    return [
        Use(subnet, "a route of the host", network=False) for subnet in found if subnet.prefixlen
    ]


def choose_pools(
    spec: NetworkSpec, taken: Sequence[Use], sources: Sequence[PoolSource], *, ipv6: bool
) -> tuple[Pool, ...]:
    """Return the pools of a network about to be made: the wanted ones, and of the defaults what is missing.

    Raises Invalid, Forbidden for an overlap, Full when the defaults are used up.
    """
    chosen: list[Pool] = []
    held = list(taken)
    for pool in spec.pools:
        fixed = _check_pool(pool, held, sources)
        if spec.ipv6 is False and ":" in fixed.subnet:
            continue  # switched off: nobody gets an address of it
        held.append(Use(ipaddress.ip_network(fixed.subnet), f"{spec.name} itself"))
        chosen.append(fixed)
    versions = {ipaddress.ip_network(pool.subnet).version for pool in chosen}
    if spec.ipv4 and 4 not in versions:
        chosen.insert(0, Pool(str(next_free(4, sources, held))))
    if ipv6 and 6 not in versions:
        chosen.append(Pool(str(next_free(6, sources, held))))
    if not chosen:
        raise Invalid("IPv4 and IPv6 are both disabled: the network would have no addresses")
    return tuple(chosen)


def _check_pool(pool: Pool, held: Sequence[Use], sources: Sequence[PoolSource]) -> Pool:
    """Return one wanted pool in canonical form. Raises Invalid, Forbidden."""
    if not pool.subnet:
        if pool.gateway:
            subnet = next_free(parse_address(pool.gateway).version, sources, held)
        elif pool.ip_range:
            raise Invalid(f"invalid ip-range {pool.ip_range}: it needs a subnet")
        else:
            subnet = next_free(4, sources, held)
    else:
        subnet = parse_subnet(pool.subnet)
        for use in held:
            if use.network and use.subnet.version == subnet.version and use.subnet.overlaps(subnet):
                raise Forbidden(
                    "invalid pool request: Pool overlaps with other one on this address space",
                    hint=f"{subnet} overlaps {use.subnet} of {use.holder}",
                )
    inner = parse_subnet(pool.ip_range, "ip-range") if pool.ip_range else None
    if inner is not None and (
        inner.version != subnet.version
        or not (inner.network_address in subnet and inner.broadcast_address in subnet)
    ):
        raise Invalid(f"invalid ip-range {inner}: it lies outside of the subnet {subnet}")
    gateway = parse_address(pool.gateway) if pool.gateway else None
    if gateway is not None and gateway not in subnet:
        raise Invalid(f"invalid gateway address {gateway}: it lies outside of the subnet {subnet}")
    for name, address in pool.auxiliary:
        if parse_address(address) not in subnet:
            raise Invalid(f"auxiliary address {name}={address} lies outside of the subnet {subnet}")
    return Pool(
        str(subnet),
        str(inner) if inner else "",
        str(gateway) if gateway else "",
        tuple((name, str(parse_address(address))) for name, address in pool.auxiliary),
    )


def next_free(version: int, sources: Sequence[PoolSource], held: Sequence[Use]) -> Subnet:
    """Return the first subnet of the defaults that overlaps nothing. Raises Full naming the holders.

    Candidates and uses are walked in order, so a thousand networks cost a thousand steps.
    """
    spans = sorted(
        (int(use.subnet.network_address), int(use.subnet.broadcast_address))
        for use in held
        if use.subnet.version == version
    )
    # Uses may lie in each other: the farthest end so far decides.
    ends: list[int] = []
    for _, end in spans:
        ends.append(max(end, ends[-1]) if ends else end)
    starts = [start for start, _ in spans]
    for base, length in sources:
        network = ipaddress.ip_network(base)
        if network.version != version:
            continue
        size = 1 << ((32 if version == 4 else 128) - length)
        first, last = int(network.network_address), int(network.broadcast_address)
        while first + size - 1 <= last:
            # Of the uses that start at or before this candidate's end, one that ends inside it or later?
            index = bisect.bisect_right(starts, first + size - 1)
            if not index or ends[index - 1] < first:
                kind = ipaddress.IPv4Network if version == 4 else ipaddress.IPv6Network
                return kind((first, length))
            first += size * max(1, -(-(ends[index - 1] + 1 - first) // size))
    raise Full(
        "all predefined address pools have been fully subnetted",
        hint=f"{_name_holders(version, held)}; say --subnet, or give the daemon more by "
        "--default-address-pool",
    )


def _name_holders(version: int, held: Sequence[Use]) -> str:
    names = sorted({use.holder for use in held if use.network and use.subnet.version == version})
    others = sum(1 for use in held if not use.network and use.subnet.version == version)
    said = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    own = (
        f"IPv{version} addresses are held by the networks {said}"
        if names
        else "no network holds any"
    )
    return f"{own}; {others} routes of the host are in the way" if others else own


def check_sources(sources: Sequence[PoolSource]) -> None:
    """Raise Invalid for a default pool that cannot be cut up."""
    for base, length in sources:
        network = parse_subnet(base, "default address pool base")
        most = _LONGEST4 if network.version == 4 else 126
        if not network.prefixlen <= length <= most:
            raise Invalid(
                f"invalid default address pool: {base} cannot be cut into networks of /{length}"
            )
