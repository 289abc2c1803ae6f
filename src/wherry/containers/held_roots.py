"""Overlays that outlive their containers for a moment, so that nobody waits for what ends them.

With the last descriptor of an overlay the kernel writes everything that the whole file system below has
unwritten to the disk, waits for it, and for two grace periods of RCU (ovl_sync_fs, ovl_free_fs, Linux 6.18).
In the exit of a container that is 2 to 30 ms, beside other work, before anybody hears of it. So the daemon
holds the overlay of what it starts, and closes it in a thread when no container has ended for a moment, all that
have ended at once: what the first has written is no work for the others, and no start stands behind its
journal commit. What a process has synced itself is on the disk anyway.

    start > hold           exit (die event) > let go, PAUSE seconds after the last of them
    next start, cp         settled: the same upper is never mounted twice

Of a container that outlives its daemon nothing is held any more: its exit takes as long as with Docker.
"""

from __future__ import annotations

import asyncio
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from wherry.model.events import Event

PAUSE = 1.0
LONGEST = 10.0
"""Seconds from an end to the closing where others go on ending."""
MOST = 256
"""Descriptors of what has ended; with one more they are closed without another pause."""
_SCARCE = 1 << 30
"""Free bytes below which nothing is put off: files that were removed take room as long as they are held."""


class HeldRoots:
    """Descriptors of overlays below `folder`, by container. `settle` may be called from any thread."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running: dict[str, int] = {}
        self._ended: dict[str, list[int]] = {}
        self._closing = threading.Lock()
        self._first = self._last = 0.0
        """Moments of the loop's clock at which the first and the last of `_ended` came."""
        self._timer: asyncio.TimerHandle | None = None
        self._thread: ThreadPoolExecutor | None = None

    def hold(self, container_id: str, fd: int) -> None:
        """Keep `fd`, which is taken, until the container has ended; -1 is none."""
        if fd >= 0:
            self.let_go(container_id)
            self._running[container_id] = fd

    def heard(self, event: Event) -> None:
        """A container has ended."""
        if event.kind == "container" and event.action in ("die", "destroy"):
            self.let_go(event.actor)

    def let_go(self, container_id: str) -> None:
        """Close what is held of a container, soon; again is fine."""
        fd = self._running.pop(container_id, -1)
        if fd < 0:
            return
        loop = asyncio.get_running_loop()
        self._last = loop.time()
        self._ended.setdefault(container_id, []).append(fd)
        if self._timer is None:
            self._first = self._last
            self._timer = loop.call_later(PAUSE if self._has_room() else 0.0, self._begin)

    async def settled(self, container_id: str) -> None:
        """Return when nothing is held of a container that has ended."""
        if container_id in self._ended:
            await asyncio.to_thread(self.settle, container_id)

    def settle(self, container_id: str) -> None:
        """As `settled`, for threads."""
        with self._closing:
            self._close(container_id)

    def close(self) -> None:
        """Close everything that ended containers left; blocks."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._thread is not None:
            self._thread.shutdown()
            self._thread = None
        self._close_ended()
        while self._running:
            os.close(self._running.popitem()[1])

    def _has_room(self) -> bool:
        found = os.statvfs(self._folder)
        return found.f_bavail * found.f_frsize > _SCARCE

    def _begin(self) -> None:
        loop = asyncio.get_running_loop()
        due = min(self._last + PAUSE, self._first + LONGEST)
        if loop.time() < due and len(self._ended) <= MOST and self._has_room():
            self._timer = loop.call_at(due, self._begin)
            return
        self._timer = None
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, "held-roots")
        self._thread.submit(self._close_ended)

    def _close_ended(self) -> None:
        for container_id in tuple(self._ended):
            self.settle(container_id)

    def _close(self, container_id: str) -> None:
        for fd in self._ended.get(container_id, ()):
            # EIO of the sync: it is closed all the same, and its number may be another's next time.
            with suppress(OSError):
                os.close(fd)
        self._ended.pop(container_id, None)
