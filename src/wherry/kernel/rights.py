"""Descriptors that go along with messages: SCM_RIGHTS, both ways. Source: unix(7), cmsg(3)."""

from __future__ import annotations

import _socket
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

Ancillary = list[tuple[int, int, bytes]]
_INT = 4


def passing(descriptors: Iterable[int]) -> Ancillary:
    """Return what `sendmsg` is given to send copies of `descriptors` along."""
    rights = b"".join(fd.to_bytes(_INT, sys.byteorder) for fd in descriptors)
    return [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, rights)] if rights else []


def passed(ancillary: Ancillary) -> list[int]:
    """Return the descriptors in what `recvmsg` answered: the caller's to close."""
    return [
        int.from_bytes(body[at : at + _INT], sys.byteorder)
        for level, kind, body in ancillary
        if level == _socket.SOL_SOCKET and kind == _socket.SCM_RIGHTS
        for at in range(0, len(body) - _INT + 1, _INT)
    ]


def copies(descriptors: Iterable[int]) -> list[int]:
    """Return a copy of each. Raises OSError, and there is none then."""
    made: list[int] = []
    try:
        for fd in descriptors:
            made.append(os.dup(fd))
    except OSError:
        for fd in made:
            os.close(fd)
        raise
    return made
