"""Sockets in the right network namespace: the host's, or the one of a container.

A container's namespace is found by a socket that was opened in it (SIOCGSKNS, Linux 4.10), so nothing has to
be kept or named for it. The process has one thread, so entering a namespace for the moment of a socket(2)
changes nothing else; when the way back is shut the process ends and is started anew.
"""

from __future__ import annotations

import fcntl
import ipaddress
import os
import socket
import sys
from typing import NoReturn

from wherry.kernel import abi
from wherry.kernel.linux import LINUX
from wherry.network.dns.facts import Side, Upstream

_SIOCGSKNS = 0x894C
_LOOP = ipaddress.ip_address("127.0.0.11")


class Doors:
    """Opens sockets; knows the way back to the network namespace that the process began in."""

    def __init__(self) -> None:
        self._home = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)

    def close(self) -> None:
        """Give up the way back."""
        os.close(self._home)

    def open_inside(self, witness: socket.socket, family: int, kind: int) -> socket.socket:
        """Return a new socket in the network namespace of `witness`. Raises OSError."""
        namespace = fcntl.ioctl(witness.fileno(), _SIOCGSKNS, 0)
        try:
            LINUX.setns(namespace, abi.CLONE_NEWNET)
            try:
                return socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
            finally:
                try:
                    LINUX.setns(self._home, abi.CLONE_NEWNET)
                except OSError as error:
                    _give_up(error)
        finally:
            os.close(namespace)

    def dial(self, upstream: Upstream, witness: socket.socket, kind: int) -> socket.socket:
        """Return a non-blocking socket that is connected, or connecting, to `upstream`. Raises OSError."""
        family, address = _sockaddr(upstream)
        if upstream.side is Side.CONTAINER:
            opened = self.open_inside(witness, family, kind)
        else:
            opened = socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            opened.connect(address)
        except BlockingIOError:
            pass
        except BaseException:
            opened.close()
            raise
        return opened


def is_usable(upstream: Upstream) -> bool:
    """Whether `upstream` is an address, and not the service itself as the container reaches it."""
    try:
        address = ipaddress.ip_address(upstream.address)
    except ValueError:
        return False
    if not 0 < upstream.port < 65536:
        return False
    return upstream.side is Side.HOST or address != _LOOP


def _sockaddr(upstream: Upstream) -> tuple[int, tuple[str, int] | tuple[str, int, int, int]]:
    address, _, scope = upstream.address.partition("%")
    if ":" not in address:
        return socket.AF_INET, (address, upstream.port)
    index = 0
    if scope:
        index = int(scope) if scope.isdecimal() else socket.if_nametoindex(scope)
    return socket.AF_INET6, (address, upstream.port, 0, index)


def _give_up(error: OSError) -> NoReturn:
    # Serving on from inside a container would show it the host's queries.
    print(
        f"wherry-names: no way back from a network namespace: {error}", file=sys.stderr, flush=True
    )
    os._exit(1)
