"""Netlink: messages and attributes as bytes, and a socket that sends many at once and reads every answer.

The codec does no I/O: `parse_messages(message(kind, flags, body))` gives the body back. Numbers in
headers and attributes are in the host's byte order unless said otherwise. Source: netlink(7),
linux/netlink.h of Linux 6.18.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass

ROUTE = 0
NETFILTER = 12

REQUEST = 0x1
ACK = 0x4
DUMP = 0x300
REPLACE = 0x100
EXCL = 0x200
CREATE = 0x400
APPEND = 0x800

ERROR = 2
DONE = 3

_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_NESTED = 0x8000
_KIND = 0x3FFF
_CAPPED = 0x100
_TEXTS = 0x200
_SOL_NETLINK = 270
_CAP_ACK = 10
_EXT_ACK = 11
_STRICT = 12
_PATIENCE_SECONDS = 10
_INTERRUPTIONS = 8
_LARGEST_ATTRIBUTE = 0xFFFF
_BUFFER = 1 << 20
_FORCED_BUFFERS = ((32, 4 << 20), (33, 8 << 20))
"""SO_SNDBUFFORCE, SO_RCVBUFFORCE: a table of a thousand networks is one batch of half a megabyte."""


class NetlinkError(OSError):
    """The kernel refused a message: errno, its own words where it has some, and which message it was."""

    def __init__(self, number: int, said: str, index: int) -> None:
        super().__init__(number, said or os.strerror(number))
        self.said = said
        self.index = index
        """Of the batch, from 0."""


@dataclass(frozen=True, slots=True)
class Message:
    """One received message: its type, its sequence number and what follows the header."""

    kind: int
    sequence: int
    body: bytes
    flags: int = 0


def attribute(kind: int, payload: bytes) -> bytes:
    """Return an attribute, padded. Raises ValueError for one over 64 KiB."""
    length = len(payload) + 4
    if length > _LARGEST_ATTRIBUTE:
        raise ValueError(f"an attribute of {length} bytes")
    return _ATTRIBUTE.pack(length, kind) + payload + bytes(-length % 4)


def nested(kind: int, *attributes: bytes) -> bytes:
    """Return an attribute that holds attributes."""
    return attribute(kind | _NESTED, b"".join(attributes))


def text(kind: int, value: str) -> bytes:
    """Return an attribute with a zero-terminated text."""
    return attribute(kind, value.encode() + b"\0")


def u32(kind: int, value: int) -> bytes:
    """Return an attribute with a number in the host's byte order."""
    return attribute(kind, struct.pack("=I", value))


def be32(kind: int, value: int) -> bytes:
    """Return an attribute with a number in network byte order, as nfnetlink has them."""
    return attribute(kind, struct.pack(">I", value))


def parse_attributes(data: bytes) -> dict[int, bytes]:
    """Return the payload of each attribute by its type, the last of several; garbage ends the walk."""
    return dict(parse_list(data))


def parse_list(data: bytes) -> list[tuple[int, bytes]]:
    """Return (type, payload) of each attribute in order; what is malformed ends the walk."""
    found: list[tuple[int, bytes]] = []
    at = 0
    while at + 4 <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        if length < 4 or at + length > len(data):
            break
        found.append((kind & _KIND, data[at + 4 : at + length]))
        at += (length + 3) & ~3
    return found


def get_text(payload: bytes | None) -> str:
    """Return the text of an attribute; empty where there is none."""
    return (payload or b"").partition(b"\0")[0].decode(errors="replace")


def get_u32(payload: bytes | None, default: int = 0) -> int:
    """Return the number of an attribute in the host's byte order."""
    return struct.unpack("=I", payload[:4])[0] if payload and len(payload) >= 4 else default


def get_be32(payload: bytes | None, default: int = 0) -> int:
    """Return the number of an attribute in network byte order."""
    return struct.unpack(">I", payload[:4])[0] if payload and len(payload) >= 4 else default


@dataclass(frozen=True, slots=True)
class Request:
    """A message to be sent: type, flags and body; the socket adds length and sequence number."""

    kind: int
    body: bytes
    flags: int = 0

    def encode(self, sequence: int, flags: int = REQUEST | ACK) -> bytes:
        """Return the message as bytes."""
        return message(self.kind, self.flags | flags, self.body, sequence)


def message(kind: int, flags: int, body: bytes, sequence: int = 0) -> bytes:
    """Return one message with its header, padded."""
    return _HEADER.pack(16 + len(body), kind, flags, sequence, 0) + body + bytes(-len(body) % 4)


def parse_messages(data: bytes) -> list[Message]:
    """Return the messages in a datagram; what is malformed ends the walk."""
    found: list[Message] = []
    at = 0
    while at + 16 <= len(data):
        length, kind, flags, sequence, _ = _HEADER.unpack_from(data, at)
        if length < 16 or at + length > len(data):
            break
        found.append(Message(kind, sequence, data[at + 16 : at + length], flags))
        at += (length + 3) & ~3
    return found


