"""Connections that the kernel tracks: forgetting those to a port, by nfnetlink.

Source: linux/netfilter/nfnetlink_conntrack.h of Linux 6.18. A deletion by filter is one request since
Linux 6.8; before that all entries are read and the ones that match deleted one by one.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
from collections.abc import Iterable

from wherry.kernel.netlink import (
    Message,
    Netlink,
    NetlinkError,
    Request,
    attribute,
    nested,
    parse_attributes,
    u32,
)

_SUBSYSTEM = 1 << 8
_NEW, _GET, _DELETE = 0, 1, 2
_TUPLE_ORIG, _FILTER = 1, 25
_TUPLE_PROTO = 2
_PROTO_NUM, _DST_PORT = 1, 3
_ORIG_FLAGS, _REPLY_FLAGS = 1, 2
_HAS_PROTO, _HAS_DST_PORT = 1 << 3, 1 << 5
_UNSUPPORTED = (errno.EINVAL, errno.EOPNOTSUPP)


def _request(kind: int, family: int, body: bytes) -> Request:
    return Request(_SUBSYSTEM | kind, struct.pack(">BBH", family, 0, 0) + body)


def flush_port(family: int, protocol: int, port: int) -> Request:
    """Return the request that forgets every connection whose first packet went to a port."""
    proto = nested(
        _TUPLE_PROTO,
        attribute(_PROTO_NUM, bytes([protocol])),
        attribute(_DST_PORT, struct.pack(">H", port)),
    )
    wanted = u32(_ORIG_FLAGS, _HAS_PROTO | _HAS_DST_PORT) + u32(_REPLY_FLAGS, 0)
    return _request(_DELETE, family, nested(_TUPLE_ORIG, proto) + nested(_FILTER, wanted))


def parse_original(message: Message) -> tuple[bytes, int, int] | None:
    """Return (the tuple as it came, protocol, destination port) of an entry; None for another message."""
    if message.kind != (_SUBSYSTEM | _NEW) or len(message.body) < 4:
        return None
    whole = parse_attributes(message.body[4:]).get(_TUPLE_ORIG, b"")
    proto = parse_attributes(parse_attributes(whole).get(_TUPLE_PROTO, b""))
    number, port = proto.get(_PROTO_NUM, b""), proto.get(_DST_PORT, b"")
    if len(number) != 1 or len(port) != 2:
        return None
    return whole, number[0], struct.unpack(">H", port)[0]


def forget_port(netlink: Netlink, family: int, protocol: int, port: int) -> None:
    """Have the kernel forget every connection to a port. Raises OSError; `netlink` is of NETFILTER."""
    try:
        netlink.perform([flush_port(family, protocol, port)])
        return
    except NetlinkError as error:
        if error.errno not in _UNSUPPORTED:
            raise
    for message in netlink.dump(_request(_GET, family, b"")):
        found = parse_original(message)
        if found is not None and found[1:] == (protocol, port):
            with contextlib.suppress(NetlinkError):
                netlink.perform([_request(_DELETE, family, nested(_TUPLE_ORIG, found[0]))])


def forget_ports(netlink: Netlink, ports: Iterable[tuple[str, int, int]]) -> None:
    """Forget the connections to several (host address, protocol, port). Raises OSError."""
    for address, protocol, port in ports:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        forget_port(netlink, family, protocol, port)
