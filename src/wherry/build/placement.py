"""Files put into a stage's tree: COPY's half that writes.

Directories are opened below the target's root without following a link; times of directories that were
there are put back, and what has no time of its own takes that of the directory it is made in: so the
same files over the same base always come to the same layer.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from wherry.build.context.listing import Found, open_file
from wherry.build.linking import Linking
from wherry.build.modes import Chmod
from wherry.build.times import fold
from wherry.kernel.paths import (
    RESOLVE_BENEATH,
    RESOLVE_NO_SYMLINKS,
    follow_in_root,
    open_in_root,
)
from wherry.kernel.space import no_room
from wherry.model.errors import Forbidden, Full, Invalid, WherryError
from wherry.storage.layers.entries import show
from wherry.storage.layers.xattrs import is_optional, read_xattrs, to_archive

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_STRICT: Final = RESOLVE_NO_SYMLINKS | RESOLVE_BENEATH
_SMALL: Final = 1 << 18
_PIECE: Final = 1 << 26
_SECOND: Final = 10**9


@dataclass(slots=True)
class Placement:
    """Writes below `root`. `finish` sets the times of directories; nothing is written after it."""

    root: int
    owner: tuple[int, int] | None = None
    """Of everything; None leaves the source's, and root's for what has none."""
    chmod: Chmod = field(default_factory=Chmod)
    epoch: int | None = None
    linking: Linking | None = None
    """Knows which files an earlier layer has already."""
    _times: dict[bytes, int] = field(default_factory=dict[bytes, int])
    _links: dict[tuple[int, int], bytes] = field(default_factory=dict[tuple[int, int], bytes])

    def resolve(self, destination: str) -> bytes:
        """Return where `destination` leads, links followed inside the root, there or not."""
        return follow_in_root(self.root, os.fsencode(destination))

    def is_directory(self, path: bytes) -> bool:
        """Whether the resolved `path` is a directory."""
        try:
            status = os.stat(path or b".", dir_fd=self.root, follow_symlinks=False)
        except OSError:
            return False
        return stat.S_ISDIR(status.st_mode)

    def directory(self, path: bytes, *, mode: int | None = None) -> None:
        """Make the resolved directory `path` where it is missing, and those above it. Raises Invalid."""
        fd = os.open(".", _DIRECTORY, dir_fd=self.root)
        done = b""
        try:
            for part in path.split(b"/") if path else ():
                here = done + b"/" + part if done else part
                try:
                    below = os.open(part, _DIRECTORY, dir_fd=fd)
                except FileNotFoundError:
                    stamp = self._keep(done, os.fstat(fd))
                    below = self._made(fd, part, mode)
                    self._times[here] = stamp
                except OSError as problem:
                    if problem.errno in (errno.ENOTDIR, errno.ELOOP):
                        raise Invalid(f"mkdir /{os.fsdecode(here)}: not a directory") from None
                    raise
                os.close(fd)
                fd, done = below, here
        finally:
            os.close(fd)

    def _made(self, parent: int, name: bytes, mode: int | None) -> int:
        os.mkdir(name, 0o700, dir_fd=parent)
        fd = os.open(name, _DIRECTORY, dir_fd=parent)
        os.fchown(fd, *(self.owner or (0, 0)))
        os.fchmod(fd, self.chmod.made if mode is None else mode)
        return fd

    def _keep(self, path: bytes, status: os.stat_result) -> int:
        """Remember the time that an existing directory is to have at the end, and return it."""
        stamp = self._times.get(path)
        if stamp is None:
            stamp = self._times[path] = self.stamp(status.st_mtime_ns)
        return stamp

    def stamp(self, mtime_ns: int) -> int:
        """Return a time as it is set."""
        return mtime_ns if self.epoch is None else fold(mtime_ns, self.epoch)

    def tree(self, found: Iterator[Found], top: bytes, status: os.stat_result) -> None:
        """Put what lies in a directory, whose own status is `status`, into the directory `top`."""
        self._links.clear()
        self.directory(top)
        current: bytes | None = None
        fd = -1
        try:
            for item in found:
                above, _, name = item.path.rpartition(b"/")
                if above != current:
                    if fd >= 0:
                        os.close(fd)
                        fd = -1
                    fd = self._open_below(top, above)
                    current = above
                try:
                    self._item(fd, name, item, top + b"/" + item.path if top else item.path)
                except OSError as problem:
                    raise explained(item.path, problem) from problem
        finally:
            if fd >= 0:
                os.close(fd)
        self._times[top] = self.stamp(status.st_mtime_ns)

    def _open_below(self, top: bytes, above: bytes) -> int:
        path = top + b"/" + above if top and above else top or above
        try:
            fd = open_in_root(self.root, path or b".", _DIRECTORY, resolve=_STRICT)
        except OSError:
            # Left out by --exclude, and something below it is taken back by `!`.
            self.directory(path)
            fd = open_in_root(self.root, path or b".", _DIRECTORY, resolve=_STRICT)
        self._keep(path, os.fstat(fd))
        return fd

    def one(self, item: Found, path: bytes) -> None:
        """Put one file, which is no directory, at the resolved `path`, whose parent is there."""
        self._links.clear()
        above, _, name = path.rpartition(b"/")
        fd = self._open_below(above, b"")
        try:
            self._item(fd, name, item, path)
        except OSError as problem:
            raise explained(path, problem) from problem
        finally:
            os.close(fd)

    def like(self, path: bytes, status: os.stat_result, xattrs: Mapping[str, bytes]) -> None:
        """Make the directory `path`, its parent being there, with a source's metadata."""
        above, _, name = path.rpartition(b"/")
        fd = self._open_below(above, b"")
        try:
            self._directory(fd, name, path, status, xattrs)
        finally:
            os.close(fd)

    def data(self, data: bytes, path: bytes, mode: int, mtime_ns: int | None = None) -> None:
        """Put a file of these bytes at the resolved `path`, whose parent is there."""
        above, _, name = path.rpartition(b"/")
        fd = self._open_below(above, b"")
        try:
            if self.linking is not None:
                self.linking.forget(path)
            file = self._fresh(fd, name, path)
            try:
                rest = memoryview(data)
                while rest:
                    rest = rest[os.write(file, rest) :]
                os.fchown(file, *(self.owner or (0, 0)))
                os.fchmod(file, self.chmod.of(mode, False))
                stamp = self._times[above] if mtime_ns is None else self.stamp(mtime_ns)
                os.utime(file, ns=(stamp, stamp))
            finally:
                os.close(file)
        except OSError as problem:
            raise explained(path, problem) from problem
        finally:
            os.close(fd)

    def downloaded(self, item: Found, path: bytes, mode: int, mtime: int | None) -> None:
        """Put a copy of `item` at the resolved `path`, root's, with this mode and time (seconds)."""
        above, _, name = path.rpartition(b"/")
        fd = self._open_below(above, b"")
        try:
            target = self._fresh(fd, name, path)
            try:
                source = open_file(item.parent, item.name)
                try:
                    copy_content(source, target, item.status)
                finally:
                    os.close(source)
                os.fchown(target, *(self.owner or (0, 0)))
                os.fchmod(target, self.chmod.of(mode, False))
                stamp = self._times[above] if mtime is None else self.stamp(mtime * _SECOND)
                os.utime(target, ns=(stamp, stamp))
            finally:
                os.close(target)
        except OSError as problem:
            raise explained(path, problem) from problem
        finally:
            os.close(fd)

    def keep(self, path: bytes) -> None:
        """See to it that the directory `path` has at the end the time that it has now."""
        self._keep(path, os.stat(path or b".", dir_fd=self.root, follow_symlinks=False))

    def finish(self) -> None:
        """Make the links, set the times of directories."""
        if self.linking is not None:
            try:
                self.linking.finish(self._copy_instead)
            except OSError as problem:
                raise explained(b"files of the context", problem) from problem
        for path, stamp in self._times.items():
            try:
                os.utime(path or b".", ns=(stamp, stamp), dir_fd=self.root, follow_symlinks=False)
            except (FileNotFoundError, NotADirectoryError):
                continue
        self._times.clear()

    # -- one file -----------------------------------------------------------------------------

    def _item(self, parent: int, name: bytes, item: Found, path: bytes) -> None:
        status = item.status
        mode = status.st_mode
        if stat.S_ISDIR(mode):
            self._directory(parent, name, path, status, _xattrs_of(item))
            return
        if self._linked(parent, name, status, path):
            return
        if stat.S_ISREG(mode):
            if self._taken(parent, name, item, path):
                return
            self._file(parent, name, item, path)
        elif stat.S_ISLNK(mode):
            self._clear(parent, name, path)
            os.symlink(os.readlink(item.name, dir_fd=item.parent), name, dir_fd=parent)
            self._owner_by_name(parent, name, status)
        else:
            self._node(parent, name, status, path)

    def _taken(self, parent: int, name: bytes, item: Found, path: bytes) -> bool:
        """Whether a regular file comes there by a link, later."""
        if self.linking is None:
            return False
        self._clear(parent, name, path)
        status = item.status
        mode = stat.S_IMODE(status.st_mode)
        # As the step's digest has it: attributes are looked at where they give a program rights.
        if mode & 0o111 and _xattrs_of(item):
            return False
        return self.linking.take(
            path,
            item.path,
            status,
            self.chmod.of(mode, False),
            self.owner or (status.st_uid, status.st_gid),
            self.stamp(status.st_mtime_ns),
        )

    def _copy_instead(
        self, origin: int, source: bytes, target: int, name: bytes, path: bytes
    ) -> None:
        status = os.stat(source, dir_fd=origin, follow_symlinks=False)
        self._file(target, name, Found(source, origin, source, status), path)

    def _linked(self, parent: int, name: bytes, status: os.stat_result, path: bytes) -> bool:
        if status.st_nlink < 2:
            return False
        identity = (status.st_dev, status.st_ino)
        first = self._links.setdefault(identity, path)
        if first == path or (self.linking is not None and self.linking.wants(first)):
            return False
        self._clear(parent, name, path)
        os.link(first, name, src_dir_fd=self.root, dst_dir_fd=parent, follow_symlinks=False)
        return True

    def _directory(
        self,
        parent: int,
        name: bytes,
        path: bytes,
        status: os.stat_result,
        xattrs: Mapping[str, bytes],
    ) -> None:
        if self.linking is not None and self.linking.wants(path):
            raise Invalid(f"cannot copy to non-directory: /{os.fsdecode(path)}")
        try:
            os.mkdir(name, 0o700, dir_fd=parent)
        except FileExistsError:
            pass
        try:
            fd = os.open(name, _DIRECTORY, dir_fd=parent)
        except OSError as problem:
            if problem.errno not in (errno.ENOTDIR, errno.ELOOP):
                raise
            raise Invalid(f"cannot copy to non-directory: /{os.fsdecode(path)}") from None
        try:
            os.fchown(fd, *(self.owner or (status.st_uid, status.st_gid)))
            os.fchmod(fd, self.chmod.of(stat.S_IMODE(status.st_mode), True))
            set_xattrs(fd, xattrs)
        finally:
            os.close(fd)
        self._times[path] = self.stamp(status.st_mtime_ns)

    def _file(self, parent: int, name: bytes, item: Found, path: bytes) -> None:
        source = open_file(item.parent, item.name)
        try:
            status = item.status
            mode = self.chmod.of(stat.S_IMODE(status.st_mode), False)
            target = self._fresh(parent, name, path, mode & 0o777)
            try:
                copy_content(source, target, status)
                owner = self.owner or (status.st_uid, status.st_gid)
                made = os.fstat(target)
                if (made.st_uid, made.st_gid) != owner:
                    os.fchown(target, *owner)
                if stat.S_IMODE(made.st_mode) != mode:
                    os.fchmod(target, mode)
                set_xattrs(target, to_archive(read_xattrs(source)))
                stamp = self.stamp(status.st_mtime_ns)
                os.utime(target, ns=(stamp, stamp))
            finally:
                os.close(target)
        finally:
            os.close(source)

    def _fresh(self, parent: int, name: bytes, path: bytes, mode: int = 0o600) -> int:
        try:
            return os.open(name, _CREATE, mode, dir_fd=parent)
        except FileExistsError:
            self._clear(parent, name, path)
            return os.open(name, _CREATE, mode, dir_fd=parent)

    def _clear(self, parent: int, name: bytes, path: bytes) -> None:
        """Make room for a file. Raises Invalid where a directory is in the way."""
        if self.linking is not None:
            self.linking.forget(path)
        try:
            os.unlink(name, dir_fd=parent)
        except FileNotFoundError:
            return
        except IsADirectoryError:
            raise Invalid(f"cannot replace to directory /{os.fsdecode(path)} with file") from None

    def _node(self, parent: int, name: bytes, status: os.stat_result, path: bytes) -> None:
        if stat.S_ISCHR(status.st_mode) and status.st_rdev == 0:
            # On a layer it would remove what lies below it.
            raise Invalid(f"/{os.fsdecode(path)}: a device 0:0 cannot be in an image")
        self._clear(parent, name, path)
        os.mknod(name, stat.S_IFMT(status.st_mode) | 0o600, status.st_rdev, dir_fd=parent)
        self._owner_by_name(parent, name, status)

    def _owner_by_name(self, parent: int, name: bytes, status: os.stat_result) -> None:
        uid, gid = self.owner or (status.st_uid, status.st_gid)
        os.chown(name, uid, gid, dir_fd=parent, follow_symlinks=False)
        if not stat.S_ISLNK(status.st_mode):
            mode = self.chmod.of(stat.S_IMODE(status.st_mode), False)
            # Just made, in a directory that nobody else writes to: it is no link.
            os.chmod(name, mode, dir_fd=parent)
        stamp = self.stamp(status.st_mtime_ns)
        os.utime(name, ns=(stamp, stamp), dir_fd=parent, follow_symlinks=False)


