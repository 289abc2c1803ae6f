"""What is known of a container only while the daemon runs: its lock, who waits for it, its next restart.

States themselves are frozen and live in the store; nothing here outlives the process.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine
from typing import Any, TypeVar

from wherry.model.containers import Container
from wherry.model.errors import WherryError
from wherry.model.views import Exited

T = TypeVar("T")


class Live:
    """One container's lock and waiters. Whatever changes the container holds `lock`."""

    __slots__ = (
        "lock",
        "removing",
        "removing_volumes",
        "kept",
        "stopping",
        "attached",
        "unforgotten",
        "restart",
        "delay",
        "_exits",
        "_removals",
    )

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.removing = False
        """A forced removal waits for the exit: whoever sees it removes the container."""
        self.removing_volumes = False
        """That removal takes the anonymous volumes too."""
        self.kept = False
        """`restart` is under way: neither the policy nor --rm acts on the exit."""
        self.stopping = False
        """A stop waits for the exit: whoever sees it tells that the container was stopped."""
        self.attached = False
        """A client attached while nothing ran: the supervisor holds its connection."""
        self.unforgotten = False
        """The keeper still has the last exit, since the row has not: the disk was full."""
        self.restart: asyncio.Task[None] | None = None
        self.delay = 0.0
        """Seconds that the last back-off lasted; 0 when the next one is the first."""
        self._exits: set[asyncio.Future[Exited]] = set()
        self._removals: set[asyncio.Future[Exited]] = set()

    def next_exit(self) -> asyncio.Future[Exited]:
        """Return what is done at the next exit."""
        return _wait_in(self._exits)

    def removal(self) -> asyncio.Future[Exited]:
        """Return what is done when the container is removed."""
        return _wait_in(self._removals)

    def tell_exit(self, exited: Exited) -> None:
        """A process has ended."""
        _tell(self._exits, exited)

    def tell_removed(self, exited: Exited) -> None:
        """The container is no more: everybody is told."""
        for waiting in (self._exits, self._removals):
            _tell(waiting, exited)

    def tell_not_removed(self, exited: Exited, error: WherryError) -> None:
        """The process has ended, and its container could not be removed because of `error`."""
        self.removing = self.removing_volumes = False
        self.tell_exit(exited)
        for future in tuple(self._removals):
            if not future.done():
                future.set_exception(error)

    def cancel_restart(self) -> None:
        """Call off the restart that is being waited for, if any."""
        if self.restart is not None:
            self.restart.cancel()
            self.restart = None
        self.delay = 0.0


def _wait_in(waiting: set[asyncio.Future[Exited]]) -> asyncio.Future[Exited]:
    future: asyncio.Future[Exited] = asyncio.get_running_loop().create_future()
    waiting.add(future)
    future.add_done_callback(waiting.discard)
    return future


def _tell(waiting: set[asyncio.Future[Exited]], exited: Exited) -> None:
    for future in tuple(waiting):
        if not future.done():
            future.set_result(exited)


class Lives:
    """The `Live` of each container, made when first asked for."""

    def __init__(self) -> None:
        self._lives: dict[str, Live] = {}

    def get(self, container_id: str) -> Live:
        """Return the container's `Live`."""
        live = self._lives.get(container_id)
        if live is None:
            live = self._lives[container_id] = Live()
        return live

    def all(self) -> tuple[Live, ...]:
        """Return all there are."""
        return tuple(self._lives.values())

    def drop(self, container_id: str) -> None:
        """Forget it: the container is gone."""
        self._lives.pop(container_id, None)


def exited(container: Container) -> Exited:
    """Return how `container` ended last."""
    return Exited(container.state.exit_code, container.state.error)


class Tasks:
    """Tasks that go on when whoever asked for them is gone; `close` waits for all of them."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Start `work` as a task that is owned here."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def finish(self, work: Coroutine[Any, Any, T]) -> Awaitable[T]:
        """Return an awaitable of `work`; `work` is carried through even if that is cancelled.

        A client that disappears in the middle must not leave half a stop behind.
        """
        return asyncio.shield(self.spawn(work))

    async def close(self, grace: float = 5.0) -> None:
        """Wait `grace` seconds for what is under way, then cancel it."""
        if not self._tasks:
            return
        _, late = await asyncio.wait(tuple(self._tasks), timeout=grace)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)
