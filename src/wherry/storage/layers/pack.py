"""A directory tree as an archive: deterministic, hard links kept, whiteouts where asked for.

The tree may belong to a running, hostile container: directories are opened below the root's
descriptor without following links, files by name in an open directory. What vanishes meanwhile
is left out; a file that shrinks is filled with zeros, one that grows is cut.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from wherry.kernel.paths import (
    CONTAINED,
    RESOLVE_IN_ROOT,
    RESOLVE_NO_MAGICLINKS,
    RESOLVE_NO_SYMLINKS,
    open_in_root,
)
from wherry.model.errors import Invalid, NotFound
from wherry.storage.layers.entries import NO_XATTRS, Entry, Kind, OwnerMap, show
from wherry.storage.layers.lower import is_opaque
from wherry.storage.layers.whiteouts import OPAQUE_NAME, PREFIX, is_whiteout
from wherry.storage.layers.writer import TarWriter
from wherry.storage.layers.xattrs import read_xattrs, to_archive

_CHUNK: Final = 1 << 20
_LONGEST: Final = 4095
_NANOSECONDS: Final = 1_000_000_000
_MARK_MODE: Final = 0o600
_MOST_SKIPPED: Final = 100
_PARENT: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Not blocking on a fifo, nor taking a terminal, that stands where a file just stood.
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_STRICT: Final = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS
_KINDS: Final = {
    stat.S_IFREG: Kind.FILE,
    stat.S_IFLNK: Kind.SYMLINK,
    stat.S_IFCHR: Kind.CHAR,
    stat.S_IFBLK: Kind.BLOCK,
    stat.S_IFIFO: Kind.FIFO,
}
_VANISHED: Final = (errno.ENOENT, errno.ELOOP, errno.ENOTDIR, errno.ENXIO)


@dataclass(frozen=True, slots=True)
class Packed:
    """What went in: entries, bytes of file content, and the paths that no archive can hold."""

    entries: int
    size: int
    skipped: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What is asked of every entry."""

    whiteouts: bool
    include: Callable[[bytes], bool] | None
    owner: OwnerMap | None
    clamp_ns: int | None
    whole_seconds: bool


def pack(
    root: Path | int,
    out: Callable[[bytes], object],
    *,
    whiteouts: bool = False,
    path: bytes = b"",
    prefix: bytes = b"",
    root_entry: bool | None = None,
    include: Callable[[bytes], bool] | None = None,
    owner: OwnerMap | None = None,
    clamp_mtime: int | None = None,
    whole_seconds: bool = False,
    finish: bool = True,
) -> Packed:
    """Write the tree `path` below `root` (a directory or its descriptor) to `out`.

    `whiteouts` turns overlay's marks into `.wh.` names, as layers have them. `prefix` is what the
    tree's top is called in the archive (`etc`, `.`, `/`); the top is an entry of its own if there is a prefix or
    `root_entry` says so. `path` may be a file or a link, which is packed alone and not followed.
    `include` is asked for each path below the top; False leaves it and all below it out. `owner`
    maps owners, `clamp_mtime` (seconds) makes later times that time, `whole_seconds` leaves
    fractions out. Without `finish` the end mark is left to the caller. Sockets are skipped, as are
    a layer's plain `.wh.` names.
    Raises NotFound, Invalid for a path longer than 4095 bytes, OSError.
    """
    clamp_ns = None if clamp_mtime is None else clamp_mtime * _NANOSECONDS
    wanted = _Wanted(whiteouts, include, owner, clamp_ns, whole_seconds)
    root_fd = root if isinstance(root, int) else os.open(root, _DIRECTORY)
    writer = TarWriter(out)
    try:
        packing = _Packing(writer, wanted, prefix.rstrip(b"/") + b"/" if prefix else b"")
        packing.run(root_fd, path.strip(b"/"), bool(prefix) if root_entry is None else root_entry)
    finally:
        if not isinstance(root, int):
            os.close(root_fd)
    if finish:
        writer.finish()
    else:
        writer.flush()
    return Packed(packing.entries, packing.size, tuple(packing.skipped))


