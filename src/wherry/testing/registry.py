"""A registry's back end in memory: the contract's second implementation, with no folder in sight."""

from __future__ import annotations

import hashlib
import time
from collections.abc import AsyncIterator

from wherry.model.errors import Invalid, NotFound
from wherry.model.ids import Digest
from wherry.registry.server.storage import Stored, Unfinished


class MemoryBlobs:
    """Satisfies `storage.Blobs`; content goes out in pieces, as from object storage."""

    def __init__(self) -> None:
        self.held: dict[Digest, tuple[bytes, float]] = {}

    async def size(self, digest: Digest) -> int | None:
        """See the Protocol."""
        found = self.held.get(digest)
        return None if found is None else len(found[0])

    async def open(self, digest: Digest, offset: int, count: int) -> AsyncIterator[bytes]:
        """See the Protocol."""
        if digest not in self.held:
            raise NotFound("blob", str(digest))
        data = self.held[digest][0][offset : offset + count]

        async def pieces() -> AsyncIterator[bytes]:
            for at in range(0, len(data), 1 << 16):
                yield data[at : at + (1 << 16)]

        return pieces()

    async def remove(self, digest: Digest) -> None:
        """See the Protocol."""
        self.held.pop(digest, None)

    async def stored(self) -> AsyncIterator[Stored]:
        """See the Protocol."""
        for digest, (data, written) in tuple(self.held.items()):
            yield Stored(digest, len(data), written)

    async def adopt(self, digest: Digest) -> bool:
        """See the Protocol."""
        return False


class MemoryUploads:
    """Satisfies `storage.UploadStore`."""

    def __init__(self, blobs: MemoryBlobs) -> None:
        self.blobs = blobs
        self.held: dict[str, tuple[str, bytearray]] = {}

    async def begin(self, name: str, owner: str) -> MemoryUpload:
        """See the Protocol."""
        self.held[name] = owner, bytearray()
        return MemoryUpload(self, name)

    async def resume(self, name: str, owner: str) -> MemoryUpload:
        """See the Protocol."""
        if self.held.get(name, ("",))[0] != owner:
            raise NotFound("upload", name)
        return MemoryUpload(self, name)

    async def unfinished(self) -> list[Unfinished]:
        """See the Protocol."""
        return [Unfinished(name, time.time()) for name in self.held]

    async def forget(self, name: str) -> None:
        """See the Protocol."""
        self.held.pop(name, None)


class MemoryUpload:
    """Satisfies `storage.Upload`."""

    def __init__(self, store: MemoryUploads, name: str) -> None:
        self._store = store
        self._name = name
        self._data = store.held[name][1]

    @property
    def size(self) -> int:
        """See the Protocol."""
        return len(self._data)

    async def write(self, pieces: list[bytes]) -> None:
        """See the Protocol."""
        self._data += b"".join(pieces)

    def sink(self) -> None:
        """See the Protocol."""
        return None

    async def cut(self, size: int) -> None:
        """See the Protocol."""
        del self._data[size:]

    async def commit(self, digest: Digest) -> None:
        """See the Protocol."""
        data = bytes(self._data)
        if hashlib.new(digest.algorithm, data).hexdigest() != digest.hex:
            raise Invalid("the content's digest is another")
        self._store.blobs.held[digest] = data, time.time()
        del self._store.held[self._name]

    async def drop(self) -> None:
        """See the Protocol."""
        self._store.held.pop(self._name, None)

    def close(self) -> None:
        """See the Protocol."""


class MemoryRecords:
    """Satisfies `storage.Records`: a listing with a delimiter over flat keys."""

    def __init__(self) -> None:
        self.held: dict[str, tuple[bytes, float]] = {}

    async def get(self, key: str) -> bytes | None:
        """See the Protocol."""
        return self.held[key][0] if key in self.held else None

    async def put(self, key: str, value: bytes) -> None:
        """See the Protocol."""
        self.held[key] = value, time.time()

    async def remove(self, key: str) -> bool:
        """See the Protocol."""
        return self.held.pop(key, None) is not None

    async def written(self, key: str) -> float | None:
        """See the Protocol."""
        return self.held[key][1] if key in self.held else None

    async def names(self, prefix: str) -> list[str]:
        """See the Protocol."""
        start = f"{prefix}/" if prefix else ""
        rest = (key[len(start) :] for key in self.held if key.startswith(start))
        return list(dict.fromkeys(name.partition("/")[0] for name in rest))
