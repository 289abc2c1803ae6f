"""Removing a container: the row first, then its directory into the trash."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from wherry.containers.events import Recorder, container_event
from wherry.containers.live import Live, Lives, exited
from wherry.containers.signalling import Signals
from wherry.containers.store import ContainerStore
from wherry.containers.transitions import ALIVE, check_remove
from wherry.model.containers import Container
from wherry.model.errors import Conflict, Invalid, NotFound, Unavailable
from wherry.model.views import Exited

_KILL = 9
_KILL_SECONDS = 30.0


class Supervisor(Protocol):
    """What is used of the supervisor's client."""

    async def forget(self, key: str) -> None: ...


class Bin(Protocol):
    """Where directories go that are no longer wanted."""

    def throw(self, path: Path) -> None: ...


class Execs(Protocol):
    """What is known of a container's execs."""

    def drop(self, container_id: str) -> None: ...


class Volumes(Protocol):
    """Who sees to volumes."""

    def let_go(self, container: Container) -> None: ...


class Remover:
    """Takes containers away."""

    def __init__(
        self,
        *,
        store: ContainerStore,
        lives: Lives,
        signals: Signals,
        supervisor: Supervisor,
        trash: Bin,
        execs: Execs,
        events: Recorder,
        folder: Callable[[str], Path],
        volumes: Volumes,
        let_go: Callable[[Container], None],
        relink: Callable[[Container], None],
    ) -> None:
        """`let_go` is told of every container that is gone, and returns at once.

        `relink` has a running container reach what its links now lead to.
        """
        self._store = store
        self._lives = lives
        self._signals = signals
        self._supervisor = supervisor
        self._trash = trash
        self._execs = execs
        self._events = events
        self._folder = folder
        self._volumes = volumes
        self._let_go = let_go
        self._relink = relink

    async def remove(
        self, ref: str, *, force: bool, link: bool = False, volumes: bool = False
    ) -> None:
        """Remove the container that `ref` names; `force` kills it first, `volumes` go with it if anonymous.

        Raises NotFound, Conflict where it runs or is being removed already, Unavailable where it
        cannot be killed.
        """
        container = self._store.resolve(ref)
        if link:
            self._remove_link(ref)
            return
        live = self._lives.get(container.id)
        if live.removing:
            raise Conflict(f"removal of container {ref} is already in progress")
        async with live.lock:
            found = self._store.find(container.id)
            if found is None:
                raise NotFound("container", ref)
            check_remove(found, force=force)
            live.cancel_restart()
            if found.state.status not in ALIVE:
                await self.delete(found, live, volumes=volumes)
                return
            live.removing = True
            live.removing_volumes = volumes
            gone = live.removal()
            await self._signals.send(found, _KILL, by_user=True)
        try:
            await asyncio.wait_for(gone, _KILL_SECONDS)
        except TimeoutError:
            live.removing = False
            raise Unavailable(
                f'cannot remove container "{ref}": could not kill: tried to kill container, but did '
                "not receive an exit event"
            ) from None

    def _remove_link(self, ref: str) -> None:
        """Take the link that `ref` (web/db) names away from its container."""
        name, slash, alias = ref.removeprefix("/").partition("/")
        if not slash:
            raise Invalid("Conflict, cannot remove the default link name of the container")
        parent = self._store.resolve(name)
        kept = tuple(link for link in parent.spec.links if link.partition(":")[2] != alias)
        parent = replace(parent, spec=replace(parent.spec, links=kept))
        self._store.save(parent)
        if parent.state.status in ALIVE:
            self._relink(parent)

    async def delete(
        self,
        container: Container,
        live: Live,
        outcome: Exited | None = None,
        *,
        volumes: bool = False,
    ) -> None:
        """Delete a container that does not run. The caller holds its lock.

        After the row is gone a crash leaves a directory that the next start of the daemon sweeps.
        """
        self._store.remove(container.id)
        self._lives.drop(container.id)
        self._execs.drop(container.id)
        self._trash.throw(self._folder(container.id))
        if container.points and (volumes or container.spec.auto_remove):
            self._volumes.let_go(container)
        self._events.record(container_event(container, "destroy"))
        live.tell_removed(outcome or exited(container))
        self._let_go(container)
        if live.attached:
            await self._supervisor.forget(container.id)