def _xattrs_of(item: Found) -> Mapping[str, bytes]:
    return to_archive(read_xattrs(b"/proc/self/fd/%d/%b" % (item.parent, item.name)))


def set_xattrs(fd: int, xattrs: Mapping[str, bytes]) -> None:
    """Set a source's attributes; those that the file system has no place for are left out."""
    for key, value in xattrs.items():
        try:
            os.setxattr(fd, key, value)
        except OSError as problem:
            if not is_optional(key, problem):
                raise


def copy_content(source: int, target: int, status: os.stat_result) -> None:
    """Copy a regular file's bytes; holes stay holes."""
    size = status.st_size
    if size == 0:
        return
    if status.st_blocks * 512 < size // 2:
        _copy_sparse(source, target, size)
        return
    if size <= _SMALL:
        data = os.read(source, _SMALL)
        while data:
            os.write(target, data)
            data = os.read(source, _SMALL) if len(data) == _SMALL else b""
        return
    while os.sendfile(target, source, None, _PIECE):
        pass


def _copy_sparse(source: int, target: int, size: int) -> None:
    at = 0
    while at < size:
        try:
            start = os.lseek(source, at, os.SEEK_DATA)
        except OSError as problem:
            if problem.errno != errno.ENXIO:
                raise
            break
        end = os.lseek(source, start, os.SEEK_HOLE)
        os.lseek(source, start, os.SEEK_SET)
        os.lseek(target, start, os.SEEK_SET)
        while start < end:
            done = os.sendfile(target, source, None, min(_PIECE, end - start))
            if not done:
                break
            start += done
        at = end
    os.ftruncate(target, size)


def explained(path: bytes, problem: OSError) -> WherryError:
    """Return the error that tells why `path` could not be written."""
    what = f"{show(path)}: {os.strerror(problem.errno or 0)}"
    match problem.errno:
        case errno.ENOSPC | errno.EDQUOT:
            return no_room(f"copy to {show(path)}")
        case errno.EMFILE | errno.ENFILE | errno.ENOMEM:
            return Full(f"no room for a copy: {what}")
        case errno.EACCES | errno.EPERM | errno.EROFS | errno.EBUSY:
            return Forbidden(what)
        case _:
            return Invalid(what)
