"""Where reading begins: `--since` by binary search, `--tail` by walking back. Neither scans the log."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from wherry.supervisor.logs.scan import ReadSegment
from wherry.supervisor.logs.segment import SUFFIXES, Record

_BLOCK = 64 << 10


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """A record by segment (its place in the list) and number, and how many of its bytes to skip."""

    segment: int = 0
    record: int = 0
    skip: int = 0


def find_since(segments: Sequence[ReadSegment], since: int) -> Place:
    """Return the first record that is not older than `since` (ns); the end when there is none."""
    for at in range(len(segments) - 1, -1, -1):
        segment = segments[at]
        count = segment.count()
        if not count or segment.time(0) >= since:
            continue
        low, high = 0, count
        while low < high:
            middle = (low + high) // 2
            if segment.time(middle) < since:
                low = middle + 1
            else:
                high = middle
        return Place(at, low) if low < count else Place(at + 1)
    return Place()


def find_tail(segments: Sequence[ReadSegment], lines: int, streams: frozenset[int]) -> Place:
    """Return where the last `lines` lines of the streams begin, counted by where each line starts."""
    if lines <= 0:
        return Place(len(segments))
    for at in range(len(segments) - 1, -1, -1):
        segment = segments[at]
        for number in range(segment.count() - 1, -1, -1):
            record = segment.record(number)
            if record is None or record.stream not in streams or record.stream not in SUFFIXES:
                continue
            starts, skip = _line_starts(segments, at, record, lines)
            lines -= starts
            if lines <= 0:
                return Place(at, number, skip)
    return Place()


def starts_line(segments: Sequence[ReadSegment], at: int, stream: int, offset: int) -> bool:
    """Whether the byte at `offset` of a stream is the first of a line."""
    if offset > 0:
        return segments[at].read(stream, offset - 1, 1) in (b"\n", b"")
    for earlier in range(at - 1, -1, -1):
        last = segments[earlier].last_byte(stream)
        if last:
            return last == b"\n"
    return not segments[0].begins_inside(stream)


def _line_starts(
    segments: Sequence[ReadSegment], at: int, record: Record, wanted: int
) -> tuple[int, int]:
    """Count lines that start in `record`, from its end; return (count, where the last counted starts).

    Stops at `wanted`.
    """
    segment = segments[at]
    end = min(record.offset + record.length, segment.size(record.stream))
    found = 0
    # A newline at position p starts a line at p + 1, which is inside the record up to end - 1.
    high = end - 1
    while high > record.offset:
        low = max(record.offset, high - _BLOCK)
        block = segment.read(record.stream, low, high - low)
        if not block:
            break
        count = block.count(b"\n")
        if found + count >= wanted:
            position = len(block)
            for _ in range(wanted - found):
                position = block.rfind(b"\n", 0, position)
            return wanted, low + position + 1 - record.offset
        found += count
        high = low
    if end > record.offset and starts_line(segments, at, record.stream, record.offset):
        found += 1
    return found, 0
