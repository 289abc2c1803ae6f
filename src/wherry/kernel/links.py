"""Links, addresses and routes as rtnetlink requests, and the answers about them. Pure.

Source: rtnetlink(7), linux/{if_link,if_addr,rtnetlink,if_bridge,veth}.h of Linux 6.18.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
from dataclasses import dataclass

from wherry.kernel.abi import IFF_UP
from wherry.kernel.netlink import (
    CREATE,
    EXCL,
    REPLACE,
    Message,
    Request,
    attribute,
    get_text,
    get_u32,
    nested,
    parse_attributes,
    text,
    u32,
)

NAME_BYTES = 15
"""IFNAMSIZ without the final zero."""

NEWLINK, DELLINK, GETLINK = 16, 17, 18
NEWADDR, DELADDR, GETADDR = 20, 21, 22
NEWROUTE, DELROUTE, GETROUTE = 24, 25, 26

_IFINFO = struct.Struct("=BxHiII")
_IFADDR = struct.Struct("=BBBBI")
_RTMSG = struct.Struct("=BBBBBBBBI")

# IFLA_*
_ADDRESS, _IFNAME, _MTU, _LINK, _MASTER, _LINKINFO = 1, 3, 4, 5, 10, 18
_NET_NS_PID, _IFALIAS, _GROUP, _NET_NS_FD, _EXT_MASK = 19, 20, 27, 28, 29
_INFO_KIND, _INFO_DATA, _INFO_SLAVE_KIND, _INFO_SLAVE_DATA = 1, 2, 4, 5
_VETH_PEER = 1
_BRPORT_MODE, _BRPORT_ISOLATED = 4, 33
_MACVLAN_MODE, _IPVLAN_MODE, _IPVLAN_FLAGS = 1, 1, 2
_VLAN_ID = 1

_MACVLAN_MODES = {"private": 1, "vepa": 2, "bridge": 4, "passthru": 8}
_IPVLAN_MODES = {"l2": 0, "l3": 1, "l3s": 2}
_IPVLAN_FLAG_NAMES = {"bridge": 0, "private": 1, "vepa": 2}

# IFA_* and RTA_*
_IFA_ADDRESS, _IFA_LOCAL, _IFA_BROADCAST, _IFA_FLAGS = 1, 2, 4, 8
_NODAD = 0x02
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_PRIORITY, _RTA_PREFSRC, _RTA_TABLE = 1, 4, 5, 6, 7, 15
_TABLE_MAIN = 254
_TABLE_COMPAT = 252
"""The table is told by an attribute alone (RT_TABLE_COMPAT)."""
_PROTO_BOOT = 3
_SCOPE_LINK = 253
_SCOPE_NOWHERE = 255
_UNICAST = 1


@dataclass(frozen=True, slots=True)
class LinkFacts:
    """A link as the kernel tells of it."""

    index: int
    name: str
    kind: str
    up: bool
    alias: str
    mac: str
    mtu: int
    master: int
    parent: int


@dataclass(frozen=True, slots=True)
class AddressFacts:
    """An address of a link, with its prefix length."""

    index: int
    address: str
    scope: int


@dataclass(frozen=True, slots=True)
class RouteFacts:
    """A route of the main table; `to` is a prefix (0.0.0.0/0 for the default)."""

    to: str
    index: int
    via: str


def pack_mac(mac: str) -> bytes:
    """Return the six bytes of `02:42:ac:11:00:02`. Raises ValueError."""
    data = bytes.fromhex(mac.replace(":", "").replace("-", ""))
    if len(data) != 6:
        raise ValueError(f"{mac} is no MAC address")
    return data


def _link(
    kind: int, attributes: bytes, *, index: int = 0, up: bool | None = None, flags: int = 0
) -> Request:
    change = IFF_UP if up is not None else 0
    body = _IFINFO.pack(socket.AF_UNSPEC, 0, index, IFF_UP if up else 0, change) + attributes
    return Request(kind, body, flags)


def _common(name: str, mac: str, mtu: int) -> bytes:
    out = text(_IFNAME, name)
    if mac:
        out += attribute(_ADDRESS, pack_mac(mac))
    if mtu:
        out += u32(_MTU, mtu)
    return out


def make_veth(
    *, host: str, inside: str, netns: int, bridge: int, mac: str = "", mtu: int = 0
) -> Request:
    """Return the request for a pair: `inside` in the namespace `netns` (a descriptor), down; `host` here,
    up, as a port of the bridge with that index."""
    peer = _IFINFO.pack(0, 0, 0, 0, 0) + _common(inside, mac, mtu) + u32(_NET_NS_FD, netns)
    info = nested(
        _LINKINFO,
        text(_INFO_KIND, "veth"),
        nested(_INFO_DATA, attribute(_VETH_PEER | 0x8000, peer)),
    )
    attributes = _common(host, "", mtu) + u32(_MASTER, bridge) + info
    return _link(NEWLINK, attributes, up=True, flags=CREATE | EXCL)


def set_port(host: str, *, alias: str, isolated: bool) -> Request:
    """Return the request that names the owner of a bridge's port, and lets it send back what came from it.

    A frame goes back where it came from (hairpin) when a container reaches itself by a published port
    while br_netfilter has bridged frames pass the rules.
    """
    data = attribute(_BRPORT_MODE, b"\1") + attribute(
        _BRPORT_ISOLATED, b"\1" if isolated else b"\0"
    )
    info = nested(_LINKINFO, text(_INFO_SLAVE_KIND, "bridge"), nested(_INFO_SLAVE_DATA, data))
    return _link(NEWLINK, text(_IFNAME, host) + text(_IFALIAS, alias) + info)


def make_child(
    kind: str, *, parent: int, inside: str, netns: int, mode: str, mac: str = "", mtu: int = 0
) -> Request:
    """Return the request for a macvlan or ipvlan child of a link, made in the namespace `netns`.

    Raises ValueError for an unknown mode; ipvlan's is `l2`, or `l3/private` with a flag.
    """
    name, _, flag = mode.partition("/")
    if kind == "macvlan":
        if name not in _MACVLAN_MODES or flag:
            raise ValueError(f"unknown macvlan mode: {mode}")
        data = u32(_MACVLAN_MODE, _MACVLAN_MODES[name])
    else:
        if name not in _IPVLAN_MODES or (flag or "bridge") not in _IPVLAN_FLAG_NAMES:
            raise ValueError(f"unknown ipvlan mode: {mode}")
        data = attribute(_IPVLAN_MODE, struct.pack("=H", _IPVLAN_MODES[name]))
        data += attribute(_IPVLAN_FLAGS, struct.pack("=H", _IPVLAN_FLAG_NAMES[flag or "bridge"]))
    info = nested(_LINKINFO, text(_INFO_KIND, kind), nested(_INFO_DATA, data))
    attributes = _common(inside, mac, mtu) + u32(_LINK, parent) + u32(_NET_NS_FD, netns) + info
    return _link(NEWLINK, attributes, flags=CREATE | EXCL)


def make_bridge(name: str, mac: str) -> Request:
    """Return the request for a bridge, down. A given address stays; else it would follow the ports'."""
    info = nested(_LINKINFO, text(_INFO_KIND, "bridge"))
    return _link(NEWLINK, _common(name, mac, 0) + info, flags=CREATE | EXCL)


