"""Where contexts lie: each a folder of its own below one root, known by a random id.

`<root>/<id>/files` is the tree. A tree is kept as long as a build holds it, a client's folder until the
next sync replaces it or others crowd it out. Nothing here outlives the process: contexts come again.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import secrets
import stat
import threading
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from wherry.build.context.graves import Graves
from wherry.build.context.listing import Summary, content_digest, open_file, walk
from wherry.build.context.manifest import FolderEntry, decode
from wherry.build.context.synced import SyncedFolder, fill
from wherry.build.context.tarred import receive_tar
from wherry.build.context.views import ignoring, link_tree
from wherry.build.files import Tree
from wherry.kernel.paths import open_file_in_root, remove_path
from wherry.model import folder as codec
from wherry.model.build import ContextKind, ContextRef
from wherry.model.errors import Invalid, NotFound, Unsupported
from wherry.model.ignore import Matcher
from wherry.storage.durable import full
from wherry.storage.layers.entries import Readable
from wherry.storage.placement import spread

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MOST_FOLDERS: Final = 16
"""Clients' folders that are kept for their next sync."""
Fetch = Callable[["ContextStore", ContextRef], tuple[str, str]]
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


@dataclass(frozen=True, slots=True)
class Lacking:
    """The answer to a manifest: the tree where all of it is here, else the sync and what it needs."""

    tree: str = ""
    sync: str = ""
    numbers: tuple[int, ...] = ()
    """Of the entries whose content is to be sent."""


@dataclass(frozen=True, slots=True)
class KeptFolder:
    """A client's folder that is here; times are seconds since the epoch."""

    id: str
    key: str
    last_used: float
    in_use: bool
    uses: int = 0


@dataclass(slots=True)
class _Sync:
    """A client's folder of which some contents are awaited."""

    key: str
    digest: str
    entries: list[FolderEntry]
    base: SyncedFolder
    base_tree: str
    numbers: tuple[int, ...]


@dataclass(slots=True)
class _Kept:
    """A client's folder that waits for its next sync."""

    tree: str
    digest: str
    folder: SyncedFolder
    last_used: float
    uses: int = 0


