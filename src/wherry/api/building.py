"""One build asked for by `wherry build`: its events, and the questions that it puts to the client.

    build > event, event, ask 7 (secret "npm") > … client: POST /wherry/build/answer/7 > build goes on

An ask has an id that cannot be guessed, and is answered once. Nothing that is answered is kept.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets as random
import shutil
import socket
import tempfile
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from wherry.api.contexts import BuildContexts
from wherry.model.build import BuildRequest, Progress
from wherry.model.errors import NotFound, Unavailable, WherryError

if TYPE_CHECKING:
    from wherry.build.files import Export, Exported
    from wherry.build.service import Builds

_PIECE = 1 << 16
_QUEUED = 8
"""Pieces of an output that wait for the client."""
_CONNECTIONS = 64
"""Of a step to an agent, at a time: each takes two of the engine's descriptors."""
_AHEAD = 64
"""Events that wait for the client here; further ones stay with the build, which bounds them."""


@dataclass(slots=True)
class Ask:
    """One question. `pieces` is what an output's bytes go through."""

    kind: str
    answer: asyncio.Future[object]
    pieces: asyncio.Queue[bytes] = field(default_factory=lambda: asyncio.Queue(_QUEUED))
    abandoned: bool = False

    def abandon(self) -> None:
        """Nobody reads any more: whoever writes is woken, and told at its next piece."""
        self.abandoned = True
        while not self.pieces.empty():
            self.pieces.get_nowait()
        if not self.answer.done():
            self.answer.cancel()


class Asks:
    """Every question that is open, of all builds."""

    def __init__(self) -> None:
        self._open: dict[str, Ask] = {}

    def add(self, kind: str) -> tuple[str, Ask]:
        """Open a question."""
        identifier = random.token_hex(16)
        ask = Ask(kind, asyncio.get_running_loop().create_future())
        self._open[identifier] = ask
        return identifier, ask

    def take(self, identifier: str, *kinds: str) -> Ask:
        """Return a question that is to be answered now; nobody else can. Raises NotFound."""
        ask = self._open.get(identifier)
        if ask is None or ask.kind not in kinds or ask.answer.done():
            raise NotFound("question of a build", identifier[:64])
        del self._open[identifier]
        return ask

    def drop(self, identifier: str) -> None:
        """Forget one."""
        ask = self._open.pop(identifier, None)
        if ask is not None and not ask.answer.done():
            ask.answer.cancel()


class ClientBuild:
    """Runs one build for a client that answers. Satisfies SecretSource and Exporter."""

    def __init__(self, builds: Builds, contexts: BuildContexts, asks: Asks) -> None:
        self._builds = builds
        self._contexts = contexts
        self._asks = asks
        self._queue: asyncio.Queue[Progress | dict[str, object] | WherryError | None] = (
            asyncio.Queue()
        )
        self._room = asyncio.Semaphore(_AHEAD)
        self._agents: list[AgentSocket] = []

    async def run(self, request: BuildRequest) -> AsyncGenerator[Progress | dict[str, object]]:
        """Yield events and questions until the build's end. Raises as Builds.build."""
        task = asyncio.create_task(self._feed(request))
        try:
            while (item := await self._queue.get()) is not None:
                if isinstance(item, WherryError):
                    raise item
                if not isinstance(item, dict):
                    self._room.release()
                yield item
            await task
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await task
            for agent in self._agents:
                await agent.close()

    async def _feed(self, request: BuildRequest) -> None:
        try:
            events = self._builds.build(request, secrets=self, exporter=self)
            async with contextlib.aclosing(events):
                async for event in events:
                    await self._room.acquire()
                    self._queue.put_nowait(event)
        except WherryError as error:
            self._queue.put_nowait(error)
        finally:
            self._queue.put_nowait(None)

    async def _ask(self, kind: str, value: object) -> object:
        identifier, ask = self._asks.add(kind)
        self._queue.put_nowait({"ask": identifier, kind: value})
        try:
            return await ask.answer
        finally:
            self._asks.drop(identifier)

    async def secret(self, name: str) -> bytes | None:
        """Ask the client."""
        value = await self._ask("secret", name)
        return value if isinstance(value, bytes) else None

    async def agent(self, name: str) -> str | None:
        """Return a socket whose connections the client carries to its agent."""
        agent = AgentSocket(lambda: self._ask("agent", name))
        await agent.open()
        self._agents.append(agent)
        return agent.path

    async def export(self, export: Export, report: Callable[[Progress], None]) -> Exported:
        """Push, or let the client fetch the output's bytes."""
        if export.output.kind in ("registry", "image"):
            return await self._contexts.push(export, report)
        identifier, ask = self._asks.add("output")
        index = export.request.outputs.index(export.output)
        loop = asyncio.get_running_loop()

        def write(data: bytes) -> None:
            if ask.abandoned:
                raise Unavailable("the client no longer takes the output")
            if not data:
                return
            asyncio.run_coroutine_threadsafe(ask.pieces.put(bytes(data)), loop).result()

        self._queue.put_nowait({"ask": identifier, "output": index})
        try:
            made = await self._contexts.write_output(export, write)
            await ask.pieces.put(b"")
            try:
                await ask.answer
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if not ask.abandoned or (task is not None and task.cancelling()):
                    raise
                raise Unavailable("the client no longer takes the output") from None
            return made
        finally:
            ask.abandon()
            self._asks.drop(identifier)


class AgentSocket:
    """A unix socket of the engine's whose every connection is carried to the client's ssh agent."""

    def __init__(self, connect: Callable[[], Awaitable[object]]) -> None:
        self._connect = connect
        self._folder = tempfile.mkdtemp(prefix="wherry-agent-")
        self.path = f"{self._folder}/agent.sock"
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Listen. Steps connect as users of their own: the folder above keeps others out."""
        self._server = await asyncio.start_unix_server(self._serve, self.path)
        os.chmod(self.path, 0o666)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._tasks) >= _CONNECTIONS:
            writer.close()
            return
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            descriptor = await self._connect()
            if isinstance(descriptor, int):
                await relay(reader, writer, descriptor)
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            writer.close()
            self._tasks.discard(task)

    async def close(self) -> None:
        """Stop listening; what is under way is cut off."""
        for task in list(self._tasks):
            task.cancel()
        if self._server is not None:
            self._server.close()
        shutil.rmtree(self._folder, ignore_errors=True)


async def relay(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, descriptor: int
) -> None:
    """Carry bytes both ways until either side ends. Owns `descriptor`."""
    far_reader, far_writer = await asyncio.open_unix_connection(
        sock=socket.socket(fileno=descriptor)
    )

    async def carry(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(_PIECE):
            sink.write(data)
            await sink.drain()

    ways = [
        asyncio.create_task(carry(reader, far_writer)),
        asyncio.create_task(carry(far_reader, writer)),
    ]
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        far_writer.close()
