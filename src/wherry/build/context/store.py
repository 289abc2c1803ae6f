"""Where contexts lie: each a folder of its own below one root, known by a random id.

`<root>/<id>/files` is the tree, `<root>/<id>/index` what the next sync of the same folder compares with.
Nothing here needs to outlive a crash of the machine: what another boot left is swept.
"""

from __future__ import annotations

import os
import secrets
import stat
import threading
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from wherry.build.context.listing import Summary, Wanted, walk
from wherry.build.context.tarred import receive_tar
from wherry.build.files import Tree
from wherry.kernel.paths import open_in_root, remove_path
from wherry.model.build import ContextKind, ContextRef
from wherry.model.errors import Invalid, NotFound, Unsupported
from wherry.model.ignore import Matcher
from wherry.storage.durable import full
from wherry.storage.layers.entries import Readable

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_BOOT: Final = Path("/proc/sys/kernel/random/boot_id")
Fetch = Callable[["ContextStore", ContextRef], str]
"""Brings a context from elsewhere, and returns the id of the tree it became."""


@dataclass(frozen=True, slots=True)
class StoredTree:
    """A context that is here: a Tree whose files' digests are known."""

    id: str
    path: Path
    digest: str
    epoch: int | None = None
    contents: Mapping[bytes, bytes] = field(default_factory=dict[bytes, bytes])
    """SHA-256 of each regular file, by its path."""

    @contextmanager
    def open(self) -> Generator[int]:
        """Give a descriptor of its root."""
        fd = os.open(self.path / "files", _DIRECTORY)
        try:
            yield fd
        finally:
            os.close(fd)


