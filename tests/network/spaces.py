"""Namespaces by the hundred: hosts without ip(8), and sockets in them that an event loop can wait for."""

from __future__ import annotations

import fcntl
import os
import socket
import struct

from tests.harness.hosts import Host, new_namespace

_SIOCGIFFLAGS = 0x8913
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 1


class Space(Host):
    """A network namespace: a new one with its loopback up, or the one of a process."""

    def __init__(self, pid: int = 0) -> None:
        if pid:
            path = f"/proc/{pid}/ns/net"
            super().__init__(f"of {pid}", os.open(path, os.O_RDONLY | os.O_CLOEXEC))
            return
        super().__init__("space", new_namespace())
        with self.inside():
            _raise_loopback()

    def open(self, kind: int, address: str = "", port: int = 0) -> socket.socket:
        """Return a non-blocking socket opened inside; bound, and listening, when an address is given."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with self.inside():
            opened = socket.socket(family, kind | socket.SOCK_NONBLOCK)
        if address:
            if kind == socket.SOCK_STREAM:
                opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            opened.bind((address, port))
            if kind == socket.SOCK_STREAM:
                opened.listen(128)
        return opened


def _raise_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as some:
        request = struct.pack("16sH14x", b"lo", 0)
        flags = struct.unpack("16sH14x", fcntl.ioctl(some, _SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(some, _SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", flags | _IFF_UP))
