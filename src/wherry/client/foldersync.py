"""A folder as a build's context, from the client's side: what is in it, and the content that is asked for."""

from __future__ import annotations

import os
import stat
import time

from wherry.model import folder as codec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import Any

    from wherry.model.ignore import Matcher

_PIECE = 1 << 20
_SETTLED = 50_000_000
"""Nanoseconds after which a further change gets another change time: file systems count in ticks of 4 ms."""
_KINDS = {
    stat.S_IFREG: codec.FILE,
    stat.S_IFDIR: codec.DIRECTORY,
    stat.S_IFLNK: codec.SYMLINK,
    stat.S_IFIFO: codec.FIFO,
    stat.S_IFCHR: codec.CHAR,
    stat.S_IFBLK: codec.BLOCK,
}
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class Folder:
    """What a build sees of a folder: all but what the lines of its .dockerignore leave out, and sockets.

    Raises OSError for a directory that cannot be read, Invalid for a malformed line.
    """

    def __init__(self, path: str, ignore: Iterable[str] = ()) -> None:
        self._top = os.fsencode(os.path.realpath(path))
        lines = tuple(ignore)
        self._matcher: Matcher | None = None
        if lines:
            # Not at the top: `re` is a good part of what a build that is all cached takes.
            from wherry.model.ignore import Matcher

            self._matcher = Matcher(lines)
        self._links: dict[tuple[int, int], bytes] = {}
        self._now = time.time_ns()
        self.paths: list[bytes] = []
        """Of the entries, by their numbers."""
        self._encoded = bytearray(codec.MAGIC)
        self._scan()

    def manifest(self) -> bytes:
        """Return what is sent first."""
        return bytes(self._encoded)

    def digest(self) -> str:
        """Return the manifest's SHA-256, in hex."""
        return _sha256(self._encoded).hexdigest()

    def pieces(self, wanted: Sequence[int]) -> Iterator[bytes]:
        """Yield the contents of the entries with these numbers, in their order.

        Raises OSError for a file that cannot be read; one that is gone meanwhile is empty.
        """
        pending: list[bytes] = []
        size = 0
        for number in wanted:
            for piece in self._content(self.paths[number]):
                pending.append(piece)
                size += len(piece)
                if size >= _PIECE:
                    yield b"".join(pending)
                    pending, size = [], 0
        if pending:
            yield b"".join(pending)

    def _content(self, path: bytes) -> Iterator[bytes]:
        try:
            fd = os.open(self._top + b"/" + path, _FILE)
        except FileNotFoundError:
            yield codec.LENGTH.pack(0)
            return
        try:
            left = os.fstat(fd).st_size
            yield codec.LENGTH.pack(left)
            while left:
                data = os.read(fd, min(left, _PIECE)) or bytes(min(left, _PIECE))
                left -= len(data)
                yield data
        finally:
            os.close(fd)

    def _scan(self) -> None:
        self._add(b"", os.stat(self._top))
        matcher = self._matcher
        pending = [b""]
        hidden: dict[bytes, os.stat_result] = {}
        while pending:
            directory = pending.pop()
            below: list[bytes] = []
            above = directory + b"/" if directory else b""
            with os.scandir(self._top + b"/" + directory) as found:
                items = sorted(found, key=_name)
            for item in items:
                path = above + item.name
                status = item.stat(follow_symlinks=False)
                is_directory = status.st_mode & 0o170000 == stat.S_IFDIR
                if matcher and matcher.ignored(os.fsdecode(path)):
                    if is_directory and matcher.descend(os.fsdecode(path)):
                        hidden[path] = status
                        below.append(path)
                    continue
                if hidden:
                    self._reveal(path, hidden)
                self._add(path, status)
                if is_directory:
                    below.append(path)
            pending += reversed(below)

    def _reveal(self, path: bytes, hidden: dict[bytes, os.stat_result]) -> None:
        """Add the folders above `path` that are left out but for what `!` takes back in them."""
        parts = path.split(b"/")
        for depth in range(1, len(parts)):
            above = b"/".join(parts[:depth])
            if (status := hidden.pop(above, None)) is not None:
                self._add(above, status)

    def _add(self, path: bytes, status: os.stat_result) -> None:
        mode = status.st_mode
        kind = _KINDS.get(mode & 0o170000)
        if kind is None:  # a socket
            return
        link = b""
        size = device = 0
        mark = 1
        if kind == codec.SYMLINK:
            link = os.readlink(self._top + b"/" + path)
        elif kind != codec.DIRECTORY:
            if status.st_nlink > 1:
                first = self._links.setdefault((status.st_dev, status.st_ino), path)
                if first != path:
                    kind, link = codec.HARDLINK, first
            if kind == codec.FILE:
                size = status.st_size
                mark = self._mark(status)
            elif kind != codec.FIFO and kind != codec.HARDLINK:
                device = status.st_rdev
        self.paths.append(path)
        self._encoded += codec.encoded(
            path, kind, mode & 0o7777, size, status.st_mtime_ns, mark, device, link
        )

    def _mark(self, status: os.stat_result) -> int:
        changed = status.st_ctime_ns
        if -_SETTLED < self._now - changed < _SETTLED:
            return codec.UNSETTLED
        mixed = changed * 0x9E3779B97F4A7C15 ^ status.st_ino * 0xC2B2AE3D27D4EB4F
        return (mixed ^ status.st_dev) & 0xFFFFFFFFFFFFFFFF or 1


def _sha256(data: bytearray) -> Any:
    # hashlib brings OpenSSL's library and its settings file: half as long as a build that is all cached.
    try:
        from _sha2 import sha256  # pyright: ignore  (Python 3.12)
    except ImportError:
        try:
            from _sha256 import sha256  # pyright: ignore  (Python 3.11)
        except ImportError:
            from hashlib import sha256
    return sha256(data)  # pyright: ignore


def _name(item: os.DirEntry[bytes]) -> bytes:
    return item.name
