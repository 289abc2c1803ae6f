"""One client's connection: requests in, one after the other, responses out, and hijacking.

llhttp parses heads only. Bodies are cut out by `framing`, so that what follows a request stays raw
until its answer is given: it is the next request, or the first bytes of a hijacked stream.

    HEAD > BODY > ANSWER > HEAD …        ANSWER > LINGER (closing, the client still sends)
                         > detached by a hijack
"""

from __future__ import annotations

import asyncio
import logging
import os
import select
import socket
from collections.abc import AsyncIterator
from enum import Enum
from typing import Protocol, cast

from wherry.api.body import BodyReader
from wherry.api.framing import LAST_CHUNK, Chunked, Framing, Sized, encode_chunk
from wherry.api.head import BODILESS, CONTINUE, HeadReader, render_head, render_hijack_head
from wherry.api.messages import ClientGone, Handler, Hijacked, Request, Response
from wherry.api.status import error_response, render_error
from wherry.model.errors import Invalid, WherryError

log = logging.getLogger(__name__)

HEAD_LIMIT = 64 << 10
"""Bytes of a request's head."""
HEAD_SECONDS = 30.0
"""From the first byte of a head to its end."""
HELD_LIMIT = 64 << 10
"""Bytes kept while a request is answered, before reading stops."""
LINGER_SECONDS = 2.0
LINGER_LIMIT = 64 << 20
"""Bytes thrown away after an answer to a request that is still being sent."""
GONE_SECONDS = 5.0
"""How often a half-closed connection is asked whether its client is still there."""
_BIG = 64 << 10


class Phase(Enum):
    """Where a connection is."""

    HEAD = 1
    BODY = 2
    ANSWER = 3
    LINGER = 4
    DETACHED = 5


class Owner(Protocol):
    """Who keeps account of connections."""

    def opened(self, connection: Connection) -> None: ...
    def closed(self, connection: Connection) -> None: ...


