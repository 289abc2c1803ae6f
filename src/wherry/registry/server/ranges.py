"""Header fields that speak of parts and versions: ranges, entity tags, page numbers. Codecs, no I/O.

Source: RFC 9110, 8.8.3, 13 and 14; distribution specification 1.1, "Pushing a blob in chunks".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from wherry.registry.server.faults import Code, Fault

_CHUNK: Final = re.compile(r"(?:bytes[ =])?\s*([0-9]{1,18})-([0-9]{1,18})(?:/(?:\*|[0-9]{1,18}))?")
_RANGE: Final = re.compile(r"bytes=\s*([0-9]{0,18})-([0-9]{0,18})\s*")
_NUMBER: Final = re.compile(r"[0-9]{1,9}")
PAGE: Final = 1000
"""Entries in a list whose request names no number."""


@dataclass(frozen=True, slots=True)
class Span:
    """`count` bytes from `start` on."""

    start: int
    count: int


class Unsatisfiable(Exception):
    """No byte of the range exists (416)."""


def parse_chunk(text: str) -> Span:
    """Return the bytes that a Content-Range of an upload's chunk names: `0-1023`.

    Raises Unsatisfiable for another form, or an end before its start.
    """
    found = _CHUNK.fullmatch(text.strip())
    if found is None:
        raise Unsatisfiable
    first, last = int(found[1]), int(found[2])
    if last < first:
        raise Unsatisfiable
    return Span(first, last - first + 1)


def parse_range(text: str, size: int) -> Span | None:
    """Return the one range that a Range field asks of `size` bytes.

    None where all is to be sent: another unit, several ranges, or no range at all (RFC 9110 lets a
    server ignore those). Raises Unsatisfiable.
    """
    found = _RANGE.fullmatch(text.strip())
    if found is None or not (found[1] or found[2]):
        return None
    if not found[1]:
        count = min(int(found[2]), size)
        if not count:
            raise Unsatisfiable
        return Span(size - count, count)
    first = int(found[1])
    last = min(int(found[2]), size - 1) if found[2] else size - 1
    if found[2] and int(found[2]) < first:
        return None
    if first >= size:
        raise Unsatisfiable
    return Span(first, last - first + 1)


def render_progress(size: int) -> str:
    """Return the Range field of an upload with `size` bytes; Docker's registry says `0-0` for none."""
    return f"0-{max(size - 1, 0)}"


def names_tag(field: str, tag: str) -> bool:
    """Whether an If-Match or If-None-Match field names the entity tag `tag` (with quotes), or `*`."""
    return any(item.strip().removeprefix("W/") in (tag, "*") for item in field.split(","))


def unchanged(headers: Mapping[str, str], tag: str) -> bool:
    """Whether a GET's condition asks for nothing: the client has the entity `tag` already."""
    condition = headers.get("if-none-match")
    return condition is not None and names_tag(condition, tag)


def parse_page(query: Mapping[str, list[str]]) -> tuple[int, str]:
    """Return how many entries are wanted, and the one after which they begin. Raises Fault."""
    last = query.get("last", [""])[0]
    text = query.get("n", [""])[0]
    if not text:
        return PAGE, last
    if not _NUMBER.fullmatch(text):
        raise Fault(Code.UNSUPPORTED, f"invalid number of results: {text[:100]!r}", status=400)
    return min(int(text), 10 * PAGE), last
