"""Contexts that were sent and that a build is to be asked for with: held for a while, in case none is.

context sent > promise > POST /wherry/build claims it > released at the build's end
                       > ten minutes without a build: released
"""

from __future__ import annotations

import asyncio

from wherry.api.contexts import BuildContexts
from wherry.model.build import ContextKind, ContextRef

_SECONDS = 600.0


class Promises:
    """By tree: the timers that let go of it."""

    def __init__(self, contexts: BuildContexts, seconds: float = _SECONDS) -> None:
        self._contexts = contexts
        self._seconds = seconds
        self._timers: dict[str, list[asyncio.TimerHandle]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def add(self, tree: str) -> None:
        """Expect a build of a tree that is held; "" is none."""
        if not tree:
            return
        loop = asyncio.get_running_loop()
        timer = loop.call_later(self._seconds, self._expire, tree)
        self._timers.setdefault(tree, []).append(timer)

    def claim(self, ref: ContextRef) -> None:
        """A build has a context: releasing it is that build's affair now."""
        if ref.kind not in (ContextKind.TREE, ContextKind.OCI_LAYOUT):
            return
        timer = self._pop(ref.value.partition("@")[0].partition(":")[0])
        if timer is not None:
            timer.cancel()

    def _pop(self, tree: str) -> asyncio.TimerHandle | None:
        timers = self._timers.get(tree)
        if not timers:
            return None
        timer = timers.pop(0)
        if not timers:
            del self._timers[tree]
        return timer

    def _expire(self, tree: str) -> None:
        self._pop(tree)
        task = asyncio.ensure_future(self._contexts.release(ContextRef(ContextKind.TREE, tree)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
