"""Who waits for changes in folders: all of them share one inotify instance, of which a user may have 128.

Source: inotify(7), fs.inotify.max_user_instances.
"""

from __future__ import annotations

import asyncio
import contextlib
import os

from wherry.kernel.inotify import IN_Q_OVERFLOW, Inotify


class Watches:
    """Makes watchers. For the event loop; the instance is there while there are watchers."""

    def __init__(self) -> None:
        self._instance: Inotify | None = None
        self._watchers: dict[int, set[Watcher]] = {}
        self._open: set[Watcher] = set()

    def open(self) -> Watcher:
        """Return a watcher, which is to be closed. Raises OSError."""
        watcher = Watcher(self)
        if self._instance is None:
            self._instance = Inotify()
            asyncio.get_running_loop().add_reader(self._instance.fileno(), self._hear)
        self._open.add(watcher)
        return watcher

    def add(self, watcher: Watcher, path: str, mask: int) -> int:
        """Called by a watcher."""
        assert self._instance is not None
        number = self._instance.watch(path, mask)
        self._watchers.setdefault(number, set()).add(watcher)
        return number

    def drop(self, watcher: Watcher, numbers: set[int]) -> None:
        """Called by a watcher that is closed."""
        assert self._instance is not None
        for number in numbers:
            others = self._watchers.get(number, set())
            others.discard(watcher)
            if not others:
                self._watchers.pop(number, None)
                self._instance.unwatch(number)
        self._open.discard(watcher)
        if not self._open:
            asyncio.get_running_loop().remove_reader(self._instance.fileno())
            self._instance.close()
            self._instance = None

    def _hear(self) -> None:
        assert self._instance is not None
        told: set[Watcher] = set()
        for number, mask, _ in self._instance.read():
            told |= self._open if mask & IN_Q_OVERFLOW else self._watchers.get(number, set())
        for watcher in told:
            watcher.tell()


class Watcher:
    """One who waits: readable when something that it watches has changed."""

    def __init__(self, owner: Watches) -> None:
        self._owner = owner
        self._numbers: set[int] = set()
        self._fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def __enter__(self) -> Watcher:
        return self

    def __exit__(self, *_: object) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            self._owner.drop(self, self._numbers)

    def fileno(self) -> int:
        """Return the descriptor to wait on."""
        return self._fd

    def watch(self, path: str, mask: int) -> int:
        """Watch a file or the files of a folder; return the watch's number. Raises OSError."""
        number = self._owner.add(self, path, mask)
        self._numbers.add(number)
        return number

    def read(self) -> bool:
        """Return whether something has changed since the last call."""
        with contextlib.suppress(BlockingIOError):
            return bool(os.eventfd_read(self._fd))
        return False

    def tell(self) -> None:
        """Something has changed."""
        os.eventfd_write(self._fd, 1)