class ContextStore:
    """The contexts under `root`, which one process owns. It is a `Contexts`. Everything blocks."""

    def __init__(self, root: Path, *, fetchers: Mapping[ContextKind, Fetch] | None = None) -> None:
        """`fetchers` bring what the kinds GIT, URL, IMAGE and OCI_LAYOUT name."""
        self._root = root
        self._fetchers = dict(fetchers or {})
        self._lock = threading.Lock()
        self._trees: dict[str, StoredTree] = {}
        self._fetched: dict[ContextRef, str] = {}
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._sweep()
        with self._filling() as empty:
            self._empty = self._adopt(empty, {})

    @property
    def root(self) -> Path:
        """Where all of it lies."""
        return self._root

    def open(self, ref: ContextRef) -> Tree:
        """Return the context's files, fetched where they are elsewhere. Blocks.

        Raises NotFound, Invalid, Unavailable, Unsupported for a kind that nothing fetches.
        """
        match ref.kind:
            case ContextKind.EMPTY:
                return self._empty
            case ContextKind.TREE:
                tree = self.tree(ref.value)
            case kind:
                fetch = self._fetchers.get(kind)
                if fetch is None:
                    raise Unsupported(f"a context of kind {kind.value}: {ref.value}")
                tree = self.tree(fetch(self, ref))
        return self.filtered(tree, ref.ignore) if ref.ignore else tree

    def tree(self, tree_id: str) -> StoredTree:
        """Return a tree that is here. Raises NotFound."""
        with self._lock:
            found = self._trees.get(tree_id)
        if found is None:
            raise NotFound("build context", tree_id)
        return found

    def receive(self, stream: Readable) -> str:
        """Take in an archive, plain or compressed, and return the id of the tree.

        Raises Invalid, naming the entry that leads outside or is malformed, and Full.
        """
        with self.adopting() as (path, contents):
            receive_tar(stream, path, contents)
        return self._last(path)

    @contextmanager
    def adopting(
        self, epoch: int | None = None
    ) -> Generator[tuple[Path, dict[tuple[int, int], bytes]]]:
        """Give out an empty directory to fill; at a clean end it is a tree, by the directory's name.

        The dictionary takes digests that are known already, by (device, inode).
        """
        with self._filling() as path:
            known: dict[tuple[int, int], bytes] = {}
            yield path, known
            self._adopt(path, known, epoch)

    def _last(self, path: Path) -> str:
        return path.parent.name

    @contextmanager
    def _filling(self) -> Generator[Path]:
        path = self._root / secrets.token_hex(12) / "files"
        try:
            with full("the store of build contexts"):
                path.parent.mkdir(mode=0o700)
                path.mkdir(mode=0o755)
                yield path
        except BaseException:
            remove_path(path.parent)
            raise

    def _adopt(
        self, path: Path, known: Mapping[tuple[int, int], bytes], epoch: int | None = None
    ) -> StoredTree:
        summary = Summary()
        contents: dict[bytes, bytes] = {}
        fd = os.open(path, _DIRECTORY)
        try:
            for found in walk(fd):
                status = found.status
                digest = None
                if stat.S_ISREG(status.st_mode):
                    digest = known.get((status.st_dev, status.st_ino))
                    if digest is None:
                        digest = _read_digest(found.parent, found.name)
                    contents[found.path] = digest
                summary.add(found.path, found, digest)
        finally:
            os.close(fd)
        tree = StoredTree(path.parent.name, path.parent, f"sha256:{summary.hex()}", epoch, contents)
        with self._lock:
            self._trees[tree.id] = tree
        return tree

    def read(self, tree_id: str, path: str, limit: int = 16 << 20) -> bytes:
        """Return a file of at most `limit` bytes; links are followed inside the tree.

        Raises NotFound, Invalid.
        """
        with self.tree(tree_id).open() as root:
            try:
                fd = open_in_root(root, path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
            except OSError:
                raise NotFound("file in the build context", path) from None
            try:
                status = os.fstat(fd)
                if not stat.S_ISREG(status.st_mode) or status.st_size > limit:
                    raise Invalid(f"{path}: not a file of at most {limit} bytes")
                return b"".join(iter(lambda: os.read(fd, 1 << 20), b""))
            finally:
                os.close(fd)

    def filtered(self, tree: StoredTree, lines: tuple[str, ...]) -> StoredTree:
        """Return the tree without what the lines of a .dockerignore leave out; same files, no copies."""
        matcher = Matcher(lines)
        if not matcher:
            return tree
        ref = ContextRef(ContextKind.TREE, tree.id, lines)
        with self._lock:
            known = self._trees.get(self._fetched.get(ref, ""))
        if known is not None:
            return known
        with self.adopting(tree.epoch) as (path, digests), tree.open() as root:
            _link_tree(root, path, ignoring(matcher), tree.contents, digests)
        with self._lock:
            self._fetched[ref] = path.parent.name
        return self.tree(path.parent.name)

    def filter(self, tree_id: str, lines: tuple[str, ...]) -> str:
        """As `filtered`, by ids."""
        return self.filtered(self.tree(tree_id), lines).id

    def release(self, tree_id: str) -> None:
        """Remove a tree, and what was filtered from it; missing is fine. Who has it open reads on."""
        with self._lock:
            gone = [self._trees.pop(tree_id, None)]
            for ref, other in list(self._fetched.items()):
                if ref.kind is ContextKind.TREE and ref.value == tree_id:
                    del self._fetched[ref]
                    gone.append(self._trees.pop(other, None))
        for tree in gone:
            if tree is not None:
                remove_path(tree.path)

    def _sweep(self) -> None:
        # Nothing was synced to disk: what a crash of the machine left may be holes.
        for leftover in self._root.iterdir():
            remove_path(leftover)


def ignoring(matcher: Matcher) -> Wanted:
    """Return what `walk` asks: a folder left out is still there where `!` brings back something in it."""

    def wanted(path: bytes, is_directory: bool) -> tuple[bool, bool]:
        name = os.fsdecode(path)
        if not matcher.ignored(name):
            return True, True
        return False, is_directory and matcher.descend(name)

    return wanted


def _read_digest(parent: int, name: bytes) -> bytes:
    from wherry.build.context.listing import content_digest, open_file

    fd = open_file(parent, name)
    try:
        return content_digest(fd)
    finally:
        os.close(fd)


def _link_tree(
    root: int,
    path: Path,
    wanted: Wanted,
    contents: Mapping[bytes, bytes],
    digests: dict[tuple[int, int], bytes],
) -> None:
    """Make `path` a tree of hard links to what is wanted of the tree `root`."""
    target = os.open(path, _DIRECTORY)
    made: dict[bytes, os.stat_result] = {b"": os.fstat(root)}
    try:
        for found in walk(root, wanted=wanted):
            _make_parents(root, target, found.path, made)
            if found.is_directory:
                _make_directory(target, found.path, found.status, made)
                continue
            os.link(
                found.name,
                found.path,
                src_dir_fd=found.parent,
                dst_dir_fd=target,
                follow_symlinks=False,
            )
            if found.path in contents:
                digests[(found.status.st_dev, found.status.st_ino)] = contents[found.path]
        for directory in sorted(made, reverse=True):
            status = made[directory]
            os.utime(directory or b".", ns=(status.st_mtime_ns, status.st_mtime_ns), dir_fd=target)
    finally:
        os.close(target)


def _make_parents(root: int, target: int, path: bytes, made: dict[bytes, os.stat_result]) -> None:
    parts = path.split(b"/")
    for depth in range(1, len(parts)):
        directory = b"/".join(parts[:depth])
        if directory not in made:
            status = os.stat(directory, dir_fd=root, follow_symlinks=False)
            _make_directory(target, directory, status, made)


def _make_directory(
    target: int, path: bytes, status: os.stat_result, made: dict[bytes, os.stat_result]
) -> None:
    os.mkdir(path, dir_fd=target)
    os.chown(path, status.st_uid, status.st_gid, dir_fd=target)
    os.chmod(path, stat.S_IMODE(status.st_mode), dir_fd=target)
    made[path] = status
