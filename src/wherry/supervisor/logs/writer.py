"""Moves output from pipes into a log, inside the kernel (splice), and rotates by size.

Nothing is created before the first byte. Where there is no log (driver `none`), or while the disk is
full or broken, output goes to memory files as long as somebody is attached, and nowhere otherwise: a
container never waits for a disk. What that cost is counted, and one LOST record tells of it.

A container does wait for an attached client that is a whole log behind: when rotation would remove a
segment that the client has not read, `move` refuses until it has. (Docker's containers wait for a client
that is a few kilobytes behind.)
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import select
import sys
import time
from collections.abc import Callable

from wherry.kernel.failpoints import failpoint
from wherry.supervisor.logs.cursor import Cursor
from wherry.supervisor.logs.opened import OpenSegment
from wherry.supervisor.logs.segment import (
    BROKEN,
    LOST,
    STREAMS,
    Record,
    list_segments,
    remove_segment,
)
from wherry.supervisor.messages import NO_LOG, LogSettings

_STEP = 1 << 20
_MEMORY_SEGMENT = 4 << 20
_MEMORY_SEGMENTS = 2
_RETRY_DISK = 1.0
_NONBLOCK = 2  # SPLICE_F_NONBLOCK, linux/splice.h
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.ENOENT})


class ReaderBehind(Exception):
    """An attached client has to read first; `on_room` is called when it has."""


class LogWriter:
    """The log of one container, or the lack of one."""

    def __init__(self, settings: LogSettings, on_room: Callable[[], None]) -> None:
        self._settings = settings
        self._on_room = on_room
        self._current: OpenSegment | None = None
        self._numbers: list[int] = []
        self._cursors: list[Cursor] = []
        self._refusing = False
        self._told: set[int | None] = set()
        self._lost = 0
        self._retry_disk_at = 0.0
        self._nowhere = _nowhere()
        self._logs = settings.driver != NO_LOG
        if self._logs:
            # Without its parent the container is being removed: nothing is to be left behind for it.
            with contextlib.suppress(OSError):
                os.mkdir(settings.directory, 0o750)

    def open_existing(self) -> None:
        """Take over what an earlier writer left: bytes without a record get one. Raises OSError."""
        if not self._logs or self._current is not None:
            return
        self._numbers = list_segments(self._settings.directory)
        if not self._numbers:
            return
        segment = OpenSegment.existing(self._settings.directory, self._numbers[-1])
        for stream in STREAMS:
            self._cover(segment, stream)
        self._become(segment)

    def move(self, pipe: int, stream: int, *, insist: bool = False) -> int:
        """Move what `pipe` holds into the log, up to 1 MiB; return the bytes moved, 0 at its end.

        Raises BlockingIOError when the pipe is empty, ReaderBehind when a client must read first
        (unless `insist`).
        """
        if self._current is None and not _has_bytes(pipe):
            return 0
        while True:
            segment = self._segment(insist)
            if segment is None:
                return self._discard(pipe)
            room = self._capacity(segment) - segment.size
            at = segment.sizes[stream]
            try:
                fd = segment.data(stream)
                moved = os.splice(pipe, fd, min(room, _STEP), offset_dst=at, flags=_NONBLOCK)
            except BlockingIOError:
                raise
            except OSError as error:
                if not segment.directory:
                    return self._discard(pipe)
                self._disk_failed(error, segment)
                continue
            if moved:
                failpoint("log.after-splice")
                segment.sizes[stream] = at + moved
                self._cover(segment, stream)
                if not segment.directory and self._logs:
                    self._lost += moved
                while len(self._numbers) > self._settings.max_files:
                    self._remove(self._numbers.pop(0))
            return moved

    def attach(self, streams: frozenset[int], *, replay: bool) -> Cursor:
        """Return a cursor at the end of the log, or at its beginning with `replay`, where that can be read."""
        cursor = None
        if replay:
            try:
                cursor = self._replay(streams)
            except OSError as error:
                self._tell(error)
        if cursor is None:
            cursor = Cursor(streams, self._progress, None)
            if self._current is not None:
                cursor.place(self._current)
        self._cursors.append(cursor)
        return cursor

    def _replay(self, streams: frozenset[int]) -> Cursor | None:
        self.open_existing()
        if self._current is None:
            return None
        # What was before the oldest segment is removed: a line that began there is left out.
        first = self._chain(self._current)
        return Cursor(streams, self._progress, first, first.line_starts())

    def detach(self, cursor: Cursor) -> None:
        """Forget a cursor."""
        self._cursors.remove(cursor)
        if self._current is not None and not self._current.directory and not self._cursors:
            self._current = None
        self._progress()

    def close(self) -> None:
        """Let go of the files; attached cursors keep what they need."""
        self._current = None

    def _chain(self, current: OpenSegment) -> OpenSegment:
        """Return the oldest segment, opened and linked up to `current`."""
        first = current
        for number in reversed(self._numbers):
            if current.directory and number < current.number:
                try:
                    older = OpenSegment.existing(current.directory, number)
                except OSError:
                    break
                older.next = first
                first = older
        return first

    def _segment(self, insist: bool) -> OpenSegment | None:
        """Return where the next bytes go; None for nowhere."""
        if self._logs and time.monotonic() >= self._retry_disk_at:
            try:
                return self._disk_segment(insist)
            except OSError as error:
                self._disk_failed(error, None)
        if not self._cursors:
            return None
        current = self._current
        if current is None or current.directory or current.size >= _MEMORY_SEGMENT:
            if current is not None and not current.directory:
                self._wait_for_readers(current, _MEMORY_SEGMENTS, insist)
            try:
                current = OpenSegment("", 0)
            except OSError:
                return None
            self._become(current)
        return current

    def _disk_segment(self, insist: bool) -> OpenSegment:
        """Return the segment on disk to append to, a new one when the last is full. Raises OSError."""
        if self._current is None:
            self.open_existing()
        current = self._current
        if current is not None and current.directory:
            if current.size < self._capacity(current):
                return current
            self._wait_for_readers(current, self._settings.max_files, insist)
        number = self._numbers[-1] + 1 if self._numbers else 1
        segment = OpenSegment(self._settings.directory, number)
        if current is not None and current.directory:
            segment.broken = current.open_lines()
        self._numbers.append(number)
        self._become(segment)
        return segment

    def _wait_for_readers(self, current: OpenSegment, most: int, insist: bool) -> None:
        behind = max((cursor.behind(current) for cursor in self._cursors), default=0)
        if behind + 1 >= max(2, most) and not insist:
            self._refusing = True
            raise ReaderBehind

    def _disk_failed(self, error: OSError, segment: OpenSegment | None) -> None:
        """Do without the disk for a while; a segment that could not take its first byte goes."""
        self._retry_disk_at = time.monotonic() + _RETRY_DISK
        if error.errno not in _FULL:
            self._tell(error)
        if segment is not None and segment.size == 0 and segment.number == self._numbers[-1]:
            self._remove(self._numbers.pop())
            self._current = None if not self._cursors else self._current

    def _tell(self, error: OSError) -> None:
        """Report what is wrong with the log, once for each kind."""
        if error.errno not in self._told:
            self._told.add(error.errno)
            print(
                f"supervisor: log in {self._settings.directory}: {error}",
                file=sys.stderr,
                flush=True,
            )

    def _remove(self, number: int) -> None:
        with contextlib.suppress(OSError):  # a log that cannot be cleared is no reason to stop
            remove_segment(self._settings.directory, number)

    def _become(self, segment: OpenSegment) -> None:
        """Make `segment` the last one."""
        if self._current is not None:
            self._current.next = segment
            segment.last_time = self._current.last_time
        self._current = segment
        for cursor in self._cursors:
            if cursor.segment is None:
                cursor.place(segment)

    def _capacity(self, segment: OpenSegment) -> int:
        if not segment.directory:
            return _MEMORY_SEGMENT
        return self._settings.max_size or 1 << 62

    def _cover(self, segment: OpenSegment, stream: int) -> None:
        """Append the record for what the stream's file holds beyond its records."""
        # Binary search needs ascending times: a clock that is set back does not take the log along.
        segment.last_time = max(time.time_ns(), segment.last_time)
        record = segment.uncovered(stream, segment.last_time)
        if record is None:
            return
        records = [record]
        if self._lost and segment.directory:
            records.insert(0, Record(record.time, self._lost, 0, LOST))
        if segment.broken and not segment.records and segment.directory:
            streams = sum(1 << stream for stream in segment.broken)
            records.insert(0, Record(record.time, streams, 0, BROKEN))
        if segment.append(records):
            segment.indexed[stream] += record.length
            if segment.directory:
                self._lost = 0

    def _discard(self, pipe: int) -> int:
        moved = os.splice(pipe, self._nowhere, _STEP, flags=_NONBLOCK)
        if self._logs:
            self._lost += moved
        return moved

    def _progress(self) -> None:
        if self._refusing:
            self._refusing = False
            self._on_room()


@functools.cache
def _nowhere() -> int:
    """Return /dev/null, opened before there may be no descriptor left for it."""
    return os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)


def _has_bytes(pipe: int) -> bool:
    """Whether the pipe holds bytes; False at its end. Raises BlockingIOError when it is empty."""
    poll = select.poll()
    poll.register(pipe, select.POLLIN)
    ready = poll.poll(0)
    if not ready:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
    return bool(ready[0][1] & select.POLLIN)
