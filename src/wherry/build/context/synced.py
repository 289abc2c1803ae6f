"""A client's folder brought up to date: what did not change since the last time is linked, the rest is sent.

The manifest and the contents are anyone's: paths were checked by `model.folder`, no link is followed here.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from wherry.build.context.manifest import FolderEntry
from wherry.kernel.hashing import sha256
from wherry.model import folder as codec
from wherry.model.errors import Invalid
from wherry.storage.layers.entries import Readable

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_CHUNK: Final = 1 << 20
_FORMS: Final = {
    codec.FIFO: stat.S_IFIFO,
    codec.CHAR: stat.S_IFCHR,
    codec.BLOCK: stat.S_IFBLK,
}


@dataclass(frozen=True, slots=True)
class SyncedFolder:
    """What was synced: entries by path, where the tree lies, its files' digests."""

    entries: Mapping[bytes, FolderEntry] = field(default_factory=dict[bytes, FolderEntry])
    path: Path | None = None
    contents: Mapping[bytes, bytes] = field(default_factory=dict[bytes, bytes])

    def lacks(self, entries: Sequence[FolderEntry]) -> tuple[int, ...]:
        """Return the numbers of the files whose content has to be sent."""
        known = self.entries
        return tuple(
            number
            for number, entry in enumerate(entries)
            if entry.kind == codec.FILE
            and entry.size
            and (entry.mark == codec.UNSETTLED or known.get(entry.path) != entry)
        )


def fill(
    target: Path,
    entries: Sequence[FolderEntry],
    base: SyncedFolder,
    wanted: Sequence[int],
    stream: Readable,
    digests: dict[tuple[int, int], bytes],
) -> None:
    """Make the empty directory `target` the folder; `digests` gets the files' SHA-256 by (device, inode).

    Raises Invalid for contents that are not the wanted ones, Full by way of OSError.
    """
    with contextlib.ExitStack() as stack:
        root = os.open(target, _DIRECTORY)
        stack.callback(os.close, root)
        source = -1
        if base.path:
            source = os.open(base.path, _DIRECTORY)
            stack.callback(os.close, source)
        filling = _Filling(root, source, base, frozenset(wanted), stream, digests)
        stack.callback(filling.close)
        for number, entry in enumerate(entries):
            filling.add(number, entry)
        filling.finish()


class _Filling:
    def __init__(
        self,
        root: int,
        source: int,
        base: SyncedFolder,
        wanted: frozenset[int],
        stream: Readable,
        digests: dict[tuple[int, int], bytes],
    ) -> None:
        self._root = root
        self._source = source
        self._base = base
        self._wanted = wanted
        self._stream = stream
        self._rest = b""
        self._digests = digests
        self._directories: list[FolderEntry] = []
        self._parent = os.open(".", _DIRECTORY, dir_fd=root)
        self._parent_path: bytes = b""

    def add(self, number: int, entry: FolderEntry) -> None:
        """Make one file."""
        if not entry.path:
            self._directories.append(entry)
            return
        parent, name = self._open_parent(entry.path)
        match entry.kind:
            case codec.DIRECTORY:
                os.mkdir(name, 0o700, dir_fd=parent)
                self._directories.append(entry)
            case codec.FILE:
                if number in self._wanted or not entry.size:
                    self._file(parent, name, entry, number in self._wanted)
                else:
                    self._same(parent, name, entry)
            case codec.HARDLINK:
                os.link(
                    entry.link,
                    name,
                    src_dir_fd=self._root,
                    dst_dir_fd=parent,
                    follow_symlinks=False,
                )
            case codec.SYMLINK:
                os.symlink(entry.link, name, dir_fd=parent)
                self._stamp(parent, name, entry)
            case kind:
                os.mknod(name, _FORMS[kind] | 0o600, entry.device, dir_fd=parent)
                os.chmod(name, entry.mode, dir_fd=parent)
                self._stamp(parent, name, entry)

    def finish(self) -> None:
        """Give directories their own modes and times. Raises Invalid for more than was wanted."""
        if self._rest or self._stream.read(1):
            raise Invalid("folder contents: more than was asked for")
        for entry in reversed(self._directories):
            path = entry.path or b"."
            os.chmod(path, entry.mode, dir_fd=self._root)
            self._stamp(self._root, path, entry)

    def close(self) -> None:
        """Close what it has open."""
        os.close(self._parent)

    def _open_parent(self, path: bytes) -> tuple[int, bytes]:
        above, _, name = path.rpartition(b"/")
        if above != self._parent_path:
            # All of it was made here, of directories that the manifest has: there is no link in it.
            fd = os.open(above or b".", _DIRECTORY, dir_fd=self._root)
            os.close(self._parent)
            self._parent, self._parent_path = fd, above
        return self._parent, name

    def _same(self, parent: int, name: bytes, entry: FolderEntry) -> None:
        os.link(entry.path, name, src_dir_fd=self._source, dst_dir_fd=parent, follow_symlinks=False)
        status = os.stat(name, dir_fd=parent, follow_symlinks=False)
        self._digests[(status.st_dev, status.st_ino)] = self._base.contents[entry.path]

    def _file(self, parent: int, name: bytes, entry: FolderEntry, sent: bool) -> None:
        hasher = sha256()
        fd = os.open(name, _CREATE, 0o600, dir_fd=parent)
        try:
            left = codec.LENGTH.unpack(self._exactly(codec.LENGTH.size))[0] if sent else 0
            while left:
                data = self._some(min(left, _CHUNK))
                hasher.update(data)
                left -= len(data)
                while data:
                    data = data[os.write(fd, data) :]
            os.fchmod(fd, entry.mode)
            os.utime(fd, ns=(entry.mtime_ns, entry.mtime_ns))
            status = os.fstat(fd)
            self._digests[(status.st_dev, status.st_ino)] = hasher.digest()
        finally:
            os.close(fd)

    def _stamp(self, parent: int, name: bytes, entry: FolderEntry) -> None:
        times = (entry.mtime_ns, entry.mtime_ns)
        os.utime(name, ns=times, dir_fd=parent, follow_symlinks=False)

    def _some(self, n: int) -> bytes:
        if not self._rest:
            self._rest = self._stream.read(_CHUNK)
            if not self._rest:
                raise Invalid("folder contents: truncated")
        data = self._rest[:n]
        self._rest = self._rest[n:]
        return data

    def _exactly(self, n: int) -> bytes:
        data = b""
        while len(data) < n:
            data += self._some(n - len(data))
        return data
