"""Entries put on disk: one name in one open directory at a time, with exactly their metadata.

Nothing here resolves a path: callers hand over the parent directory's descriptor. Links are
never followed, so a name swapped meanwhile is at worst another name in the same directory.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, Protocol

from wherry.kernel.paths import remove_tree
from wherry.kernel.space import no_room
from wherry.model.errors import Forbidden, Full, Internal, Invalid, Unsupported, WherryError
from wherry.storage.layers.entries import Entry, Kind, OwnerMap, bad_entry, show
from wherry.storage.layers.xattrs import is_optional, to_set

_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_MOST_SKIPPED: Final = 100


@dataclass(frozen=True, slots=True)
class Creation:
    """What the kernel gives a new file by itself, in this thread: owner and masked mode bits."""

    uid: int
    gid: int
    umask: int

    @classmethod
    def read(cls) -> Creation:
        """Return the calling thread's, from /proc/thread-self/status (umask(2) cannot only ask)."""
        found: dict[bytes, list[bytes]] = {}
        with open("/proc/thread-self/status", "rb") as status:
            for line in status:
                key, _, values = line.partition(b":")
                found[key] = values.split()
        # The fourth of Uid and Gid are the file-system ids: proc(5).
        return cls(int(found[b"Uid"][3]), int(found[b"Gid"][3]), int(found[b"Umask"][0], 8))


class Content(Protocol):
    """Where a file's content comes from: the pieces that are stored, in order."""

    def chunks(self) -> Iterator[memoryview]: ...


@dataclass(slots=True)
class Placer:
    """Creates entries in open directories. `skipped` says which attributes had no place."""

    content: Content
    creation: Creation | None
    """None: each new file is asked, since its directory may hand down a group or permissions."""
    owner: OwnerMap | None = None
    skipped: list[str] = field(default_factory=list[str])

    def place(self, parent: int, name: bytes, entry: Entry) -> None:
        """Create anything but a directory or hard link. FileExistsError where the name is taken."""
        match entry.kind:
            case Kind.FILE:
                self._file(parent, name, entry)
            case Kind.SYMLINK:
                if not entry.link:
                    raise bad_entry(entry.name, "a symbolic link to nothing")
                os.symlink(entry.link, name, dir_fd=parent)
                self._by_name(parent, name, entry)
            case Kind.FIFO:
                os.mknod(name, stat.S_IFIFO | 0o600, 0, dir_fd=parent)
                self._by_name(parent, name, entry)
            case Kind.CHAR | Kind.BLOCK:
                form = stat.S_IFCHR if entry.kind is Kind.CHAR else stat.S_IFBLK
                device = os.makedev(entry.major, entry.minor)
                os.mknod(name, form | 0o600, device, dir_fd=parent)
                self._by_name(parent, name, entry)
            case Kind.DIRECTORY | Kind.HARDLINK:
                raise ValueError(entry.kind)

    def finish_directory(self, fd: int, entry: Entry) -> None:
        """Give the open directory its final metadata; nothing is put into it afterwards."""
        status = os.fstat(fd)
        uid, gid = self._owner(entry)
        if (status.st_uid, status.st_gid) != (uid, gid):
            os.fchown(fd, uid, gid)
        os.fchmod(fd, entry.mode)
        if entry.xattrs:
            self._xattrs(fd, entry)
        os.utime(fd, ns=_times(entry))

    def _owner(self, entry: Entry) -> tuple[int, int]:
        return (entry.uid, entry.gid) if self.owner is None else self.owner(entry.uid, entry.gid)

    def _file(self, parent: int, name: bytes, entry: Entry) -> None:
        # Bits that a chown or write would clear, and all bits while another owner is not set yet,
        # come last.
        fd = os.open(name, _CREATE, entry.mode & 0o777, dir_fd=parent)
        try:
            if entry.size:
                self._write(fd, entry)
            self._finish_file(fd, entry)
        except BaseException:
            # Half a file must not pass for a whole one.
            with contextlib.suppress(OSError):
                os.unlink(name, dir_fd=parent)
            raise
        finally:
            os.close(fd)

    def _finish_file(self, fd: int, entry: Entry) -> None:
        creation = self.creation
        owner = self._owner(entry)
        if creation is None:
            status = os.fstat(fd)
            if (status.st_uid, status.st_gid) != owner:
                os.fchown(fd, *owner)
            if stat.S_IMODE(status.st_mode) != entry.mode:
                os.fchmod(fd, entry.mode)
        else:
            if (creation.uid, creation.gid) != owner:
                os.fchown(fd, *owner)
            if entry.mode & (creation.umask | 0o7000):
                os.fchmod(fd, entry.mode)
        if entry.xattrs:
            self._xattrs(fd, entry)
        os.utime(fd, ns=_times(entry))

    def _write(self, fd: int, entry: Entry) -> None:
        if entry.sparse is not None:
            self._write_sparse(fd, entry)
            return
        for chunk in self.content.chunks():
            done = os.write(fd, chunk)
            while done < len(chunk):
                done += os.write(fd, chunk[done:])

    def _write_sparse(self, fd: int, entry: Entry) -> None:
        pieces = iter(entry.sparse or ())
        position = left = 0
        for chunk in self.content.chunks():
            while chunk:
                while not left:
                    position, left = next(pieces)
                done = os.pwrite(fd, chunk[:left], position)
                position, left, chunk = position + done, left - done, chunk[done:]
        os.ftruncate(fd, entry.size)

    def _by_name(self, parent: int, name: bytes, entry: Entry) -> None:
        """Set the metadata of what is neither file nor directory."""
        uid, gid = self._owner(entry)
        creation = self.creation
        if creation is None or (uid, gid) != (creation.uid, creation.gid):
            os.chown(name, uid, gid, dir_fd=parent, follow_symlinks=False)
        if entry.kind is not Kind.SYMLINK:
            self._chmod_special(parent, name, entry)
        if entry.xattrs:
            self._xattrs(b"/proc/self/fd/%d/%b" % (parent, name), entry)
        os.utime(name, ns=_times(entry), dir_fd=parent, follow_symlinks=False)

    def _chmod_special(self, parent: int, name: bytes, entry: Entry) -> None:
        # fchmodat(2) follows links before Linux 6.6; an O_PATH descriptor names the file itself.
        fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
        try:
            if not stat.S_ISLNK(os.fstat(fd).st_mode):
                os.chmod(f"/proc/self/fd/{fd}", entry.mode)
        finally:
            os.close(fd)

    def _xattrs(self, target: int | bytes, entry: Entry) -> None:
        for key, value in to_set(entry.name, entry.xattrs):
            try:
                os.setxattr(target, key, value, follow_symlinks=isinstance(target, int))
            except OSError as problem:
                if not is_optional(key, problem):
                    raise _explained(entry, problem, f"attribute {key}: ") from problem
                if len(self.skipped) < _MOST_SKIPPED:
                    self.skipped.append(f"{show(entry.name)}: {key}: {problem.strerror}")


