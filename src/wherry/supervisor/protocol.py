"""Messages between wherryd and the supervisor: one JSON object per SEQPACKET datagram.

    request  {"id": n, "do": verb, …}        (+ descriptors)
    answer   {"id": n, "ok": {…}} or {"id": n, "error": {…}}
    event    {"event": "exit", …}            (the supervisor speaks first)

A datagram begins with `J` (the object follows) or `M` (the first descriptor is a memfd that holds it,
for objects over 128 KiB: a datagram has to fit into the socket's send buffer).
"""

from __future__ import annotations

import json
import os
import socket
from typing import cast

from wherry.kernel.rights import passed, passing
from wherry.model.errors import Invalid
from wherry.supervisor.messages import Wire

LARGEST_INLINE = 128 << 10
LARGEST = 64 << 20
_DESCRIPTORS = 64
_INLINE = b"J"
_IN_MEMFD = b"M"
_ENCODER = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False)


class Closed(Exception):
    """The other end is gone."""


def encode(message: Wire) -> bytes:
    """Return the JSON text of `message`."""
    return _ENCODER.encode(message).encode("utf-8", "surrogateescape")


def decode(text: bytes) -> Wire:
    """Return the object that `text` writes; raise Invalid for anything else."""
    try:
        message: object = json.loads(text.decode("utf-8", "surrogateescape"))
    except (ValueError, RecursionError) as error:
        raise Invalid(f"malformed message: {error}") from error
    if not isinstance(message, dict):
        raise Invalid("malformed message: not an object")
    return cast("Wire", message)


def send(channel: socket.socket, text: bytes, fds: list[int]) -> None:
    """Send one encoded message; raises BlockingIOError when there is no room, Closed at the end."""
    memfd = -1
    body = _INLINE + text
    if len(text) > LARGEST_INLINE:
        memfd = os.memfd_create("wherry-message", os.MFD_CLOEXEC)
        body = _IN_MEMFD
        view = memoryview(text)
        while view:
            view = view[os.write(memfd, view) :]
        fds = [memfd, *fds]
    try:
        channel.sendmsg([body], passing(fds), socket.MSG_NOSIGNAL)
    except ConnectionError as error:
        raise Closed from error
    finally:
        if memfd >= 0:
            os.close(memfd)


def receive(channel: socket.socket) -> tuple[Wire, list[int]]:
    """Return the next message and its descriptors (the caller owns them).

    Raises BlockingIOError when there is none, Closed at the end, Invalid for a malformed one.
    """
    try:
        data, control, flags, _ = channel.recvmsg(
            LARGEST_INLINE + 1, socket.CMSG_SPACE(_DESCRIPTORS * 4), socket.MSG_CMSG_CLOEXEC
        )
    except ConnectionError as error:
        raise Closed from error
    fds = passed(control)
    if not data and not fds:
        raise Closed
    try:
        if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
            raise Invalid("malformed message: too long")
        if data[:1] == _INLINE:
            return decode(data[1:]), fds
        if data[:1] != _IN_MEMFD or not fds:
            raise Invalid("malformed message: unknown form")
        return decode(_read_memfd(fds.pop(0))), fds
    except BaseException:
        for fd in fds:
            os.close(fd)
        raise


def _read_memfd(fd: int) -> bytes:
    """Return what the memory file holds, and close it."""
    try:
        size = os.fstat(fd).st_size
        if size > LARGEST:
            raise Invalid(f"malformed message: {size} bytes")
        pieces: list[bytes] = []
        at = 0
        while at < size:
            piece = os.pread(fd, size - at, at)
            if not piece:
                break
            pieces.append(piece)
            at += len(piece)
        return b"".join(pieces)
    except OSError as error:
        raise Invalid(f"malformed message: {error}") from error
    finally:
        os.close(fd)
