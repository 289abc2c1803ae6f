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
from wherry.model.resources import Limits, validate, with_defaults


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
        """Change what `limits` says and, where given, the restart policy; return warnings (none).

        Raises NotFound, Invalid, Unsupported, or Conflict for what contradicts the present state.
        """
        validate(limits, cpus=self._cpus)
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
        return ()


def _check_against(container: Container, limits: Limits, restart: RestartPolicy | None) -> None:
    prefix = f"Cannot update container {container.id}: "
    if container.state.status in (Status.REMOVING, Status.DEAD):
        raise Conflict(f'{prefix}container is marked for removal and cannot be "update"')
    if restart is not None and restart.name not in ("", "no") and container.spec.auto_remove:
        raise Conflict(
            f"{prefix}Restart policy cannot be updated because AutoRemove is enabled for the container"
        )
    now = with_defaults(container.spec.limits)
    swap = now.memory_swap
    memory = limits.memory
    if memory is not None and limits.memory_swap is None and swap is not None and 0 < swap < memory:
        raise Conflict(
            f"{prefix}Memory limit should be smaller than already set memoryswap limit, update the "
            "memoryswap at the same time"
        )
    if limits.nano_cpus and (now.cpu_quota or now.cpu_period):
        raise Conflict(
            f"{prefix}Conflicting options: Nano CPUs cannot be updated as CPU quota is set"
        )
    if (limits.cpu_quota or limits.cpu_period) and now.nano_cpus:
        raise Conflict(
            f"{prefix}Conflicting options: CPU quota cannot be updated as NanoCPUs is set"
        )
