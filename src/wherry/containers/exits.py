"""What follows when a process has ended: the state, the events, those who wait, the next start.

    container's init exits > keeper records it > supervisor tells > here: row, events, waiters
    > supervisor is told to forget > its cgroups and ids are free again

An exit may be told more than once (the supervisor or wherryd was started anew in between).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import Protocol

from wherry.containers.events import Recorder, container_event
from wherry.containers.live import Live, Lives, exited
from wherry.containers.remove import Remover
from wherry.containers.restart import Restarts, next_delay, wants_restart
from wherry.containers.store import ContainerStore
from wherry.containers.transitions import ALIVE, move
from wherry.model.containers import Container, Status
from wherry.model.errors import Full
from wherry.model.networks import Attachments
from wherry.model.views import Exited
from wherry.supervisor.messages import Exit

log = logging.getLogger(__name__)

_RETRY_SECONDS = 1.0


class Supervisor(Protocol):
    """What is used of the supervisor's client."""

    async def forget(self, key: str) -> None: ...


class Execs(Protocol):
    """The execs, some of whose keys an exit may bear."""

    def knows(self, exec_id: str) -> bool: ...
    def ended(self, end: Exit) -> None: ...


class Networking(Protocol):
    """Who gives back what a container had of networks."""

    async def release(self, container: Container) -> None: ...
    def ended(self, container: Container) -> None: ...


class Volumes(Protocol):
    """Who is told of volumes that are let go of."""

    def tell_unmounted(self, container: Container) -> None: ...


class Exits:
    """The receiver of every exit."""

    def __init__(
        self,
        *,
        store: ContainerStore,
        lives: Lives,
        execs: Execs,
        supervisor: Supervisor,
        remover: Remover,
        restarts: Restarts,
        networking: Networking,
        volumes: Volumes,
        events: Recorder,
        drain: Callable[[str], Awaitable[None]],
    ) -> None:
        """`drain(container_id)` returns when what a removal would lose is in safety."""
        self._store = store
        self._lives = lives
        self._execs = execs
        self._supervisor = supervisor
        self._remover = remover
        self._restarts = restarts
        self._networking = networking
        self._volumes = volumes
        self._events = events
        self._drain = drain

    async def __call__(self, end: Exit, *, started_at: int = 0) -> None:
        """Take note of `end`; `started_at` where the row may not know of the start yet."""
        if self._execs.knows(end.key):
            self._execs.ended(end)
            await self._supervisor.forget(end.key)
            return
        live = self._lives.get(end.key)
        async with live.lock:
            container = self._store.find(end.key)
            if container is None:
                self._lives.drop(end.key)
            elif is_news(container, end):
                await self._take(container, live, end, started_at)
            # Whoever waits does not wait for cgroups to be removed: a turn of the loop for the answers.
            await asyncio.sleep(0)
            if self._store.is_late(end.key):
                live.unforgotten = True
            else:
                await self._supervisor.forget(end.key)
        if live.unforgotten:
            await self._write_later(end.key, live)

    async def _write_later(self, container_id: str, live: Live) -> None:
        """The keeper has the exit until the row has it: try until the disk has room again."""
        while live.unforgotten:
            await asyncio.sleep(_RETRY_SECONDS)
            async with live.lock:
                with contextlib.suppress(Full):
                    self._store.catch_up()
                if live.unforgotten and not self._store.is_late(container_id):
                    live.unforgotten = False
                    await self._supervisor.forget(container_id)

    async def _take(self, container: Container, live: Live, end: Exit, started_at: int) -> None:
        state = container.state
        if state.status not in ALIVE:
            # wherryd died between the start and its row.
            state = move(state, Status.RUNNING, started_at=started_at, stopped_by_user=False)
        spec = container.spec
        ran = max(end.at - state.started_at, 0)
        again = (
            not live.kept
            and not live.removing
            and wants_restart(
                spec.restart,
                exit_code=end.code,
                stopped_by_user=state.stopped_by_user,
                restart_count=state.restart_count,
            )
        )
        status = Status.RESTARTING if again else Status.EXITED
        await self._networking.release(container)
        self._networking.ended(container)
        state = move(
            state,
            status,
            pid=0,
            exit_code=end.code,
            finished_at=end.at,
            oom_killed=end.oom_killed,
            attachments=Attachments(),
            error=end.reason,
            restart_count=state.restart_count + (1 if again else 0),
        )
        if live.removing or (spec.auto_remove and not live.kept):
            container = self._store.save_volatile(container.id, state)
            self._tell(container, live, ran)
            await self._drain(container.id)
            try:
                await self._remover.delete(
                    container, live, Exited(end.code), volumes=live.removing_volumes
                )
            except Full as error:
                # It stays, ended, and can be removed when there is room.
                log.warning("container %s could not be removed: %s", container.id, error)
                self._store.observe(container.id, state)
                live.tell_not_removed(exited(container), error)
            return
        container = self._store.observe(container.id, state)
        self._tell(container, live, ran)
        live.tell_exit(exited(container))
        if again:
            self._restarts.schedule(container.id, live, next_delay(live.delay, ran))
        else:
            live.delay = 0.0

    def _tell(self, container: Container, live: Live, ran: int) -> None:
        if container.points:
            self._volumes.tell_unmounted(container)
        if container.state.oom_killed:
            self._events.record(container_event(container, "oom"))
        if live.stopping:
            # Before "die", as a Docker 28.5 nearly always has it.
            live.stopping = False
            self._events.record(container_event(container, "stop"))
        self._events.record(
            container_event(
                container,
                "die",
                execDuration=str(ran // 1_000_000_000),
                exitCode=str(container.state.exit_code),
            )
        )


def is_news(container: Container, end: Exit) -> bool:
    """Return whether `end` has not been recorded yet.

    Only the last exit may be told again: those before it have been forgotten. Times are compared for
    equality only. A process may end before its start is noticed, and clocks are set back.
    """
    return end.at != container.state.finished_at
