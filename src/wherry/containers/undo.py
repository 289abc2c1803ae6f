"""The undo stack: what was made half-way is taken away again.

    async with Undo() as undo:
        claim(name)
        undo.push(release, name)
        ...
        undo.keep()

Without `keep` the stack runs in reverse order at the end, shielded from cancellation; each action
runs even where another fails, and the first failure is raised when nothing else is being raised.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import TracebackType


class Undo:
    """A stack of actions (plain or async functions) that undo what was done so far."""

    def __init__(self) -> None:
        self._actions: list[Callable[[], Awaitable[None] | None]] = []

    def push(self, action: Callable[..., Awaitable[None] | None], *args: object) -> None:
        """Add `action(*args)` on top."""
        self._actions.append(lambda: action(*args))

    def keep(self) -> None:
        """Forget everything: what was made stays."""
        self._actions.clear()

    async def __aenter__(self) -> Undo:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self._actions:
            return
        running = asyncio.ensure_future(self._run())
        cancelled: asyncio.CancelledError | None = None
        while not running.done():
            try:
                await asyncio.shield(running)
            except asyncio.CancelledError as interruption:
                if running.cancelled():
                    raise
                cancelled = interruption
            except Exception:
                break
        failure = running.exception()
        if cancelled is not None and error is None:
            raise cancelled
        if failure is not None and error is None:
            raise failure

    async def _run(self) -> None:
        first: Exception | None = None
        while self._actions:
            try:
                outcome = self._actions.pop()()
                if outcome is not None:
                    await outcome
            except Exception as failure:
                first = first or failure
        if first is not None:
            raise first