def clear_name(parent: int, name: bytes) -> bool:
    """Remove what stands at `name`; return whether cached paths through it are now wrong."""
    status = os.stat(name, dir_fd=parent, follow_symlinks=False)
    if stat.S_ISDIR(status.st_mode):
        remove_tree(parent, name)
        return True
    os.unlink(name, dir_fd=parent)
    return stat.S_ISLNK(status.st_mode)


def clean_name(path: bytes, entry: Entry) -> bytes:
    """Return the path that `entry` gives as text: no `.`, `..` or empty parts; b"" for the root.

    A leading slash means the root of the target. Raises Invalid for a path that leaves it.
    """
    name = path[2:] if path.startswith(b"./") else path
    name = name.rstrip(b"/")
    if name and b"//" not in name and b"/." not in name and name[0] not in b"./":
        return name
    parts: list[bytes] = []
    for part in name.split(b"/"):
        if part == b"..":
            if not parts:
                raise bad_entry(entry.name, f"{show(path)} leads outside the target")
            parts.pop()
        elif part not in (b"", b"."):
            parts.append(part)
    return b"/".join(parts)


def failed(entry: Entry, problem: OSError) -> WherryError:
    """Return the error that tells the user why `entry` could not be put on disk."""
    return _explained(entry, problem, "")


def _explained(entry: Entry, problem: OSError, detail: str) -> WherryError:
    what = f"archive entry {show(entry.name)}: {detail}{os.strerror(problem.errno or 0)}"
    match problem.errno:
        case errno.ENOSPC | errno.EDQUOT:
            return no_room(f"archive entry {show(entry.name)}")
        case errno.EMFILE | errno.ENFILE | errno.ENOMEM:
            return Full(what)
        case errno.EACCES | errno.EPERM | errno.EROFS | errno.EBUSY:
            return Forbidden(what)
        case errno.ENOTSUP:
            return Unsupported(what, hint="the file system that it goes to cannot hold it")
        case errno.EIO | errno.EUCLEAN | None:
            return Internal(what, hint="the disk or its file system is damaged")
        case _:
            return Invalid(what)


def _times(entry: Entry) -> tuple[int, int]:
    mtime = entry.mtime_ns
    return (mtime if entry.atime_ns is None else entry.atime_ns, mtime)
