"""`docker logs`: what a log holds, rendered, from the files alone; and what is added later.

reader = LogReader(directory, raw=tty)
for piece in reader.read(tail=100): …
with reader.open(tail=100) as tail:      # follow
    for piece in tail.read(): …          # up to the present end; again after the folder changed
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import replace
from typing import Protocol

from wherry.supervisor.logs.find import Place, find_since, find_tail, starts_line
from wherry.supervisor.logs.render import Renderer
from wherry.supervisor.logs.scan import ReadSegment
from wherry.supervisor.logs.segment import (
    ERR,
    LOST,
    OUT,
    STREAMS,
    SUFFIXES,
    Record,
    file_name,
    list_segments,
)

FRAME = 64 << 10
"""Most bytes of data in one frame; a frame may hold many lines."""
_LOOK_BACK = 4096


class LogReader:
    """The log in `directory`. `raw` is for terminals: no frames."""

    def __init__(
        self, directory: str | os.PathLike[str], *, raw: bool = False, details: bytes = b""
    ) -> None:
        """`details` come before each line, after its timestamp."""
        self._directory = os.fspath(directory)
        self._raw = raw
        self._details = details

    def read(
        self,
        since_ns: int = 0,
        until_ns: int = 0,
        tail: int = -1,
        stdout: bool = True,
        stderr: bool = True,
        timestamps: bool = False,
    ) -> Iterator[bytes]:
        """Yield pieces of what is there now. Times are ns since the epoch (0: open), tail -1 is all.

        A line counts as of the time its first byte came. With `tail` and times, both hold.
        """
        with self.open(since_ns, until_ns, tail, stdout, stderr, timestamps) as log:
            yield from log.read()
            yield from log.read_uncovered()

    def open(
        self,
        since_ns: int = 0,
        until_ns: int = 0,
        tail: int = -1,
        stdout: bool = True,
        stderr: bool = True,
        timestamps: bool = False,
    ) -> LogTail:
        """Return the same as something that can be read on."""
        wanted = {OUT: stdout, ERR: stderr and not self._raw}
        streams = frozenset(stream for stream in STREAMS if wanted[stream])
        renderer = Renderer(raw=self._raw, timestamps=timestamps, details=self._details)
        log = LogTail(self._directory, streams, renderer, until_ns)
        try:
            log.place(since_ns, tail)
        except BaseException:
            log.close()
            raise
        return log


class Rendering(Protocol):
    """What becomes of the pieces; see `render.Renderer`."""

    @property
    def stamps(self) -> bool: ...
    def render(self, stream: int, at: int, data: bytes) -> bytes: ...
    def render_loss(self, at: int, count: int) -> bytes: ...


class LogTail:
    """A place in a log, and how to go on from it."""

    def __init__(
        self, directory: str, streams: frozenset[int], renderer: Rendering, until: int
    ) -> None:
        self._directory = directory
        self._streams = streams
        self._renderer = renderer
        self._until = until
        self._segments: list[ReadSegment] = []
        self._current = 0
        self._next = 0
        self._skip = 0
        self._align: set[int] = set()
        self._consumed: dict[tuple[int, int], int] = {}
        self.ended = False
        """Whether `until` was reached: nothing more will come."""

    def __enter__(self) -> LogTail:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the files."""
        for segment in self._segments:
            segment.close()
        self._segments.clear()

    def place(self, since: int, tail: int) -> None:
        """Stand where `since` and `tail` say."""
        self._find_segments()
        start = Place()
        if since > 0:
            start = find_since(self._segments, since)
        if tail >= 0:
            start = max(start, find_tail(self._segments, tail, self._streams))
        if start.segment >= len(self._segments) and self._segments:
            # At the end: what is appended to the last segment is still to come.
            last = len(self._segments) - 1
            start = Place(last, self._segments[last].count())
        self._current, self._next, self._skip = start.segment, start.record, start.skip
        if start > Place():
            self._align = set(STREAMS)
        elif self._segments:
            # What was before the oldest segment is removed.
            oldest = self._segments[0]
            self._align = {stream for stream in STREAMS if oldest.begins_inside(stream)}

    def read(self) -> Iterator[bytes]:
        """Yield pieces up to the present end."""
        out: list[bytes] = []
        size = 0
        for at, record in self._joined():
            for piece in self._render(at, record):
                out.append(piece)
                size += len(piece)
                if size >= FRAME:
                    yield b"".join(out)
                    out, size = [], 0
        if out:
            yield b"".join(out)

    def _joined(self) -> Iterator[tuple[int, Record]]:
        """Yield records, adjacent ones of a stream as one where their times do not matter."""
        if self._renderer.stamps:
            yield from self._records()
            return
        held: tuple[int, Record] | None = None
        for at, record in self._records():
            if held is not None:
                joined = _join(held[1], record) if at == held[0] else None
                if joined is not None:
                    held = (at, joined)
                    continue
                yield held
            held = (at, record)
        if held is not None:
            yield held

    def read_uncovered(self) -> Iterator[bytes]:
        """Yield the rest, and bytes at the end that have no record: their writer was killed."""
        if self.ended or self._current >= len(self._segments):
            return
        segment = self._segments[self._current]
        # Sizes come before the last look at the records: a living writer's bytes have theirs by then,
        # or are all of the one piece whose record is still to be written.
        sizes = {stream: segment.size(stream) for stream in STREAMS}
        yield from self.read()
        if self.ended or segment is not self._segments[self._current]:
            return
        covered: dict[int, int] = dict.fromkeys(STREAMS, 0)
        missing = {stream for stream in STREAMS if sizes[stream]}
        count = segment.count()
        for number in range(count - 1, -1, -1):
            record = segment.record(number)
            if not missing or record is None:
                break
            if count - number > _LOOK_BACK:
                covered.update(dict.fromkeys(missing, 1 << 63))  # the last piece is elsewhere
                break
            if record.stream in missing:
                missing.discard(record.stream)
                covered[record.stream] = record.offset + record.length
        path = os.path.join(self._directory, file_name(segment.number, "idx"))
        with contextlib.suppress(OSError):
            at = os.stat(path).st_mtime_ns
            for stream, start in covered.items():
                left = sizes[stream] - start
                if left > 0 and not (self._until and at > self._until):
                    yield from self._render(self._current, Record(at, start, left, stream))

    def _find_segments(self) -> None:
        known = self._segments[-1].number if self._segments else 0
        for number in list_segments(self._directory):
            if number > known:
                self._segments.append(ReadSegment(self._directory, number))

    def _records(self) -> Iterator[tuple[int, Record]]:
        """Yield (segment's place, record) from here to the end; the next call goes on from there."""
        while not self.ended:
            if self._current >= len(self._segments):
                self._find_segments()
                if self._current >= len(self._segments):
                    return
            segment = self._segments[self._current]
            record = segment.record(self._next)
            if record is None and self._has_successor():
                # Asked again: it may have grown between the last look and the successor's birth.
                record = segment.record(self._next)
                if record is None:
                    self._pass_segment()
                    continue
            if record is None:
                return
            if self._until and record.time > self._until:
                self.ended = True
                return
            self._next += 1
            skip, self._skip = self._skip, 0
            if skip:
                self._align.discard(record.stream)
                record = replace(record, offset=record.offset + skip, length=record.length - skip)
            yield self._current, record

    def _has_successor(self) -> bool:
        if self._current + 1 >= len(self._segments):
            self._find_segments()
        return self._current + 1 < len(self._segments)

    def _pass_segment(self) -> None:
        self._current += 1
        self._next = 0
        self._skip = 0
        # One behind is kept: whether its last byte ended a line may be asked.
        if self._current >= 2:
            self._segments[self._current - 2].close()

    def _render(self, at: int, record: Record) -> Iterator[bytes]:
        """Yield what is sent for one record of segment number `at` in the list."""
        stream = record.stream
        if stream == LOST and self._streams:
            yield self._renderer.render_loss(record.time, record.offset)
        if stream not in self._streams or stream not in SUFFIXES:
            return
        segment = self._segments[at]
        # Never back: a damaged index could have the same bytes read for ever.
        start = max(record.offset, self._consumed.get((at, stream), 0))
        end = min(record.offset + record.length, segment.size(stream))
        self._consumed[at, stream] = max(end, start)
        if stream in self._align and start < end:
            self._align.discard(stream)
            if not starts_line(self._segments, at, stream, start):
                start = self._after_newline(segment, stream, start, end)
        while start < end:
            data = segment.read(stream, start, min(FRAME, end - start))
            if not data:
                return
            start += len(data)
            yield self._renderer.render(stream, record.time, data)

    def _after_newline(self, segment: ReadSegment, stream: int, start: int, end: int) -> int:
        """Return where the line that has begun before `start` is over; if later, go on looking."""
        while start < end:
            data = segment.read(stream, start, min(FRAME, end - start))
            if not data:
                break
            at = data.find(b"\n")
            if at >= 0:
                return start + at + 1
            start += len(data)
        self._align.add(stream)
        return end


def _join(first: Record, second: Record) -> Record | None:
    """Return one record for two adjacent pieces of a stream that fit into one frame."""
    if first.stream != second.stream or first.stream == LOST:
        return None
    if second.offset != first.offset + first.length or first.length + second.length > FRAME:
        return None
    return replace(first, length=first.length + second.length)
