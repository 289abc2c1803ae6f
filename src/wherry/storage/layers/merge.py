"""A stack of layers copied into one plain tree: for file systems that overlay cannot use, and for
volumes that are filled from an image."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from wherry.storage.layers.directories import Parents
from wherry.storage.layers.entries import Entry, Kind
from wherry.storage.layers.lower import LowerTree
from wherry.storage.layers.placing import Creation, Placer
from wherry.storage.layers.xattrs import read_xattrs_at, to_archive

_CHUNK: Final = 1 << 20
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Nothing is taken for granted of a directory that someone else made, or of its file system.
_UNKNOWN: Final = Creation(uid=-1, gid=-1, umask=0o777)
_KINDS: Final = {
    stat.S_IFREG: Kind.FILE,
    stat.S_IFLNK: Kind.SYMLINK,
    stat.S_IFCHR: Kind.CHAR,
    stat.S_IFBLK: Kind.BLOCK,
    stat.S_IFIFO: Kind.FIFO,
    stat.S_IFDIR: Kind.DIRECTORY,
}


def merge(layers: Sequence[Path], target: Path) -> None:
    """Fill the empty directory `target` with what `layers` (top first) show. Raises OSError."""
    root = os.open(target, _DIRECTORY)
    try:
        with LowerTree(layers) as lower:
            _Merging(lower, root).run()
    finally:
        os.close(root)


def merge_directory(lower: LowerTree, base: bytes, root: int) -> None:
    """Fill the empty directory `root` with what shows in the directory `base`, that one's metadata included.

    Raises OSError, Full.
    """
    _Merging(lower, root, base, _UNKNOWN).run()


class _Merging:
    def __init__(
        self, lower: LowerTree, root: int, base: bytes = b"", creation: Creation | None = None
    ) -> None:
        self._lower = lower
        self._root = root
        self._base = base
        self._parents = Parents(root)
        self._source = -1
        self._placer = Placer(self, creation or Creation.read())
        self._links: dict[tuple[int, int], bytes] = {}

    def _at(self, path: bytes) -> bytes:
        """Return `path` of the target as the layers have it."""
        return b"/".join(part for part in (self._base, path) if part)

    def run(self) -> None:
        try:
            directories = [b""]
            for path in directories:  # grows while it is walked
                for name in sorted(self._lower.names(self._at(path))):
                    inner = path + b"/" + name if path else name
                    if self._copy(path, name, inner):
                        directories.append(inner)
            for path in reversed(directories):
                entry = self._lower.directory(self._at(path))
                if entry is not None:
                    self._placer.finish_directory(self._parents.find(path), entry)
        finally:
            self._parents.forget()

    def chunks(self) -> Iterator[memoryview]:
        """Yield the content of the file being copied."""
        fd = os.open(f"/proc/self/fd/{self._source}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            while data := os.read(fd, _CHUNK):
                yield memoryview(data)
        finally:
            os.close(fd)

    def _copy(self, directory: bytes, name: bytes, path: bytes) -> bool:
        """Copy one path; return whether it is a directory."""
        fd = self._lower.open(self._at(path))
        if fd is None:
            return False
        try:
            status = os.fstat(fd)
            kind = _KINDS.get(stat.S_IFMT(status.st_mode))
            parent = self._parents.find(directory)
            if kind is Kind.DIRECTORY:
                os.mkdir(name, 0o700, dir_fd=parent)
                return True
            if kind is None or self._linked(parent, name, path, status):
                return False
            self._source = fd
            self._placer.place(parent, name, _describe(fd, path, kind, status))
            return False
        finally:
            os.close(fd)

    def _linked(self, parent: int, name: bytes, path: bytes, status: os.stat_result) -> bool:
        if status.st_nlink < 2:
            return False
        first = self._links.setdefault((status.st_dev, status.st_ino), path)
        if first == path:
            return False
        os.link(first, name, src_dir_fd=self._root, dst_dir_fd=parent, follow_symlinks=False)
        return True


def _describe(fd: int, path: bytes, kind: Kind, status: os.stat_result) -> Entry:
    return Entry(
        path,
        kind,
        stat.S_IMODE(status.st_mode),
        status.st_uid,
        status.st_gid,
        status.st_size if kind is Kind.FILE else 0,
        status.st_mtime_ns,
        os.readlink(b"", dir_fd=fd) if kind is Kind.SYMLINK else b"",
        os.major(status.st_rdev),
        os.minor(status.st_rdev),
        to_archive(read_xattrs_at(fd)),
    )
