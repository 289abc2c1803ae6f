"""Segments: a log is a row of them, `000001.idx` with `000001.out` and `000001.err`.

A data file holds what one stream wrote, byte for byte; its size is the truth. The index holds one
record of 24 bytes per piece, in order of arrival: time (ns since the epoch, u64), offset in the data file
(u64), length (u32), stream (u8), three bytes of zero; little-endian. The writer moves bytes into a data
file first and appends the record then; bytes without a record are those of a writer that was killed
in between, and get one from whoever opens the segment for writing next.

LOST records have no data: `offset` is how many bytes the disk had no room for at this place. A BROKEN
record is the first of a segment and has none either: `offset` is the sum of 1 << stream over the streams
whose first byte here goes on with a line of the segment before.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass

OUT = 1
ERR = 2
LOST = 3
BROKEN = 4
STREAMS = (OUT, ERR)
SUFFIXES = {OUT: "out", ERR: "err"}
RECORD = struct.Struct("<QQIB3x")
LONGEST = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Record:
    """One piece of output."""

    time: int
    offset: int
    length: int
    stream: int

    def pack(self) -> bytes:
        """Return the 24 bytes that go into the index."""
        return RECORD.pack(self.time, self.offset, self.length, self.stream)


def file_name(number: int, suffix: str) -> str:
    """Return the name of a segment's file."""
    return f"{number:06d}.{suffix}"


def list_segments(directory: str) -> list[int]:
    """Return the numbers of the segments in `directory`, ascending; none when it is not there."""
    try:
        names = os.listdir(directory)
    except FileNotFoundError:
        return []
    numbers = {name[:-4] for name in names if name.endswith((".idx", ".out", ".err"))}
    return sorted(int(stem) for stem in numbers if stem.isdecimal())


def remove_segment(directory: str, number: int) -> None:
    """Remove the files of a segment."""
    for suffix in ("out", "err", "idx"):
        try:
            os.unlink(os.path.join(directory, file_name(number, suffix)))
        except FileNotFoundError:
            pass


def unpack_records(data: bytes) -> Iterator[Record]:
    """Yield the whole records that `data` holds, whatever they say."""
    whole = len(data) - len(data) % RECORD.size
    for time, offset, length, stream in RECORD.iter_unpack(data[:whole]):
        yield Record(time, offset, length, stream)
