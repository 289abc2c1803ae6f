"""The door: what `api.services.Containers` declares, each verb by the room that does it.

What changes a container is carried through even if whoever asked is gone (`Tasks.finish`).
"""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass

from wherry.containers.attach import Attacher
from wherry.containers.commit import Committer
from wherry.containers.copy import Copier
from wherry.containers.create import Creator
from wherry.containers.execute import Executor
from wherry.containers.freeze import Pauser
from wherry.containers.listing import Lister
from wherry.containers.live import Tasks
from wherry.containers.logs import Logs
from wherry.containers.prune import Pruner
from wherry.containers.remove import Remover
from wherry.containers.rename import Renamer
from wherry.containers.running import Runner
from wherry.containers.start import Starter
from wherry.containers.stats import Meter
from wherry.containers.stop import Stopper
from wherry.containers.store import ContainerStore
from wherry.containers.top import Top
from wherry.containers.update import Updater
from wherry.containers.waits import Waiter
from wherry.model.containers import ContainerSpec, RestartPolicy
from wherry.model.ids import Digest
from wherry.model.resources import Limits
from wherry.model.views import (
    ByteSource,
    CommitOptions,
    Created,
    Exited,
    Filters,
    Pruned,
)


@dataclass(frozen=True, slots=True)
class Rooms:
    """Who does what."""

    store: ContainerStore
    creator: Creator
    starter: Starter
    runner: Runner
    stopper: Stopper
    pauser: Pauser
    renamer: Renamer
    remover: Remover
    waiter: Waiter
    attacher: Attacher
    executor: Executor
    logs: Logs
    top: Top
    meter: Meter
    updater: Updater
    lister: Lister
    copier: Copier
    committer: Committer
    pruner: Pruner


class ContainerService:
    """Everything that can be asked of containers."""

    def __init__(self, rooms: Rooms, tasks: Tasks) -> None:
        self._rooms = rooms
        self._tasks = tasks
        self.attach = rooms.attacher.attach
        self.check_attach = rooms.attacher.check
        self.resize = rooms.attacher.resize
        self.top = rooms.top.top
        self.stats = rooms.meter.stats
        self.list = rooms.lister.list
        self.inspect = rooms.lister.inspect
        self.inspect_nowait = rooms.lister.inspect_nowait
        self.changes = rooms.lister.changes
        self.stat_path = rooms.copier.stat
        self.read_archive = rooms.copier.read
        self.export = rooms.copier.export
        self.exec_create = rooms.executor.create
        self.exec_check = rooms.executor.check
        self.exec_inspect = rooms.executor.inspect
        self.exec_resize = rooms.executor.resize
        self.logs = rooms.logs.logs

    async def create(self, spec: ContainerSpec, name: str) -> Created:
        """Keep a new container."""
        return await self._rooms.creator.create(spec, name)

    async def start(self, ref: str) -> bool:
        """Start a container; False when it ran already."""
        return await self._tasks.finish(self._rooms.runner.start(ref))

    async def stop(self, ref: str, timeout: int | None, signal: str) -> bool:
        """Stop a container; False when it did not run."""
        return await self._tasks.finish(self._rooms.stopper.stop(ref, timeout, signal))

    async def restart(self, ref: str, timeout: int | None, signal: str) -> None:
        """Stop a container, and start it."""
        await self._tasks.finish(self._rooms.stopper.restart(ref, timeout, signal))

    async def kill(self, ref: str, signal: str) -> None:
        """Send a signal to a container."""
        await self._tasks.finish(self._rooms.stopper.kill(ref, signal))

    async def pause(self, ref: str) -> None:
        """Freeze a container."""
        await self._tasks.finish(self._rooms.pauser.pause(ref))

    async def unpause(self, ref: str) -> None:
        """Let a frozen container go on."""
        await self._tasks.finish(self._rooms.pauser.unpause(ref))

    async def rename(self, ref: str, name: str) -> None:
        """Give a container another name."""
        await self._tasks.finish(self._rooms.renamer.rename(ref, name))

    async def remove(self, ref: str, *, force: bool, volumes: bool, link: bool) -> None:
        """Remove a container, and with `volumes` its anonymous ones."""
        await self._tasks.finish(
            self._rooms.remover.remove(ref, force=force, link=link, volumes=volumes)
        )

    async def wait(self, ref: str, condition: str) -> Awaitable[Exited]:
        """Return what completes when the condition holds."""
        return self._rooms.waiter.wait(ref, condition)

    async def update(
        self, ref: str, limits: Limits, restart: RestartPolicy | None
    ) -> tuple[str, ...]:
        """Change limits and restart policy; return warnings."""
        return await self._tasks.finish(self._rooms.updater.update(ref, limits, restart))

    async def plan(self, ref: str) -> str:
        """Return the start plan as text, a step a line."""
        return self._rooms.starter.describe(self._rooms.store.resolve(ref))

    async def write_archive(
        self,
        ref: str,
        path: str,
        body: ByteSource,
        *,
        no_overwrite_dir_non_dir: bool,
        copy_uid_gid: bool,
    ) -> None:
        """Extract an archive into a container."""
        await self._rooms.copier.write(
            ref,
            path,
            body,
            no_overwrite_dir_non_dir=no_overwrite_dir_non_dir,
            copy_uid_gid=copy_uid_gid,
        )

    async def commit(
        self, ref: str, options: CommitOptions, config: ContainerSpec | None
    ) -> Digest:
        """Make an image of a container's layer."""
        return await self._tasks.finish(self._rooms.committer.commit(ref, options, config))

    async def prune(self, filters: Filters) -> Pruned:
        """Remove all containers that do not run."""
        return await self._tasks.finish(self._rooms.pruner.prune(filters))

    async def exec_start(
        self,
        exec_id: str,
        *,
        detach: bool,
        tty: bool,
        console_size: tuple[int, int],
        fd: int,
        initial: bytes,
    ) -> None:
        """Run an exec; whether it has a terminal was said when it was created."""
        await self._tasks.finish(
            self._rooms.executor.start(
                exec_id, detach=detach, console_size=console_size, fd=fd, initial=initial
            )
        )
