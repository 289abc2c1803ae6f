"""Blobs that are here in part, or whole and not yet of any use: what a transfer goes on from.

`<root>/partial/<hex>` is a blob's beginning as it came in; nothing of it is trusted, whoever takes it
up hashes it again (a hash's state cannot be kept). It stays until what it belongs to is durable
elsewhere, until it is pruned, or a week. One process owns a root; a digest is written by one thread at
a time, which holds the file by a shared flock(2): whoever prunes passes it over.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from pathlib import Path
from typing import Final

from wherry.model.ids import Digest
from wherry.storage.durable import full

_KEPT_SECONDS: Final = 7 * 24 * 3600
_FLAGS: Final = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW


class Partials:
    """The beginnings under `root`. Opening removes those that nobody came back for."""

    def __init__(self, root: Path) -> None:
        self._root = root / "partial"
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.prune(time.time() - _KEPT_SECONDS)

    def path(self, digest: Digest) -> Path:
        """Return where the blob's beginning is, or would be."""
        return self._root / f"{digest.algorithm}-{digest.hex}"

    def open(self, digest: Digest) -> int:
        """Return a descriptor to read and write the beginning, made empty where there is none. Full."""
        while True:
            with full("the content store", self.path(digest)):
                fd = os.open(self.path(digest), _FLAGS, 0o600)
            fcntl.flock(fd, fcntl.LOCK_SH)
            if os.fstat(fd).st_nlink:
                return fd
            # It was pruned while this one waited.
            os.close(fd)

    def discard(self, digest: Digest) -> None:
        """Remove the beginning; missing is fine. Who has it open reads on."""
        self.path(digest).unlink(missing_ok=True)

    def size(self) -> int:
        """Return the bytes of all beginnings."""
        total = 0
        for entry in os.scandir(self._root):
            with contextlib.suppress(FileNotFoundError):
                total += entry.stat(follow_symlinks=False).st_size
        return total

    def prune(self, before: float | None = None) -> int:
        """Remove the beginnings that no transfer has; return their bytes.

        Those last written `before` (seconds since the epoch), or all.
        """
        freed = 0
        for entry in os.scandir(self._root):
            with contextlib.suppress(FileNotFoundError, BlockingIOError):
                freed += self._remove(entry.path, before)
        return freed

    def _remove(self, path: str, before: float | None) -> int:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            facts = os.fstat(fd)
            if before is not None and facts.st_mtime >= before:
                return 0
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.unlink(path)
            return facts.st_size
        finally:
            os.close(fd)
