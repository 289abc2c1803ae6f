"""Entries in the journal's native protocol. Source: systemd.journal-fields(7), "Native Journal Protocol"."""

from __future__ import annotations

import re

from wherry.containers.shipping.entries import STDERR, Entry, Origin
from wherry.model.moments import render_nano

SOCKET = "/run/systemd/journal/socket"
_NOT_A_NAME = re.compile(r"[^A-Z0-9_]")


def render(entry: Entry, origin: Origin, ordinal: int) -> bytes:
    """Return the datagram of one message; `ordinal` counts the messages of one start."""
    fields: dict[str, bytes] = {
        "MESSAGE": entry.data,
        "PRIORITY": b"3" if entry.stream == STDERR else b"6",
        "CONTAINER_ID": origin.id[:12].encode(),
        "CONTAINER_ID_FULL": origin.id.encode(),
        "CONTAINER_NAME": origin.name.encode(),
        "CONTAINER_TAG": origin.tag.encode(),
        "IMAGE_NAME": origin.image_name.encode(),
        "SYSLOG_IDENTIFIER": origin.tag.encode(),
        "SYSLOG_TIMESTAMP": render_nano(entry.time).encode(),
        "CONTAINER_LOG_ORDINAL": str(ordinal).encode(),
    }
    if entry.partial:
        fields["CONTAINER_PARTIAL_MESSAGE"] = b"true"
    for name, value in origin.extra:
        fields.setdefault(field_name(name), value.encode("utf-8", "surrogateescape"))
    return b"".join(_field(name, value) for name, value in fields.items())


def field_name(text: str) -> str:
    """Return a name that the journal takes: capitals, digits, underscores, no digit or underscore first."""
    return _NOT_A_NAME.sub("_", text.upper()).lstrip("_0123456789") or "FIELD"


def _field(name: str, value: bytes) -> bytes:
    if b"\n" not in value:
        return name.encode() + b"=" + value + b"\n"
    return name.encode() + b"\n" + len(value).to_bytes(8, "little") + value + b"\n"
