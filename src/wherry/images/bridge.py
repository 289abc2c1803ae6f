"""Blocking work beside the event loop: a request's body into a thread, bytes and progress out of it.

Each operation has a thread of its own, since a body may stall for as long as a client likes and
must not hold one of the loop's few. Whatever ends the asynchronous side (cancellation, a client
that went away, an iteration given up) ends the thread at its next read, write or report, and is
waited for: when the generator is closed, nothing runs on.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from typing import Generic, TypeVar

from wherry.model.errors import Unavailable
from wherry.model.views import ByteSource, Progress

T = TypeVar("T")
Report = Callable[[Progress], None]

_MOST_WAITING = 2 << 20
_PIECE = 512 << 10


class Flow:
    """Bytes between the event loop and one thread, in either direction; about 2 MiB at a time."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._changed = threading.Condition()
        self._woken = asyncio.Event()
        self._pieces: deque[bytes] = deque()
        self._waiting = 0
        self._ended = False
        self._error: BaseException | None = None
        self._on_end: Callable[[], object] | None = None

    def on_end(self, act: Callable[[], object]) -> None:
        """Have `act` called when this side is given up or all is done, to wake whoever waits elsewhere."""
        self._on_end = act
        if self._error is not None:
            act()

    def end(self, error: BaseException | None = None) -> None:
        """Say that nothing more comes; with `error`, what the other side's next call raises."""
        with self._changed:
            self._ended = True
            self._error = self._error or error
            self._changed.notify_all()
        if self._error is not None and self._on_end is not None:
            self._on_end()
        self._wake()

    def check(self) -> None:
        """Raise what `end` was given, if anything."""
        if self._error is not None:
            raise self._error

    def read(self, n: int = _PIECE, /) -> bytes:
        """Return at most `n` bytes, b"" at the end. For the thread."""
        with self._changed:
            while not self._pieces and not self._ended and self._error is None:
                self._changed.wait()
            self.check()
            if not self._pieces:
                return b""
            piece = self._pieces.popleft()
            if len(piece) > n:
                self._pieces.appendleft(piece[n:])
                piece = piece[:n]
            before = self._waiting
            self._waiting -= len(piece)
            low = self._waiting <= _MOST_WAITING // 2 < before
        if low:
            self._wake()
        return piece

    def write(self, data: bytes, /) -> None:
        """Hand `data` over, waiting while much is waiting. For the thread."""
        with self._changed:
            while self._waiting > _MOST_WAITING and self._error is None:
                self._changed.wait()
            self.check()
            first = not self._pieces
            self._pieces.append(data)
            self._waiting += len(data)
        if first:
            self._wake()

    async def fill(self, body: ByteSource) -> None:
        """Hand all of `body` to the thread. For the event loop."""
        try:
            while data := await body.read():
                with self._changed:
                    self._pieces.append(data)
                    self._waiting += len(data)
                    self._changed.notify_all()
                while self._waiting > _MOST_WAITING and not self._ended:
                    self._woken.clear()
                    # Looked at again after clear(): the thread may have read in between.
                    if self._waiting > _MOST_WAITING // 2:
                        await self._woken.wait()
            self.end()
        except asyncio.CancelledError:
            self.end(_abandoned())
            raise
        except Exception as error:
            self.end(error)

    async def pieces(self) -> AsyncGenerator[bytes]:
        """Yield what the thread writes, until `end`. For the event loop."""
        while True:
            self._woken.clear()
            with self._changed:
                taken = list(self._pieces)
                self._pieces.clear()
                ended = self._ended
            for piece in taken:
                yield piece
                # Only now: a client that reads nothing holds this much, and not twice.
                with self._changed:
                    self._waiting -= len(piece)
                    self._changed.notify_all()
            if not taken:
                if ended:
                    self.check()
                    return
                await self._woken.wait()

    def _wake(self) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody waits
            self._loop.call_soon_threadsafe(self._woken.set)


async def report_from(
    work: Callable[[Flow, Report], object], body: ByteSource | None = None
) -> AsyncGenerator[Progress]:
    """Run `work` in a thread with the body to read; yield what it reports; raise what it raises.

    Work that neither reads nor reports for long asks the flow's `check` whether it is still wanted.
    """
    flow = Flow()
    lines: asyncio.Queue[Progress | None] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def report(progress: Progress) -> None:
        flow.check()
        loop.call_soon_threadsafe(lines.put_nowait, progress)

    def run() -> None:
        try:
            work(flow, report)
        finally:
            loop.call_soon_threadsafe(lines.put_nowait, None)

    filling = asyncio.create_task(flow.fill(body)) if body is not None else None
    thread = _Work(run)
    try:
        while (line := await lines.get()) is not None:
            yield line
        await asyncio.shield(thread.outcome)
    finally:
        flow.end(_abandoned())
        if filling is not None:
            filling.cancel()
            with suppress(asyncio.CancelledError):
                await filling
        await thread.ended()


async def bytes_from(work: Callable[[Callable[[bytes], None]], object]) -> AsyncGenerator[bytes]:
    """Run `work` in a thread; yield what it writes; raise what it raises."""
    flow = Flow()

    def run() -> None:
        try:
            work(flow.write)
        finally:
            flow.end()

    thread = _Work(run)
    try:
        async for piece in flow.pieces():
            yield piece
        await asyncio.shield(thread.outcome)
    finally:
        flow.end(_abandoned())
        await thread.ended()


async def in_thread(work: Callable[[], T], on_cancel: Callable[[], object] | None = None) -> T:
    """Run `work` in a thread of its own and return its result.

    Cancelled, call `on_cancel` (which is to end the work) and wait for its end first.
    """
    thread = _Work(work)
    try:
        return await asyncio.shield(thread.outcome)
    finally:
        if on_cancel is not None and not thread.outcome.done():
            on_cancel()
        await thread.ended()


class _Work(Generic[T]):
    """A thread that does one thing; `outcome` has what came of it."""

    def __init__(self, work: Callable[[], T]) -> None:
        self._loop = asyncio.get_running_loop()
        self.outcome: asyncio.Future[T] = self._loop.create_future()
        self._thread = threading.Thread(target=self._run, args=(work,), name="images", daemon=True)
        self._thread.start()

    async def ended(self) -> None:
        """Wait until the thread has ended, through any number of cancellations; its outcome is dropped."""
        cancelled = False
        while not self.outcome.done():
            try:
                await asyncio.wait([self.outcome])
            except asyncio.CancelledError:
                cancelled = True
        self._thread.join()  # it has nothing left to do but end
        with suppress(BaseException):
            self.outcome.exception()
        if cancelled:
            raise asyncio.CancelledError

    def _run(self, work: Callable[[], T]) -> None:
        try:
            result = work()
        except BaseException as error:  # handed to the awaiting side, whatever it is
            self._loop.call_soon_threadsafe(self._fail, error)
        else:
            self._loop.call_soon_threadsafe(self._succeed, result)

    def _fail(self, error: BaseException) -> None:
        if not self.outcome.cancelled():
            self.outcome.set_exception(error)

    def _succeed(self, result: T) -> None:
        if not self.outcome.cancelled():
            self.outcome.set_result(result)


def _abandoned() -> Unavailable:
    return Unavailable("the client went away before the end")
