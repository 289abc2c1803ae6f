"""The store of build contexts as the API's front ends use it: off the event loop, fed by requests' bodies."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from wherry.build.arguments import platform_text
from wherry.build.context.layouts import Load, load_layout, split_layout
from wherry.build.context.store import ContextStore, read_file
from wherry.build.files import Export, Exported
from wherry.images.bridge import Flow, in_thread
from wherry.images.config import parse_platform
from wherry.model.build import ContextKind, ContextRef, Progress
from wherry.model.errors import NotFound
from wherry.model.ignore import parse
from wherry.model.views import ByteSource

if TYPE_CHECKING:
    from wherry.api.contexts import PushOutput, WriteOutput

T = TypeVar("T")
_LARGEST = 16 << 20
"""Bytes of a Dockerfile or a .dockerignore."""


class ClientContexts:
    """Satisfies `api.contexts.BuildContexts`."""

    def __init__(
        self,
        store: ContextStore,
        write: WriteOutput,
        push: PushOutput,
        load: Load,
    ) -> None:
        self._store = store
        self._load = load
        self._write = write
        self._push = push

    async def receive(self, body: ByteSource) -> str:
        """Keep a context that comes as tar."""
        return await _fed(body, self._store.receive)

    async def known(self, digest: str) -> str:
        """Return the tree of a manifest's digest, "" for none."""
        return self._store.known(digest)

    async def begin_sync(self, key: str, manifest: bytes) -> tuple[str, str, tuple[int, ...]]:
        """Compare a folder's manifest with what is here."""
        wanted = await in_thread(lambda: self._store.begin_sync(key, manifest))
        return wanted.tree, wanted.sync, wanted.numbers

    async def finish_sync(self, sync: str, body: ByteSource) -> str:
        """Take what was wanted."""
        return await _fed(body, lambda stream: self._store.finish_sync(sync, stream))

    async def prepare(self, ref: ContextRef, platforms: Sequence[str] = ()) -> ContextRef:
        """Read the .dockerignore of an archive or of what the engine fetches."""
        if ref.kind is ContextKind.OCI_LAYOUT:
            return await in_thread(lambda: self._layout(ref.value, platforms))
        if ref.kind in (ContextKind.GIT, ContextKind.URL):
            ref = await in_thread(lambda: self._store.fetch(ref))
        if ref.ignore or ref.kind is not ContextKind.TREE:
            return ref
        try:
            lines = parse(await self.read(ref, ".dockerignore"))
        except NotFound:
            return ref
        # The Dockerfile itself is read from the unfiltered tree: see `read`.
        return replace(ref, ignore=lines)

    def _layout(self, value: str, platforms: Sequence[str]) -> ContextRef:
        tree_id, tag, digest = split_layout(value)
        try:
            tree = self._store.tree(tree_id)
            found = [
                (
                    platform_text(parse_platform(text)),
                    load_layout(tree, tag, digest, self._load, text),
                )
                for text in platforms or ("",)
            ]
        finally:
            self._store.release(tree_id)
        return ContextRef(ContextKind.IMAGE, found[0][1], by_platform=tuple(found))

    async def read(self, ref: ContextRef, path: str) -> bytes:
        """Return a file of the context, whether .dockerignore leaves it out or not."""
        bare = replace(ref, ignore=())
        return await in_thread(lambda: read_file(self._store.open(bare), path, _LARGEST))

    async def release(self, ref: ContextRef) -> None:
        """A build that used it is over."""
        if ref.kind is ContextKind.TREE:
            with suppress(NotFound):
                await in_thread(lambda: self._store.release(ref.value))

    async def write_output(self, export: Export, write: Callable[[bytes], object]) -> Exported:
        """Write one output's bytes."""
        return await in_thread(lambda: self._write(export, write))

    async def push(self, export: Export, report: Callable[[Progress], None]) -> Exported:
        """Push what was built."""
        return await self._push(export, report)


async def _fed(body: ByteSource, work: Callable[[Flow], T]) -> T:
    """Run `work` in a thread that reads the body; return what it returns."""
    flow = Flow()
    filling = asyncio.create_task(flow.fill(body))
    try:
        return await in_thread(lambda: work(flow))
    finally:
        flow.end()
        filling.cancel()
        with suppress(asyncio.CancelledError):
            await filling
