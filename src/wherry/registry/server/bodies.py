"""Bodies that clients send: how long they may stall, and those that are read whole."""

from __future__ import annotations

import asyncio

from wherry.http.messages import Request, TooLarge
from wherry.registry.server.faults import Code, Fault

STALL_SECONDS = 60.0
"""How long a client may send nothing in the middle of a body, and have for one that is read whole."""


async def read_whole(request: Request, limit: int, code: Code) -> bytes:
    """Return the body of at most `limit` bytes. Raises Fault `code`: 413 for a larger one, 408 for a late one."""
    try:
        async with asyncio.timeout(STALL_SECONDS):
            return await request.read(limit)
    except TooLarge as error:
        raise Fault(code, str(error), status=413) from None
    except TimeoutError:
        raise Fault(code, "the request's body did not come", status=408) from None