def make_dummy(name: str) -> Request:
    """Return the request for a link that leads nowhere: the parent of an internal macvlan network."""
    info = nested(_LINKINFO, text(_INFO_KIND, "dummy"))
    return _link(NEWLINK, _common(name, "", 0) + info, up=True, flags=CREATE | EXCL)


def make_vlan(name: str, parent: int, tag: int) -> Request:
    """Return the request for the 802.1q child `tag` of a link, up."""
    data = nested(_INFO_DATA, attribute(_VLAN_ID, struct.pack("=H", tag)))
    info = nested(_LINKINFO, text(_INFO_KIND, "vlan"), data)
    attributes = _common(name, "", 0) + u32(_LINK, parent) + info
    return _link(NEWLINK, attributes, up=True, flags=CREATE | EXCL)


def set_link(
    name: str, *, up: bool | None = None, mtu: int = 0, alias: str = "", index: int = 0
) -> Request:
    """Return the request that changes a link, found by its name, or by its index where one is given."""
    attributes = text(_IFNAME, name) if not index else b""
    if mtu:
        attributes += u32(_MTU, mtu)
    if alias:
        attributes += text(_IFALIAS, alias)
    return _link(NEWLINK, attributes, index=index, up=up)


def delete_link(name: str) -> Request:
    """Return the request that removes a link."""
    return _link(DELLINK, text(_IFNAME, name))


