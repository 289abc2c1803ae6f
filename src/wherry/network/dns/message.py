"""DNS messages as bytes and back: of a query all that matters, of a response as little as is needed.

Pure. Whatever bytes come in, the result is a Query or Malformed, in time linear in their number: names in
questions are read without following pointers, which a question has no use for.
Sources: RFC 1035 section 4, RFC 6891 (EDNS), RFC 7766 (TCP).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

A = 1
PTR = 12
MX = 15
AAAA = 28
IN = 1
ANY_CLASS = 255

FORMERR = 1
SERVFAIL = 2
NXDOMAIN = 3
NOTIMP = 4
REFUSED = 5

QR = 0x8000
TC = 0x0200
RD = 0x0100
RA = 0x0080
AD = 0x0020
CD = 0x0010
OPCODE = 0x7800
RCODE = 0x000F

HEADER = 12
SMALLEST = 512
"""What every client takes over UDP, in bytes; RFC 1035 section 4.2.1."""
LARGEST = 4096
"""What is sent over UDP at most, however much a client says it takes."""
LARGEST_TCP = 65535

_HEADER = struct.Struct("!6H")
_RECORD = struct.Struct("!HHHIH")
_NAME_HERE = 0xC00C
"""A pointer to the question's name."""
_OPT = b"\0\0\x29"
_OUR_OPT = b"\0\0\x29" + struct.pack("!HIH", 1232, 0, 0)
"""RFC 6891 section 6.1.1: who sends OPT gets OPT. 1232 is what fits every path's packets."""


class Malformed(ValueError):
    """Not a query that can be answered; `reply` is what its sender gets, empty for nothing at all."""

    def __init__(self, why: str, reply: bytes = b"") -> None:
        super().__init__(why)
        self.reply = reply


@dataclass(frozen=True, slots=True)
class Query:
    """One question. `name` is in lower case without the last dot, a dot inside a label is `\\.`."""

    id: int
    flags: int
    name: str
    kind: int
    dns_class: int
    question: bytes
    """As sent: it is repeated in the response, its letters' case with it."""
    edns: bool
    room: int
    """Bytes that the sender takes over UDP."""
    dnssec: bool = False
    """Signatures are wanted: DO, RFC 3225."""


def parse_query(data: bytes) -> Query:
    """Return the question in `data`; raise Malformed, with the reply that RFC 1035 wants if any."""
    if len(data) < HEADER:
        raise Malformed("shorter than a header")
    number, flags, questions, answers, authorities, _ = _HEADER.unpack_from(data)
    if flags & QR:
        # Never answered: two servers would talk to each other for ever.
        raise Malformed("a response")
    if flags & OPCODE:
        raise Malformed("not a query", _bare(number, flags, NOTIMP))
    if questions != 1:
        raise Malformed("not one question", _bare(number, flags, FORMERR))
    try:
        name, end = _read_name(data, HEADER)
        kind, dns_class = struct.unpack_from("!HH", data, end)
    except (IndexError, struct.error) as error:
        raise Malformed("the question ends early", _bare(number, flags, FORMERR)) from error
    except ValueError as error:
        raise Malformed(str(error), _bare(number, flags, FORMERR)) from error
    end += 4
    edns, room, dnssec = False, SMALLEST, False
    if not answers and not authorities and data[end : end + 3] == _OPT and len(data) >= end + 11:
        edns = True
        room = min(max(SMALLEST, int.from_bytes(data[end + 3 : end + 5], "big")), LARGEST)
        dnssec = bool(data[end + 7] & 0x80)
    return Query(number, flags, name, kind, dns_class, data[HEADER:end], edns, room, dnssec)


def _read_name(data: bytes, at: int) -> tuple[str, int]:
    """Return the name at `at` and where it ends. Raises ValueError, IndexError."""
    labels: list[str] = []
    start = at
    while length := data[at]:
        if length > 63:
            raise ValueError("a pointer or an unknown kind of label in the question")
        label = data[at + 1 : at + 1 + length].lower()  # of bytes: A to Z alone, RFC 4343
        at += 1 + length
        if at - start > 254:
            raise ValueError("a name of more than 255 bytes")
        text = label.decode("utf-8", "surrogateescape")
        if "." in text or "\\" in text:
            text = text.replace("\\", "\\\\").replace(".", "\\.")
        labels.append(text)
    return ".".join(labels), at + 1


def lower(name: str) -> str:
    """Return `name` with the letters A to Z in lower case, as DNS compares; RFC 4343."""
    return name.lower() if name.isascii() else name.encode().lower().decode()


def encode_name(name: str) -> bytes:
    """Return the wire form of a dotted name. Raises ValueError for one that has none."""
    out = bytearray()
    for label in name.strip(".").split("."):
        data = label.encode()
        if not 0 < len(data) < 64:
            raise ValueError(f"not a label of 1 to 63 bytes: {label!r}")
        out.append(len(data))
        out += data
    if len(out) > 254:
        raise ValueError(f"a name of more than 255 bytes: {name[:40]!r}…")
    return bytes(out) + b"\0"


def record(kind: int, ttl: int, data: bytes) -> bytes:
    """Return a resource record about the name in the question."""
    return _RECORD.pack(_NAME_HERE, kind, IN, ttl, len(data)) + data


def respond(query: Query, records: list[bytes], *, room: int, code: int = 0) -> bytes:
    """Return the response with as many `records` as fit into `room` bytes, marked when some do not."""
    opt = _OUR_OPT if query.edns else b""
    left = room - HEADER - len(query.question) - len(opt)
    flags = QR | RA | query.flags & (RD | CD) | code
    fitting = records
    if sum(map(len, records)) > left:
        flags |= TC
        fitting = list[bytes]()
        for one in records:
            left -= len(one)
            if left < 0:
                break
            fitting.append(one)
    head = _HEADER.pack(query.id, flags, 1, len(fitting), 0, 1 if opt else 0)
    return b"".join((head, query.question, *fitting, opt))


def refuse(query: Query, code: int) -> bytes:
    """Return the response that says only why there is no answer."""
    return respond(query, [], room=SMALLEST, code=code)


def ask(query: Query, number: int) -> bytes:
    """Return `query` anew under the id `number`: what else its sender wrote is left behind."""
    opt = b""
    if query.edns:
        opt = _OPT + struct.pack("!HIH", query.room, 0x8000 if query.dnssec else 0, 0)
    flags = query.flags & (RD | AD | CD)
    return _HEADER.pack(number, flags, 1, 0, 0, 1 if opt else 0) + query.question + opt


def _bare(number: int, flags: int, code: int) -> bytes:
    return _HEADER.pack(number, QR | flags & (OPCODE | RD) | code, 0, 0, 0, 0)


def answers(response: bytes, number: int, question: bytes) -> bool:
    """Whether `response` is one to `question`, asked under `number`.

    The letters' case is free. A server that refuses may leave the question out.
    """
    if len(response) < HEADER:
        return False
    found, flags, questions, *_ = _HEADER.unpack_from(response)
    if found != number or not flags & QR or flags & OPCODE:
        return False
    if questions == 0:
        return bool(flags & RCODE)
    echoed = response[HEADER : HEADER + len(question)]
    return questions == 1 and echoed.lower() == question.lower()


def code_of(response: bytes) -> int:
    """Return the RCODE of a message that has a header."""
    return response[3] & RCODE


def with_id(message: bytes, number: int) -> bytes:
    """Return `message` under another id."""
    return number.to_bytes(2, "big") + message[2:]