class ContextStore:
    """The contexts under `root`, which one process owns. It is a `Contexts`. Everything blocks."""

    def __init__(self, root: Path, *, fetchers: Mapping[ContextKind, Fetch] | None = None) -> None:
        """`fetchers` bring what the kinds GIT, URL, IMAGE and OCI_LAYOUT name."""
        self._root = root
        self._fetchers = dict(fetchers or {})
        self._lock = threading.Lock()
        self._trees: dict[str, StoredTree] = {}
        self._views: dict[ContextRef, str] = {}
        self._fetched: dict[ContextRef, str] = {}
        self._uses: dict[str, int] = {}
        self._archives: set[str] = set()
        self._kept: dict[str, _Kept] = {}
        self._syncs: dict[str, _Sync] = {}
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._graves = Graves(root)
        spread(root)
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
            case _:
                with self._lock:
                    known = self._trees.get(self._fetched.get(_bare(ref), ""))
                tree = known or self._fetch(ref, held=False)[0]
        if ref.ignore:
            tree = self.filtered(tree, ref.ignore)
        return tree if ref.epoch is None else replace(tree, epoch=ref.epoch)

    def fetch(self, ref: ContextRef) -> ContextRef:
        """Return a context that is elsewhere as the tree that it is now, held until `release`.

        `open` of the same reference then gives the same tree. Blocks. Raises as `open`.
        """
        tree, revision = self._fetch(ref, held=True)
        epoch = tree.epoch if ref.epoch is None else ref.epoch
        return replace(
            ref,
            kind=ContextKind.TREE,
            value=tree.id,
            epoch=epoch,
            origin=ref.value,
            revision=revision,
        )

    def _fetch(self, ref: ContextRef, *, held: bool) -> tuple[StoredTree, str]:
        fetch = self._fetchers.get(ref.kind)
        if fetch is None:
            raise Unsupported(f"a context of kind {ref.kind.value}: {ref.value}")
        tree_id, revision = fetch(self, ref)
        tree = self.tree(tree_id)
        with self._lock:
            if held:
                self._uses[tree.id] = 1
            gone = [self._fetched.pop(_bare(ref), "")]
            self._fetched[_bare(ref)] = tree.id
            while len(self._fetched) > _MOST_FOLDERS:
                gone.append(self._fetched.pop(next(iter(self._fetched))))
        for old in gone:
            self._remove_unused(old)
        return tree, revision

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
        with self._lock:
            self._uses[path.parent.name] = 1
            self._archives.add(path.parent.name)
        return path.parent.name

    def is_archive(self, tree_id: str) -> bool:
        """Whether a tree came as an archive, with what its own .dockerignore leaves out."""
        return tree_id in self._archives

    # -- folders of clients -------------------------------------------------------------------

    def known(self, digest: str) -> str:
        """Return the tree whose manifest has this SHA-256 (hex), held until `release`; "" for none."""
        with self._lock:
            for kept in self._kept.values():
                if kept.digest == digest:
                    return self._hold(kept)
        return ""

    def begin_sync(self, key: str, manifest: bytes) -> Lacking:
        """Compare a folder with what was synced under the same key before.

        A tree in the answer is held until `release`. Raises Invalid for a malformed manifest, Full.
        """
        digest = hashlib.sha256(manifest).hexdigest()
        if tree := self.known(digest):
            return Lacking(tree)
        entries = decode(manifest)
        with self._lock:
            kept = self._kept.get(key)
            base = kept.folder if kept else SyncedFolder()
            base_tree = self._hold(kept) if kept else ""
        sync = _Sync(key, digest, entries, base, base_tree, base.lacks(entries))
        sync_id = secrets.token_hex(12)
        with self._lock:
            self._syncs[sync_id] = sync
        if sync.numbers:
            return Lacking("", sync_id, sync.numbers)
        return Lacking(self.finish_sync(sync_id, io.BytesIO()))

    def finish_sync(self, sync_id: str, stream: Readable) -> str:
        """Take the contents that were wanted, and return the tree, held until `release`.

        Raises NotFound, Invalid, Full.
        """
        with self._lock:
            sync = self._syncs.pop(sync_id, None)
        if sync is None:
            raise NotFound("folder sync", sync_id)
        try:
            with self.adopting() as (path, digests):
                fill(path, sync.entries, sync.base, sync.numbers, stream, digests)
            tree = self.tree(path.parent.name)
            folder = SyncedFolder(
                {entry.path: entry for entry in sync.entries}, path, tree.contents
            )
            settled = all(entry.mark != codec.UNSETTLED for entry in sync.entries)
            digest = sync.digest if settled else ""
            with self._lock:
                before = self._kept.pop(sync.key, None)
                uses = before.uses if before is not None else 0
                kept = self._kept[sync.key] = _Kept(tree.id, digest, folder, 0, uses)
                self._hold(kept)
                crowd = list(self._kept.values())[:-_MOST_FOLDERS]
                self._kept = dict(list(self._kept.items())[-_MOST_FOLDERS:])
            for gone in (before, *crowd):
                if gone is not None:
                    self._remove_unused(gone.tree)
        finally:
            if sync.base_tree:
                self.release(sync.base_tree)
        return tree.id

    def folders(self) -> list[KeptFolder]:
        """Return the clients' folders that are kept for their next sync."""
        with self._lock:
            return [
                KeptFolder(
                    kept.tree, key, kept.last_used, self._uses.get(kept.tree, 0) > 0, kept.uses
                )
                for key, kept in self._kept.items()
            ]

    def forget(self, tree_id: str) -> None:
        """Keep a client's folder no longer than a build holds it."""
        with self._lock:
            self._kept = {k: kept for k, kept in self._kept.items() if kept.tree != tree_id}
        self._remove_unused(tree_id)

    def _hold(self, kept: _Kept) -> str:
        kept.last_used = time.time()
        kept.uses += 1
        self._uses[kept.tree] = self._uses.get(kept.tree, 0) + 1
        return kept.tree

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
        return read_file(self.tree(tree_id), path, limit)

    def filtered(self, tree: StoredTree, lines: tuple[str, ...]) -> StoredTree:
        """Return the tree without what the lines of a .dockerignore leave out; same files, no copies."""
        matcher = Matcher(lines)
        if not matcher:
            return tree
        ref = ContextRef(ContextKind.TREE, tree.id, lines)
        with self._lock:
            known = self._trees.get(self._views.get(ref, ""))
        if known is not None:
            return known
        with self.adopting(tree.epoch) as (path, digests), tree.open() as root:
            link_tree(root, path, ignoring(matcher), tree.contents, digests)
        with self._lock:
            self._views[ref] = path.parent.name
        return self.tree(path.parent.name)

    def filter(self, tree_id: str, lines: tuple[str, ...]) -> str:
        """As `filtered`, by ids."""
        return self.filtered(self.tree(tree_id), lines).id

    def release(self, tree_id: str) -> None:
        """Hold a tree no longer; missing is fine. The last holder's end removes what no sync will need."""
        with self._lock:
            left = self._uses.get(tree_id, 0) - 1
            if left > 0:
                self._uses[tree_id] = left
                return
            self._uses.pop(tree_id, None)
        self._remove_unused(tree_id)

    def _remove_unused(self, tree_id: str) -> None:
        """Remove a tree that nobody holds and no sync will need, and the views of it."""
        with self._lock:
            if self._uses.get(tree_id) or any(k.tree == tree_id for k in self._kept.values()):
                return
            self._archives.discard(tree_id)
            gone = [self._trees.pop(tree_id, None)]
            for ref, other in list(self._views.items()):
                if ref.kind is ContextKind.TREE and ref.value == tree_id:
                    del self._views[ref]
                    gone.append(self._trees.pop(other, None))
        for tree in gone:
            if tree is not None:
                self._graves.bury(tree.path)

    def close(self) -> None:
        """End the thread that removes; what is left is removed at the next start."""
        self._graves.close()


def _bare(ref: ContextRef) -> ContextRef:
    return ContextRef(ref.kind, ref.value, keep_git_dir=ref.keep_git_dir)


def _read_digest(parent: int, name: bytes) -> bytes:
    fd = open_file(parent, name)
    try:
        return content_digest(fd)
    finally:
        os.close(fd)


def read_file(tree: Tree, path: str, limit: int) -> bytes:
    """Return a file of at most `limit` bytes; links are followed inside the tree. Raises NotFound, Invalid."""
    with tree.open() as root:
        try:
            fd = open_file_in_root(root, os.fsencode(path))
        except OSError as error:
            if error.errno == errno.EINVAL:
                raise Invalid(f"{path}: not a file of at most {limit} bytes") from None
            raise NotFound("file in the build context", path) from None
        with open(fd, "rb") as file:
            if os.fstat(fd).st_size > limit:
                raise Invalid(f"{path}: not a file of at most {limit} bytes")
            return file.read()
