"""Networks as wanted and as made: what is created, what a container asks of one, and what it then has.

Fields bear Docker's names in snake case; an empty text or tuple means that nobody said. Addresses are
texts in canonical form. Source: Engine API v1.51, Network, IPAM and EndpointSettings.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from wherry.model.literals import parse_number
from wherry.model.wiring import Pairs as Pairs

DEFAULT_BRIDGE = "bridge"
"""The name of the network that `--network` means when it is left out."""


def parse_port(text: str) -> int | None:
    """Return the port number that `text` is, None for anything else."""
    return parse_number(text, 65535)


class Driver(StrEnum):
    """How a network is made; the name in the API."""

    BRIDGE = "bridge"
    HOST = "host"
    NONE = "null"
    MACVLAN = "macvlan"
    IPVLAN = "ipvlan"


@dataclass(frozen=True, slots=True)
class Pool:
    """One entry of IPAM.Config; `auxiliary` are (name, address) that are not given out."""

    subnet: str
    ip_range: str = ""
    gateway: str = ""
    auxiliary: Pairs = ()


@dataclass(frozen=True, slots=True)
class NetworkSpec:
    """What `POST /networks/create` asks for, parsed. `pools` may be empty: the engine chooses."""

    name: str
    driver: Driver = Driver.BRIDGE
    pools: tuple[Pool, ...] = ()
    ipv4: bool = True
    ipv6: bool | None = None
    """None: not said."""
    internal: bool = False
    attachable: bool = False
    ingress: bool = False
    scope: str = "local"
    options: Pairs = ()
    labels: Pairs = ()
    ipam_driver: str = "default"
    ipam_options: Pairs | None = None
    config_only: bool = False
    config_from: str = ""


@dataclass(frozen=True, slots=True)
class Network:
    """One network, whole: the row that the database keeps. `spec.pools` are the ones in use.

    `link` is the bridge, or the parent of a macvlan or ipvlan; empty for host and none.
    """

    id: str
    spec: NetworkSpec
    created: int
    """Nanoseconds since the epoch."""
    link: str = ""
    asked: tuple[Pool, ...] = ()
    """The pools as the user wrote them, for inspect; empty where the engine chose."""

    @property
    def name(self) -> str:
        """The name that users know it by."""
        return self.spec.name


@dataclass(frozen=True, slots=True)
class EndpointSpec:
    """What one container asks of one network: EndpointSettings of create and connect."""

    network: str
    """A name, an id or the start of one, as written."""
    aliases: tuple[str, ...] = ()
    links: tuple[str, ...] = ()
    """NAME or NAME:ALIAS."""
    ipv4: str = ""
    ipv6: str = ""
    link_local: tuple[str, ...] = ()
    mac: str = ""
    gateway_priority: int = 0
    options: Pairs = ()
    network_id: str = ""
    """Which network that was when the container was last started or connected; empty before."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """What a running container has in one network. Addresses without prefix; lengths beside them."""

    id: str
    """64 hex digits."""
    network_id: str
    network: str
    interface: str
    """The name inside, `eth0`."""
    host_link: str = ""
    """The name outside; empty where the interface is all there is (macvlan, ipvlan)."""
    mac: str = ""
    ipv4: str = ""
    prefix4: int = 0
    gateway4: str = ""
    ipv6: str = ""
    prefix6: int = 0
    gateway6: str = ""
    names: tuple[str, ...] = ()
    """What others in the network resolve to it: DNSNames."""
    unsettled: bool = False
    """A connect or disconnect of the running container is under way: a new daemon takes it away."""


@dataclass(frozen=True, slots=True)
class PublishedPort:
    """One port of a container as it is reached from outside; `proto` is tcp, udp or sctp."""

    proto: str
    container_port: int
    host_address: str
    """As bound: 0.0.0.0, ::, 127.0.0.1, …"""
    host_port: int
    """0: none, the port is open at the container's own address (gateway mode `routed`)."""


@dataclass(frozen=True, slots=True)
class Attachments:
    """What a running container has of networks: kept with its observed state, empty when it ends."""

    endpoints: tuple[Endpoint, ...] = ()
    ports: tuple[PublishedPort, ...] = ()
    served: bool = False
    """It asks 127.0.0.11, as it does from its first network with names until it ends."""


@dataclass(frozen=True, slots=True)
class PortWish:
    """One `-p` as asked: a host port of 0 means any free one, a range any free one of it."""

    proto: str
    container_port: int
    host_address: str = ""
    host_port: int = 0
    host_port_end: int = 0
    """0: no range."""


@dataclass(frozen=True, slots=True)
class BridgePlan:
    """What the host has of one bridge network: the link, its addresses, and what the rules say of it."""

    network_id: str
    link: str
    alias: str
    gateways: tuple[str, ...] = ()
    """Addresses of the bridge with prefix lengths; empty with internal networks in isolated mode."""
    subnets: tuple[str, ...] = ()
    mtu: int = 0
    internal: bool = False
    icc: bool = True
    masquerade: bool = True
    mode4: str = "nat"
    """gateway_mode: nat, nat-unprotected, routed, isolated."""
    mode6: str = "nat"
    source4: str = ""
    """The host's address that containers go out with; empty for that of the link they leave by."""
    source6: str = ""
    adopted: bool = False
    """The link was there before (--bridge): its addresses are left alone and it is never deleted."""
    options: Pairs = field(default=())
