"""Attaching a client's connection to a container's streams; the supervisor serves it."""

from __future__ import annotations

import os
from typing import Protocol

from wherry.containers.events import Recorder, container_event
from wherry.containers.live import Lives
from wherry.containers.store import ContainerStore
from wherry.containers.transitions import ALIVE, check_running
from wherry.model.containers import Container, Status
from wherry.model.errors import Conflict
from wherry.model.views import AttachOptions
from wherry.supervisor.detach import parse_keys
from wherry.supervisor.messages import DETACH_DEFAULT, Attachment


class Supervisor(Protocol):
    """What is used of the supervisor's client."""

    async def attach(self, key: str, attachment: Attachment, fd: int, initial: bytes) -> None: ...
    async def resize(self, key: str, rows: int, columns: int) -> None: ...


class Attacher:
    """Hands connections over, and sets the size of terminals."""

    def __init__(
        self, *, store: ContainerStore, lives: Lives, supervisor: Supervisor, events: Recorder
    ) -> None:
        self._store = store
        self._lives = lives
        self._supervisor = supervisor
        self._events = events

    async def check(self, ref: str, options: AttachOptions) -> Container:
        """Return the container, or raise what makes an attach impossible."""
        container = self._store.resolve(ref)
        parse_keys(options.detach_keys)
        match container.state.status:
            case Status.PAUSED:
                raise Conflict(
                    f"container {container.name} is paused, unpause the container before attach"
                )
            case Status.RESTARTING:
                raise Conflict(
                    f"container {container.name} is restarting, wait until the container is running"
                )
            case _:
                return container

    async def attach(self, ref: str, options: AttachOptions, fd: int, initial: bytes) -> None:
        """Give the connection `fd` (owned here) to the container, running or yet to be started."""
        try:
            container = await self.check(ref, options)
        except BaseException:
            os.close(fd)
            raise
        if container.state.status not in ALIVE:
            self._lives.get(container.id).attached = True
        spec = container.spec
        attachment = Attachment(
            stdin=options.stdin and spec.open_stdin,
            stdout=options.stdout,
            stderr=options.stderr,
            logs=options.logs,
            stream=options.stream,
            multiplexed=options.multiplexed,
            detach_keys=parse_keys(options.detach_keys) or DETACH_DEFAULT,
        )
        await self._supervisor.attach(container.id, attachment, fd, initial)
        self._events.record(container_event(container, "attach"))

    async def resize(self, ref: str, rows: int, columns: int) -> None:
        """Set the size of the container's terminal. Raises Conflict where it does not run."""
        container = self._store.resolve(ref)
        check_running(container)
        await self._supervisor.resize(container.id, rows, columns)
        self._events.record(
            container_event(container, "resize", height=str(rows), width=str(columns))
        )
