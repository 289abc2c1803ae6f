"""Attaching a client's connection to a container's streams; the supervisor serves it.

But for the log of a container that does not run: no process is there to serve it.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Protocol

from wherry.containers.events import Recorder, container_event
from wherry.containers.live import Lives
from wherry.containers.store import ContainerStore
from wherry.containers.transitions import ALIVE, check_running
from wherry.model.containers import Container, Status
from wherry.model.errors import Conflict
from wherry.model.frames import Demultiplexer
from wherry.model.views import AttachOptions, LogOptions
from wherry.supervisor.detach import parse_keys
from wherry.supervisor.messages import DETACH_DEFAULT, Attachment


class Supervisor(Protocol):
    """What is used of the supervisor's client."""

    async def attach(self, key: str, attachment: Attachment, fd: int, initial: bytes) -> None: ...
    async def resize(self, key: str, rows: int, columns: int) -> None: ...


class Logs(Protocol):
    """What is used of the reader of logs."""

    async def logs(self, ref: str, options: LogOptions) -> tuple[bool, AsyncGenerator[bytes]]: ...


class Attacher:
    """Hands connections over, and sets the size of terminals."""

    def __init__(
        self,
        *,
        store: ContainerStore,
        lives: Lives,
        supervisor: Supervisor,
        events: Recorder,
        logs: Logs,
    ) -> None:
        self._store = store
        self._lives = lives
        self._supervisor = supervisor
        self._events = events
        self._logs = logs

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
        logs, spec = options.logs, container.spec
        stdin = options.stdin and spec.open_stdin
        # A stream of nothing ends at once, as Docker's does: nobody is kept waiting for what cannot come.
        stream = options.stream and (stdin or options.stdout or options.stderr)
        if container.state.status not in ALIVE:
            try:
                with socket.socket(fileno=os.dup(fd)) as client:
                    if logs:
                        await self._replay(container, options, client)
                    if not stream:
                        client.shutdown(socket.SHUT_RDWR)
            except BaseException as error:
                os.close(fd)
                if isinstance(error, OSError):  # the client is gone
                    return
                raise
            if not stream:
                os.close(fd)
                self._events.record(container_event(container, "attach"))
                return
            logs = False
            self._lives.get(container.id).attached = True
        attachment = Attachment(
            stdin=stdin,
            stdout=options.stdout,
            stderr=options.stderr,
            logs=logs,
            stream=stream,
            multiplexed=options.multiplexed,
            detach_keys=parse_keys(options.detach_keys) or DETACH_DEFAULT,
        )
        await self._supervisor.attach(container.id, attachment, fd, initial)
        self._events.record(container_event(container, "attach"))

    async def _replay(
        self, container: Container, options: AttachOptions, client: socket.socket
    ) -> None:
        """Send what the container printed when it ran. Raises OSError when the client is gone."""
        if not options.stdout and not options.stderr:
            return
        wanted = LogOptions(stdout=options.stdout, stderr=options.stderr)
        raw, pieces = await self._logs.logs(container.id, wanted)
        client.setblocking(False)
        loop = asyncio.get_running_loop()
        frames = None if raw or options.multiplexed else Demultiplexer()
        async with aclosing(pieces):
            async for piece in pieces:
                plain = b"".join(part for _, part in frames.feed(piece)) if frames else piece
                await loop.sock_sendall(client, plain)

    async def resize(self, ref: str, rows: int, columns: int) -> None:
        """Set the size of the container's terminal. Raises Conflict where it does not run."""
        container = self._store.resolve(ref)
        check_running(container)
        await self._supervisor.resize(container.id, rows, columns)
        self._events.record(
            container_event(container, "resize", height=str(rows), width=str(columns))
        )
