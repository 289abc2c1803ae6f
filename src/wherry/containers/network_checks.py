"""A network's specification held against Docker's rules, before anything is made. Pure.

Messages are those of Docker Engine 28.5. Source: Engine API v1.51, `POST /networks/create`; Docker's
documentation, "Bridge network driver".
"""

from __future__ import annotations

import ipaddress

from wherry.containers.endpoints import BUILT_IN
from wherry.model.errors import Forbidden, Invalid, NotFound
from wherry.model.networks import Driver, NetworkSpec, Pool

_Net = ipaddress.IPv4Network | ipaddress.IPv6Network


class NoSuchPlugin(NotFound):
    """A driver that is none."""

    def __init__(self, name: str) -> None:
        super().__init__("plugin", name)
        self.message = f'plugin "{name}" not found'


def check_network(spec: NetworkSpec) -> None:
    """Raise Invalid, Forbidden or NotFound for a network that cannot be as it is written."""
    if not spec.name.strip():
        raise Invalid("invalid name: name is empty")
    if "\0" in spec.name or "/" in spec.name:
        raise Invalid(f"invalid name: {spec.name!r}", hint="no slash, no NUL")
    if spec.name in BUILT_IN:
        raise Forbidden(f"operation is not permitted on predefined {spec.name} network ")
    if spec.scope not in ("", "local"):
        raise Forbidden(
            "cannot create a swarm scoped network when swarm is not active"
            if spec.scope == "swarm"
            else f"cannot create a network of scope {spec.scope}"
        )
    if spec.ingress:
        raise Forbidden("Ingress network can only be global scope network")
    if spec.driver in (Driver.HOST, Driver.NONE) and not spec.config_only:
        raise Forbidden(f'only one instance of "{spec.driver}" network is allowed')
    if spec.config_only and spec.config_from:
        raise Forbidden("a configuration network cannot depend on another configuration network")
    if spec.ipam_driver not in ("", "default"):
        raise NoSuchPlugin(spec.ipam_driver)
    if not spec.ipv4 and not spec.ipv6:
        raise Invalid("IPv4 or IPv6 must be enabled")
    problems = [text for pool in spec.pools for text in pool_problems(pool)]
    if problems:
        raise Invalid("invalid network config:\n" + "\n".join(problems))
    versions = [":" in pool.subnet for pool in spec.pools]
    if spec.driver is Driver.BRIDGE and len(versions) > len(set(versions)) and not spec.config_only:
        raise Forbidden("bridge driver doesn't support multiple subnets")


def pool_problems(pool: Pool) -> list[str]:
    """Return what is wrong with one entry of IPAM.Config."""
    try:
        network: _Net = ipaddress.ip_network(pool.subnet, strict=False)
        if "/" not in pool.subnet:
            raise ValueError
    except ValueError:
        return [f"invalid subnet {pool.subnet}: invalid CIDR block notation"]
    found: list[str] = []
    if str(network) != str(ipaddress.ip_interface(pool.subnet)):
        found.append(f"invalid subnet {pool.subnet}: it should be {network}")
    if pool.ip_range:
        found += _range_problems(pool.ip_range, network)
    if pool.gateway:
        found += _address_problems("gateway", pool.gateway, network, pool.gateway)
    for name, address in pool.auxiliary:
        found += _address_problems("auxiliary address", address, network, name)
    return found


def _range_problems(text: str, network: _Net) -> list[str]:
    try:
        inner = ipaddress.ip_network(text, strict=False)
        if "/" not in text:
            raise ValueError
    except ValueError:
        return [f"invalid ip-range {text}: invalid CIDR block notation"]
    found: list[str] = []
    if str(inner) != str(ipaddress.ip_interface(text)):
        found.append(f"invalid ip-range {text}: it should be {inner}")
    if inner.version != network.version:
        found.append(f"invalid ip-range {text}: parent subnet is an IPv{network.version} block")
    elif inner.prefixlen < network.prefixlen:
        found.append(
            f"invalid ip-range {text}: CIDR block is bigger than its parent subnet {network}"
        )
    elif inner.network_address not in network:
        found.append(f"invalid ip-range {text}: parent subnet {network} doesn't contain ip-range")
    return found


def _address_problems(noun: str, text: str, network: _Net, shown: str) -> list[str]:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return [f"invalid {noun} {shown}: invalid address"]
    if address.version != network.version:
        return [f"invalid {noun} {shown}: parent subnet is an IPv{network.version} block"]
    if address not in network:
        return [f"invalid {noun} {shown}: parent subnet {network} doesn't contain this address"]
    return []
