"""A place in a log: what an attached client has yet to be sent."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from wherry.supervisor.logs.opened import OpenSegment
from wherry.supervisor.logs.segment import SUFFIXES, Record

_BATCH = 64


@dataclass(frozen=True, slots=True)
class Piece:
    """Consecutive bytes of one stream in the data file `fd`, which belongs to `segment`."""

    segment: OpenSegment
    fd: int
    offset: int
    length: int
    stream: int


class Cursor:
    """Walks over the records of segments and on to their successors.

    `segment` is None until the writer has opened the log; the writer then places the cursor at the
    end. `on_segment` is called whenever a segment is done with. `skips` is how many bytes of each stream
    are left out of the first.
    """

    def __init__(
        self,
        streams: frozenset[int],
        on_segment: Callable[[], None],
        segment: OpenSegment | None,
        skips: Mapping[int, int] | None = None,
    ) -> None:
        self.segment = segment
        self._streams = streams
        self._skips = dict(skips or {})
        self._on_segment = on_segment
        self._next = 0
        self._batch: list[Record] = []

    def place(self, segment: OpenSegment) -> None:
        """Stand at the present end of `segment`."""
        self.segment = segment
        self._next = segment.records
        self._batch = []

    def take(self, longest: int) -> Piece | None:
        """Return the next piece, joined from adjacent records up to about `longest`; None at the end."""
        while (record := self._peek()) is not None:
            segment = self.segment
            assert segment is not None
            self._batch.pop()
            if record.stream not in self._streams or record.stream not in SUFFIXES:
                continue
            length = record.length
            while length < longest and (more := self._peek_here()) is not None:
                if more.stream != record.stream or more.offset != record.offset + length:
                    break
                length += more.length
                self._batch.pop()
            offset = max(record.offset, self._skips.get(record.stream, 0))
            length -= offset - record.offset
            # A damaged index never makes a client wait for bytes that are not there.
            length = min(length, segment.sizes[record.stream] - offset)
            if length > 0:
                fd = segment.data(record.stream)
                return Piece(segment, fd, offset, length, record.stream)
        return None

    def _peek_here(self) -> Record | None:
        """Return the next record of the present segment."""
        if not self._batch and self.segment is not None:
            self._batch = self.segment.read_records(self._next, _BATCH)
            self._next += len(self._batch)
            self._batch.reverse()
        return self._batch[-1] if self._batch else None

    def _peek(self) -> Record | None:
        """Return the next record of all, in this segment or its successors."""
        while self.segment is not None:
            record = self._peek_here()
            if record is not None:
                return record
            if self.segment.next is None:
                return None
            self.segment = self.segment.next
            self._next = 0
            self._skips.clear()
            self._on_segment()
        return None

    def behind(self, current: OpenSegment) -> int:
        """Return how many segments lie between this place and `current`."""
        count = 0
        segment = self.segment
        while segment is not None and segment is not current:
            segment = segment.next
            count += 1
        return count