def parse_refusal(answer: Message) -> tuple[int, str]:
    """Return errno (0: done) and the kernel's words of an ERROR or DONE message."""
    if len(answer.body) < 4:
        return 0, ""
    number = -struct.unpack_from("=i", answer.body)[0]
    if number <= 0 or not answer.flags & _TEXTS or answer.kind != ERROR:
        return max(number, 0), ""
    skip = 20
    if not answer.flags & _CAPPED and len(answer.body) >= 20:
        # The whole request is repeated before the words about it.
        skip = 4 + ((struct.unpack_from("=I", answer.body, 4)[0] + 3) & ~3)
    return number, get_text(parse_attributes(answer.body[skip:]).get(1))


class Netlink:
    """A netlink socket in the network namespace where it was made. Not for several threads at once."""

    def __init__(self, family: int = ROUTE) -> None:
        """Raises OSError."""
        self.socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, family
        )
        self._sequence = 0
        try:
            # Errors then carry the kernel's words, and not the request.
            for option in (_CAP_ACK, _EXT_ACK):
                self.socket.setsockopt(_SOL_NETLINK, option, 1)
            self.socket.bind((0, 0))
        except BaseException:
            self.socket.close()
            raise

    def widen(self) -> None:
        """Make room for large batches and dumps; bounded by net.core.*mem_max without CAP_NET_ADMIN."""
        for option, size in _FORCED_BUFFERS:
            try:
                self.socket.setsockopt(socket.SOL_SOCKET, option, size)
            except OSError:
                self.socket.setsockopt(socket.SOL_SOCKET, option - 25, size)
        self.socket.settimeout(_PATIENCE_SECONDS)

    def close(self) -> None:
        """Close the socket."""
        self.socket.close()

    def __enter__(self) -> Netlink:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def perform(self, requests: Sequence[Request]) -> None:
        """Send all requests in one go and read every acknowledgement; the first refusal is raised.

        Requests after a refused one are performed all the same (rtnetlink). Raises NetlinkError, OSError.
        """
        if not requests:
            return
        first = self._sequence + 1
        self._sequence += len(requests)
        batch = b"".join(request.encode(first + n) for n, request in enumerate(requests))
        self.socket.send(batch)
        refused: NetlinkError | None = None
        left = len(requests)
        while left:
            for answer in self._receive():
                index = answer.sequence - first
                if answer.kind != ERROR or not 0 <= index < len(requests):
                    continue
                left -= 1
                number, said = parse_refusal(answer)
                if number and refused is None:
                    refused = NetlinkError(number, said, index)
        if refused is not None:
            raise refused

    def commit(self, batch: Sequence[Request]) -> None:
        """Send an nfnetlink batch, whose first and last messages open and close it: all of it or nothing.

        Raises NetlinkError for the first message that was refused, OSError.
        """
        first = self._sequence + 1
        self._sequence += len(batch)
        # The last one of substance is acknowledged; the closing message is not before Linux 6.10.
        final = len(batch) - 2
        flags = (REQUEST | ACK if n == final else REQUEST for n in range(len(batch)))
        self.socket.send(
            b"".join(
                request.encode(first + n, flag)
                for (n, request), flag in zip(enumerate(batch), flags, strict=True)
            )
        )
        refused: NetlinkError | None = None
        done = False
        while not done:
            for answer in self._receive():
                index = answer.sequence - first
                if answer.kind != ERROR or not 0 <= index < len(batch):
                    continue
                number, said = parse_refusal(answer)
                if number and refused is None:
                    refused = NetlinkError(number, said, index)
                done |= index == final
            # A batch that is refused as a whole is answered once, by its first message.
            done |= refused is not None and not self._more()
        if refused is not None:
            raise refused

    def _more(self) -> bool:
        waiting = select.poll()
        waiting.register(self.socket, select.POLLIN)
        return bool(waiting.poll(0))

    def dump(self, request: Request) -> list[Message]:
        """Return everything that a dump request answers. Raises NetlinkError, OSError.

        A dump that changed under the reader (NLM_F_DUMP_INTR) is taken again.
        """
        for _ in range(_INTERRUPTIONS):
            found, interrupted = self._dump_once(request)
            if not interrupted:
                return found
        return self._dump_once(request)[0]

    def _dump_once(self, request: Request) -> tuple[list[Message], bool]:
        self._sequence += 1
        self.socket.send(request.encode(self._sequence, REQUEST | DUMP))
        found: list[Message] = []
        interrupted = False
        while True:
            for answer in self._receive():
                if answer.sequence != self._sequence:
                    continue
                interrupted |= bool(answer.flags & 0x10)
                if answer.kind in (ERROR, DONE):
                    number, said = parse_refusal(answer)
                    if number and number != errno.EINTR:
                        raise NetlinkError(number, said, 0)
                    return found, interrupted
                found.append(answer)

    def ask(self, request: Request) -> Message:
        """Return the one answer to a request. Raises NetlinkError, OSError."""
        self._sequence += 1
        self.socket.send(request.encode(self._sequence, REQUEST))
        while True:
            for answer in self._receive():
                if answer.sequence != self._sequence:
                    continue
                if answer.kind == ERROR:
                    number, said = parse_refusal(answer)
                    raise NetlinkError(number or errno.EPROTO, said, 0)
                return answer

    def _receive(self) -> list[Message]:
        return parse_messages(self.socket.recv(_BUFFER))
