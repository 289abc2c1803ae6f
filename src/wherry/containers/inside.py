"""Paths inside a container, as `docker cp` writes them, and what is found there.

They are hostile: whatever they lead through is resolved below a descriptor of the container's root
(CVE-2018-15664). Source: Engine API v1.51, ContainerArchive; behaviour of Docker Engine 28.5.
"""

from __future__ import annotations

import errno
import os
import posixpath
import stat
from dataclasses import dataclass

from wherry.kernel.paths import follow_in_root, open_in_root
from wherry.model.errors import Invalid, NotFound
from wherry.model.oci import User
from wherry.model.views import PathStat
from wherry.runtime.user import Identity, identify_in

# os.FileMode of Go: the permission bits, and these above them.
_GO_KINDS = {
    stat.S_IFDIR: 1 << 31,
    stat.S_IFLNK: 1 << 27,
    stat.S_IFBLK: 1 << 26,
    stat.S_IFCHR: (1 << 26) | (1 << 21),
    stat.S_IFIFO: 1 << 25,
    stat.S_IFSOCK: 1 << 24,
}
_GO_BITS = ((stat.S_ISUID, 1 << 23), (stat.S_ISGID, 1 << 22), (stat.S_ISVTX, 1 << 20))


class NoSuchPath(NotFound):
    """There is nothing at a path inside a container."""

    def __init__(self, path: str, ref: str) -> None:
        super().__init__("path", path)
        self.message = f"Could not find the file {path} in container {ref}"


@dataclass(frozen=True, slots=True)
class Wanted:
    """A path cleaned: absolute, without `.` and `..`. `follow`: it ended in a slash, so it is a directory."""

    text: str
    path: str
    name: str
    follow: bool


def parse_path(text: str) -> Wanted:
    """Return what `text` names, relative to the container's root. Raises Invalid."""
    if not text:
        raise Invalid("bad parameter: path cannot be empty")
    if "\0" in text:
        raise Invalid("bad parameter: a path cannot contain a NUL character")
    path = posixpath.normpath("/" + text.lstrip("/"))
    last = text.rpartition("/")[2]
    name = "." if last == "." else posixpath.basename(path) or "/"
    return Wanted(text, path, name, follow=last in ("", ".", "..") or path == "/")


def open_path(root_fd: int, wanted: Wanted, ref: str) -> int:
    """Return an O_PATH descriptor of what `wanted` names; a last link is followed where it says so.

    Raises NoSuchPath, Invalid.
    """
    flags = os.O_PATH | (os.O_DIRECTORY if wanted.follow else os.O_NOFOLLOW)
    try:
        return open_in_root(root_fd, wanted.path, flags)
    except OSError as error:
        raise as_problem(error, wanted, ref) from error


def as_problem(error: OSError, wanted: Wanted, ref: str) -> NoSuchPath | Invalid:
    """Return what to raise where `wanted` could not be opened: hostile links loop, and are too long."""
    if error.errno == errno.ENOENT or (error.errno == errno.ENOTDIR and not wanted.follow):
        return NoSuchPath(wanted.text, ref)
    return Invalid(f"lstat {wanted.text}: {os.strerror(error.errno or 0).lower()}")


def stat_path(root_fd: int, wanted: Wanted, ref: str) -> PathStat:
    """Return what is at the path. Raises NoSuchPath, Invalid."""
    fd = open_path(root_fd, wanted, ref)
    try:
        status = os.fstat(fd)
    finally:
        os.close(fd)
    target = ""
    if stat.S_ISLNK(status.st_mode):
        found = follow_in_root(root_fd, os.fsencode(wanted.path))
        target = "/" + os.fsdecode(found)
    return PathStat(
        wanted.name, status.st_size, go_mode(status.st_mode), status.st_mtime_ns, target
    )


def go_mode(mode: int) -> int:
    """Return `st_mode` as Go's os.FileMode, which the API speaks."""
    kind = _GO_KINDS.get(stat.S_IFMT(mode), 0)
    bits = sum(go for bit, go in _GO_BITS if mode & bit)
    return kind | bits | (mode & 0o777)


def read_user(root_fd: int, text: str, groups: tuple[str, ...] = ()) -> Identity:
    """Return who the user `text` is by the container's own tables. Raises StartFailed in Docker's words."""
    return identify_in(root_fd, User(name=text, additional_groups=groups))
