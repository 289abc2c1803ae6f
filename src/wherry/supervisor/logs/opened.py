"""A segment with its files open: what the writer appends to and attached clients read from."""

from __future__ import annotations

import os

from wherry.supervisor.logs.scan import WINDOW
from wherry.supervisor.logs.segment import (
    BROKEN,
    LONGEST,
    RECORD,
    STREAMS,
    SUFFIXES,
    Record,
    file_name,
    unpack_records,
)

_LOOK_BACK = 2048 * RECORD.size


class OpenSegment:
    """One segment. `next` is its successor once there is one: whoever reads goes on there.

    Without a directory it lives in memory files and is gone with its last user. The files are closed
    when nobody refers to the segment any more: a reader may need them long after their removal.
    """

    def __init__(self, directory: str, number: int) -> None:
        """Create the segment's index, or open what is there. Raises OSError."""
        self.directory = directory
        self.number = number
        self.next: OpenSegment | None = None
        self._data: dict[int, int] = {}
        self.sizes: dict[int, int] = dict.fromkeys(STREAMS, 0)
        self.indexed: dict[int, int] = dict.fromkeys(STREAMS, 0)
        self.records = 0
        self.last_time = 0
        self.broken: frozenset[int] = frozenset()
        """The streams that go on here with a line of an earlier segment."""
        self._index = self._open("idx")

    def __del__(self) -> None:
        for fd in (getattr(self, "_index", -1), *getattr(self, "_data", {}).values()):
            if fd >= 0:
                os.close(fd)

    @classmethod
    def existing(cls, directory: str, number: int) -> OpenSegment:
        """Open a segment that was written before, with what its index says. Raises OSError."""
        self = cls(directory, number)
        self.records = os.fstat(self._index).st_size // RECORD.size
        for stream in STREAMS:
            try:
                path = os.path.join(directory, file_name(number, SUFFIXES[stream]))
                self.sizes[stream] = os.stat(path).st_size
            except FileNotFoundError:
                pass
        self._find_indexed()
        first = self.read_records(0, 1)
        if first and first[0].stream == BROKEN:
            self.broken = frozenset(s for s in STREAMS if first[0].offset >> s & 1)
        return self

    def _open(self, suffix: str) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        if not self.directory:
            return os.memfd_create("wherry-output", os.MFD_CLOEXEC)
        return os.open(os.path.join(self.directory, file_name(self.number, suffix)), flags, 0o640)

    def _find_indexed(self) -> None:
        """Learn from the end of the index how much of each stream it covers."""
        missing: set[int] = {stream for stream in STREAMS if self.sizes[stream]}
        end = self.records
        while missing and end:
            start = max(0, end - _LOOK_BACK // RECORD.size)
            records = list(self.read_records(start, end - start))
            if end == self.records and records:
                self.last_time = records[-1].time
            for record in reversed(records):
                if record.stream in missing:
                    missing.discard(record.stream)
                    covered = min(record.offset + record.length, self.sizes[record.stream])
                    self.indexed[record.stream] = covered
            end = start

    def data(self, stream: int) -> int:
        """Return the descriptor of a stream's data file, which it creates at first. Raises OSError."""
        fd = self._data.get(stream, -1)
        if fd < 0:
            fd = self._data[stream] = self._open(SUFFIXES[stream])
        return fd

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(self.sizes.values()) + self.records * RECORD.size

    def open_lines(self) -> frozenset[int]:
        """Return the streams whose last line has not ended. Raises OSError."""
        found: set[int] = set()
        for stream, size in self.sizes.items():
            if os.pread(self.data(stream), 1, size - 1) != b"\n" if size else stream in self.broken:
                found.add(stream)
        return frozenset(found)

    def line_starts(self) -> dict[int, int]:
        """Return where the first line begins of each stream that begins with the rest of another.

        A rest of more than WINDOW is left out, as `scan` does. Raises OSError.
        """
        found: dict[int, int] = {}
        for stream in self.broken:
            start = os.pread(self.data(stream), WINDOW, 0).find(b"\n") + 1
            if start:
                found[stream] = start
        return found

    def append(self, records: list[Record]) -> bool:
        """Write records at the end of the index; False when the disk has no room for them."""
        body = b"".join(record.pack() for record in records)
        try:
            written = os.pwrite(self._index, body, self.records * RECORD.size)
        except OSError:
            return False
        if written != len(body):
            return False  # overwritten by the next attempt; readers ignore what is not counted
        self.records += len(records)
        return True

    def uncovered(self, stream: int, time: int) -> Record | None:
        """Return a record for the bytes of `stream` that no record covers."""
        start, end = self.indexed[stream], self.sizes[stream]
        if end <= start:
            return None
        return Record(time, start, min(end - start, LONGEST), stream)

    def read_records(self, first: int, count: int) -> list[Record]:
        """Return records number `first` and on, at most `count`."""
        count = min(count, self.records - first)
        if count <= 0:
            return []
        return list(unpack_records(os.pread(self._index, count * RECORD.size, first * RECORD.size)))
