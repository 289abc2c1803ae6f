"""A service over stores in a folder, archives to feed it, and who uses its images."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from wherry.images.service import ImageService
from wherry.images.store import ImageStore
from wherry.images.users import Use
from wherry.model.events import Event
from wherry.model.ids import Digest
from wherry.model.images import Image, Platform
from wherry.model.views import Progress
from wherry.storage.collector import Collector
from wherry.storage.content import ContentStore
from wherry.storage.database import Database
from wherry.storage.layers import Entry, Kind, TarWriter
from wherry.storage.leases import Leases
from wherry.storage.overlay import OverlaySnapshotter
from wherry.storage.partials import Partials

T = TypeVar("T")


@dataclass
class Residents:
    """Containers, as far as images know them."""

    uses: dict[Digest, list[Use]] = field(default_factory=dict)
    chains: list[Digest] = field(default_factory=list)

    def image_users(self) -> Mapping[Digest, Sequence[Use]]:
        return self.uses

    def live_layers(self) -> list[Digest]:
        return self.chains


class House:
    """Everything that images need, over one folder."""

    def __init__(self, root: Path) -> None:
        root.mkdir(exist_ok=True)
        self.root = root
        self.database = Database(root / "state.db")
        self.content = ContentStore(root)
        self.snapshots = OverlaySnapshotter(root)
        self.leases = Leases()
        self.store = ImageStore(self.database, self.content)
        self.users = Residents()
        self.events: list[Event] = []
        self.collector = Collector(
            self.content,
            self.snapshots,
            self.leases,
            layer_roots=(self.store, self.users),
            blob_roots=(self.store,),
        )
        self.service = ImageService(
            store=self.store,
            content=self.content,
            snapshots=self.snapshots,
            leases=self.leases,
            collector=self.collector,
            users=self.users,
            emit=self.events.append,
            scratch=root / "scratch",
            partials=Partials(root),
        )

    def close(self) -> None:
        self.database.close()

    def load(
        self, archive: bytes, *, chunk: int = 65536, platform: Platform | None = None
    ) -> list[Progress]:
        body = Body(archive, chunk)
        return run(collect(self.service.load(body, quiet=True, platform=platform)))

    def import_tar(
        self,
        archive: bytes,
        name: str = "",
        tag: str = "",
        changes: Sequence[str] = (),
        message: str = "",
    ) -> Image:
        lines = run(
            collect(
                self.service.import_archive(
                    Body(archive),
                    repository=name,
                    tag=tag,
                    message=message,
                    changes=changes,
                    platform="",
                )
            )
        )
        return self.store.resolve(lines[-1].status)

    def save(self, *refs: str, form: str = "docker", compression: str = "") -> bytes:
        async def everything() -> bytes:
            pieces = await self.service.save(refs, form=form, compression=compression)
            return b"".join([piece async for piece in pieces])

        return run(everything())

    def remove(self, ref: str, *, force: bool = False, prune: bool = True) -> list[str]:
        return [
            f"untagged {line.untagged}" if line.untagged else f"deleted {line.deleted}"
            for line in run(self.service.remove(ref, force=force, prune=prune))
        ]

    def names(self) -> list[str]:
        return sorted(name for image in self.store.images() for name in image.names)

    def is_empty(self) -> bool:
        """Whether no bytes of any image are left."""
        leftovers = [*self.content.digests(), *self.snapshots.layers()]
        return not leftovers and not list((self.root / "ingest").iterdir())


class Body:
    """A request's body."""

    def __init__(self, data: bytes, chunk: int = 65536) -> None:
        self._data = io.BytesIO(data)
        self._chunk = chunk

    async def read(self) -> bytes:
        await asyncio.sleep(0)
        return self._data.read(self._chunk)


def run(coroutine: Coroutine[object, object, T]) -> T:
    return asyncio.run(coroutine)


async def collect(items: AsyncIterator[T]) -> list[T]:
    return [item async for item in items]


def tar(files: Mapping[str, bytes | Entry], out: Callable[[bytes], object] | None = None) -> bytes:
    """An archive of files (bytes) and other entries, in order."""
    pieces: list[bytes] = []
    writer = TarWriter(out or pieces.append)
    for name, content in files.items():
        if isinstance(content, Entry):
            writer.add(content)
        elif name.endswith("/"):
            writer.add_directory(name)
        else:
            writer.add_file(name, content)
    writer.finish()
    return b"".join(pieces)


def symlink(name: str, target: str) -> Entry:
    return Entry(name.encode(), Kind.SYMLINK, 0o777, link=target.encode())
