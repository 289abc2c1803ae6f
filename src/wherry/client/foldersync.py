"""A folder as a build's context, from the client's side: what is in it, and the content that is asked for."""

from __future__ import annotations

import os
import stat
import time

from wherry.model import folder as codec
from wherry.model.folder import FolderEntry
from wherry.model.ignore import Matcher

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

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
        self._matcher = Matcher(ignore)
        self._links: dict[tuple[int, int], bytes] = {}
        self._now = time.time_ns()
        self.entries: list[FolderEntry] = []
        self._scan()

    def manifest(self) -> bytes:
        """Return what is sent first."""
        return codec.encode(self.entries)

    def pieces(self, wanted: Sequence[int]) -> Iterator[bytes]:
        """Yield the contents of the entries with these numbers, in their order.

        Raises OSError for a file that cannot be read; one that is gone meanwhile is empty.
        """
        pending: list[bytes] = []
        size = 0
        for number in wanted:
            for piece in self._content(self.entries[number]):
                pending.append(piece)
                size += len(piece)
                if size >= _PIECE:
                    yield b"".join(pending)
                    pending, size = [], 0
        if pending:
            yield b"".join(pending)

    def _content(self, entry: FolderEntry) -> Iterator[bytes]:
        try:
            fd = os.open(self._top + b"/" + entry.path, _FILE)
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
        top = os.stat(self._top)
        self._add(b"", top)
        # (path, whether what is in it is seen unless a line says otherwise)
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
                is_directory = stat.S_ISDIR(status.st_mode)
                if self._matcher and self._matcher.ignored(os.fsdecode(path)):
                    if is_directory and self._matcher.descend(os.fsdecode(path)):
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
        kind = _KINDS.get(stat.S_IFMT(status.st_mode))
        if kind is None:  # a socket
            return
        link = b""
        if kind == codec.SYMLINK:
            link = os.readlink(self._top + b"/" + path)
        elif status.st_nlink > 1 and kind != codec.DIRECTORY:
            identity = (status.st_dev, status.st_ino)
            first = self._links.setdefault(identity, path)
            if first != path:
                kind, link = codec.HARDLINK, first
        self.entries.append(
            FolderEntry(
                path,
                kind,
                stat.S_IMODE(status.st_mode),
                status.st_size if kind == codec.FILE else 0,
                status.st_mtime_ns,
                self._mark(status) if kind == codec.FILE else 1,
                status.st_rdev if kind in (codec.CHAR, codec.BLOCK) else 0,
                link,
            )
        )

    def _mark(self, status: os.stat_result) -> int:
        if abs(self._now - status.st_ctime_ns) < _SETTLED:
            return codec.UNSETTLED
        mixed = status.st_ctime_ns * 0x9E3779B97F4A7C15 ^ status.st_ino * 0xC2B2AE3D27D4EB4F
        return (mixed ^ status.st_dev) & 0xFFFFFFFFFFFFFFFF or 1


def _name(item: os.DirEntry[bytes]) -> bytes:
    return item.name