@dataclass(slots=True)
class _Packing:
    """One archive in the making."""

    writer: TarWriter
    wanted: _Wanted
    prefix: bytes  # empty, or ending in a slash
    entries: int = 0
    size: int = 0
    skipped: list[str] = field(default_factory=list[str])
    _links: dict[tuple[int, int], bytes] = field(default_factory=dict[tuple[int, int], bytes])

    def run(self, root_fd: int, path: bytes, root_entry: bool) -> None:
        directory, _, base = path.rpartition(b"/")
        try:
            parent = open_in_root(root_fd, directory, _PARENT, resolve=CONTAINED)
        except OSError as problem:
            if problem.errno not in _VANISHED:
                raise
            raise NotFound("path", os.fsdecode(path)) from None
        try:
            try:
                top = open_in_root(parent, base, _DIRECTORY, resolve=_STRICT)
            except OSError as problem:
                if problem.errno not in _VANISHED:
                    raise
                if not self._entry(parent, base, self.prefix[:-1] or base):
                    raise NotFound("path", os.fsdecode(path)) from None
                return
        finally:
            os.close(parent)
        try:
            self._tree(top, root_entry)
        finally:
            os.close(top)

    def _tree(self, top: int, root_entry: bool) -> None:
        """Pack directory after directory, each one's entries in order, one open at a time."""
        pending = self._directory(top, b"", root_entry)
        while pending:
            path = pending.pop()
            try:
                fd = open_in_root(top, path, _DIRECTORY, resolve=_STRICT)
            except OSError as problem:
                if problem.errno in _VANISHED:
                    continue
                raise
            try:
                pending += self._directory(fd, path, True)
            finally:
                os.close(fd)

    def _directory(self, fd: int, path: bytes, emit: bool) -> list[bytes]:
        """Write the directory and all in it but directories; return those, last one first."""
        wanted = self.wanted
        if emit:
            status = os.fstat(fd)
            xattrs = to_archive(read_xattrs(fd))
            name = self._name(path) + b"/" if path else self.prefix or b"./"
            self._add(self._describe(name, Kind.DIRECTORY, status, xattrs))
        above = path + b"/" if path else b""
        if wanted.whiteouts and path and is_opaque(fd):
            self._add(Entry(self._name(above + OPAQUE_NAME), Kind.FILE, _MARK_MODE))
        below: list[bytes] = []
        for name in sorted(map(os.fsencode, os.listdir(fd))):
            inner = above + name
            if wanted.include is not None and not wanted.include(inner):
                continue
            if self._entry(fd, name, self._name(inner)) is None:
                below.append(inner)
        below.reverse()
        return below

    def _name(self, path: bytes) -> bytes:
        name = self.prefix + path
        if len(name) > _LONGEST:
            raise Invalid(f"path too long for an archive: {show(name)}")
        return name

    def _entry(self, parent: int, name: bytes, archive_name: bytes) -> bool | None:
        """Write one entry unless it is a directory (None), or there is none any more (False)."""
        try:
            status = os.stat(name, dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            return False
        form = stat.S_IFMT(status.st_mode)
        if form == stat.S_IFDIR:
            return None
        if self.wanted.whiteouts:
            if is_whiteout(status):
                directory, slash, base = archive_name.rpartition(b"/")
                mark = directory + slash + PREFIX + base
                self._add(Entry(mark, Kind.FILE, _MARK_MODE))
                return True
            if name.startswith(PREFIX):
                return self._skip(archive_name, "a layer cannot hold such a name")
        if form == stat.S_IFREG:
            return self._file(parent, name, archive_name)
        kind = _KINDS.get(form)
        if kind is None:
            return self._skip(archive_name, "a socket")
        if self._linked(archive_name, status):
            return True
        try:
            link = os.readlink(name, dir_fd=parent) if kind is Kind.SYMLINK else b""
            xattrs = to_archive(read_xattrs(b"/proc/self/fd/%d/%b" % (parent, name)))
        except OSError as problem:
            if problem.errno in (errno.ENOENT, errno.EINVAL):
                return False
            raise
        self._add(self._describe(archive_name, kind, status, xattrs, link))
        return True

    def _file(self, parent: int, name: bytes, archive_name: bytes) -> bool:
        try:
            fd = os.open(name, _FILE, dir_fd=parent)
        except OSError as problem:
            if problem.errno in _VANISHED:
                return False
            raise
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                return False
            if self._linked(archive_name, status):
                return True
            xattrs = to_archive(read_xattrs(fd))
            entry = self._describe(archive_name, Kind.FILE, status, xattrs)
            self.writer.add_pieces(entry, _pieces(fd, entry.size) if entry.size else ())
            self.entries += 1
            self.size += entry.size
        finally:
            os.close(fd)
        return True

    def _linked(self, archive_name: bytes, status: os.stat_result) -> bool:
        """Whether the file is in the archive already and this name was written as its link."""
        if status.st_nlink < 2:
            return False
        identity = (status.st_dev, status.st_ino)
        first = self._links.setdefault(identity, archive_name)
        if first == archive_name:
            return False
        entry = self._describe(archive_name, Kind.HARDLINK, status, NO_XATTRS, first)
        self._add(entry)
        return True

    def _describe(
        self,
        name: bytes,
        kind: Kind,
        status: os.stat_result,
        xattrs: Mapping[str, bytes],
        link: bytes = b"",
    ) -> Entry:
        wanted = self.wanted
        uid, gid = status.st_uid, status.st_gid
        if wanted.owner is not None:
            uid, gid = wanted.owner(uid, gid)
        mtime_ns = status.st_mtime_ns
        if wanted.clamp_ns is not None:
            mtime_ns = min(mtime_ns, wanted.clamp_ns)
        if wanted.whole_seconds:
            mtime_ns -= mtime_ns % _NANOSECONDS
        is_device = kind is Kind.CHAR or kind is Kind.BLOCK
        return Entry(
            name,
            kind,
            status.st_mode & 0o7777,
            uid,
            gid,
            status.st_size if kind is Kind.FILE else 0,
            mtime_ns,
            link,
            os.major(status.st_rdev) if is_device else 0,
            os.minor(status.st_rdev) if is_device else 0,
            xattrs,
        )

    def _add(self, entry: Entry) -> None:
        self.writer.add(entry)
        self.entries += 1

    def _skip(self, archive_name: bytes, reason: str) -> bool:
        if len(self.skipped) < _MOST_SKIPPED:
            self.skipped.append(f"{show(archive_name)}: {reason}")
        return True


def _pieces(fd: int, size: int) -> Iterator[bytes]:
    """Yield exactly `size` bytes of the file, zeros for what it lost meanwhile."""
    while size:
        data = os.read(fd, min(size, _CHUNK)) or bytes(min(size, _CHUNK))
        size -= len(data)
        yield data
