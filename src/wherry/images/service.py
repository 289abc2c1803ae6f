"""The asynchronous front of this package: what `api.services.Images` declares, and events.

Work that blocks runs in threads (`bridge`); nothing here outlives the call that started it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from pathlib import Path

from wherry.images.archive.load import Loader
from wherry.images.archive.save import Saver, check_form
from wherry.images.bootstrap import Bootstrapper
from wherry.images.bridge import Flow, Report, bytes_from, in_thread, report_from
from wherry.images.importing import ImportOptions, perform_import, plan_import
from wherry.images.intake import Intake
from wherry.images.listing import list_images, prune_candidates
from wherry.images.making import ImageMaker, NewImage, WriteLayer
from wherry.images.removal import Remover
from wherry.images.store import ImageStore, check_taggable
from wherry.images.unpack import Unpacker
from wherry.images.users import Users
from wherry.model.containers import Pairs
from wherry.model.events import Event, prune_event
from wherry.model.ids import Digest
from wherry.model.images import Image, Platform
from wherry.model.moments import parse_when
from wherry.model.views import ByteSource, Filters, ImageDeletion, Progress
from wherry.storage.collector import Collected, Collector
from wherry.storage.content import ContentStore
from wherry.storage.layers import Readable
from wherry.storage.leases import Leases
from wherry.storage.partials import Partials
from wherry.storage.snapshots import Snapshotter


class ImageService:
    """All that can be asked of images.

    `emit` is called on the event loop's thread; `scratch` is a folder of its own for half-made trees.
    """

    def __init__(
        self,
        *,
        store: ImageStore,
        content: ContentStore,
        snapshots: Snapshotter,
        leases: Leases,
        collector: Collector,
        users: Users,
        emit: Callable[[Event], None],
        scratch: Path,
        partials: Partials,
    ) -> None:
        self.unpacker = unpacker = Unpacker(store, content, snapshots)
        intakes = partial(Intake, content, leases, collector)
        self.unpacker = unpacker
        self.intakes = intakes
        self.maker = ImageMaker(store, unpacker, intakes)
        self._store = store
        self._collector = collector
        self._users = users
        self._emit = emit
        self.partials = partials
        self._loader = Loader(store, unpacker, intakes)
        self._saver = Saver(store, content, leases)
        self._bootstrapper = Bootstrapper(self.maker, scratch)

    def sweep(self) -> Collected:
        """Remove what a crash left: blobs and layers that nothing uses, scratch. Blocks; for the start."""
        self._bootstrapper.clear()
        return self._collector.sweep()

    async def list(self, *, everything: bool, filters: Filters) -> list[Image]:
        """Return the images that match, newest first. Raises Invalid, NotFound."""
        return await asyncio.to_thread(
            list_images, self._store, everything=everything, filters=filters
        )

    async def inspect(self, ref: str) -> Image:
        """Return one image. Raises NotFound, Invalid."""
        return self._store.resolve(ref)

    async def history(self, ref: str) -> tuple[Image, ...]:
        """Return one image, whose `history` and `layers` tell it, and its parents that are here.

        Raises NotFound, Invalid.
        """
        found = [self._store.resolve(ref)]
        while (parent := found[-1].parent) is not None and self._store.has(parent):
            found.append(self._store.get(parent))
        return tuple(found)

    async def tag(self, ref: str, repository: str, tag: str) -> None:
        """Give an image another name. Raises NotFound, Invalid."""
        reference = check_taggable(repository, tag)
        image = self._store.resolve(ref)
        await asyncio.to_thread(self._store.tag, image.id, reference)
        self._notify("tag", image, reference.familiar)

    async def remove(self, ref: str, *, force: bool, prune: bool) -> list[ImageDeletion]:
        """Remove a name or an image; return what went. Raises NotFound, Conflict with Docker's words."""
        remover = self._remover()
        removed = await in_thread(lambda: remover.remove(ref, force=force, prune=prune))
        return list(removed.deletions)

    async def prune(self, filters: Filters) -> tuple[list[ImageDeletion], int]:
        """Remove unused images that match; return what went and the bytes given back.

        What pulls that were broken off have left goes too, unless labels are asked for: it has none.
        """
        remover = self._remover()
        now = time.time_ns()
        until = [parse_when(text, now) / 1e9 for text in filters.get("until", ())]
        partly = not any(name.startswith("label") for name in filters)

        def prune() -> tuple[list[ImageDeletion], int]:
            removed = remover.prune(prune_candidates(self._store, filters))
            freed = self.partials.prune(min(until, default=None)) if partly else 0
            return list(removed.deletions), removed.space + freed

        gone, space = await in_thread(prune)
        self._emit(replace(prune_event("image", space), time=time.time_ns()))
        return gone, space

    async def load(
        self, body: ByteSource, *, quiet: bool, platform: Platform | None = None
    ) -> AsyncGenerator[Progress]:
        """Load an archive's images, those for `platform` alone; yield Docker's lines. Raises Invalid, Full."""
        emit = self._from_thread()

        def work(flow: Flow, report: Report) -> None:
            for loaded in self._loader.load(flow, report, quiet=quiet, platform=platform):
                emit("load", loaded.image, "")
                for reference, loser in loaded.taken.items():
                    report(
                        Progress(
                            stream=f"The image {reference.familiar} already exists, renaming the"
                            f" old one with ID {loser} to empty string\n"
                        )
                    )
                for reference in loaded.references:
                    report(Progress(stream=f"Loaded image: {reference.familiar}\n"))
                if not loaded.references:
                    report(Progress(stream=f"Loaded image ID: {loaded.image.id}\n"))

        async with aclosing(report_from(work, body)) as lines:
            async for line in lines:
                yield line

    def load_one(self, stream: Readable) -> str:
        """Load an archive of one image, and return its id. Blocks. Raises Invalid, Full."""
        loaded = self._loader.load(stream, lambda line: None, quiet=True)
        return str(loaded[0].image.id)

    async def import_archive(
        self,
        body: ByteSource,
        *,
        repository: str,
        tag: str,
        message: str,
        changes: Sequence[str],
        platform: str,
        source: str = "-",
    ) -> AsyncGenerator[Progress]:
        """Make an image of a root file system's archive; the last line's status is its id.

        The archive is in `body`, or is fetched from `source` where that is a URL.
        """
        url = ""
        if source != "-":
            # An engine that fetches nothing has no client of HTTP in memory.
            from wherry.images.fetching import parse_source

            url = parse_source(source)
        options = ImportOptions(repository, tag, message, tuple(changes), platform, url or "-")
        new = plan_import(options)
        emit = self._from_thread()

        def work(flow: Flow, report: Report) -> None:
            if url:
                from wherry.images.fetching import fetched

                with fetched(url, flow.check, report) as download:
                    image = perform_import(self.maker, download, new, report)
            else:
                image = perform_import(self.maker, flow, new, report)
            if new.reference:
                emit("tag", image, new.reference.familiar)
            emit("import", image, "")
            report(Progress(status=str(image.id)))

        async with aclosing(report_from(work, None if url else body)) as lines:
            async for line in lines:
                yield line

    async def save(
        self, refs: Sequence[str], *, form: str, compression: str
    ) -> AsyncIterator[bytes]:
        """Return the archive of the images. Raises NotFound, Invalid before its first byte."""
        chosen = await asyncio.to_thread(self._saver.choose, refs)
        check_form(form, compression)
        for item in chosen:
            self._notify("save", item.image)
        return bytes_from(
            lambda out: self._saver.save(chosen, out, form=form, compression=compression)
        )

    async def bootstrap(self, name: str, options: Mapping[str, str]) -> AsyncGenerator[Progress]:
        """Make a base image from the distribution's packages; the last line's aux has its ID."""
        emit = self._from_thread()

        def work(flow: Flow, report: Report) -> None:
            image, reference = self._bootstrapper.bootstrap(name, options, report, flow.check)
            emit("tag", image, reference.familiar)
            emit("import", image, "")
            report(Progress(stream=f"Made image: {reference.familiar}\n"))
            report(Progress(aux=(("ID", str(image.id)),)))

        async with aclosing(report_from(work)) as lines:
            async for line in lines:
                yield line

    async def make(
        self, base: Image | None, write_layer: WriteLayer | None, new: NewImage
    ) -> Image:
        """Make an image of `base` and one more layer, as commit does. See ImageMaker.make."""
        image = await in_thread(lambda: self.maker.make(base, write_layer, new))
        if new.reference:
            self._notify("tag", image, new.reference.familiar)
        return image

    def tell_tagged(self, image: Image, name: str) -> None:
        """Tell of a name that an image was given by others than this service."""
        self._notify("tag", image, name)

    async def let_go(self, image: Digest, chain: Sequence[Digest]) -> None:
        """Remove what only a container kept: to be called after one of `image` was removed.

        Costs one look into the database while the image is there.
        """
        if not self._store.has(image):
            await in_thread(lambda: self._collector.collect(reversed(chain)))

    async def disk_usage(self) -> int:
        """Return the bytes of all layers, each once, and of what broken-off pulls have left."""
        return self._store.disk_usage() + self.partials.size()

    async def container_counts(self) -> dict[str, int]:
        """Return how many containers use each image id."""
        return {str(image): len(uses) for image, uses in self._users.image_users().items()}

    def _remover(self) -> Remover:
        emit = self._from_thread()
        return Remover(
            self._store,
            self._collector,
            self._users,
            lambda action, image: emit(action, image, ""),
        )

    def _notify(self, action: str, image: Image, name: str = "") -> None:
        self._emit(
            Event("image", action, str(image.id), _attributes(action, image, name), time.time_ns())
        )

    def _from_thread(self) -> Callable[[str, Image, str], None]:
        """Return `_notify` for another thread; events come before the result of the work there."""
        loop = asyncio.get_running_loop()

        def emit(action: str, image: Image, name: str) -> None:
            loop.call_soon_threadsafe(self._notify, action, image, name)

        return emit


def _attributes(action: str, image: Image, name: str) -> Pairs:
    # The labels of an image that is gone are not told: Docker 28 reads them from the image.
    labels = () if action == "delete" else image.config.labels
    return tuple(sorted({**dict(labels), "name": name or str(image.id)}.items()))
