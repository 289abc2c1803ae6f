"""The caller's end of DNS, written apart from wherry's codec: questions out, responses taken apart."""

from __future__ import annotations

import asyncio
import socket
import struct
from dataclasses import dataclass, field

from tests.network.spaces import Space

KINDS = {"A": 1, "CNAME": 5, "PTR": 12, "MX": 15, "TXT": 16, "AAAA": 28, "SRV": 33, "ANY": 255}


@dataclass(frozen=True)
class Response:
    """A response: its code, its flags that are set, the data of its answers as text, their TTLs."""

    code: int
    flags: frozenset[str]
    question: str
    answers: list[str] = field(default_factory=list)
    ttls: list[int] = field(default_factory=list)
    edns: bool = False
    size: int = 0


def question(
    name: str, kind: str | int = "A", *, number: int = 7, edns: int = 0, dns_class: int = 1
) -> bytes:
    """Return a query in wire form; `edns` is the size offered, 0 for none."""
    wire = b"".join(bytes([len(p.encode())]) + p.encode() for p in name.strip(".").split(".") if p)
    code = KINDS[kind] if isinstance(kind, str) else kind
    head = struct.pack("!6H", number, 0x100, 1, 0, 0, 1 if edns else 0)
    opt = b"\0" + struct.pack("!HHIH", 41, edns, 0, 0) if edns else b""
    return head + wire + b"\0" + struct.pack("!HH", code, dns_class) + opt


def take_apart(data: bytes) -> Response:
    """Return what a response says; raise when it is not well-formed to its last byte."""
    _, flags, questions, answers, authorities, additional = struct.unpack("!6H", data[:12])
    at, asked = 12, ""
    for _ in range(questions):
        asked, at = _name(data, at)
        at += 4
    texts: list[str] = []
    ttls: list[int] = []
    edns = False
    for number in range(answers + authorities + additional):
        _, at = _name(data, at)
        kind, _, ttl, length = struct.unpack("!HHIH", data[at : at + 10])
        body = data[at + 10 : at + 10 + length]
        assert len(body) == length
        if number < answers:
            ttls.append(ttl)
            if kind == 1:
                texts.append(socket.inet_ntop(socket.AF_INET, body))
            elif kind == 28:
                texts.append(socket.inet_ntop(socket.AF_INET6, body))
            elif kind == 12:
                texts.append(_name(data, at + 10)[0])
            else:
                texts.append(body.hex())
        edns = edns or kind == 41
        at += 10 + length
    assert at == len(data)
    bits = {"qr": 15, "aa": 10, "tc": 9, "rd": 8, "ra": 7}
    named = frozenset(name for name, bit in bits.items() if flags >> bit & 1)
    return Response(flags & 15, named, asked, texts, ttls, edns, len(data))


def _name(data: bytes, at: int) -> tuple[str, int]:
    labels: list[str] = []
    end = 0
    while length := data[at]:
        if length & 0xC0 == 0xC0:
            end = end or at + 2
            target = struct.unpack("!H", data[at : at + 2])[0] & 0x3FFF
            assert target < at
            at = target
        else:
            labels.append(data[at + 1 : at + 1 + length].decode(errors="replace"))
            at += 1 + length
    return ".".join(labels), end or at + 1


async def exchange(
    space: Space, port: int, data: bytes, *, tcp: bool = False, seconds: float = 10
) -> bytes:
    """Send `data` to 127.0.0.11 inside `space` and return what comes back. Raises TimeoutError."""
    loop = asyncio.get_running_loop()
    opened = space.open(socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM)
    with opened:
        async with asyncio.timeout(seconds):
            await loop.sock_connect(opened, ("127.0.0.11", port))
            await loop.sock_sendall(opened, struct.pack("!H", len(data)) + data if tcp else data)
            if not tcp:
                return await loop.sock_recv(opened, 65535)
            received = b""
            while len(received) < 2 or len(received) < 2 + struct.unpack("!H", received[:2])[0]:
                piece = await loop.sock_recv(opened, 65535)
                assert piece, "the connection ended before the response"
                received += piece
            return received[2:]
