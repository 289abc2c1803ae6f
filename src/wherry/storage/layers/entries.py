"""What an archive holds, entry by entry, and how much of it is believed."""

from __future__ import annotations

import enum
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple, Protocol

from wherry.model.errors import Invalid

OwnerMap = Callable[[int, int], tuple[int, int]]
"""(uid, gid) on one side of an archive to (uid, gid) on the other."""

NO_XATTRS: Mapping[str, bytes] = MappingProxyType({})


class Readable(Protocol):
    """A byte stream: `read(n)` returns at most n bytes, and b"" only at its end."""

    def read(self, n: int, /) -> bytes: ...


class Kind(enum.Enum):
    """The kinds of entries, by ustar's type flag (POSIX.1-2017, pax, ustar Interchange Format)."""

    FILE = b"0"
    HARDLINK = b"1"
    SYMLINK = b"2"
    CHAR = b"3"
    BLOCK = b"4"
    DIRECTORY = b"5"
    FIFO = b"6"


class Entry(NamedTuple):
    """One entry: `name` and `link` are bytes as the archive has them, times are nanoseconds.

    `size` is in bytes and that of the file as it will be, holes included. `sparse` lists the
    (offset, length) pieces that the archive stores, or is None where it stores all. `mode` holds
    the permission, set-id and sticky bits only. `link` is a hard or symbolic link's target.
    """

    name: bytes
    kind: Kind
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    size: int = 0
    mtime_ns: int = 0
    link: bytes = b""
    major: int = 0
    minor: int = 0
    xattrs: Mapping[str, bytes] = NO_XATTRS
    sparse: tuple[tuple[int, int], ...] | None = None
    atime_ns: int | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """How much an archive may declare: a count, and sizes in bytes.

    `header` bounds what one entry's extended headers and sparse map may take in memory (Go's
    archive/tar has the same 1 MiB), `total` bounds the sum of the entries' sizes.
    """

    entries: int = 1_000_000
    name: int = 4095
    total: int = 4 << 40
    header: int = 1 << 20


DEFAULT_LIMITS = Limits()


def show(name: bytes) -> str:
    """Return `name` as messages quote it: printable, unambiguous, at most about 200 characters."""
    text = repr(os.fsdecode(name))
    return text if len(text) <= 200 else f"{text[:120]}…{text[-60:]}"


def bad_entry(name: bytes, problem: str, *, hint: str = "") -> Invalid:
    """Return the Invalid that says what is wrong with the entry `name`."""
    return Invalid(f"archive entry {show(name)}: {problem}", hint=hint)
