"""Directories that are no longer wanted: moved aside at once, deleted in a thread.

A rename is all that a removal waits for. What a crash leaves in the trash is swept at the next start.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path


class Trash:
    """A folder beside the directories that are thrown into it (the same file system)."""

    def __init__(self, folder: Path, remove: Callable[[Path], None]) -> None:
        """`remove(path)` deletes a tree without following links out of it."""
        folder.mkdir(mode=0o700, exist_ok=True)
        self._folder = folder
        self._remove = remove
        self._thread: ThreadPoolExecutor | None = None

    def throw(self, path: Path) -> None:
        """Take `path` out of sight and delete it soon; one that is not there is fine."""
        target = self._folder / f"{path.name}.{secrets.token_hex(4)}"
        try:
            os.rename(path, target)
        except FileNotFoundError:
            return
        self._later(target)

    def sweep(self) -> None:
        """Delete, in the thread, what an earlier process left."""
        for entry in self._folder.iterdir():
            self._later(entry)

    def _later(self, path: Path) -> None:
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, "trash")
        self._thread.submit(self._delete, path)

    def _delete(self, path: Path) -> None:
        # A tree that cannot be deleted now stays in the trash for the next start.
        with contextlib.suppress(OSError):
            self._remove(path)

    def close(self) -> None:
        """Wait for what is being deleted; the rest stays for the next start."""
        if self._thread is not None:
            self._thread.shutdown(wait=True, cancel_futures=True)
            self._thread = None
