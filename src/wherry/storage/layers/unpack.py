"""A layer's archive into an overlay layer directory.

Whiteouts become character devices 0:0, opaque marks an attribute; what one layer both removes
and adds is there, without what lies below it. Directories stay private (0700) until the end and
get their own metadata last, their times with it.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from wherry.storage.layers import whiteouts
from wherry.storage.layers.directories import Parents, Unfinished, hard_link
from wherry.storage.layers.entries import (
    DEFAULT_LIMITS,
    Entry,
    Kind,
    Limits,
    Readable,
    bad_entry,
)
from wherry.storage.layers.lower import LowerTree
from wherry.storage.layers.placing import Creation, Placer, clean_name, clear_name, failed
from wherry.storage.layers.reader import TarReader
from wherry.storage.layers.xattrs import ACLS, OPAQUE

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_PRIVATE: Final = 0o700
_DEFAULT_MODE: Final = 0o755


@dataclass(frozen=True, slots=True)
class Unpacked:
    """What came out: bytes of file content, entries, and what the target could not keep."""

    size: int
    entries: int
    skipped: tuple[str, ...] = ()


def unpack(
    stream: Readable,
    target: Path,
    *,
    parents: Sequence[Path] = (),
    limits: Limits = DEFAULT_LIMITS,
) -> Unpacked:
    """Fill the empty directory `target` with the layer that `stream` holds, uncompressed.

    `parents` are the layers below, nearest first: directories that the archive only implies get
    the metadata they have there, else mode 0755 and root. The stream is read to its end. Owners
    are set as the archive has them. Raises Invalid naming the entry (malformed, hostile, over
    `limits`), Full, Forbidden; the target then holds a part.
    """
    root = os.open(target, _DIRECTORY)
    try:
        with LowerTree(parents) as lower:
            return _Layer(root, TarReader(stream, limits), lower).fill()
    finally:
        os.close(root)


class _Layer:
    def __init__(self, root: int, reader: TarReader, lower: LowerTree) -> None:
        self._root = root
        self._reader = reader
        self._lower = lower
        self._placer = Placer(reader, Creation.read())
        self._parents = Parents(root)
        self._directories = Unfinished()

    def fill(self) -> Unpacked:
        os.fchmod(self._root, _PRIVATE)
        for name in set(os.listxattr(self._root)) & ACLS:
            os.removexattr(self._root, name)  # handed down by a default ACL of what it lies in
        self._directories.meet(b"", self._implied(b""), os.fstat(self._root))
        size = count = 0
        try:
            for entry in self._reader:
                count += 1
                try:
                    size += self._add(entry)
                except OSError as problem:
                    raise failed(entry, problem) from problem
            self._reader.drain()
            self._directories.finish(self._parents, self._placer)
        finally:
            self._parents.forget()
        return Unpacked(size, count, tuple(self._placer.skipped))

    def _add(self, entry: Entry) -> int:
        """Put one entry on disk; return its bytes of content."""
        path = clean_name(entry.name, entry)
        directory, _, base = path.rpartition(b"/")
        if base.startswith(whiteouts.PREFIX):
            mark = whiteouts.parse_mark(entry.name, base)
            if mark is not None:
                self._mark(directory, mark, entry)
                return 0
        kind = entry.kind
        if kind is Kind.DIRECTORY:
            self._directory(path, directory, base, entry)
            return 0
        if not path:
            raise bad_entry(entry.name, "the layer's root is not a directory")
        if kind is Kind.HARDLINK:
            self._link(directory, base, path, entry)
            return 0
        if kind is Kind.CHAR and entry.major == 0 and entry.minor == 0:
            # On an overlay layer this is a whiteout, whatever the archive meant by it.
            self._mark(directory, whiteouts.Whiteout(base), entry)
            return 0
        parent = self._parent(directory, entry)
        try:
            self._placer.place(parent, base, entry)
        except FileExistsError:
            self._clear(parent, base)
            self._placer.place(self._parent(directory, entry), base, entry)
        return entry.size

    def _parent(self, directory: bytes, entry: Entry) -> int:
        """Return the open directory that the entry goes into, made where the archive implies it."""
        try:
            return self._parents.find(directory)
        except (FileNotFoundError, NotADirectoryError):
            parts = directory.split(b"/")
            for depth in range(1, len(parts) + 1):
                above, base = b"/".join(parts[: depth - 1]), parts[depth - 1]
                self._imply(above, base, entry)
            return self._parents.find(directory)

    def _imply(self, above: bytes, base: bytes, entry: Entry) -> None:
        parent = self._parents.find(above)
        try:
            status = os.stat(base, dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            path = above + b"/" + base if above else base
            self._make(parent, path, base, self._implied(path))
            return
        if whiteouts.is_whiteout(status):
            path = above + b"/" + base if above else base
            self._make_over_whiteout(parent, path, base, _plain_directory())
        elif not (stat.S_ISDIR(status.st_mode) or stat.S_ISLNK(status.st_mode)):
            raise bad_entry(entry.name, f"{base!r} on its path is not a directory")

    def _directory(self, path: bytes, directory: bytes, base: bytes, entry: Entry) -> None:
        if not path:
            self._directories.meet(path, entry, os.fstat(self._root))
            return
        parent = self._parent(directory, entry)
        try:
            self._make(parent, path, base, entry)
        except FileExistsError:
            status = os.stat(base, dir_fd=parent, follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode):
                self._directories.meet(path, entry, status)
            elif whiteouts.is_whiteout(status):
                self._make_over_whiteout(parent, path, base, entry)
            else:
                self._clear(parent, base)
                self._make(self._parent(directory, entry), path, base, entry)

    def _implied(self, path: bytes) -> Entry:
        """Return the metadata of a directory that no entry describes (so far)."""
        return self._lower.directory(path) or _plain_directory()

    def _make(self, parent: int, path: bytes, base: bytes, entry: Entry) -> None:
        os.mkdir(base, _PRIVATE, dir_fd=parent)
        self._directories.meet(path, entry, os.stat(base, dir_fd=parent, follow_symlinks=False))

    def _make_over_whiteout(self, parent: int, path: bytes, base: bytes, entry: Entry) -> None:
        """The layer removes the lower directory and adds its own: nothing of the lower shows."""
        os.unlink(base, dir_fd=parent)
        self._make(parent, path, base, entry)
        self._make_opaque(parent, base)

    def _make_opaque(self, parent: int, base: bytes) -> None:
        fd = os.open(base, _DIRECTORY, dir_fd=parent)
        try:
            os.setxattr(fd, OPAQUE, b"y")
        finally:
            os.close(fd)

    def _mark(self, directory: bytes, mark: whiteouts.Mark, entry: Entry) -> None:
        match mark:
            case whiteouts.Bookkeeping():
                return
            case whiteouts.Opaque():
                if directory:  # overlay ignores the mark on a layer's own root
                    os.setxattr(self._parent(directory, entry), OPAQUE, b"y")
                else:
                    self._hide_root(entry)
            case whiteouts.Whiteout(name):
                parent = self._parent(directory, entry)
                try:
                    os.mknod(name, whiteouts.MODE, whiteouts.DEVICE, dir_fd=parent)
                except FileExistsError:
                    status = os.stat(name, dir_fd=parent, follow_symlinks=False)
                    if stat.S_ISDIR(status.st_mode):
                        self._make_opaque(parent, name)

    def _hide_root(self, entry: Entry) -> None:
        for name in sorted(self._lower.names(b"")):
            self._mark(b"", whiteouts.Whiteout(name), entry)

    def _link(self, directory: bytes, base: bytes, path: bytes, entry: Entry) -> None:
        if clean_name(entry.link, entry) == path:
            return
        self._parent(directory, entry)
        try:
            hard_link(self._parents, directory, base, entry)
        except FileExistsError:
            self._clear(self._parents.find(directory), base)
            hard_link(self._parents, directory, base, entry)

    def _clear(self, parent: int, base: bytes) -> None:
        if clear_name(parent, base):
            self._parents.forget()


def _plain_directory() -> Entry:
    return Entry(b"", Kind.DIRECTORY, _DEFAULT_MODE, mtime_ns=time.time_ns())
