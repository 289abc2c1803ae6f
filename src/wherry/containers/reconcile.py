"""What the daemon finds when it starts, and how rows and processes come together again.

row says running, supervisor has it      taken back (frozen ones as paused)
row says running, supervisor has its end the exit is recorded as if just told
row says running, supervisor knows not   the keeper is gone too: exited, 137
supervisor has one without a row         killed and forgotten
a directory without a row                into the trash
policy asks for it                       started

What the third line says is looked at again whenever the supervisor was lost: the keeper may have been too.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from wherry.containers.exec_store import ExecStore
from wherry.containers.exits import Exits, is_news
from wherry.containers.live import Lives
from wherry.containers.restart import Restarts, wants_start_at_boot
from wherry.containers.store import ContainerStore
from wherry.containers.transitions import ALIVE, move
from wherry.model.containers import Container, Status
from wherry.model.errors import Conflict, NotFound
from wherry.model.networks import Attachments
from wherry.supervisor.messages import Exit, Survivor

LOST_CODE = 137
_KILL = 9


class Supervisor(Protocol):
    """What is used of the supervisor's client."""

    async def survivors(self) -> list[Survivor]: ...
    async def signal(self, key: str, signo: int) -> None: ...
    async def forget(self, key: str) -> None: ...


class Groups(Protocol):
    """What is asked of the cgroups."""

    def is_frozen(self, container: Container) -> bool: ...
    def clear_dead(self, alive: frozenset[str]) -> None: ...
    def clear(self, container_id: str) -> None: ...


class Networks(Protocol):
    """Who brings the host's networks in line with what runs."""

    async def open(self, alive: Collection[str]) -> None: ...


class Bin(Protocol):
    """Where directories go that are no longer wanted."""

    def throw(self, path: Path) -> None: ...
    def sweep(self) -> None: ...


class Reconciler:
    """`run` comes once, before the first request is served."""

    def __init__(
        self,
        *,
        store: ContainerStore,
        execs: ExecStore,
        lives: Lives,
        exits: Exits,
        restarts: Restarts,
        supervisor: Supervisor,
        groups: Groups,
        trash: Bin,
        networks: Networks,
        root: Path,
        recorded_exit: Callable[[str], tuple[int, int] | None],
    ) -> None:
        """`root` holds the containers' directories; `recorded_exit(key)` is what the keeper wrote: (code, at)."""
        self._store = store
        self._execs = execs
        self._lives = lives
        self._exits = exits
        self._restarts = restarts
        self._supervisor = supervisor
        self._groups = groups
        self._trash = trash
        self._networks = networks
        self._root = root
        self._recorded_exit = recorded_exit

    async def run(self) -> list[str]:
        """Bring rows and processes together; return the ids of those that a policy wants started."""
        survivors = await self._supervisor.survivors()
        self._clear_directories()
        alive = {s.key for s in survivors if not s.container_id and s.exit is None}
        await self._networks.open(alive)
        running = {s.key: s.pid for s in survivors if s.container_id and s.exit is None}
        ended = {s.key for s in survivors if s.container_id and s.exit is not None}
        self._execs.drop_lost(running | dict.fromkeys(ended, 0))
        inits = {s.key: s for s in survivors if not s.container_id}
        self._groups.clear_dead(frozenset(inits))
        for survivor in survivors:
            await self._take_back(survivor)
        for container in self._store:
            if container.state.status in ALIVE:
                if container.id not in inits:
                    await self._lost(container)
            elif container.state.attachments.endpoints:
                # wherryd died between taking addresses and the start.
                state = replace(container.state, attachments=Attachments())
                self._store.save_state(container.id, state)
        wanted: list[str] = []
        for container in self._store:
            live = self._lives.get(container.id)
            if container.state.status is Status.RESTARTING:
                if live.restart is None:
                    self._restarts.schedule(container.id, live, 0.0)
            elif wants_start_at_boot(container):
                wanted.append(container.id)
        return wanted

    async def look_again(self) -> frozenset[str]:
        """Record the end of containers that the supervisor, which was lost meanwhile, does not have.

        Returns the keys of all that it has.
        """
        here = frozenset(survivor.key for survivor in await self._supervisor.survivors())
        for container in tuple(self._store):
            if container.state.status in ALIVE and container.id not in here:
                await self._look_at(container.id)
        return here

    async def _look_at(self, container_id: str) -> None:
        # A start holds the lock until the row says what runs: no container is between the two here.
        async with self._lives.get(container_id).lock:
            container = self._store.find(container_id)
            if container is None or container.state.status not in ALIVE:
                return
            if any(s.key == container_id for s in await self._supervisor.survivors()):
                return
            await asyncio.to_thread(self._groups.clear, container_id)
        for entry in self._execs.of(container_id):
            if entry.started and entry.code is None:
                await self._exits(Exit(entry.id, LOST_CODE, time.time_ns(), False))
        await self._lost(container)

    async def _take_back(self, survivor: Survivor) -> None:
        if survivor.exit is not None:
            await self._exits(survivor.exit, started_at=survivor.started_at)
            return
        if survivor.container_id:
            if not self._execs.knows(survivor.key):
                await self._end(survivor.key)
            return
        container = self._store.find(survivor.key)
        if container is None:
            await self._end(survivor.key)
            return
        state = container.state
        if state.status not in ALIVE:
            state = move(state, Status.RUNNING, exit_code=0, error="", stopped_by_user=False)
        state = replace(state, pid=survivor.pid, started_at=survivor.started_at)
        container = self._store.save_state(container.id, state)
        frozen = self._is_frozen(container)
        if frozen is not (state.status is Status.PAUSED):
            status = Status.PAUSED if frozen else Status.RUNNING
            self._store.save_state(container.id, move(state, status))

    def _is_frozen(self, container: Container) -> bool:
        try:
            return self._groups.is_frozen(container)
        except (NotFound, Conflict):
            return False

    async def _end(self, key: str) -> None:
        """Kill what nobody knows; its exit is told, found unknown, and forgotten."""
        try:
            await self._supervisor.signal(key, _KILL)
        except NotFound:
            await self._supervisor.forget(key)

    async def _lost(self, container: Container) -> None:
        code, at = self._recorded_exit(container.id) or (LOST_CODE, time.time_ns())
        end = Exit(container.id, code, at, False)
        await self._exits(end if is_news(container, end) else replace(end, at=time.time_ns()))

    def _clear_directories(self) -> None:
        self._trash.sweep()
        for entry in _directories(self._root):
            if self._store.find(entry.name) is None:
                self._trash.throw(entry)


def _directories(root: Path) -> Iterable[Path]:
    return tuple(root.iterdir()) if root.is_dir() else ()
