"""What a container changed of its image: `docker diff`, from the upper directory and the lowers.

As Docker 28.5 answers: a directory counts as changed where its mode or owner differs or something
below it changed, its times alone do not count; what is removed as a whole is named once, at its
top; a file written with the same size, time, mode and owner is not a change.
"""

from __future__ import annotations

import enum
import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from wherry.kernel.paths import RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS, open_in_root
from wherry.storage.layers.lower import LowerTree, is_opaque
from wherry.storage.layers.whiteouts import is_whiteout

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_STRICT: Final = RESOLVE_NO_SYMLINKS | RESOLVE_BENEATH
_CAPABILITY: Final = "security.capability"
_VANISHED: Final = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)


class ChangeKind(enum.StrEnum):
    """The letters of `docker diff`."""

    MODIFIED = "C"
    ADDED = "A"
    DELETED = "D"

    @property
    def number(self) -> int:
        """The Engine API's number: GET /containers/{id}/changes."""
        return _NUMBERS[self]


_NUMBERS: Final = {ChangeKind.MODIFIED: 0, ChangeKind.ADDED: 1, ChangeKind.DELETED: 2}


@dataclass(frozen=True, slots=True)
class Change:
    """One changed path, absolute; bytes that are not UTF-8 as surrogate escapes."""

    path: str
    kind: ChangeKind


def read_changes(upper: Path, lowers: tuple[Path, ...], *, whole: bool = False) -> list[Change]:
    """Return what `upper` changes of `lowers` (top first), sorted by path.

    `upper` is overlay's, with its whiteouts and opaque marks; with `whole` it is a complete tree,
    and what it lacks was deleted.
    """
    root = os.open(upper, _DIRECTORY)
    try:
        with LowerTree(lowers) as lower:
            comparison = _Comparison(root, lower, whole)
            comparison.run()
            return list(comparison.sorted())
    finally:
        os.close(root)


class _Comparison:
    def __init__(self, root: int, lower: LowerTree, whole: bool) -> None:
        self._root = root
        self._lower = lower
        self._whole = whole  # whether the upper tree lacks nothing that it did not delete
        self._found: dict[bytes, ChangeKind] = {}

    def sorted(self) -> Iterator[Change]:
        for path in sorted(self._found, key=lambda item: item.split(b"/")):
            yield Change("/" + os.fsdecode(path), self._found[path])

    def run(self) -> None:
        """Compare directory by directory, from the root."""
        pending = [(b"", self._whole)]
        while pending:
            path, whole = pending.pop()
            try:
                fd = open_in_root(self._root, path, _DIRECTORY, resolve=_STRICT)
            except OSError as problem:
                if problem.errno in _VANISHED:  # the container runs on meanwhile
                    continue
                raise
            try:
                # Below an opaque directory nothing of the lower ones shows, marked or not.
                whole = whole or (path != b"" and is_opaque(fd))
                pending += [(below, whole) for below in self._names(fd, path, whole)]
            finally:
                os.close(fd)

    def _names(self, fd: int, path: bytes, whole: bool) -> list[bytes]:
        """Compare what is in one directory; return the directories in it."""
        below: list[bytes] = []
        names = {os.fsencode(name) for name in os.listdir(fd)}
        above = path + b"/" if path else b""
        for name in names:
            try:
                status = os.stat(name, dir_fd=fd, follow_symlinks=False)
            except FileNotFoundError:
                continue
            inner = above + name
            if is_whiteout(status) and not self._whole:
                if self._lower.status(inner) is not None:
                    self._add(inner, ChangeKind.DELETED)
                continue
            self._entry(fd, name, inner, status)
            if stat.S_ISDIR(status.st_mode):
                below.append(inner)
        if whole:
            for name in self._lower.names(path) - names:
                self._add(above + name, ChangeKind.DELETED)
        return below

    def _entry(self, fd: int, name: bytes, path: bytes, status: os.stat_result) -> None:
        parent = self._found.get(path.rpartition(b"/")[0])
        lower = None if parent is ChangeKind.ADDED else self._lower.open(path)
        if lower is None:
            self._add(path, ChangeKind.ADDED)
            return
        try:
            before = os.fstat(lower)
            if not _alike(status, before) or (
                stat.S_ISREG(status.st_mode)
                and _capability(f"/proc/self/fd/{lower}")
                != _capability(b"/proc/self/fd/%d/%b" % (fd, name))
            ):
                self._add(path, ChangeKind.MODIFIED)
        finally:
            os.close(lower)

    def _add(self, path: bytes, kind: ChangeKind) -> None:
        self._found[path] = kind
        while b"/" in path:
            path = path.rpartition(b"/")[0]
            if path in self._found:
                return
            self._found[path] = ChangeKind.MODIFIED


def _alike(now: os.stat_result, before: os.stat_result) -> bool:
    if (now.st_mode, now.st_uid, now.st_gid, now.st_rdev) != (
        before.st_mode,
        before.st_uid,
        before.st_gid,
        before.st_rdev,
    ):
        return False
    if stat.S_ISDIR(now.st_mode):
        return True
    return (now.st_mtime_ns, now.st_size) == (before.st_mtime_ns, before.st_size)


def _capability(path: bytes | str) -> bytes:
    try:
        return os.getxattr(path, _CAPABILITY)
    except OSError as problem:
        if problem.errno in (errno.ENODATA, errno.ENOTSUP, errno.ENOENT):
            return b""
        raise