def delete_link_at(index: int) -> Request:
    """Return the request that removes the link with this index, whatever its name is by then."""
    return _link(DELLINK, b"", index=index)


def set_group(index: int, group: int) -> Request:
    """Return the request that puts a link into a group."""
    return _link(NEWLINK, u32(_GROUP, group), index=index)


def delete_group(group: int) -> Request:
    """Return the request that removes all links of a group, at the price of one (rtnl_group_dellink)."""
    return _link(DELLINK, u32(_GROUP, group))


def get_link(name: str) -> Request:
    """Return the question about one link."""
    return _link(GETLINK, text(_IFNAME, name) + u32(_EXT_MASK, 8))


def get_link_at(index: int) -> Request:
    """Return the question about the link with this index."""
    return Request(GETLINK, _IFINFO.pack(0, 0, index, 0, 0) + u32(_EXT_MASK, 8))


def dump_links() -> Request:
    """Return the question about all links, without their counters."""
    return Request(GETLINK, _IFINFO.pack(0, 0, 0, 0, 0) + u32(_EXT_MASK, 8))


def parse_link(message: Message) -> LinkFacts | None:
    """Return what a NEWLINK message tells; None for another one."""
    if message.kind != NEWLINK or len(message.body) < _IFINFO.size:
        return None
    _, _, index, flags, _ = _IFINFO.unpack_from(message.body)
    found = parse_attributes(message.body[_IFINFO.size :])
    info = parse_attributes(found.get(_LINKINFO, b""))
    return LinkFacts(
        index=index,
        name=get_text(found.get(_IFNAME)),
        kind=get_text(info.get(_INFO_KIND)),
        up=bool(flags & IFF_UP),
        alias=get_text(found.get(_IFALIAS)),
        mac=found.get(_ADDRESS, b"").hex(":"),
        mtu=get_u32(found.get(_MTU)),
        master=get_u32(found.get(_MASTER)),
        parent=get_u32(found.get(_LINK)),
    )


def _address(kind: int, index: int, interface: str, flags: int = 0) -> Request:
    parsed = ipaddress.ip_interface(interface)
    family = socket.AF_INET if parsed.version == 4 else socket.AF_INET6
    body = _IFADDR.pack(family, parsed.network.prefixlen, _NODAD, 0, index)
    body += attribute(_IFA_LOCAL, parsed.ip.packed) + attribute(_IFA_ADDRESS, parsed.ip.packed)
    if parsed.version == 4 and parsed.network.prefixlen < 31:
        body += attribute(_IFA_BROADCAST, parsed.network.broadcast_address.packed)
    body += u32(_IFA_FLAGS, _NODAD)
    return Request(kind, body, flags)


def add_address(index: int, interface: str) -> Request:
    """Return the request for an address with its prefix length; an IPv6 one is of use at once (no DAD)."""
    return _address(NEWADDR, index, interface, CREATE | REPLACE)


