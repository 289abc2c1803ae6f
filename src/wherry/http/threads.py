"""Blocking work beside the event loop, and work that a lost client must not cut in half."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def in_thread(work: Callable[[], T]) -> T:
    """Return what `work` returns, done in a thread.

    Cancelled, this still waits for the thread: nobody may find a file half-way through a write.
    """
    return await _to_the_end(asyncio.get_running_loop().run_in_executor(None, work))


async def whole(work: Coroutine[Any, Any, T]) -> T:
    """Return what `work` returns. Cancelled, this lets `work` end first: a client that goes cannot halve it."""
    return await _to_the_end(asyncio.ensure_future(work))


async def _to_the_end(future: asyncio.Future[T]) -> T:
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        while not future.done():
            try:
                await asyncio.wait([future])
            except asyncio.CancelledError:
                continue
        if not future.cancelled():
            future.exception()
        raise
