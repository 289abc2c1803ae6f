"""Reading segments: records by number, data through a window. Nothing here trusts what an index says."""

from __future__ import annotations

import os
from collections.abc import Sequence

from wherry.supervisor.logs.segment import (
    BROKEN,
    RECORD,
    STREAMS,
    SUFFIXES,
    Record,
    file_name,
    unpack_records,
)

WINDOW = 256 << 10
_BATCH = 512


class ReadSegment:
    """One segment as a reader sees it; it may still grow. Close it."""

    def __init__(self, directory: str, number: int) -> None:
        """Open the files that are there. Raises OSError."""
        self.number = number
        self._directory = directory
        self._data: dict[int, int] = {}
        self._windows: dict[int, tuple[int, bytes]] = {}
        self._index = self._open("idx")
        for stream in STREAMS:
            self._data_fd(stream)
        self._batch: tuple[int, Sequence[Record]] = (0, ())

    def close(self) -> None:
        """Close the files."""
        for fd in (self._index, *self._data.values()):
            if fd >= 0:
                os.close(fd)
        self._index = -1
        self._data.clear()

    def _open(self, suffix: str) -> int:
        path = os.path.join(self._directory, file_name(self.number, suffix))
        try:
            return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return -1

    def _data_fd(self, stream: int) -> int:
        fd = self._data.get(stream, -1)
        if fd < 0 and (fd := self._open(SUFFIXES[stream])) >= 0:
            self._data[stream] = fd
        return fd

    def count(self) -> int:
        """Return how many whole records there are now."""
        if self._index < 0:
            self._index = self._open("idx")
        return os.fstat(self._index).st_size // RECORD.size if self._index >= 0 else 0

    def size(self, stream: int) -> int:
        """Return the present size of a stream's data, bytes."""
        fd = self._data_fd(stream)
        return os.fstat(fd).st_size if fd >= 0 else 0

    def record(self, number: int) -> Record | None:
        """Return a record; None beyond the end."""
        first, batch = self._batch
        if not first <= number < first + len(batch):
            if self._index < 0 and self.count() == 0:
                return None
            first = number - number % _BATCH
            data = os.pread(self._index, _BATCH * RECORD.size, first * RECORD.size)
            batch = list(unpack_records(data))
            self._batch = (first, batch)
            if number >= first + len(batch):
                return None
        return batch[number - first]

    def time(self, number: int) -> int:
        """Return the time of a record, read alone (for binary search); 0 beyond the end."""
        data = os.pread(self._index, RECORD.size, number * RECORD.size) if self._index >= 0 else b""
        return next((record.time for record in unpack_records(data)), 0)

    def read(self, stream: int, offset: int, length: int) -> bytes:
        """Return data of a stream, at most WINDOW bytes; fewer where the file ends."""
        start, held = self._windows.get(stream, (0, b""))
        length = min(length, WINDOW)
        if not (start <= offset and offset + length <= start + len(held)):
            fd = self._data_fd(stream)
            if fd < 0 or offset >= 1 << 62:
                return b""
            held = os.pread(fd, WINDOW, offset)
            start = offset
            self._windows[stream] = (start, held)
        return held[offset - start : offset - start + length]

    def begins_inside(self, stream: int) -> bool:
        """Whether the stream begins here with the rest of a line (one that ends soon: within WINDOW)."""
        first = self.record(0)
        if first is None or first.stream != BROKEN or not first.offset >> stream & 1:
            return False
        return b"\n" in self.read(stream, 0, WINDOW)

    def last_byte(self, stream: int) -> bytes:
        """Return the last byte of a stream's data, or nothing when it has none."""
        size = self.size(stream)
        return os.pread(self._data_fd(stream), 1, size - 1) if size else b""
