"""A request's body between the connection, which puts, and the handler, which reads."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

from wherry.http.direct import Take
from wherry.http.threads import in_thread

_WORTH_A_THREAD = 64 << 10
"""Below this a hand-over to a thread costs more than what is done there."""


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
        self.direct: Callable[[Take], Awaitable[int]] | None = None
        """What `pour` asks once nothing waits here: the way around the event loop."""

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

    async def pour(self, take: Take) -> int:
        """Hand the next bytes to `take`, in a thread; return how many, 0 at the end. Raises as `read`."""
        if self.direct is not None and not self._pieces and not self.complete:
            self._begin()
            if self._error is not None:
                raise self._error
            return await self.direct(take)
        pieces = await self.read_pieces()
        size = sum(map(len, pieces))
        if size < _WORTH_A_THREAD:
            _take_all(take, pieces)
        else:
            await in_thread(lambda: _take_all(take, pieces))
        return size

    def _begin(self) -> None:
        if self.on_first_read is not None:
            self.on_first_read()
            self.on_first_read = None

    async def _wait(self) -> bool:
        """Return whether a piece is there; False at the end."""
        self._begin()
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


def _take_all(take: Take, pieces: list[bytes]) -> None:
    for piece in pieces:
        take(memoryview(piece))
