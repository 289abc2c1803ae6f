"""An event loop in a page: epoll, timers, and something to do when there is nothing to do.

For processes of one thread: the supervisor and wherry-names. Level-triggered. A callback gets the epoll
mask. One that raises is reported on standard error and its descriptor is no longer watched: one broken
stream does not end the others. An idle loop sleeps in epoll_wait without a timeout.
"""

from __future__ import annotations

import heapq
import itertools
import select
import sys
import time
import traceback
from collections.abc import Callable

READ = select.EPOLLIN
WRITE = select.EPOLLOUT
GONE = select.EPOLLHUP | select.EPOLLERR
_IDLE_AFTER = 0.005

Callback = Callable[[int], None]


class Timer:
    """One planned call; `cancel` undoes it."""

    __slots__ = ("callback",)

    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        """Do not call any more."""
        self.callback = None


class Reactor:
    """Watches descriptors and calls back. `on_idle` returns whether it wants to be called again."""

    def __init__(
        self, on_idle: Callable[[], bool] = lambda: False, name: str = "supervisor"
    ) -> None:
        self._epoll = select.epoll()
        self._watched: dict[int, Callback] = {}
        self._masks: dict[int, int] = {}
        self._left: set[int] = set()
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()
        self._on_idle = on_idle
        self._name = name
        self._idle_wanted = True
        self._idle_after = _IDLE_AFTER
        self._running = True

    def watch(self, fd: int, mask: int, callback: Callback) -> None:
        """Call `callback` when `fd` is ready for `mask`; replaces what was said of `fd` before."""
        if fd not in self._watched:
            self._epoll.register(fd, mask)
        elif self._masks[fd] != mask:
            self._epoll.modify(fd, mask)
        self._watched[fd] = callback
        self._masks[fd] = mask

    def unwatch(self, fd: int) -> None:
        """Stop watching `fd`; needed before it is closed. One that is not watched is fine."""
        if self._watched.pop(fd, None) is not None:
            del self._masks[fd]
            self._left.add(fd)
            self._epoll.unregister(fd)

    def later(self, seconds: float, callback: Callable[[], None]) -> Timer:
        """Call `callback` once after `seconds`."""
        timer = Timer(callback)
        heapq.heappush(self._timers, (time.monotonic() + seconds, next(self._order), timer))
        return timer

    def want_idle(self, *, soon: bool = False) -> None:
        """Call `on_idle` at the next quiet moment; with `soon` as soon as nothing else is ready."""
        self._idle_wanted = True
        if soon:
            self._idle_after = 0.0

    def stop(self) -> None:
        """Leave `run` when the present callbacks are done."""
        self._running = False

    def run(self) -> None:
        """Serve until stopped."""
        while self._running:
            ready = self._epoll.poll(self._timeout())
            self._left.clear()
            for fd, mask in ready:
                callback = self._watched.get(fd)
                # A number given up in this round may name another file by now: it is asked anew.
                if callback is not None and fd not in self._left:
                    self._call(fd, callback, mask)
            self._run_timers()
            if not ready and self._idle_wanted and self._running:
                self._idle()

    def _timeout(self) -> float:
        while self._timers and self._timers[0][2].callback is None:
            heapq.heappop(self._timers)
        wait = self._idle_after if self._idle_wanted else -1
        if self._timers:
            due = max(0.0, self._timers[0][0] - time.monotonic())
            wait = min(wait, due) if wait >= 0 else due
        return wait

    def _run_timers(self) -> None:
        now = time.monotonic()
        while self._timers and self._timers[0][0] <= now:
            callback = heapq.heappop(self._timers)[2].callback
            if callback is not None:
                try:
                    callback()
                except Exception:
                    self._report("a timer failed")

    def _idle(self) -> None:
        self._idle_after = _IDLE_AFTER
        try:
            self._idle_wanted = self._on_idle()
        except Exception:
            self._idle_wanted = False
            self._report("the idle work failed")

    def _call(self, fd: int, callback: Callback, mask: int) -> None:
        try:
            callback(mask)
        except Exception:
            self._report(f"the callback of descriptor {fd} failed")
            if self._watched.get(fd) is callback:
                self.unwatch(fd)

    def _report(self, what: str) -> None:
        print(f"{self._name}: {what}", file=sys.stderr)
        traceback.print_exc()
        sys.stderr.flush()
