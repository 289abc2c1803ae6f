"""Network namespaces without a process: a thread enters one for as long as it opens sockets there."""

from __future__ import annotations

import fcntl
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager

from wherry.kernel import abi
from wherry.kernel.linux import LINUX

_SIOCGIFFLAGS = 0x8913
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 1


class Space:
    """A new network namespace, its loopback up. It ends with its last socket, and `close`."""

    def __init__(self) -> None:
        home = _present()
        try:
            LINUX.unshare(abi.CLONE_NEWNET)
            try:
                self._fd = _present()
                _raise_loopback()
            finally:
                LINUX.setns(home, abi.CLONE_NEWNET)
        finally:
            os.close(home)
        self.inode = os.fstat(self._fd).st_ino

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Have this thread in the namespace."""
        home = _present()
        LINUX.setns(self._fd, abi.CLONE_NEWNET)
        try:
            yield
        finally:
            LINUX.setns(home, abi.CLONE_NEWNET)
            os.close(home)

    def socket(self, kind: int, address: str = "", port: int = 0) -> socket.socket:
        """Return a non-blocking socket opened inside; bound when an address is given."""
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

    def close(self) -> None:
        """Let go of it."""
        os.close(self._fd)


def _present() -> int:
    # Of the thread: /proc/self would be the main one's.
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def _raise_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as some:
        request = struct.pack("16sH14x", b"lo", 0)
        flags = struct.unpack("16sH14x", fcntl.ioctl(some, _SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(some, _SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", flags | _IFF_UP))
