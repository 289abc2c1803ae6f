"""Sending a signal to a container's first process, frozen or not."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from dataclasses import replace
from typing import Protocol

from wherry.containers.events import Recorder, container_event
from wherry.containers.store import ContainerStore
from wherry.containers.transitions import move
from wherry.model.containers import Container, Status
from wherry.model.errors import NotFound


class Supervisor(Protocol):
    """What is used of the supervisor's client."""

    async def signal(self, key: str, signo: int) -> None: ...


class Freezer(Protocol):
    """Freezes and thaws all processes of a running container; both block."""

    def freeze(self, container: Container) -> None: ...
    def thaw(self, container: Container) -> None: ...


class Signals:
    """Signals to containers. The caller holds the container's lock and knows that it is alive."""

    def __init__(
        self, store: ContainerStore, supervisor: Supervisor, freezer: Freezer, events: Recorder
    ) -> None:
        self._store = store
        self._supervisor = supervisor
        self._freezer = freezer
        self._events = events

    async def send(self, container: Container, number: int, *, by_user: bool) -> None:
        """Send `number`; a frozen container is thawed to get it. `by_user`: the end is wanted.

        A process that is gone already is fine: its exit is on the way.
        """
        if by_user and not container.state.stopped_by_user:
            state = replace(container.state, stopped_by_user=True)
            container = self._store.observe(container.id, state)
        try:
            await self._supervisor.signal(container.id, number)
        except NotFound:
            return
        self._events.record(container_event(container, "kill", signal=str(number)))
        if container.state.status is not Status.PAUSED:
            return
        if number == signal.SIGKILL:
            # Docker tells the end only. Until then it is paused: frozen once more it could not end.
            with contextlib.suppress(NotFound):  # it has ended already, and its cgroups are gone
                await asyncio.to_thread(self._freezer.thaw, container)
        else:
            await self.thaw(container)

    async def thaw(self, container: Container) -> None:
        """Let a frozen container go on."""
        await asyncio.to_thread(self._freezer.thaw, container)
        state = move(container.state, Status.RUNNING)
        container = self._store.observe(container.id, state)
        self._events.record(container_event(container, "unpause"))
