"""`/containers/{id}/attach/ws`: a container's streams for a browser.

Output goes out as binary frames, both streams in one as on a terminal; what comes in, as text or binary, is
standard input. The supervisor is given one end of a socket pair, so it serves this like any attach.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket

from wherry.api import websocket
from wherry.api.messages import HIJACKED, Answer, Request
from wherry.api.router import Route
from wherry.api.services import Containers
from wherry.api.websocket import Opcode
from wherry.model.errors import Invalid, WherryError
from wherry.model.views import AttachOptions

_PIECE = 64 << 10
_NORMAL = (1000).to_bytes(2)
_PROTOCOL_ERROR = (1002).to_bytes(2)
_FAILED = (1011).to_bytes(2)
_CLOSE_SECONDS = 2.0


class WebSocketRoutes:
    """Attaching by WebSocket."""

    def __init__(self, containers: Containers) -> None:
        self._containers = containers

    def routes(self) -> list[Route]:
        """Return the table."""
        return [Route("GET", "/containers/{id}/attach/ws", self.attach)]

    async def attach(self, request: Request) -> Answer:
        """GET /containers/{id}/attach/ws."""
        options = AttachOptions(
            stdin=request.flag("stdin"),
            stdout=request.flag("stdout"),
            stderr=request.flag("stderr"),
            logs=request.flag("logs"),
            stream=request.flag("stream"),
            multiplexed=False,
            detach_keys=request.text("detachKeys"),
        )
        container = await self._containers.check_attach(request.parameters["id"], options)
        key = websocket.check_handshake(request.method, dict(request.headers))
        fd, initial = await request.hijack("", websocket.render_handshake(key))
        ours, theirs = socket.socketpair()
        client = socket.socket(fileno=fd)
        inner_reader, inner = await asyncio.open_connection(sock=ours)
        outer_reader, outer = await asyncio.open_connection(sock=client)
        # Carried from the beginning: an old log is sent before the attach is done.
        carrying = asyncio.ensure_future(_bridge(inner_reader, inner, outer_reader, outer, initial))
        carrying.add_done_callback(lambda _: inner.close())
        try:
            await self._containers.attach(container.id, options, theirs.detach(), b"")
            await carrying
        except WherryError as error:
            carrying.cancel()
            outer.write(websocket.render_frame(Opcode.CLOSE, _FAILED + _reason(error)))
        finally:
            carrying.cancel()
            await asyncio.gather(carrying, return_exceptions=True)
            await _part(outer)
        return HIJACKED


async def _bridge(
    inner_reader: asyncio.StreamReader,
    inner: asyncio.StreamWriter,
    outer_reader: asyncio.StreamReader,
    outer: asyncio.StreamWriter,
    initial: bytes,
) -> None:
    """Carry both ways until the container's output ends or the client leaves."""
    tasks = (
        asyncio.ensure_future(_carry_out(inner_reader, outer)),
        asyncio.ensure_future(_carry_in(outer_reader, inner, outer, initial)),
    )
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _carry_out(reader: asyncio.StreamReader, outer: asyncio.StreamWriter) -> None:
    while data := await reader.read(_PIECE):
        outer.write(websocket.render_frame(Opcode.BINARY, data))
        await outer.drain()
    outer.write(websocket.render_frame(Opcode.CLOSE, _NORMAL))
    await outer.drain()


async def _carry_in(
    reader: asyncio.StreamReader,
    inner: asyncio.StreamWriter,
    outer: asyncio.StreamWriter,
    data: bytes,
) -> None:
    while True:
        try:
            frames, data = websocket.decode(data)
        except Invalid as error:
            outer.write(websocket.render_frame(Opcode.CLOSE, _PROTOCOL_ERROR + _reason(error)))
            return
        for frame in frames:
            match frame.opcode:
                case Opcode.TEXT | Opcode.BINARY | Opcode.CONTINUATION:
                    inner.write(frame.payload)
                case Opcode.PING:
                    outer.write(websocket.render_frame(Opcode.PONG, frame.payload))
                    # Who asks and does not read is not read from either.
                    await outer.drain()
                case Opcode.PONG:
                    pass
                case Opcode.CLOSE:
                    outer.write(websocket.render_frame(Opcode.CLOSE, frame.payload[:2]))
                    return
        await inner.drain()
        if not (more := await reader.read(_PIECE)):
            return
        data += more


def _reason(error: WherryError) -> bytes:
    # A control frame has 125 bytes, two of them the code.
    return str(error).encode()[:120].decode(errors="ignore").encode()


async def _part(outer: asyncio.StreamWriter) -> None:
    """Let what was written reach the client, and close."""
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(_CLOSE_SECONDS):
            await outer.drain()
            outer.close()
            await outer.wait_closed()
    outer.transport.abort()
