"""Responses on their way out: framing, and waiting for clients that read slowly."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from typing import BinaryIO

from wherry.http.framing import LAST_CHUNK, encode_chunk
from wherry.http.head import BODILESS, HeadReader, render_head
from wherry.http.messages import ClientGone, FileSlice, LastPiece, Response
from wherry.http.style import Style
from wherry.model.errors import WherryError

_SLICE = 1 << 20
"""Bytes of a file that a client must take within the style's time."""
_BIG = 64 << 10
"""From here on a copy of the piece costs more than two more writes."""


class Outgoing:
    """The writing side of one connection. `Connection` passes asyncio's flow control on to it."""

    def __init__(
        self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, style: Style
    ) -> None:
        self._transport = transport
        self._loop = loop
        self._style = style
        self._drained: asyncio.Future[None] | None = None
        self.streaming = False
        """An answer without an end of its own (events, followed logs) is under way."""

    @property
    def paused(self) -> bool:
        """Whether what is written now would wait for the client."""
        return self._drained is not None

    def pause(self) -> None:
        """The client reads too slowly."""
        if self._drained is None:
            self._drained = self._loop.create_future()

    def resume(self) -> None:
        """It caught up."""
        waiting, self._drained = self._drained, None
        if waiting is not None and not waiting.done():
            waiting.set_result(None)

    async def drain(self) -> None:
        """Return once there is room again. Raises ClientGone."""
        if self._drained is not None:
            async with self._patience():
                await self._drained
        if self._transport.is_closing():
            raise ClientGone("the client is gone")

    async def flush(self) -> None:
        """Return once everything was handed to the kernel. Raises ClientGone."""
        self._transport.set_write_buffer_limits(high=0)
        await self.drain()

    async def send(
        self, response: Response, head: HeadReader, reusable: Callable[[], bool]
    ) -> bool:
        """Send one response; return whether the connection can serve another request.

        `reusable` tells whether it could as far as the request's own body goes.
        """
        body = response.body
        if isinstance(body, bytes):
            reuse = self.send_bytes(response, head, reusable=reusable())
            await self.drain()
            return reuse
        if isinstance(body, FileSlice):
            with closing(body):
                return await self._send_file(response, body, head, reusable)
        try:
            return await self._send_pieces(response, body, head, reusable)
        finally:
            self.streaming = False
            close = getattr(body, "aclose", None)
            if close is not None:
                await close()

    def send_bytes(self, response: Response, head: HeadReader, *, reusable: bool) -> bool:
        """Write a response whose body is bytes; return whether the connection can serve another request."""
        body = response.body
        assert isinstance(body, bytes)
        reuse = reusable and head.keep_alive and not response.close
        length = "" if response.status in BODILESS else f"Content-Length: {len(body)}\r\n"
        if not reuse:
            length += "Connection: close\r\n"
        start = self._head(response, length)
        self._transport.write(start if head.method == "HEAD" else start + body)
        return reuse

    def _head(self, response: Response, length: str) -> bytes:
        return render_head(
            self._style.fields, response.status, response.content_type, response.headers, length
        )

    @asynccontextmanager
    async def _patience(self) -> AsyncGenerator[None]:
        """Give the client the style's time for what is inside. Raises ClientGone."""
        try:
            async with asyncio.timeout(self._style.stall_seconds):
                yield
        except TimeoutError:
            raise ClientGone("the client does not read its answer") from None

    async def _send_file(
        self, response: Response, body: FileSlice, head: HeadReader, reusable: Callable[[], bool]
    ) -> bool:
        reuse = head.keep_alive and not response.close and reusable()
        length = f"Content-Length: {body.count}\r\n" + ("" if reuse else "Connection: close\r\n")
        self._transport.write(self._head(response, length))
        if head.method == "HEAD":
            return reuse
        with open(body.fd, "rb", closefd=False) as file:
            at, left = body.offset, body.count
            while left:
                sent = await self._send_slice(file, at, min(left, _SLICE))
                if not sent:
                    # Shorter than promised: the client must see a broken answer, not a short one.
                    raise ClientGone("the file ended early")
                at += sent
                left -= sent
        return reuse

    async def _send_slice(self, file: BinaryIO, offset: int, count: int) -> int:
        try:
            async with self._patience():
                return await self._loop.sendfile(self._transport, file, offset, count)
        except (OSError, RuntimeError) as problem:
            # asyncio says RuntimeError for a transport that is closing already.
            if self._transport.is_closing() or isinstance(problem, ConnectionError):
                raise ClientGone("the client is gone") from None
            raise

    async def _send_pieces(
        self,
        response: Response,
        body: AsyncIterator[bytes],
        head: HeadReader,
        reusable: Callable[[], bool],
    ) -> bool:
        first = b""
        if not response.early:
            try:
                first = await anext(body, b"")
            except WherryError as error:
                return await self.send(self._style.render_error(error), head, reusable)
        reuse = head.keep_alive and not response.close and head.modern
        framing = "Transfer-Encoding: chunked\r\n" if head.modern else ""
        if not reuse:
            framing += "Connection: close\r\n"
        self._transport.write(self._head(response, framing))
        if head.method == "HEAD":
            return reuse and reusable()
        self.streaming = response.early
        if first:
            await self._write_piece(first, chunked=head.modern)
        async for piece in body:
            if isinstance(piece, LastPiece) and head.modern:
                self._transport.write(encode_chunk(piece) + LAST_CHUNK)
                return reuse and reusable()
            if piece:
                await self._write_piece(piece, chunked=head.modern)
        if head.modern:
            self._transport.write(LAST_CHUNK)
        return reuse and reusable()

    async def _write_piece(self, piece: bytes, *, chunked: bool) -> None:
        if not chunked:
            self._transport.write(piece)
        elif len(piece) < _BIG:
            self._transport.write(encode_chunk(piece))
        else:
            self._transport.write(b"%x\r\n" % len(piece))
            self._transport.write(piece)
            self._transport.write(b"\r\n")
        await self.drain()
