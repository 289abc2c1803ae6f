"""docker update: limits and restart policy of a container, running or not."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

from wherry.containers.checks import check_restart
from wherry.containers.events import Recorder, container_event
from wherry.containers.live import Lives
from wherry.containers.store import ContainerStore
from wherry.containers.transitions import ALIVE
from wherry.model.containers import Container, RestartPolicy, Status
from wherry.model.errors import Conflict
from wherry.model.resources import Limits, check_update, validate


class Groups(Protocol):
    """What is asked of the containers' cgroups."""

    def check(self, limits: Limits) -> None: ...
    def apply(self, container: Container, limits: Limits) -> None: ...


class Updater:
    """Changes what may be changed after create."""

    def __init__(
        self,
        *,
        store: ContainerStore,
        lives: Lives,
        groups: Groups,
        events: Recorder,
        cpus: int,
    ) -> None:
        self._store = store
        self._lives = lives
        self._groups = groups
        self._events = events
        self._cpus = cpus

    async def update(
        self, ref: str, limits: Limits, restart: RestartPolicy | None
    ) -> tuple[str, ...]:
        """Change what `limits` says and, where given, the restart policy; return warnings.

        Raises NotFound, Invalid, Unsupported, or Conflict for what contradicts the present state.
        """
        validate(limits, cpus=self._cpus, update=True)
        if restart is not None:
            check_restart(restart)
        self._groups.check(limits)
        container = self._store.resolve(ref)
        async with self._lives.get(container.id).lock:
            container = self._store.get(container.id)
            _check_against(container, limits, restart)
            merged = container.spec.limits.merged(limits)
            spec = replace(container.spec, limits=merged)
            if restart is not None and restart.name:
                spec = replace(spec, restart=restart)
            if container.state.status in ALIVE and limits != Limits():
                self._groups.apply(container, limits)
            self._store.save(replace(container, spec=spec))
            self._events.record(container_event(container, "update"))
        return _warnings(limits)


def _check_against(container: Container, limits: Limits, restart: RestartPolicy | None) -> None:
    prefix = f"Cannot update container {container.id}: "
    if container.state.status in (Status.REMOVING, Status.DEAD):
        raise Conflict(f'{prefix}container is marked for removal and cannot be "update"')
    if restart is not None and restart.name not in ("", "no") and container.spec.auto_remove:
        raise Conflict(
            f"{prefix}Restart policy cannot be updated because AutoRemove is enabled for the container"
        )
    try:
        check_update(container.spec.limits, limits)
    except Conflict as error:
        raise Conflict(f"{prefix}{error.message}") from None


def _warnings(limits: Limits) -> tuple[str, ...]:
    if not limits.oom_kill_disable or limits.memory:
        return ()
    return (
        "OOM killer is disabled for the container, but no memory limit is set, this can result in "
        "the system running out of resources.",
    )
