"""Files that an earlier layer has just as a step wants them: linked there, not copied once more.

What is written to a stage's tree goes by way of an overlay, and a link does not: so the names are gathered
first, and the links are made in the overlay's upper directory when nothing is written to it any more.
Layers are never written to, so what they share stays as it is.
"""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from wherry.kernel.paths import RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS, open_in_root

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_STRICT: Final = RESOLVE_NO_SYMLINKS | RESOLVE_BENEATH
_REMEMBERED: Final = 100_000
_SMALLEST: Final = 1 << 12
"""Bytes of a file that is worth a link."""


class Wanted(NamedTuple):
    """A regular file as a layer is to have it; `content` is its SHA-256."""

    content: bytes
    mode: int
    uid: int
    gid: int
    mtime_ns: int

    def is_like(self, status: os.stat_result) -> bool:
        """Whether a file looks like this, its content apart."""
        return (
            stat.S_ISREG(status.st_mode)
            and stat.S_IMODE(status.st_mode) == self.mode
            and (status.st_uid, status.st_gid) == (self.uid, self.gid)
            and status.st_mtime_ns == self.mtime_ns
        )


class Copies:
    """Where layers have what was copied into them, as long as this process lives. Safe for threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: OrderedDict[Wanted, tuple[Path, bytes]] = OrderedDict()

    def find(self, wanted: Wanted) -> tuple[Path, bytes] | None:
        """Return a layer's directory and the path in it where such a file was."""
        with self._lock:
            return self._known.get(wanted)

    def note(self, layer: Path, files: Mapping[bytes, Wanted]) -> None:
        """Note that the layer has these files."""
        with self._lock:
            for path, wanted in files.items():
                self._known[wanted] = (layer, path)
                self._known.move_to_end(wanted)
            while len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)


Copy = Callable[[int, bytes, int, bytes, bytes], None]
"""Copies a file: source directory and name, target directory and name, the target's path."""


@dataclass(slots=True)
class Linking:
    """What one step copies into the directory `upper`, which `root` shows merged with what is below it."""

    copies: Copies
    root: int
    upper: int
    files: dict[bytes, Wanted] = field(default_factory=dict[bytes, Wanted])
    """What the layer has when all is done."""
    _source: int = -1
    _prefix: bytes = b""
    _contents: Mapping[bytes, bytes] = field(default_factory=dict[bytes, bytes])
    _used: dict[tuple[Path, bytes], tuple[int, int]] = field(
        default_factory=dict[tuple[Path, bytes], tuple[int, int]]
    )
    _found: dict[bytes, tuple[Path, bytes, bytes]] = field(
        default_factory=dict[bytes, tuple[Path, bytes, bytes]]
    )

    def begin(self, source: int, prefix: bytes, contents: Mapping[bytes, bytes]) -> None:
        """Take what follows from `prefix` below the directory `source`, which stays open until `finish`.

        `contents` has the SHA-256 of its files, by path.
        """
        self._source, self._contents = source, contents
        self._prefix = prefix + b"/" if prefix else b""

    def take(
        self,
        path: bytes,
        source: bytes,
        status: os.stat_result,
        mode: int,
        owner: tuple[int, int],
        mtime_ns: int,
    ) -> bool:
        """Whether `path` needs no copy, for a link will be made there; all that is there is gone already."""
        if status.st_size < _SMALLEST:
            return False
        content = self._contents.get(self._prefix + source)
        if content is None:
            return False
        wanted = Wanted(content, mode, *owner, mtime_ns)
        found = self.copies.find(wanted)
        self.files[path] = wanted
        if found is None:
            return False
        # Two files that are alike are no links of each other, unless they were.
        identity = (status.st_dev, status.st_ino)
        if self._used.setdefault(found, identity) != identity:
            return False
        self._found[path] = (*found, self._prefix + source)
        return True

    def forget(self, path: bytes) -> None:
        """Know nothing of `path` any more: something else comes there."""
        if self.files.pop(path, None) is not None:
            self._found.pop(path, None)

    def wants(self, path: bytes) -> bool:
        """Whether a link is going to be made at `path`."""
        return path in self._found

    def finish(self, copy: Copy) -> None:
        """Make the links; what turns out to be gone is copied. Raises OSError."""
        ours = _Open(self.upper)
        theirs = _Open(self._source)
        layers: dict[Path, _Open] = {}
        try:
            for path, (layer, earlier, source) in self._found.items():
                above, _, name = path.rpartition(b"/")
                try:
                    target = ours.directory(above)
                except OSError:
                    self._bring_up(above)
                    target = ours.directory(above)
                if layer not in layers:
                    layers[layer] = _Open.of(layer)
                if not _link(layers[layer], earlier, target, name, self.files[path]):
                    above, _, origin = source.rpartition(b"/")
                    copy(theirs.directory(above), origin, target, name, path)
        finally:
            for opened in (ours, theirs, *layers.values()):
                opened.close()
            self._found.clear()

    def _bring_up(self, path: bytes) -> None:
        """Have the overlay make its own directory for one that only the layers below have."""
        status = os.stat(path or b".", dir_fd=self.root, follow_symlinks=False)
        times = (status.st_atime_ns, status.st_mtime_ns)
        os.utime(path or b".", ns=times, dir_fd=self.root, follow_symlinks=False)


class _Open:
    """One directory below a root held open: files come directory by directory."""

    def __init__(self, root: int, *, owned: bool = False) -> None:
        self._root = root
        self._owned = owned
        self._path: bytes | None = None
        self._fd = -1

    @classmethod
    def of(cls, path: Path) -> _Open:
        """Return the one of a directory that may be gone: then nothing is found in it."""
        try:
            return cls(os.open(path, _DIRECTORY), owned=True)
        except OSError:
            return cls(-1)

    def directory(self, path: bytes) -> int:
        """Return the descriptor of a directory. Raises OSError."""
        if path != self._path:
            fd = open_in_root(self._root, path or b".", _DIRECTORY, resolve=_STRICT)
            self._leave()
            self._fd, self._path = fd, path
        return self._fd

    def _leave(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd, self._path = -1, None

    def close(self) -> None:
        """Close what is open."""
        self._leave()
        if self._owned:
            os.close(self._root)
            self._owned = False


def _link(layer: _Open, earlier: bytes, target: int, name: bytes, wanted: Wanted) -> bool:
    """Whether `name` is a link now to what the layer has, which is as it should be."""
    above, _, there = earlier.rpartition(b"/")
    try:
        origin = layer.directory(above)
        if not wanted.is_like(os.stat(there, dir_fd=origin, follow_symlinks=False)):
            return False
    except OSError:
        return False
    try:
        os.link(there, name, src_dir_fd=origin, dst_dir_fd=target, follow_symlinks=False)
    except FileExistsError:
        # A whiteout: the overlay was told to remove what the layers below have by this name.
        if not stat.S_ISCHR(os.stat(name, dir_fd=target, follow_symlinks=False).st_mode):
            raise
        os.unlink(name, dir_fd=target)
        os.link(there, name, src_dir_fd=origin, dst_dir_fd=target, follow_symlinks=False)
    except OSError as problem:
        # Too many links, or another file system.
        if problem.errno not in (errno.EXDEV, errno.EMLINK, errno.EPERM, errno.ENOENT):
            raise
        return False
    return True
