"""SOCKS 5: a way through a proxy to a host that it, and not we, looks up.

    methods > method > { user and password > verdict } > CONNECT host:port > verdict > the host's bytes
Source: RFC 1928, RFC 1929.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import Final

from wherry.model.errors import Unavailable

_VERSION: Final = 5
_LOGIN_VERSION: Final = 1
_CONNECT: Final = 1
_NO_LOGIN, _LOGIN, _NO_METHOD = 0, 2, 0xFF
_IPV4, _NAME, _IPV6 = 1, 3, 4
_LENGTHS: Final = {_IPV4: 4, _IPV6: 16}
_LONGEST: Final = 255
_WORDS: Final = {
    1: "general failure",
    2: "not allowed by its rules",
    3: "network unreachable",
    4: "host unreachable",
    5: "connection refused",
    6: "time to live expired",
    7: "command not supported",
    8: "kind of address not supported",
}


class SocksRefused(Unavailable):
    """The proxy lets us not through, or speaks something else."""


def connect(
    send: Callable[[bytes], object],
    receive: Callable[[int], bytes],
    host: str,
    port: int,
    login: tuple[str, str] | None = None,
) -> None:
    """Have the proxy connect to `host`, a name or an address; what comes afterwards is from there.

    `receive` returns exactly as many bytes as it is asked for, or raises; no more are asked for than
    the proxy's own. Raises SocksRefused.
    """
    send(encode_methods(login))
    version, method = receive(2)
    if version != _VERSION:
        raise SocksRefused("it does not speak SOCKS 5")
    if method == _LOGIN and login is not None:
        send(encode_login(*login))
        _, status = receive(2)
        if status:
            raise SocksRefused("user or password are wrong")
    elif method == _LOGIN or method == _NO_METHOD:
        raise SocksRefused("it wants another user, or another way to log in")
    elif method != _NO_LOGIN:
        raise SocksRefused(f"it chose the way to log in {method}, which was not offered")
    send(encode_request(host, port))
    version, status, _, kind = receive(4)
    if version != _VERSION:
        raise SocksRefused("it does not speak SOCKS 5")
    if status:
        raise SocksRefused(_WORDS.get(status, f"failure {status}"))
    # Where it connected from is of no use here, and stands before the host's own bytes.
    length = receive(1)[0] if kind == _NAME else _LENGTHS.get(kind)
    if length is None:
        raise SocksRefused(f"it answered with an address of kind {kind}")
    receive(length + 2)


def encode_methods(login: tuple[str, str] | None) -> bytes:
    """Return the ways to log in that we know."""
    methods = (_NO_LOGIN,) if login is None else (_NO_LOGIN, _LOGIN)
    return bytes((_VERSION, len(methods), *methods))


def encode_login(user: str, password: str) -> bytes:
    """Return user and password. Raises SocksRefused for what the protocol has no room for."""
    parts = user.encode(), password.encode()
    if not parts[0] or max(map(len, parts)) > _LONGEST:
        raise SocksRefused("its user and password are to be of 1 to 255 bytes")
    return bytes((_LOGIN_VERSION,)) + b"".join(bytes((len(part),)) + part for part in parts)


def encode_request(host: str, port: int) -> bytes:
    """Return the request to connect. Raises SocksRefused for a name that there is no room for."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        name = host.encode() if host.isascii() else _in_ascii(host)
        if not name or len(name) > _LONGEST:
            raise SocksRefused(f"the name {host[:80]!r} is to be of 1 to 255 bytes") from None
        where = bytes((_NAME, len(name))) + name
    else:
        where = bytes((_IPV4 if address.version == 4 else _IPV6,)) + address.packed
    return bytes((_VERSION, _CONNECT, 0)) + where + port.to_bytes(2, "big")


def _in_ascii(host: str) -> bytes:
    try:
        return host.encode("idna")
    except UnicodeError:
        return b""
