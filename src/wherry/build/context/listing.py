"""What a tree holds, in an order of its own, and one digest for it: names, kinds, modes, owners, content.

Times do not count, nor does who else links to a file: two checkouts of one commit are alike.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from wherry.kernel.hashing import sha256
from wherry.kernel.paths import RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS, open_in_root
from wherry.model.errors import Invalid
from wherry.storage.layers.xattrs import read_xattrs, to_archive

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_STRICT: Final = RESOLVE_NO_SYMLINKS | RESOLVE_BENEATH
_CHUNK: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Found:
    """One file of a tree: its path below the top, and the open directory that it lies in."""

    path: bytes
    parent: int
    """Open only until the next one is asked for."""
    name: bytes
    status: os.stat_result

    @property
    def is_directory(self) -> bool:
        """Whether it is a directory."""
        return stat.S_ISDIR(self.status.st_mode)


Wanted = Callable[[bytes, bool], tuple[bool, bool]]
"""From a path below the top and whether it is a directory to (it is wanted, what is below it may be)."""


def walk(top: int, path: bytes = b"", wanted: Wanted | None = None) -> Iterator[Found]:
    """Yield what lies below the directory `path` of `top`: each directory's names in order, parents first.

    Paths are relative to `path`. Sockets are passed over: they are nothing without their listener.
    """
    pending = [b""]
    while pending:
        directory = pending.pop()
        full = path + b"/" + directory if path and directory else path or directory
        fd = open_in_root(top, full or b".", _DIRECTORY, resolve=_STRICT)
        try:
            below: list[bytes] = []
            above = directory + b"/" if directory else b""
            for name in sorted(map(os.fsencode, os.listdir(fd))):
                status = os.stat(name, dir_fd=fd, follow_symlinks=False)
                if stat.S_ISSOCK(status.st_mode):
                    continue
                inner = above + name
                is_directory = stat.S_ISDIR(status.st_mode)
                here, deeper = wanted(inner, is_directory) if wanted else (True, True)
                if is_directory and deeper:
                    below.append(inner)
                if here:
                    yield Found(inner, fd, name, status)
        finally:
            os.close(fd)
        pending += reversed(below)


def open_file(parent: int, name: bytes) -> int:
    """Return a descriptor of a regular file. Raises Invalid where it is none."""
    fd = os.open(name, _FILE, dir_fd=parent)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise Invalid(f"{os.fsdecode(name)} is not a regular file")
    return fd


def content_digest(fd: int) -> bytes:
    """Return the SHA-256 of an open file's content."""
    hasher = sha256()
    while data := os.read(fd, _CHUNK):
        hasher.update(data)
    return hasher.digest()


class Summary:
    """Puts files together to one digest."""

    def __init__(self) -> None:
        self._hasher = sha256()

    def text(self, *parts: bytes) -> None:
        """Take in plain words."""
        self._hasher.update(b"".join(b"%d:%b" % (len(part), part) for part in parts))

    def add(self, name: bytes, found: Found, content: bytes | None = None) -> None:
        """Take in one file under `name`; `content` is the digest of a regular one if it is known."""
        status = found.status
        mode = status.st_mode
        extra = b""
        if stat.S_ISREG(mode):
            # Attributes that matter (capabilities) are those of programs.
            if content is None or mode & 0o111:
                fd = open_file(found.parent, found.name)
                try:
                    content = content_digest(fd) if content is None else content
                    extra = _attributes(fd) if mode & 0o111 else b""
                finally:
                    os.close(fd)
        elif stat.S_ISLNK(mode):
            content = os.readlink(found.name, dir_fd=found.parent)
        elif stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
            content = b"%d" % status.st_rdev
        self.text(name, b"%o %d %d" % (mode, status.st_uid, status.st_gid), content or b"", extra)

    def hex(self) -> str:
        """Return the digest of all so far."""
        return self._hasher.hexdigest()


def _attributes(fd: int) -> bytes:
    found = to_archive(read_xattrs(fd))
    return b"".join(b"%b=%b;" % (key.encode(), found[key]) for key in sorted(found))