def delete_address(index: int, interface: str) -> Request:
    """Return the request that takes an address away."""
    return _address(DELADDR, index, interface)


def dump_addresses() -> Request:
    """Return the question about all addresses."""
    return Request(GETADDR, _IFADDR.pack(0, 0, 0, 0, 0))


def parse_address(message: Message) -> AddressFacts | None:
    """Return what a NEWADDR message tells; None for another one."""
    if message.kind != NEWADDR or len(message.body) < _IFADDR.size:
        return None
    _, length, _, scope, index = _IFADDR.unpack_from(message.body)
    found = parse_attributes(message.body[_IFADDR.size :])
    # IFA_ADDRESS is the other end's on a point-to-point link.
    packed = found.get(_IFA_LOCAL) or found.get(_IFA_ADDRESS, b"")
    if len(packed) not in (4, 16):
        return None
    return AddressFacts(index, f"{ipaddress.ip_address(packed)}/{length}", scope)


def add_route(
    index: int, to: str, via: str = "", *, source: str = "", metric: int = 0, four: bool = True
) -> Request:
    """Return the request for a route by the link `index`; `to` is a prefix, or `default` of a family."""
    if to == "default":
        to = "0.0.0.0/0" if (ipaddress.ip_address(via).version == 4 if via else four) else "::/0"
    prefix = ipaddress.ip_network(to)
    family = socket.AF_INET if prefix.version == 4 else socket.AF_INET6
    scope = 0 if via or prefix.version == 6 else _SCOPE_LINK
    length = prefix.prefixlen
    body = _RTMSG.pack(family, length, 0, 0, _TABLE_MAIN, _PROTO_BOOT, scope, _UNICAST, 0)
    if length:
        body += attribute(_RTA_DST, prefix.network_address.packed)
    if via:
        body += attribute(_RTA_GATEWAY, ipaddress.ip_address(via).packed)
    if source:
        body += attribute(_RTA_PREFSRC, ipaddress.ip_address(source).packed)
    if metric:
        body += u32(_RTA_PRIORITY, metric)
    return Request(NEWROUTE, body + u32(_RTA_OIF, index), CREATE | REPLACE)


def delete_default(*, four: bool) -> Request:
    """Return the request that takes away the default route of a family, whatever it leads to."""
    family = socket.AF_INET if four else socket.AF_INET6
    scope = _SCOPE_NOWHERE if four else 0
    return Request(DELROUTE, _RTMSG.pack(family, 0, 0, 0, _TABLE_MAIN, 0, scope, 0, 0), 0)


def dump_routes() -> Request:
    """Return the question about all routes."""
    return Request(GETROUTE, _RTMSG.pack(0, 0, 0, 0, 0, 0, 0, 0, 0))


def parse_route(message: Message) -> RouteFacts | None:
    """Return what a NEWROUTE message tells of a unicast route of the main table; None for others."""
    if message.kind != NEWROUTE or len(message.body) < _RTMSG.size:
        return None
    family, length, _, _, table, _, _, kind, _ = _RTMSG.unpack_from(message.body)
    # Most routes are of the local table: a thousand networks have some thousands.
    if table not in (_TABLE_MAIN, _TABLE_COMPAT) or kind != _UNICAST:
        return None
    found = parse_attributes(message.body[_RTMSG.size :])
    table = get_u32(found.get(_RTA_TABLE), table)
    size = {socket.AF_INET: 4, socket.AF_INET6: 16}.get(family)
    if table != _TABLE_MAIN or size is None:
        return None
    packed = found.get(_RTA_DST) or bytes(size)
    via = found.get(_RTA_GATEWAY, b"")
    if len(packed) != size or length > size * 8 or len(via) not in (0, 4, 16):
        return None
    return RouteFacts(
        f"{ipaddress.ip_address(packed)}/{length}",
        get_u32(found.get(_RTA_OIF)),
        str(ipaddress.ip_address(via)) if via else "",
    )
