"""Work that several builds want at once is done once; what it prints is told to all."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from wherry.build.telling import Latest, Written

R = TypeVar("R")
Tell = Callable[[Written], None]


class _Work(Generic[R]):
    def __init__(self) -> None:
        self.task: asyncio.Task[R] | None = None
        self.latest = Latest()
        self.listeners: list[Tell] = []

    def tell(self, piece: Written) -> None:
        self.latest.add(piece)
        for listener in self.listeners:
            listener(piece)


class SharedWork(Generic[R]):
    """Work by key. It is cancelled when the last who waits for it has gone."""

    def __init__(self) -> None:
        self._works: dict[str, _Work[R]] = {}

    async def do(
        self, key: str, make: Callable[[Tell], Awaitable[R]], listener: Tell
    ) -> tuple[R, bool]:
        """Return the result of `make`, and whether another's work was joined.

        `make` is given what tells; `listener` hears all of it, or of work that is joined the latest and
        what comes.
        """
        work = self._works.get(key)
        joined = work is not None
        if work is None:
            work = _Work[R]()
            self._works[key] = work
            work.task = asyncio.ensure_future(self._run(key, work, make))
        for piece in work.latest.pieces():
            listener(piece)
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

    async def _run(self, key: str, work: _Work[R], make: Callable[[Tell], Awaitable[R]]) -> R:
        try:
            return await make(work.tell)
        finally:
            if self._works.get(key) is work:
                del self._works[key]
