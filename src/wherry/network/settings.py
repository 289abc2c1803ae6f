"""What the daemon's configuration says of networks, under the names of Docker's options."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

from wherry.model.networks import NetworkSpec

PoolSource = tuple[str, int]
"""A prefix, and the length of the networks that are cut out of it."""

DEFAULT_POOLS: tuple[PoolSource, ...] = (
    ("172.17.0.0/16", 16),
    ("172.18.0.0/16", 16),
    ("172.19.0.0/16", 16),
    ("172.20.0.0/14", 16),
    ("172.24.0.0/14", 16),
    ("172.28.0.0/14", 16),
    ("192.168.0.0/16", 20),
)
"""Docker's own, so that what a site has set aside for it does for wherry."""


@dataclass(frozen=True, slots=True)
class NetworkSettings:
    """How networks are made where their makers do not say."""

    pools: tuple[PoolSource, ...] = ()
    """Empty: DEFAULT_POOLS, and for IPv6 a prefix of the engine's own."""
    bridge: str = ""
    """`none`: no default bridge; a name: that link is used as it is."""
    bip: str = ""
    bip6: str = ""
    fixed_cidr: str = ""
    fixed_cidr6: str = ""
    default_gateway: str = ""
    default_gateway6: str = ""
    ip: str = ""
    """The host's address that ports are published on where nobody says one."""
    ipv6: bool | None = None
    """None: where the host has it."""
    icc: bool = True
    mtu: int = 0
    firewall: bool = True
    """--iptables."""
    allow_direct: bool = False
    """--allow-direct-routing: published ports are reached by containers' own addresses too."""
    defaults: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = ()
    """--default-network-opt: by driver, the options of networks whose makers say nothing of them."""
    ip_masq: bool = True
    ip_forward: bool = True
    ip_forward_no_drop: bool = False
    forward_accept: bool = True
    """firewall-allow-forward: others' chains that drop by policy get a rule for our links."""


def local_prefix(engine_id: str) -> str:
    """Return the engine's unique local prefix: fd and forty bits of the id's digest (RFC 4193)."""
    digest = hashlib.sha256(f"wherry {engine_id}".encode()).hexdigest()
    return f"fd{digest[0:2]}:{digest[2:6]}:{digest[6:10]}::/48"


def sources(settings: NetworkSettings, engine_id: str) -> tuple[PoolSource, ...]:
    """Return where subnets are taken from, both families."""
    pools = settings.pools or DEFAULT_POOLS
    if not any(":" in base for base, _ in pools):
        pools = (*pools, (local_prefix(engine_id), 64))
    if all(":" in base for base, _ in pools):
        pools = (*DEFAULT_POOLS, *pools)
    return pools


def with_defaults(spec: NetworkSpec, settings: NetworkSettings) -> NetworkSpec:
    """Return `spec` with the driver's default options where it says nothing of them."""
    said = dict(dict(settings.defaults).get(str(spec.driver), ())) | dict(spec.options)
    return replace(spec, options=tuple(sorted(said.items())))
