"""WebSocket framing, the server's side: bytes in, messages out. No I/O. Source: RFC 6455.

Extensions and subprotocols are not negotiated. A client's frames are masked, a server's are not.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from enum import IntEnum

from wherry.model.errors import Invalid

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
LARGEST_FRAME = 1 << 20
"""Bytes of one frame that is taken; keystrokes are smaller."""
_LARGEST_CONTROL = 125


class Opcode(IntEnum):
    """What a frame is. Section 5.2."""

    CONTINUATION = 0
    TEXT = 1
    BINARY = 2
    CLOSE = 8
    PING = 9
    PONG = 10


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame, unmasked."""

    opcode: Opcode
    payload: bytes
    final: bool = True


def accept_key(key: str) -> str:
    """Return Sec-WebSocket-Accept for a client's Sec-WebSocket-Key. Section 4.2.2."""
    return base64.b64encode(hashlib.sha1(key.strip().encode() + _GUID).digest()).decode()


def check_handshake(method: str, headers: dict[str, str]) -> str:
    """Return the client's key. Raises Invalid for a request that does not open a WebSocket."""
    words = {word.strip().lower() for word in headers.get("connection", "").split(",")}
    if method != "GET" or "upgrade" not in words:
        raise Invalid("not a WebSocket handshake: Connection: Upgrade is missing")
    if headers.get("upgrade", "").strip().lower() != "websocket":
        raise Invalid("not a WebSocket handshake: Upgrade: websocket is missing")
    if headers.get("sec-websocket-version", "").strip() != "13":
        raise Invalid("unknown WebSocket version", hint="Sec-WebSocket-Version: 13")
    key = headers.get("sec-websocket-key", "")
    try:
        if len(base64.b64decode(key.strip(), validate=True)) != 16:
            raise ValueError
    except ValueError:
        raise Invalid(f"malformed Sec-WebSocket-Key: {key[:40]!r}") from None
    return key


def render_handshake(key: str) -> bytes:
    """Return the answer that opens the WebSocket."""
    return (
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {accept_key(key)}\r\n\r\n"
    ).encode()


def render_frame(opcode: Opcode, payload: bytes) -> bytes:
    """Return one final frame of the server's."""
    size = len(payload)
    if size < 126:
        head = bytes((0x80 | opcode, size))
    elif size < 1 << 16:
        head = bytes((0x80 | opcode, 126)) + size.to_bytes(2)
    else:
        head = bytes((0x80 | opcode, 127)) + size.to_bytes(8)
    return head + payload


def decode(data: bytes) -> tuple[list[Frame], bytes]:
    """Return the whole frames at the start of what a client sent, and the rest. Raises Invalid."""
    frames: list[Frame] = []
    while True:
        frame, taken = _decode_one(data)
        if frame is None:
            return frames, data
        frames.append(frame)
        data = data[taken:]


def _decode_one(data: bytes) -> tuple[Frame | None, int]:
    if len(data) < 2:
        return None, 0
    first, second = data[0], data[1]
    if first & 0x70:
        raise Invalid("malformed WebSocket frame: a reserved bit is set")
    try:
        opcode = Opcode(first & 0x0F)
    except ValueError:
        raise Invalid(f"malformed WebSocket frame: opcode {first & 0x0F}") from None
    if not second & 0x80:
        raise Invalid("malformed WebSocket frame: a client's frame is not masked")
    size, at = second & 0x7F, 2
    if size >= 126:
        at += 2 if size == 126 else 8
        if len(data) < at:
            return None, 0
        size = int.from_bytes(data[2:at])
    if opcode >= Opcode.CLOSE and (size > _LARGEST_CONTROL or not first & 0x80):
        raise Invalid("malformed WebSocket frame: a control frame is too large or in pieces")
    if size > LARGEST_FRAME:
        raise Invalid(f"a WebSocket frame of {size} bytes is larger than {LARGEST_FRAME}")
    end = at + 4 + size
    if len(data) < end:
        return None, 0
    mask, body = data[at : at + 4], data[at + 4 : end]
    return Frame(opcode, _unmask(body, mask), bool(first & 0x80)), end


def _unmask(body: bytes, mask: bytes) -> bytes:
    # One exclusive-or of two large integers is a hundred times a loop's speed.
    size = len(body)
    key = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(body) ^ int.from_bytes(key)).to_bytes(size) if size else b""
