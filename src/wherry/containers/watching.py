"""Waiting for what is written into a directory: how logs are followed."""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

from wherry.kernel.inotify import IN_CREATE, IN_MODIFY

CHANGES = IN_MODIFY | IN_CREATE


class Watch(Protocol):
    """inotify(7): tells of changes in a directory."""

    def __enter__(self) -> Watch: ...
    def __exit__(self, *_: object) -> None: ...
    def fileno(self) -> int: ...
    def watch(self, path: str, mask: int) -> int: ...
    def read(self) -> object: ...


async def wait_changed(
    watch: Watch, ended: asyncio.Future[Any], seconds: float | None = None
) -> None:
    """Return when something that is watched has changed, `ended` is done or the time is over."""
    loop = asyncio.get_running_loop()
    told = asyncio.Event()
    loop.add_reader(watch.fileno(), told.set)
    waiting = asyncio.ensure_future(told.wait())
    try:
        await asyncio.wait((waiting, ended), timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        loop.remove_reader(watch.fileno())
        waiting.cancel()
        watch.read()
