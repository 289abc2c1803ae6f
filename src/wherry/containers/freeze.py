"""Pause and unpause."""

from __future__ import annotations

import asyncio

from wherry.containers.events import Recorder, container_event
from wherry.containers.live import Lives
from wherry.containers.signalling import Freezer, Signals
from wherry.containers.store import ContainerStore
from wherry.containers.transitions import check_pause, check_unpause, move
from wherry.model.containers import Status


class Pauser:
    """Stops all processes of a container where they are, and lets them go on."""

    def __init__(
        self,
        *,
        store: ContainerStore,
        lives: Lives,
        signals: Signals,
        freezer: Freezer,
        events: Recorder,
    ) -> None:
        self._store = store
        self._lives = lives
        self._signals = signals
        self._freezer = freezer
        self._events = events

    async def pause(self, ref: str) -> None:
        """Freeze the container. Raises Conflict where it does not run or is frozen already."""
        container = self._store.resolve(ref)
        async with self._lives.get(container.id).lock:
            container = self._store.get(container.id)
            check_pause(container)
            await asyncio.to_thread(self._freezer.freeze, container)
            state = move(container.state, Status.PAUSED)
            container = self._store.observe(container.id, state)
            self._events.record(container_event(container, "pause"))

    async def unpause(self, ref: str) -> None:
        """Thaw the container. Raises Conflict where it is not frozen."""
        container = self._store.resolve(ref)
        async with self._lives.get(container.id).lock:
            container = self._store.get(container.id)
            check_unpause(container)
            await self._signals.thaw(container)
