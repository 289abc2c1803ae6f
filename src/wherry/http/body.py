"""A request's body between the connection, which puts, and the handler, which reads."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable


class BodyReader:
    """Satisfies `messages.Body` and `model.views.ByteSource`."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        expected: int | None,
        on_taken: Callable[[], None],
        limit: int,
    ) -> None:
        self._loop = loop
        self._expected = expected
        self._on_taken = on_taken
        self._limit = limit
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
        return self._size > self._limit

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
        if not await self._wait():
            return b""
        piece = self._pieces.popleft()
        self._taken(len(piece))
        return piece

    async def read_pieces(self) -> list[bytes]:
        """Return all pieces that are here, at least one, [] at the end. Raises as `read`."""
        if not await self._wait():
            return []
        pieces = list(self._pieces)
        self._pieces.clear()
        self._taken(self._size)
        return pieces

    async def _wait(self) -> bool:
        """Return whether a piece is there; False at the end."""
        if self.on_first_read is not None:
            self.on_first_read()
            self.on_first_read = None
        while not self._pieces:
            if self.complete:
                return False
            if self._error is not None:
                raise self._error
            self._waiter = self._loop.create_future()
            await self._waiter
        return True

    def _taken(self, size: int) -> None:
        was_full = self.full
        self._size -= size
        if was_full and not self.full:
            self._on_taken()

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)
