"""Entries as GELF 1.1 messages, over UDP in chunks or over TCP. Source: the GELF specification."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator

from wherry.containers.shipping.entries import STDERR, Entry, Origin
from wherry.model.moments import render_nano

COMPRESSIONS = ("gzip", "zlib", "none")
CHUNK = 1420
"""Bytes of one datagram, header included: they fit every Ethernet."""
_MOST_CHUNKS = 128
_MAGIC = b"\x1e\x0f"


def render(entry: Entry, origin: Origin, hostname: str) -> bytes:
    """Return one message as JSON."""
    message: dict[str, object] = {
        "version": "1.1",
        "host": hostname,
        "short_message": entry.data.decode("utf-8", "replace"),
        "timestamp": entry.time // 1_000_000 / 1000,
        "level": 3 if entry.stream == STDERR else 6,
        "_command": origin.command,
        "_container_id": origin.id,
        "_container_name": origin.name,
        "_created": render_nano(origin.created),
        "_image_id": origin.image_id,
        "_image_name": origin.image_name,
        "_tag": origin.tag,
    }
    for name, value in origin.extra:
        # `_id` is reserved by the specification.
        if name != "id":
            message[f"_{name}"] = value
    return json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode()


def compress(message: bytes, compression: str, level: int) -> bytes:
    """Return the message as a UDP server takes it."""
    match compression:
        case "none":
            return message
        case "zlib":
            return zlib.compress(message, level)
        case _:
            return gzip.compress(message, max(level, 0), mtime=0)


def chunks(message: bytes, identity: bytes) -> Iterator[bytes]:
    """Yield the datagrams of a message; `identity` are eight bytes. What does not fit 128 is cut."""
    if len(message) <= CHUNK:
        yield message
        return
    size = CHUNK - len(_MAGIC) - len(identity) - 2
    pieces = [message[at : at + size] for at in range(0, len(message), size)][:_MOST_CHUNKS]
    for number, piece in enumerate(pieces):
        yield _MAGIC + identity + bytes((number, len(pieces))) + piece
