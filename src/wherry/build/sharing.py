"""Work that several builds want at once is done once; what it tells is told to all."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

R = TypeVar("R")
E = TypeVar("E")


class _Work(Generic[R, E]):
    def __init__(self) -> None:
        self.task: asyncio.Task[R] | None = None
        self.told: list[E] = []
        self.listeners: list[Callable[[E], None]] = []

    def tell(self, event: E) -> None:
        self.told.append(event)
        for listener in self.listeners:
            listener(event)


class Sharing(Generic[R, E]):
    """Work by key. It is cancelled when the last who waits for it has gone."""

    def __init__(self) -> None:
        self._works: dict[str, _Work[R, E]] = {}

    async def do(
        self,
        key: str,
        make: Callable[[Callable[[E], None]], Awaitable[R]],
        listener: Callable[[E], None],
    ) -> tuple[R, bool]:
        """Return the result of `make`, and whether another's work was joined.

        `make` is given what tells; `listener` hears all of it, from the beginning.
        """
        work = self._works.get(key)
        joined = work is not None
        if work is None:
            work = _Work[R, E]()
            self._works[key] = work
            work.task = asyncio.ensure_future(self._run(key, work, make))
        for event in work.told:
            listener(event)
        work.listeners.append(listener)
        assert work.task is not None
        try:
            return await asyncio.shield(work.task), joined
        finally:
            work.listeners.remove(listener)
            if not work.listeners and not work.task.done():
                # Nobody is left who wants it; its end is waited for, since it clears up.
                if self._works.get(key) is work:
                    del self._works[key]
                work.task.cancel()
                await asyncio.gather(work.task, return_exceptions=True)

    async def _run(
        self,
        key: str,
        work: _Work[R, E],
        make: Callable[[Callable[[E], None]], Awaitable[R]],
    ) -> R:
        try:
            return await make(work.tell)
        finally:
            if self._works.get(key) is work:
                del self._works[key]
