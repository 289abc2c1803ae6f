"""A request's body between the connection, which puts, and the handler, which reads."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

FULL = 256 << 10
"""Bytes waiting to be read above which the connection stops reading."""


class BodyReader:
    """Satisfies `messages.Body` and `model.views.ByteSource`."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, expected: int | None, on_taken: Callable[[], None]
    ) -> None:
        self._loop = loop
        self._expected = expected
        self._on_taken = on_taken
        self._pieces: deque[bytes] = deque()
        self._size = 0
        self._waiter: asyncio.Future[None] | None = None
        self._error: Exception | None = None
        self.complete = False
        self.on_first_read: Callable[[], None] | None = None

    def expected(self) -> int | None:
        """Return Content-Length, None for a chunked body."""
        return self._expected

    @property
    def full(self) -> bool:
        """Whether enough waits to be read."""
        return self._size > FULL

    def put(self, pieces: list[bytes]) -> None:
        """Add what came in."""
        for piece in pieces:
            self._pieces.append(piece)
            self._size += len(piece)
        if pieces:
            self._wake()

    def finish(self) -> None:
        """The end was seen."""
        self.complete = True
        self._wake()

    def fail(self, error: Exception) -> None:
        """No more will come: the next read that finds nothing raises `error`."""
        if not self.complete and self._error is None:
            self._error = error
            self._wake()

    async def read(self) -> bytes:
        """Return the next piece, b"" at the end. Raises what `fail` was given."""
        if self.on_first_read is not None:
            self.on_first_read()
            self.on_first_read = None
        while not self._pieces:
            if self.complete:
                return b""
            if self._error is not None:
                raise self._error
            self._waiter = self._loop.create_future()
            await self._waiter
        piece = self._pieces.popleft()
        was_full = self.full
        self._size -= len(piece)
        if was_full and not self.full:
            self._on_taken()
        return piece

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)
