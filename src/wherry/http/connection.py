"""One client's connection: requests in, one after the other, responses out, and hijacking.

llhttp parses heads only. Bodies are cut out by `framing`, so that what follows a request stays raw
until its answer is given: it is the next request, or the first bytes of a hijacked stream.

    HEAD > BODY > ANSWER > HEAD …        ANSWER > LINGER (closing, the client still sends)
                         > detached by a hijack
"""

from __future__ import annotations

import asyncio
import logging
from enum import Enum
from typing import Protocol, cast

from wherry.http.body import BodyReader
from wherry.http.direct import DirectReader, Take
from wherry.http.framing import Chunked, Framing, Sized
from wherry.http.head import CONTINUE, HeadReader, render_head, render_hijack_head
from wherry.http.hijack import client_gone, socket_of, take_descriptor, wait_until_read
from wherry.http.messages import AtOnce, ClientGone, Handler, Hijacked, Request
from wherry.http.outgoing import Outgoing
from wherry.http.style import Style
from wherry.model.errors import Invalid

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

    def __init__(
        self,
        handler: Handler,
        owner: Owner,
        loop: asyncio.AbstractEventLoop,
        style: Style,
        at_once: AtOnce | None = None,
    ) -> None:
        self._handler = handler
        self._at_once = at_once
        self._owner = owner
        self._loop = loop
        self._style = style
        self._transport: asyncio.Transport
        self._out: Outgoing
        self._phase = Phase.HEAD
        self._head = HeadReader()
        self._head_size = 0
        self._reading_head = False
        self._seam = b""
        self._held = bytearray()
        self._framing: Framing | None = None
        self._body: BodyReader | None = None
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._paused = False
        self._direct: DirectReader | None = None
        self._plain = True
        self._closing = False
        self._half_closed = False
        self._lingered = 0

    # asyncio calls these.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start."""
        self._transport = cast(asyncio.Transport, transport)
        self._plain = transport.get_extra_info("sslcontext") is None
        self._out = Outgoing(self._transport, self._loop, self._style)
        self._wait_for_request()
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
        if self._phase is Phase.ANSWER and not client_gone(self._transport):
            self._timer = self._loop.call_later(GONE_SECONDS, self._look_for_client)
            return True
        self._abandon()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel what was being done for the client."""
        self._stop_timer()
        if self._phase is not Phase.DETACHED:
            self._abandon()
        self._out.resume()
        if self._task is None:
            self._owner.closed(self)
        else:
            # The owner keeps this object, and so the task, until the task has ended.
            self._task.add_done_callback(lambda _: self._owner.closed(self))

    def pause_writing(self) -> None:
        """The client reads too slowly."""
        self._out.pause()

    def resume_writing(self) -> None:
        """It caught up."""
        self._out.resume()

    # What the server asks.

    @property
    def busy(self) -> bool:
        """Whether an answer is under way."""
        return self._task is not None

    @property
    def streaming(self) -> bool:
        """Whether that answer has no end of its own."""
        return self._out.streaming

    def shut(self, *, now: bool) -> None:
        """Close after the answer under way, or at once."""
        self._closing = True
        if now or self._task is None:
            self._abandon()
            self._transport.close()

    def turn_away(self, message: str) -> None:
        """Answer 503 before anything was asked, and close."""
        self._refuse(503, message)

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
            if not self._reading_head:
                self._reading_head = True
                self._stop_timer()
                self._timer = self._loop.call_later(HEAD_SECONDS, self._too_slow)
            return data[len(take) :]
        self._reading_head = False
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
        body = self._body = BodyReader(self._loop, size, self._pace, self._style.body_limit)
        expects = headers.get("expect", "").lower() == "100-continue" and head.modern
        if self._framing.complete:
            body.finish()
            self._phase = Phase.ANSWER
            if self._at_once is not None and self._answered_at_once(self._at_once, head, body):
                return
        else:
            self._phase = Phase.BODY
            if expects:
                body.on_first_read = self._continue
            if isinstance(self._framing, Sized) and self._plain:
                body.direct = self._pour
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

    async def _pour(self, take: Take) -> int:
        """Read the body beside the transport: see `direct`."""
        assert isinstance(self._framing, Sized) and self._body is not None
        if self._direct is None:
            self._direct = DirectReader(socket_of(self._transport).fileno(), self._loop)
            self._transport.pause_reading()
        count = await self._direct.pour(take, self._framing.left)
        self._framing.skip(count)
        if self._framing.complete:
            self._body.finish()
            self._phase = Phase.ANSWER
            self._end_direct()
        return count

    def _end_direct(self) -> None:
        if self._direct is None:
            return
        self._direct.close()
        self._direct = None
        if not self._transport.is_closing() and not self._paused:
            self._transport.resume_reading()

    def _continue(self) -> None:
        if self._phase is Phase.BODY:
            self._transport.write(CONTINUE)

    def _pace(self) -> None:
        """Stop or resume reading, by what waits here to be taken."""
        if self._direct is not None:
            return
        full = len(self._held) > HELD_LIMIT or (self._body is not None and self._body.full)
        if full != self._paused and not self._transport.is_closing():
            self._paused = full
            if full:
                self._transport.pause_reading()
            elif not self._half_closed:
                self._transport.resume_reading()

    def _refuse(self, status: int, message: str) -> bytes:
        self._stop_timer()
        response = self._style.render_fault(message, status)
        assert isinstance(response.body, bytes)
        length = f"Content-Length: {len(response.body)}\r\nConnection: close\r\n"
        self._transport.write(
            render_head(self._style.fields, status, response.content_type, response.headers, length)
            + response.body
        )
        self._linger()
        return b""

    # Answering.

    def _answered_at_once(self, at_once: AtOnce, head: HeadReader, body: BodyReader) -> bool:
        """Answer where that needs no waiting; a task would take a turn of the loop."""
        if self._out.paused or self._half_closed:
            return False
        response = at_once(Request(head.method, head.target, head.headers, body, self._hijack))
        if response is None:
            return False
        reuse = self._out.send_bytes(response, head, reusable=not self._closing)
        self._next(reuse=reuse, complete=True)
        return True

    async def _answer(self, request: Request, head: HeadReader, body: BodyReader) -> None:
        try:
            answer = await self._handler(request)
            if isinstance(answer, Hijacked):
                return
            reuse = await self._out.send(answer, head, lambda: body.complete and not self._closing)
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
            self._end_direct()
        self._next(reuse=reuse and not self._closing, complete=body.complete)

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
        else:
            self._wait_for_request()

    def _wait_for_request(self) -> None:
        """Let an idle connection go after a while, where the style says so."""
        if self._style.idle_seconds is not None:
            self._timer = self._loop.call_later(self._style.idle_seconds, self._transport.close)

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

    async def _hijack(self, content_type: str, head: bytes = b"") -> tuple[int, bytes]:
        transport, headers = self._transport, self._head.headers
        transport.write(head or render_hijack_head(content_type, upgrade="upgrade" in headers))
        await self._out.flush()
        await wait_until_read(transport, headers.get("user-agent", ""))
        if transport.is_closing():
            raise ClientGone("the client is gone")
        self._phase = Phase.DETACHED
        self._stop_timer()
        initial = bytes(self._held)
        self._held.clear()
        return take_descriptor(transport), initial

    # Clients that go away.

    def _look_for_client(self) -> None:
        if self._phase is not Phase.ANSWER or self._transport.is_closing():
            return
        if client_gone(self._transport):
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
