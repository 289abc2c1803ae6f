"""Entries in Fluentd's forward protocol. Source: the Forward Protocol Specification v1, "Message"."""

from __future__ import annotations

import msgspec

from wherry.containers.shipping.entries import Entry, Origin

_EVENT_TIME = 0
"""The extension type of a time with nanoseconds."""


def render(entry: Entry, origin: Origin, *, sub_second: bool, chunk: str = "") -> bytes:
    """Return `[tag, time, record]`; `chunk` asks the server to acknowledge it."""
    seconds, rest = divmod(entry.time, 1_000_000_000)
    moment: object = seconds
    if sub_second:
        moment = msgspec.msgpack.Ext(_EVENT_TIME, seconds.to_bytes(4) + rest.to_bytes(4))
    record: dict[str, str] = {
        "container_id": origin.id,
        "container_name": f"/{origin.name}",
        "source": entry.source,
        "log": entry.data.decode("utf-8", "replace"),
    }
    if entry.partial:
        record["partial_message"] = "true"
    record |= dict(origin.extra)
    message: list[object] = [origin.tag, moment, record]
    if chunk:
        message.append({"chunk": chunk})
    return msgspec.msgpack.encode(message)


def acknowledged(data: bytes) -> str | None:
    """Return the chunk that the server's answer names, None where it is not whole yet."""
    try:
        answer = msgspec.msgpack.decode(data, type=dict[str, str])
    except msgspec.DecodeError:
        return None
    return answer.get("ack", "")
