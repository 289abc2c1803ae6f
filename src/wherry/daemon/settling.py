"""Memory given back when no request has come for a while: what is resident then is what idling needs."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable

from wherry.http.messages import Answer, AtOnce, Handler, Request, Response
from wherry.kernel.memory import release_free_memory, release_program_pages

QUIET_SECONDS = 5.0


def settle() -> None:
    """Give back what the process can do without: some milliseconds."""
    gc.collect()
    release_free_memory()
    release_program_pages()


class Settling:
    """Calls `settle` once after each busy time."""

    def __init__(
        self, settle: Callable[[], None] = settle, quiet_seconds: float = QUIET_SECONDS
    ) -> None:
        self._settle = settle
        self._quiet = quiet_seconds
        self._loop = asyncio.get_running_loop()
        self._last = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def noting(self, handler: Handler) -> Handler:
        """Return `handler`, with its requests noted."""

        def note(request: Request) -> Awaitable[Answer]:
            self.note()
            return handler(request)

        return note

    def noting_at_once(self, at_once: AtOnce) -> AtOnce:
        """Return `at_once`, with its requests noted."""

        def note(request: Request) -> Response | None:
            self.note()
            return at_once(request)

        return note

    def note(self) -> None:
        """Something is asked for now."""
        self._last = self._loop.time()
        if self._timer is None:
            self._timer = self._loop.call_later(self._quiet, self._look)

    def _look(self) -> None:
        left = self._last + self._quiet - self._loop.time()
        if left > 0:
            self._timer = self._loop.call_later(left, self._look)
            return
        self._timer = None
        self._settle()

    def close(self) -> None:
        """Call nothing any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
