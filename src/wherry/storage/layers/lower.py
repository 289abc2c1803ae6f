"""What a stack of layer directories shows at a path, as overlay would, without mounting it.

Source: Documentation/filesystems/overlayfs (whiteouts and opaque directories, merged directories).
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from wherry.kernel.paths import RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS, open_in_root, split
from wherry.storage.layers.entries import Entry, Kind
from wherry.storage.layers.whiteouts import is_whiteout
from wherry.storage.layers.xattrs import OPAQUE, read_xattrs_at, to_archive

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_PATH: Final = os.O_PATH | os.O_NOFOLLOW
_STRICT: Final = RESOLVE_NO_SYMLINKS | RESOLVE_BENEATH
_LINKS_FOLLOWED: Final = 40  # path_resolution(7)
_ABSENT: Final = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)


class LowerTree:
    """The merged view of `layers`, nearest (top) first. Holds a descriptor of each; close it."""

    def __init__(self, layers: Sequence[Path]) -> None:
        self._roots: list[int] = []
        try:
            for layer in layers:
                self._roots.append(os.open(layer, _DIRECTORY))
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        """Close the descriptors."""
        while self._roots:
            os.close(self._roots.pop())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def open(self, path: bytes) -> int | None:
        """Return an O_PATH descriptor of what shows at `path` (no link followed), or None.

        `path` has neither `.` nor `..` nor a leading slash; b"" is the root.
        """
        above = path.rpartition(b"/")[0]
        for root in self._roots:
            try:
                fd = open_in_root(root, path, _PATH, resolve=_STRICT)
            except OSError as problem:
                if problem.errno not in _ABSENT:
                    raise
                if above and _hides(root, above):
                    return None
                continue
            if is_whiteout(os.fstat(fd)):
                os.close(fd)
                return None
            return fd
        return None

    def resolve(self, path: bytes) -> bytes | None:
        """Return where `path` leads, links followed as the tree's own processes would; None for nowhere.

        Links stay inside: an absolute one begins at the root, and `..` ends there (path_resolution(7)).
        """
        done: list[bytes] = []
        todo = list(reversed(split(path)))
        links = 0
        while todo:
            part = todo.pop()
            if part == b"..":
                del done[-1:]
                continue
            fd = self.open(b"/".join((*done, part)))
            if fd is None:
                return None
            try:
                if not stat.S_ISLNK(os.fstat(fd).st_mode):
                    done.append(part)
                    continue
                target = os.readlink(b"", dir_fd=fd)
            finally:
                os.close(fd)
            links += 1
            if links > _LINKS_FOLLOWED:
                return None
            if target.startswith(b"/"):
                done.clear()
            todo += reversed(split(target))
        return b"/".join(done)

    def status(self, path: bytes) -> os.stat_result | None:
        """Return the status of what shows at `path`, or None."""
        fd = self.open(path)
        if fd is None:
            return None
        try:
            return os.fstat(fd)
        finally:
            os.close(fd)

    def directory(self, path: bytes) -> Entry | None:
        """Return the metadata of the directory that shows at `path`; None for anything else."""
        fd = self.open(path)
        if fd is None:
            return None
        try:
            status = os.fstat(fd)
            if not stat.S_ISDIR(status.st_mode):
                return None
            return Entry(
                path,
                Kind.DIRECTORY,
                stat.S_IMODE(status.st_mode),
                status.st_uid,
                status.st_gid,
                mtime_ns=status.st_mtime_ns,
                xattrs=to_archive(read_xattrs_at(fd)),
            )
        finally:
            os.close(fd)

    def names(self, path: bytes) -> set[bytes]:
        """Return the names that show in the directory `path`."""
        shown: set[bytes] = set()
        hidden: set[bytes] = set()
        for fd in self._merged(path):
            for name in map(os.fsencode, os.listdir(fd)):
                if name in shown or name in hidden:
                    continue
                status = os.stat(name, dir_fd=fd, follow_symlinks=False)
                (hidden if is_whiteout(status) else shown).add(name)
        return shown

    def _merged(self, path: bytes) -> Iterator[int]:
        """Yield the directories that merge at `path`, nearest first, each open until the next."""
        for root in self._roots:
            try:
                fd = open_in_root(root, path, _DIRECTORY, resolve=_STRICT)
            except OSError as problem:
                if problem.errno not in _ABSENT:
                    raise
            else:
                try:
                    yield fd
                finally:
                    os.close(fd)
            if path and _hides(root, path):
                return


def _hides(root: int, path: bytes) -> bool:
    """Whether this layer keeps what lower ones have at or below `path` from showing."""
    parts = path.split(b"/")
    for depth in range(1, len(parts) + 1):
        try:
            fd = open_in_root(root, b"/".join(parts[:depth]), _PATH, resolve=RESOLVE_BENEATH)
        except FileNotFoundError:
            return False
        try:
            if not stat.S_ISDIR(os.fstat(fd).st_mode) or is_opaque(fd):
                return True
        finally:
            os.close(fd)
    return False


def is_opaque(fd: int) -> bool:
    """Whether the open directory (an O_PATH descriptor will do) hides the lower layers' one."""
    try:
        return os.getxattr(f"/proc/self/fd/{fd}", OPAQUE) == b"y"
    except OSError as problem:
        if problem.errno in (errno.ENODATA, errno.ENOTSUP, errno.EPERM):
            return False
        raise
