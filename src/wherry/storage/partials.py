"""Blobs that are here in part, or whole and not yet of any use: what a transfer goes on from.

`<root>/partial/<hex>` is a blob's beginning as it came in; nothing of it is trusted, whoever takes it
up hashes it again (a hash's state cannot be kept). It stays until what it belongs to is durable
elsewhere, or a week. One process owns a root; a digest is written by one thread at a time.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Final

from wherry.kernel.paths import remove_path
from wherry.model.ids import Digest
from wherry.storage.durable import full

_KEPT_SECONDS: Final = 7 * 24 * 3600
_FLAGS: Final = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW


class Partials:
    """The beginnings under `root`. Opening removes those that nobody came back for."""

    def __init__(self, root: Path) -> None:
        self._root = root / "partial"
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        oldest = time.time() - _KEPT_SECONDS
        for entry in self._root.iterdir():
            if entry.lstat().st_mtime < oldest:
                remove_path(entry)

    def path(self, digest: Digest) -> Path:
        """Return where the blob's beginning is, or would be."""
        return self._root / f"{digest.algorithm}-{digest.hex}"

    def open(self, digest: Digest) -> int:
        """Return a descriptor to read and write the beginning, made empty where there is none. Full."""
        with full("the content store", self.path(digest)):
            return os.open(self.path(digest), _FLAGS, 0o600)

    def discard(self, digest: Digest) -> None:
        """Remove the beginning; missing is fine. Who has it open reads on."""
        self.path(digest).unlink(missing_ok=True)

    def size(self) -> int:
        """Return the bytes of all beginnings."""
        return sum(entry.lstat().st_size for entry in self._root.iterdir())
