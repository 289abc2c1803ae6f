"""A cancellation that blocking threads look at, and by which a socket that one waits on is shut down."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager

from wherry.model.errors import Unavailable


class Stopped(Unavailable):
    """The work was called off: nothing is wrong with the registry."""

    def __init__(self) -> None:
        super().__init__("the transfer was called off")


class Stop:
    """Set once, from any thread; whoever waits inside `waking` is woken by its function."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._event = threading.Event()
        self._wakers: dict[object, Callable[[], object]] = {}

    def set(self) -> None:
        """Call the work off."""
        with self._lock:
            self._event.set()
            wakers = list(self._wakers.values())
        for wake in wakers:
            wake()

    def is_set(self) -> bool:
        """Whether the work was called off."""
        return self._event.is_set()

    def check(self) -> None:
        """Raise Stopped when the work was called off."""
        if self._event.is_set():
            raise Stopped

    def wait(self, seconds: float) -> None:
        """Sleep, `seconds` at most. Raises Stopped."""
        self._event.wait(seconds)
        self.check()

    @contextmanager
    def waking(self, wake: Callable[[], object]) -> Generator[None]:
        """Have `wake` called when the work is called off inside the block. Raises Stopped at its start."""
        key = object()
        with self._lock:
            if self._event.is_set():
                raise Stopped
            self._wakers[key] = wake
        try:
            yield
        finally:
            with self._lock:
                self._wakers.pop(key, None)