class Connection(asyncio.Protocol):
    """See the module. Everything runs in the loop's thread."""

    def __init__(self, handler: Handler, owner: Owner, loop: asyncio.AbstractEventLoop) -> None:
        self._handler = handler
        self._owner = owner
        self._loop = loop
        self._transport: asyncio.Transport
        self._phase = Phase.HEAD
        self._head = HeadReader()
        self._head_size = 0
        self._seam = b""
        self._held = bytearray()
        self._framing: Framing | None = None
        self._body: BodyReader | None = None
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._drained: asyncio.Future[None] | None = None
        self._paused = False
        self._closing = False
        self._half_closed = False
        self._lingered = 0
        self.streaming = False
        """An answer without an end of its own (events, logs) is under way."""

    # asyncio calls these.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start."""
        self._transport = cast(asyncio.Transport, transport)
        self._owner.opened(self)

    def data_received(self, data: bytes) -> None:
        """Take what came in."""
        while data:
            if self._phase is Phase.HEAD:
                data = self._take_head(data)
            elif self._phase is Phase.BODY:
                data = self._take_body(data)
            elif self._phase is Phase.ANSWER:
                self._held += data
                self._pace()
                return
            else:
                self._lingered += len(data)
                if self._lingered > LINGER_LIMIT:
                    self._transport.abort()
                return

    def eof_received(self) -> bool:
        """Return whether to keep the connection: a half-closed one waits for its answer."""
        self._half_closed = True
        if self._phase is Phase.ANSWER and not self._client_gone():
            self._timer = self._loop.call_later(GONE_SECONDS, self._look_for_client)
            return True
        self._abandon()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel what was being done for the client."""
        self._stop_timer()
        if self._phase is not Phase.DETACHED:
            self._abandon()
        self._wake(ClientGone("the client is gone"))
        if self._task is None:
            self._owner.closed(self)
        else:
            # The owner keeps this object, and so the task, until the task has ended.
            self._task.add_done_callback(lambda _: self._owner.closed(self))

    def pause_writing(self) -> None:
        """The client reads too slowly."""
        if self._drained is None:
            self._drained = self._loop.create_future()

    def resume_writing(self) -> None:
        """It caught up."""
        self._wake(None)

    # What the server asks.

    @property
    def busy(self) -> bool:
        """Whether an answer is under way."""
        return self._task is not None

    def shut(self, *, now: bool) -> None:
        """Close after the answer under way, or at once."""
        self._closing = True
        if now or self._task is None:
            self._abandon()
            self._transport.close()

    # Taking requests.

    def _take_head(self, data: bytes) -> bytes:
        window = self._seam + data
        at = window.find(b"\r\n\r\n")
        take = data if at < 0 else data[: at + 4 - len(self._seam)]
        self._head_size += len(take)
        if self._head_size > HEAD_LIMIT:
            return self._refuse(431, f"the request's head is larger than {HEAD_LIMIT} bytes")
        if fault := self._head.feed(take):
            return self._refuse(400, fault)
        self._seam = window[-3:] if at < 0 else b""
        if not self._head.complete:
            if self._timer is None:
                self._timer = self._loop.call_later(HEAD_SECONDS, self._too_slow)
            return data[len(take) :]
        self._stop_timer()
        try:
            self._begin(self._head)
        except Invalid as error:
            return self._refuse(400, str(error))
        return data[len(take) :]

    def _begin(self, head: HeadReader) -> None:
        headers = head.headers
        coding, length = headers.get("transfer-encoding"), headers.get("content-length", "0")
        if coding is not None:
            if coding.strip().lower() != "chunked":
                raise Invalid(f"unknown transfer coding: {coding}")
            self._framing = Chunked()
        elif length.isdecimal() and len(length) < 19:
            self._framing = Sized(int(length))
        else:
            raise Invalid(f"malformed Content-Length: {length}")
        size = int(length) if coding is None else None
        body = self._body = BodyReader(self._loop, size, self._pace)
        expects = headers.get("expect", "").lower() == "100-continue" and head.modern
        if self._framing.complete:
            body.finish()
            self._phase = Phase.ANSWER
        else:
            self._phase = Phase.BODY
            if expects:
                body.on_first_read = self._continue
        request = Request(head.method, head.target, headers, body, self._hijack)
        self._task = self._loop.create_task(self._answer(request, head, body))

    def _take_body(self, data: bytes) -> bytes:
        assert self._framing is not None and self._body is not None
        try:
            pieces, rest = self._framing.feed(data)
        except Invalid as error:
            self._body.fail(error)
            self._closing = True
            self._phase = Phase.LINGER
            return b""
        self._body.put(pieces)
        if self._framing.complete:
            self._body.finish()
            self._phase = Phase.ANSWER
        self._pace()
        return rest

    def _continue(self) -> None:
        if self._phase is Phase.BODY:
            self._transport.write(CONTINUE)

    def _pace(self) -> None:
        """Stop or resume reading, by what waits here to be taken."""
        full = len(self._held) > HELD_LIMIT or (self._body is not None and self._body.full)
        if full != self._paused and not self._transport.is_closing():
            self._paused = full
            if full:
                self._transport.pause_reading()
            elif not self._half_closed:
                self._transport.resume_reading()

    def _refuse(self, status: int, message: str) -> bytes:
        self._stop_timer()
        response = render_error(message, status)
        assert isinstance(response.body, bytes)
        length = f"Content-Length: {len(response.body)}\r\nConnection: close\r\n"
        self._transport.write(
            render_head(status, response.content_type, length=length) + response.body
        )
        self._linger()
        return b""

    # Answering.

    async def _answer(self, request: Request, head: HeadReader, body: BodyReader) -> None:
        try:
            answer = await self._handler(request)
            if isinstance(answer, Hijacked):
                return
            reuse = await self._send(answer, head)
        except ClientGone:
            self._transport.abort()
            return
        except asyncio.CancelledError:
            if self._phase is not Phase.DETACHED:
                self._transport.abort()
            raise
        except Exception:
            log.exception("%s %s: the answer broke off", request.method, request.target)
            self._transport.abort()
            return
        finally:
            self._task = None
            self.streaming = False
        self._next(reuse=reuse and not self._closing, complete=body.complete)

    async def _send(self, response: Response, head: HeadReader) -> bool:
        """Send one response; return whether the connection can serve another request."""
        reuse = head.keep_alive and not response.close and not self._closing
        body = response.body
        if isinstance(body, bytes):
            reuse = reuse and (self._body is None or self._body.complete)
            length = "" if response.status in BODILESS else f"Content-Length: {len(body)}\r\n"
            if not reuse:
                length += "Connection: close\r\n"
            start = render_head(response.status, response.content_type, response.headers, length)
            self._transport.write(start if head.method == "HEAD" else start + body)
            if self._drained is not None:
                await self._drained
            return reuse
        try:
            return await self._send_pieces(response, body, head, reuse)
        finally:
            close = getattr(body, "aclose", None)
            if close is not None:
                await close()

    async def _send_pieces(
        self, response: Response, body: AsyncIterator[bytes], head: HeadReader, reuse: bool
    ) -> bool:
        first = b""
        if not response.early:
            try:
                first = await anext(body, b"")
            except WherryError as error:
                return await self._send(error_response(error), head)
        reuse = reuse and head.modern
        length = "Transfer-Encoding: chunked\r\n" if head.modern else ""
        if not reuse:
            length += "Connection: close\r\n"
        write = self._transport.write
        write(render_head(response.status, response.content_type, response.headers, length))
        if head.method == "HEAD":
            return reuse
        self.streaming = response.early
        if first:
            await self._write_piece(first, chunked=head.modern)
        async for piece in body:
            if piece:
                await self._write_piece(piece, chunked=head.modern)
        if head.modern:
            write(LAST_CHUNK)
        return reuse and self._body is not None and self._body.complete

    async def _write_piece(self, piece: bytes, *, chunked: bool) -> None:
        if not chunked:
            self._transport.write(piece)
        elif len(piece) < _BIG:
            self._transport.write(encode_chunk(piece))
        else:
            self._transport.write(b"%x\r\n" % len(piece))
            self._transport.write(piece)
            self._transport.write(b"\r\n")
        if self._drained is not None:
            await self._drained
        if self._transport.is_closing():
            raise ClientGone("the client is gone")

    def _next(self, *, reuse: bool, complete: bool) -> None:
        if self._transport.is_closing():
            return
        if not complete:
            self._linger()
            return
        if not reuse or (self._half_closed and not self._held):
            self._transport.close()
            return
        self._phase = Phase.HEAD
        self._head = HeadReader()
        self._head_size = 0
        self._framing = self._body = None
        if self._held:
            data = bytes(self._held)
            self._held.clear()
            self._pace()
            self.data_received(data)

    def _linger(self) -> None:
        """Close, but read on for a while: closing with unread data would destroy the answer on its way."""
        self._phase = Phase.LINGER
        self._closing = True
        self._paused = False
        if self._half_closed:
            self._transport.close()
            return
        self._transport.resume_reading()
        self._transport.write_eof()
        self._stop_timer()
        self._timer = self._loop.call_later(LINGER_SECONDS, self._transport.abort)

    # Giving the connection away.

    async def _hijack(self, content_type: str) -> tuple[int, bytes]:
        transport = self._transport
        transport.write(render_hijack_head(content_type, upgrade="upgrade" in self._head.headers))
        transport.set_write_buffer_limits(high=0)
        if self._drained is not None:
            await self._drained
        if transport.is_closing():
            raise ClientGone("the client is gone")
        stream = cast(socket.socket, transport.get_extra_info("socket"))
        fd = os.dup(stream.fileno())
        os.set_blocking(fd, True)
        initial = bytes(self._held)
        self._held.clear()
        self._phase = Phase.DETACHED
        self._stop_timer()
        # Closes asyncio's descriptor without shutdown(2): the connection lives on in `fd`.
        transport.abort()
        return fd, initial

    # Clients that go away.

    def _client_gone(self) -> bool:
        """Whether both directions are closed. TCP cannot tell that from a half-close: it counts as gone."""
        stream = cast(socket.socket, self._transport.get_extra_info("socket"))
        if stream.family != socket.AF_UNIX:
            return True
        poll = select.poll()
        poll.register(stream.fileno(), select.POLLHUP)
        return any(events & (select.POLLHUP | select.POLLERR) for _, events in poll.poll(0))

    def _look_for_client(self) -> None:
        if self._phase is not Phase.ANSWER or self._transport.is_closing():
            return
        if self._client_gone():
            self._transport.abort()
        else:
            self._timer = self._loop.call_later(GONE_SECONDS, self._look_for_client)

    def _abandon(self) -> None:
        if self._body is not None:
            self._body.fail(ClientGone("the client is gone"))
        if self._task is not None:
            self._task.cancel()

    def _too_slow(self) -> None:
        self._timer = None
        self._refuse(408, f"the request's head took longer than {HEAD_SECONDS:.0f} seconds")

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _wake(self, error: Exception | None) -> None:
        waiting, self._drained = self._drained, None
        if waiting is None or waiting.done():
            return
        if error is None:
            waiting.set_result(None)
        else:
            waiting.set_exception(error)
            # Nobody may be waiting; the task then ends by its cancellation.
            waiting.exception()
