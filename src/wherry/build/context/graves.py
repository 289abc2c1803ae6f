"""Trees that nobody needs any more, removed beside the builds: 2,000 files take ext4 up to seconds.

A tree is renamed at once, and a thread removes what was renamed. What a dead process left, trees and graves,
is removed likewise: nothing was synced to disk, so that after a crash of the machine it may be holes.
"""

from __future__ import annotations

import os
import queue
import secrets
import threading
from contextlib import suppress
from pathlib import Path
from typing import Final

from wherry.kernel.paths import remove_path

_PREFIX: Final = ".gone-"


class Graves:
    """The removed trees below `root`, and all that lies there now."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._waiting: queue.SimpleQueue[Path | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closed = False
        for leftover in list(root.iterdir()):
            self.bury(leftover)

    def bury(self, tree: Path) -> None:
        """Take `tree` away; missing is fine."""
        grave = self._root / f"{_PREFIX}{secrets.token_hex(12)}"
        try:
            os.rename(tree, grave)
        except FileNotFoundError:
            return
        with self._lock:
            if self._closed:
                return
            self._waiting.put(grave)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="graves", daemon=True)
                self._thread.start()

    def close(self) -> None:
        """End the thread when it has removed what it is at."""
        with self._lock:
            self._closed = True
            thread = self._thread
        if thread is not None:
            self._waiting.put(None)
            thread.join()

    def _run(self) -> None:
        while (grave := self._waiting.get()) is not None and not self._closed:
            # What cannot be removed now is tried again at the next start.
            with suppress(OSError):
                remove_path(grave)
