"""Docker's options of a bridge network (`-o com.docker.network.…`), read into a plan. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from wherry.model.errors import Invalid
from wherry.model.literals import parse_bool, parse_number
from wherry.model.networks import BridgePlan, Driver, Network, NetworkSpec, Pairs
from wherry.network.naming import Naming, check_link_name, network_link

_BRIDGE = "com.docker.network.bridge."
NAME = _BRIDGE + "name"
ICC = _BRIDGE + "enable_icc"
MASQUERADE = _BRIDGE + "enable_ip_masquerade"
HOST_ADDRESS = _BRIDGE + "host_binding_ipv4"
MODE4 = _BRIDGE + "gateway_mode_ipv4"
MODE6 = _BRIDGE + "gateway_mode_ipv6"
TRUSTED = _BRIDGE + "trusted_host_interfaces"
SOURCE4 = "com.docker.network.host_ipv4"
SOURCE6 = "com.docker.network.host_ipv6"
INHIBIT = _BRIDGE + "inhibit_ipv4"
DEFAULT = _BRIDGE + "default_bridge"
MTU = "com.docker.network.driver.mtu"
PREFIX = "com.docker.network.container_iface_prefix"
SYSCTLS = "com.docker.network.endpoint.sysctls"
MODES = ("nat", "nat-unprotected", "routed", "isolated")
_CHILD_MODES = {
    Driver.MACVLAN: {"macvlan_mode": (("private", "vepa", "bridge", "passthru"), "bridge")},
    Driver.IPVLAN: {
        "ipvlan_mode": (("l2", "l3", "l3s"), "l2"),
        "ipvlan_flag": (("bridge", "private", "vepa"), "bridge"),
    },
}
_SMALLEST_MTU, _LARGEST_MTU = 68, 65535
_SMALLEST_MTU6 = 1280


def flag(options: Pairs, name: str, default: bool) -> bool:
    """Return a switch among options; raise Invalid (Go's strconv.ParseBool is the measure)."""
    value = dict(options).get(name)
    if value is None:
        return default
    try:
        return parse_bool(value) if value else False
    except Invalid as error:
        raise _unread(name, value, error.message) from None


def _unread(name: str, value: str, why: str) -> Invalid:
    """Docker's words for an option that cannot be read."""
    return Invalid(f"failed to parse {name} value: {value} ({why})")


def mode(options: Pairs, name: str) -> str:
    """Return a gateway mode; raise Invalid."""
    value = dict(options).get(name) or "nat"
    if value not in MODES:
        raise _unread(name, value, f"unknown gateway mode {value}")
    return value


def mtu(options: Pairs, *, ipv6: bool) -> int:
    """Return the wanted size of packets, 0 where none is; raise Invalid."""
    value = dict(options).get(MTU, "")
    if not value or value == "0":
        return 0
    smallest = _SMALLEST_MTU6 if ipv6 else _SMALLEST_MTU
    if not value.removeprefix("-").isdecimal():
        raise _unread(MTU, value, f'strconv.Atoi: parsing "{value}": invalid syntax')
    if value.startswith("-"):
        raise Invalid(f"invalid MTU number: {value}")
    size = parse_number(value, _LARGEST_MTU) or 0
    if size < smallest:
        raise Invalid(f"invalid value for {MTU}: {value!r}", hint=f"{smallest} to {_LARGEST_MTU}")
    return size


def interface_prefix(network: Network) -> str:
    """Return what interfaces inside are called but for their number: `eth`."""
    return dict(network.spec.options).get(PREFIX) or "eth"


def host_address(options: Pairs) -> str:
    """Return the host's address that ports are published on by default; empty where none is said."""
    return dict(options).get(HOST_ADDRESS, "")


def source(options: Pairs, version: int) -> str:
    """Return the host's address that containers go out with; empty for that of the link they leave by."""
    return _address(options, SOURCE4 if version == 4 else SOURCE6, version)


def _address(options: Pairs, name: str, version: int) -> str:
    """Return the address of a family among options, empty where there is none; raise Invalid."""
    value = dict(options).get(name, "")
    if not value:
        return ""
    try:
        found = ipaddress.ip_address(value)
    except ValueError:
        raise _unread(name, value, "nil ip") from None
    if found.version != version:
        raise _unread(name, value, f"not an IPv{version} address")
    return str(found)


def trusted(options: Pairs) -> tuple[str, ...]:
    """Return the host's links whose neighbours may reach published ports by the containers' addresses."""
    return tuple(filter(None, dict(options).get(TRUSTED, "").split(":")))


def link_of(spec: NetworkSpec, network_id: str) -> str:
    """Return the name of a bridge network's link; raise Invalid."""
    wanted = dict(spec.options).get(NAME, "")
    return check_link_name(wanted, "bridge name") if wanted else network_link(network_id)


def sysctls(options: Pairs) -> Pairs:
    """Return the sysctls among an endpoint's options: `net.ipv4.conf.IFNAME.log_martians=1,…`."""
    found: list[tuple[str, str]] = []
    for item in filter(None, (part.strip() for part in dict(options).get(SYSCTLS, "").split(","))):
        name, sign, value = item.partition("=")
        words = name.split(".")
        sound = (
            len(words) == 5
            and words[0] == "net"
            and words[1] in ("ipv4", "ipv6", "mpls")
            and words[3].upper() == "IFNAME"
        )
        if not sign or not sound or not all(w.replace("_", "").isalnum() for w in words):
            raise Invalid(
                f"unrecognised network interface sysctl '{item}'; represent 'net.X.Y.ethN.Z=V' as "
                "'net.X.Y.IFNAME.Z=V', 'X' must be 'ipv4', 'ipv6' or 'mpls'"
            )
        # Docker's client sends it in lower case.
        found.append((".".join((*words[:3], "IFNAME", words[4])), value))
    return tuple(found)


def check_options(spec: NetworkSpec) -> None:
    """Raise Invalid for what a bridge network cannot be."""
    ipv6 = any(":" in pool.subnet for pool in spec.pools) or bool(spec.ipv6)
    mtu(spec.options, ipv6=ipv6)
    for name in (ICC, MASQUERADE, INHIBIT, DEFAULT):
        flag(spec.options, name, True)
    _address(spec.options, HOST_ADDRESS, 4)
    for version in (4, 6):
        source(spec.options, version)
    for name in trusted(spec.options):
        check_link_name(name, "trusted host interface")
    for name in (MODE4, MODE6):
        if mode(spec.options, name) == "isolated" and not spec.internal:
            raise Invalid("gateway mode 'isolated' can only be used for an internal network")
    if prefix := dict(spec.options).get(PREFIX, ""):
        check_link_name(f"{prefix}10", "interface prefix")


def check_child(spec: NetworkSpec) -> None:
    """Raise Invalid for what a macvlan or ipvlan network cannot be, in Docker's words."""
    for name, (known, default) in _CHILD_MODES[spec.driver].items():
        value = dict(spec.options).get(name) or default
        if value not in known:
            kind, _, noun = name.partition("_")
            shown = f"'{default}'" if noun == "flag" else f"'{default}' {noun}"
            raise Invalid(
                f"requested {kind} {noun} '{value}' is not valid, {shown} is the {kind} driver default"
            )


def plan_bridge(network: Network, naming: Naming, *, adopted: bool = False) -> BridgePlan:
    """Return what the host has of a bridge network."""
    options = network.spec.options
    modes = {4: mode(options, MODE4), 6: mode(options, MODE6)}
    inhibited = flag(options, INHIBIT, False)
    gateways: list[str] = []
    for pool in network.spec.pools:
        subnet = ipaddress.ip_network(pool.subnet)
        if pool.gateway and modes[subnet.version] != "isolated":
            if not (inhibited and subnet.version == 4):
                gateways.append(f"{pool.gateway}/{subnet.prefixlen}")
    return BridgePlan(
        network_id=network.id,
        link=network.link,
        alias=naming.alias(network.id, network.name),
        gateways=tuple(gateways),
        subnets=tuple(pool.subnet for pool in network.spec.pools),
        mtu=mtu(options, ipv6=False),
        internal=network.spec.internal,
        icc=flag(options, ICC, True),
        masquerade=flag(options, MASQUERADE, True),
        source4=source(options, 4),
        source6=source(options, 6),
        mode4=modes[4],
        mode6=modes[6],
        adopted=adopted,
        options=options,
    )


def has_version(subnets: Sequence[str], version: int) -> bool:
    """Whether one of the subnets is of IPv4 or IPv6."""
    return any((":" in subnet) == (version == 6) for subnet in subnets)
