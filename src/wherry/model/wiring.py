"""What the supervisor makes of a container's networks: decided before anything is made, performed as it is.

`Link` is the plan of one interface. A module of its own, since the supervisor and its slots need no more
of networks.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

Pairs = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Way:
    """A route inside: `to` is a prefix or `default`; an empty `via` means on the link itself."""

    to: str
    via: str = ""
    source: str = ""
    metric: int = 0


class LinkKind(StrEnum):
    """What is made: a pair whose outer end is a port of a bridge, or a child of a host's link."""

    VETH = "veth"
    MACVLAN = "macvlan"
    IPVLAN = "ipvlan"


@dataclass(frozen=True, slots=True)
class Link:
    """The plan of one interface of a container, performed by the supervisor; nothing is looked up then."""

    kind: LinkKind
    parent: str
    """The bridge (veth) or the parent link (macvlan, ipvlan)."""
    name: str
    """Inside."""
    host_name: str = ""
    """Outside; veth only. 15 bytes at most."""
    alias: str = ""
    """IFLA_IFALIAS: whose it is."""
    mac: str = ""
    mtu: int = 0
    """0: the kernel's own."""
    addresses: tuple[str, ...] = ()
    """With prefix lengths, both families."""
    ways: tuple[Way, ...] = ()
    ipv6: bool = False
    """False: disable_ipv6 is set on it."""
    isolated: bool = False
    """The port cannot talk to other isolated ports of its bridge (enable_icc=false)."""
    mode: str = ""
    """macvlan and ipvlan: bridge, l2, l3, …"""
    sysctls: Pairs = ()
    """(name with IFNAME in it, value): com.docker.network.endpoint.sysctls."""


@dataclass(frozen=True, slots=True)
class Wiring:
    """All that a network namespace gets before the first program in it runs."""

    links: tuple[Link, ...] = ()
    name_service: bool = False
    """Sockets for 127.0.0.11 are opened inside and handed to wherryd with the answer."""
