"""docker container prune."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Protocol

from wherry.containers.events import Recorder
from wherry.containers.filters import compile_prune_filters
from wherry.containers.listing import read_size
from wherry.containers.live import Lives
from wherry.containers.remove import Remover
from wherry.containers.runtime_spec import View
from wherry.containers.store import ContainerStore
from wherry.containers.transitions import ACTIVE
from wherry.model.containers import Container, Status
from wherry.model.errors import NotFound
from wherry.model.events import prune_event
from wherry.model.ids import Digest
from wherry.model.views import Filters, Pruned


class Snapshots(Protocol):
    """What is used of the snapshotter."""

    def view_of(self, key: str, chain: tuple[Digest, ...]) -> View: ...
    def usage(self, path: Path) -> int: ...


class Pruner:
    """Removes what does not run."""

    def __init__(
        self,
        *,
        store: ContainerStore,
        lives: Lives,
        remover: Remover,
        snapshots: Snapshots,
        events: Recorder,
    ) -> None:
        self._store = store
        self._lives = lives
        self._remover = remover
        self._snapshots = snapshots
        self._events = events

    async def prune(self, filters: Filters) -> Pruned:
        """Remove all containers that do not run and pass `filters`; return their ids and bytes. Raises Invalid."""
        wanted = compile_prune_filters(filters)
        deleted: list[str] = []
        space = 0
        for container in self._store:
            if not _idle(container) or not wanted(container):
                continue
            size = await asyncio.to_thread(self._size, container)
            live = self._lives.get(container.id)
            async with live.lock:
                now = self._store.find(container.id)
                if now is None or not _idle(now):
                    continue
                await self._remover.delete(now, live)
            deleted.append(container.id)
            space += size
        self._events.record(prune_event("container", space))
        return Pruned(tuple(deleted), space)

    def _size(self, container: Container) -> int:
        try:
            view = self._snapshots.view_of(container.id, container.chain)
            return read_size(self._snapshots, str(view.upper or ""))
        except NotFound:
            return 0


def _idle(container: Container) -> bool:
    return container.state.status not in ACTIVE | {Status.REMOVING}
