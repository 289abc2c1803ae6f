"""Layer directories: made in a temporary place, permanent at once or not at all, removed at once.

`<root>/layers/<hex of the chain id>/` is a finished layer, `<root>/making` what is being filled,
`<root>/trash` what is being deleted. One process owns a root.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
import threading
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from wherry.kernel.failpoints import failpoint
from wherry.kernel.paths import (
    RESOLVE_BENEATH,
    RESOLVE_NO_SYMLINKS,
    RESOLVE_NO_XDEV,
    open_in_root,
    remove_path,
    sync_filesystem,
)
from wherry.model.errors import NotFound
from wherry.model.ids import Digest
from wherry.storage.durable import commit_tree, full
from wherry.storage.leftovers import remove_leftovers
from wherry.storage.placement import spread

_ALGORITHM: Final = "sha256"
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_STRICT: Final = RESOLVE_NO_SYMLINKS | RESOLVE_BENEATH | RESOLVE_NO_XDEV
_VANISHED: Final = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EXDEV)


class LayerTrees:
    """The layers under `root`. Opening it removes what a dead process left half-made."""

    def __init__(self, root: Path) -> None:
        self._layers = root / "layers"
        self._making = root / "making"
        self._trash = root / "trash"
        for directory in (self._layers, self._making, self._trash):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        spread(self._making)
        self._lock = threading.Lock()
        self._syncing = threading.Lock()
        self._made = self._settled = 0
        for directory in (self._making, self._trash):
            remove_leftovers(directory)

    def layer_path(self, chain: Digest) -> Path:
        """Return where the layer is, or would be."""
        return self._layers / chain.hex

    def has_layer(self, chain: Digest) -> bool:
        """Whether the layer is here, whole."""
        return self.layer_path(chain).is_dir()

    def layers(self) -> Iterator[Digest]:
        """Yield the chain ids of all layers, in no order."""
        with os.scandir(self._layers) as entries:
            for entry in entries:
                yield Digest(_ALGORITHM, entry.name)

    def parent_paths(self, chain: Sequence[Digest]) -> tuple[Path, ...]:
        """Return the layers' directories, nearest (top) first. Raises NotFound for a missing one."""
        paths: list[Path] = []
        for digest in reversed(chain):
            if not self.has_layer(digest):
                raise NotFound("layer", str(digest))
            paths.append(self.layer_path(digest))
        return tuple(paths)

    @contextmanager
    def new_layer(
        self, chain: Digest, parents: Sequence[Digest], *, later: bool = False
    ) -> Generator[Path]:
        """Give out an empty directory to fill; at a clean end it is the layer `chain`, for good.

        With `later` it outlives a crash of the machine only after `settle`, to be called before
        anything durable refers to it.

        After an error nothing of it is left. Where two threads make the same layer, the first to
        end wins and the other's is dropped. Raises NotFound for a missing parent, Full.
        """
        self.parent_paths(parents)
        with full(f"layer {chain}", self._making):
            target = self.fresh()
            try:
                yield target
                if not self.has_layer(chain):
                    self._commit(target, chain, later=later)
            finally:
                remove_path(target)

    def fresh(self) -> Path:
        """Return a new empty directory on the same file system, gone at the next opening."""
        target = self._making / secrets.token_hex(8)
        target.mkdir(mode=0o700)
        return target

    def settle(self) -> None:
        """Make all layers that were made with `later` durable, whoever made them."""
        with self._syncing:
            with self._lock:
                made = self._made
            if made == self._settled:
                return
            failpoint("trees.before-settle")
            fd = os.open(self._layers, _DIRECTORY)
            try:
                sync_filesystem(fd)
            finally:
                os.close(fd)
            self._settled = made

    def settle_soon(self) -> None:
        """Begin to write out in the background what `settle` is going to wait for."""
        if not self._syncing.locked():
            threading.Thread(target=self._settle_quietly, name="settle", daemon=True).start()

    def _settle_quietly(self) -> None:
        with suppress(OSError):  # `settle` meets it again
            self.settle()

    def _commit(self, target: Path, chain: Digest, *, later: bool) -> None:
        try:
            if not later:
                commit_tree(target, self.layer_path(chain))
                return
            os.rename(target, self.layer_path(chain))
            with self._lock:
                self._made += 1
        except OSError as problem:
            if problem.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise

    def discard(self, tree: Path) -> None:
        """Remove `tree`; whatever interrupts this, it is whole or not there under its name."""
        for grave in self.bury(tree):
            remove_path(grave)

    def bury(self, tree: Path) -> tuple[Path, ...]:
        """Take `tree` away at once, and return where it waits for being removed; () where it is missing.

        Journalling file systems keep the order of a rename and what follows it.
        """
        grave = self._trash / secrets.token_hex(8)
        try:
            os.rename(tree, grave)
        except FileNotFoundError:
            return ()
        return (grave,)


def read_usage(path: Path) -> int:
    """Return the bytes that the tree's files hold: their sizes, hard links once, folders as nothing.

    That is what `docker ps --size` and an image's size tell. What vanishes meanwhile does not count;
    neither do other mounts.
    """
    seen: set[tuple[int, int]] = set()
    top = os.open(path, _DIRECTORY)
    try:
        total = 0
        pending = [b""]
        while pending:
            below = pending.pop()
            try:
                fd = open_in_root(top, below, _DIRECTORY, resolve=_STRICT)
            except OSError as problem:
                if problem.errno in _VANISHED:
                    continue
                raise
            try:
                for name, status in _statuses(fd):
                    if stat.S_ISDIR(status.st_mode):
                        pending.append(below + b"/" + name if below else name)
                        continue
                    if status.st_nlink > 1:
                        if (status.st_dev, status.st_ino) in seen:
                            continue
                        seen.add((status.st_dev, status.st_ino))
                    total += status.st_size
            finally:
                os.close(fd)
    finally:
        os.close(top)
    return total


def _statuses(fd: int) -> Iterator[tuple[bytes, os.stat_result]]:
    for name in map(os.fsencode, os.listdir(fd)):
        try:
            yield name, os.stat(name, dir_fd=fd, follow_symlinks=False)
        except FileNotFoundError:
            continue
