"""The directories of a tree that is being filled: those in use, open, and those to be finished last."""

from __future__ import annotations

import errno
import os
import stat
from typing import Final

from wherry.kernel.paths import CONTAINED, open_in_root
from wherry.storage.layers.entries import Entry, bad_entry, show
from wherry.storage.layers.placing import Placer, clean_name, failed

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_MOST_OPEN: Final = 64
# What stands in a directory's way when a later entry, or the container, put something else there.
_REPLACED: Final = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)


class Parents:
    """The directories last used below a root, open. Descriptors stay this object's."""

    def __init__(self, root_fd: int, base: bytes = b"") -> None:
        self._root_fd = root_fd
        self._base = base
        self._open: dict[bytes, int] = {}

    def find(self, path: bytes) -> int:
        """Return a descriptor of the directory `path`; OSError where there is none.

        Links on the way are followed inside the root. The two that were found last are open.
        """
        descriptor = self._open.pop(path, -1)
        if descriptor < 0:
            full = self._base + b"/" + path if self._base else path
            descriptor = open_in_root(self._root_fd, full, _DIRECTORY, resolve=CONTAINED)
            if len(self._open) >= _MOST_OPEN:
                os.close(self._open.pop(next(iter(self._open))))
        self._open[path] = (
            descriptor  # the last in order, so that the one unused longest is the first
        )
        return descriptor

    def forget(self) -> None:
        """Close all: a directory or link on some path was replaced."""
        while self._open:
            os.close(self._open.popitem()[1])


class Unfinished:
    """Directories met so far. Their own metadata comes last, since what is put into them changes it."""

    def __init__(self) -> None:
        # A directory's final metadata by path, with the (device, inode) it is meant for.
        self._met: dict[bytes, tuple[Entry, tuple[int, int]]] = {}

    def meet(self, path: bytes, entry: Entry, status: os.stat_result) -> None:
        """The directory `path`, of which `status` is, gets what `entry` has; the last one wins."""
        self._met[path] = (entry, (status.st_dev, status.st_ino))

    def make(self, parent: int, path: bytes, name: bytes, entry: Entry) -> None:
        """Make the directory `name` in `parent`, or meet the one there; FileExistsError for anything else."""
        try:
            os.mkdir(name, 0o700, dir_fd=parent)
        except FileExistsError:
            status = os.stat(name, dir_fd=parent, follow_symlinks=False)
            if not stat.S_ISDIR(status.st_mode):
                raise
        self.meet(path, entry, os.stat(name, dir_fd=parent, follow_symlinks=False))

    def finish(self, parents: Parents, placer: Placer) -> None:
        """Give each directory that is still there its metadata. Raises as `failed` explains, OSError."""
        for path, (entry, identity) in self._met.items():
            try:
                fd = parents.find(path)
            except OSError as problem:
                if problem.errno not in _REPLACED:
                    raise
                continue
            status = os.fstat(fd)
            if (status.st_dev, status.st_ino) == identity:
                try:
                    placer.finish_directory(fd, entry)
                except OSError as problem:
                    raise failed(entry, problem) from problem


def hard_link(parents: Parents, directory: bytes, name: bytes, entry: Entry) -> None:
    """Make `name` in `directory` what the hard link `entry` says; nothing where it is that already.

    Raises FileExistsError where something else has the name, Invalid where the link leads to nothing,
    outside, or to a directory.
    """
    source = clean_name(entry.link, entry)
    source_directory, _, source_name = source.rpartition(b"/")
    if not source_name:
        raise bad_entry(entry.name, "a hard link to the root")
    try:
        _link(parents.find(source_directory), source_name, parents.find(directory), name)
    except PermissionError:  # link(2): EPERM for a directory
        raise bad_entry(entry.name, f"no hard link can be made to {show(source)}") from None
    except (FileNotFoundError, NotADirectoryError):
        raise bad_entry(
            entry.name, f"a hard link to {show(source)}, which does not exist"
        ) from None


def _link(source_parent: int, source: bytes, parent: int, name: bytes) -> None:
    try:
        os.link(source, name, src_dir_fd=source_parent, dst_dir_fd=parent, follow_symlinks=False)
    except FileExistsError:
        wanted = os.stat(source, dir_fd=source_parent, follow_symlinks=False)
        present = os.stat(name, dir_fd=parent, follow_symlinks=False)
        if not os.path.samestat(wanted, present):
            raise
