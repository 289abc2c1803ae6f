"""What builds, made when the first request for it comes.

An engine that builds nothing has none of it in memory: the modules take 3 MB. What a dead process left
half-built is cleared at the start all the same.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from wherry.kernel.paths import remove_path
from wherry.model.build import BuildRequest, ContextRef, Progress, SecretSource
from wherry.model.views import ByteSource

if TYPE_CHECKING:
    from wherry.api.contexts import BuildContexts
    from wherry.build.files import Export, Exported, Exporter
    from wherry.build.service import Builds, CacheRecord, Pruned, Pruning

_SCRATCH = (
    "contexts",
    "scratch",
    *("fetched/git", "fetched/downloads"),
    *("fetched-contexts/git", "fetched-contexts/downloads"),
)
"""Below build/, what no build of another process is worth anything for."""

_GONE = ".gone-"


@dataclass(frozen=True, slots=True)
class Made:
    """What there is once it is asked for; `close` blocks."""

    builds: Builds
    contexts: BuildContexts
    close: Callable[[], None]


class Building:
    """Makes it, once. `root` is the data root: build/ in it is this one's."""

    def __init__(self, root: Path, make: Callable[[], Made]) -> None:
        self._folder = root / "build"
        self._make = make
        self._lock = asyncio.Lock()
        self.made: Made | None = None
        self._clearing: asyncio.Future[None] | None = None
        self._closing = False

    def open(self) -> None:
        """Clear what a dead process left: put aside now, removed in a thread."""
        for name in _SCRATCH:
            with suppress(FileNotFoundError):
                os.rename(self._folder / name, self._folder / f"{_GONE}{os.urandom(12).hex()}")
        if self._folder.is_dir():
            self._clearing = asyncio.ensure_future(asyncio.to_thread(self._clear))

    async def cleared(self) -> None:
        """Wait until what was left is removed."""
        if self._clearing is not None:
            await self._clearing

    async def get(self) -> Made:
        """Return it, made now where nobody has asked before."""
        async with self._lock:
            if self.made is None:
                self.made = await asyncio.to_thread(self._make)
            return self.made

    async def close(self) -> None:
        """Let go of it, where it was made."""
        self._closing = True
        await self.cleared()
        if self.made is not None:
            await asyncio.to_thread(self.made.close)

    def _clear(self) -> None:
        for entry in tuple(self._folder.iterdir()):
            if entry.name.startswith(_GONE) and not self._closing:
                # What cannot be removed now is tried again at the next start.
                with suppress(OSError):
                    remove_path(entry)


class LateBuilds:
    """Satisfies `build.service.Builds`."""

    def __init__(self, building: Building, empty: Callable[[], bool]) -> None:
        """`empty` tells whether the cache has nothing; what was not made holds nothing else."""
        self._building = building
        self._empty = empty

    async def made(self) -> Made:
        """Return what it stands for."""
        return await self._building.get()

    async def build(
        self, request: BuildRequest, *, secrets: SecretSource, exporter: Exporter | None = None
    ) -> AsyncGenerator[Progress]:
        """See Builds.build."""
        builds = (await self._building.get()).builds
        async with aclosing(builds.build(request, secrets=secrets, exporter=exporter)) as events:
            async for event in events:
                yield event

    def cancel(self, build_id: str) -> None:
        """See Builds.cancel."""
        if self._building.made is not None:
            self._building.made.builds.cancel(build_id)

    async def disk_usage(self) -> list[CacheRecord]:
        """See Builds.disk_usage."""
        if self._building.made is None and await asyncio.to_thread(self._empty):
            return []
        return await (await self._building.get()).builds.disk_usage()

    async def prune(self, wanted: Pruning) -> Pruned:
        """See Builds.prune."""
        return await (await self._building.get()).builds.prune(wanted)


class LateContexts:
    """Satisfies `api.contexts.BuildContexts`."""

    def __init__(self, building: Building) -> None:
        self._building = building

    async def _contexts(self) -> BuildContexts:
        return (await self._building.get()).contexts

    async def receive(self, body: ByteSource) -> str:
        """See BuildContexts.receive."""
        return await (await self._contexts()).receive(body)

    async def known(self, digest: str) -> str:
        """See BuildContexts.known."""
        return await (await self._contexts()).known(digest)

    async def begin_sync(self, key: str, manifest: bytes) -> tuple[str, str, tuple[int, ...]]:
        """See BuildContexts.begin_sync."""
        return await (await self._contexts()).begin_sync(key, manifest)

    async def finish_sync(self, sync: str, body: ByteSource) -> str:
        """See BuildContexts.finish_sync."""
        return await (await self._contexts()).finish_sync(sync, body)

    async def prepare(self, ref: ContextRef, platforms: Sequence[str] = ()) -> ContextRef:
        """See BuildContexts.prepare."""
        return await (await self._contexts()).prepare(ref, platforms)

    async def read(self, ref: ContextRef, path: str) -> bytes:
        """See BuildContexts.read."""
        return await (await self._contexts()).read(ref, path)

    async def release(self, ref: ContextRef) -> None:
        """See BuildContexts.release."""
        await (await self._contexts()).release(ref)

    async def write_output(self, export: Export, write: Callable[[bytes], object]) -> Exported:
        """See BuildContexts.write_output."""
        return await (await self._contexts()).write_output(export, write)

    async def push(self, export: Export, report: Callable[[Progress], None]) -> Exported:
        """See BuildContexts.push."""
        return await (await self._contexts()).push(export, report)
