"""What the registry asks of a back end: blobs by digest, uploads that grow, and small records by key.

Three nouns and a dozen verbs, all of which object storage has too: an upload is a multipart upload, a
record a small object, `names` a listing with a delimiter. Every verb may be slow, so all are
coroutines. What a verb has returned from is permanent. `tests/registry/storage_contract.py` says the
rest; each implementation passes it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Protocol

from wherry.http.messages import FileSlice
from wherry.model.ids import Digest

Content = FileSlice | AsyncIterator[bytes]
"""A part of a blob on its way out."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A blob that is there: its bytes, and the seconds since the epoch when it came."""

    digest: Digest
    size: int
    written: float


class Blobs(Protocol):
    """Content by digest: immutable, each stored once."""

    async def size(self, digest: Digest) -> int | None:
        """Return the blob's bytes, None where it is missing."""
        ...

    async def open(self, digest: Digest, offset: int, count: int) -> Content:
        """Return that part of the blob, the caller's to close. Raises NotFound."""
        ...

    async def remove(self, digest: Digest) -> None:
        """Remove the blob; missing is fine. Who has it open reads on."""
        ...

    def stored(self) -> AsyncIterator[Stored]:
        """Yield every blob, in no order; one that comes or goes meanwhile may be left out."""
        ...

    async def adopt(self, digest: Digest) -> bool:
        """Take the blob over from a neighbouring store without copying it; False where none has it."""
        ...


class Upload(Protocol):
    """One upload. Only one caller at a time uses it."""

    @property
    def size(self) -> int:
        """Bytes written so far."""
        ...

    async def write(self, pieces: list[bytes]) -> None:
        """Append. Raises Full."""
        ...

    def sink(self) -> Callable[[memoryview], object] | None:
        """Return what appends as `write` does, but in the caller's thread; None where only `write` can."""
        ...

    async def cut(self, size: int) -> None:
        """Forget what was written beyond `size` bytes."""
        ...

    async def commit(self, digest: Digest) -> None:
        """Make the content the blob `digest`; the upload is then gone.

        Raises Invalid where the content is another: the upload stays as it was. Raises Full.
        """
        ...

    async def drop(self) -> None:
        """Forget the upload."""
        ...

    def close(self) -> None:
        """Let go of the upload and keep what it has: `resume` goes on from there."""
        ...


@dataclass(frozen=True, slots=True)
class Unfinished:
    """An upload that lies there: when a byte last came (seconds since the epoch)."""

    name: str
    touched: float


class UploadStore(Protocol):
    """Uploads outlive the process, so that a client can go on after a restart."""

    async def begin(self, name: str, owner: str) -> Upload:
        """Return a new, empty upload. `owner` is kept with it. Raises Full."""
        ...

    async def resume(self, name: str, owner: str) -> Upload:
        """Return an upload that was begun for `owner`. Raises NotFound."""
        ...

    async def unfinished(self) -> list[Unfinished]:
        """Return every upload that is neither committed nor dropped."""
        ...

    async def forget(self, name: str) -> None:
        """Drop an upload that nobody has open; missing is fine."""
        ...


class Records(Protocol):
    """Small values by key. A key is path-like, made of names that are safe in a file system.

    No key is the beginning of another up to a slash.
    """

    async def get(self, key: str) -> bytes | None:
        """Return the value, None where there is none."""
        ...

    async def put(self, key: str, value: bytes) -> None:
        """Set the value: readers see the old or the new. Raises Full."""
        ...

    async def remove(self, key: str) -> bool:
        """Remove the record; return whether it was there."""
        ...

    async def written(self, key: str) -> float | None:
        """Return when the record was last put (seconds since the epoch), None where there is none."""
        ...

    async def names(self, prefix: str) -> list[str]:
        """Return the names directly below `prefix` (no slash at its end), in no order."""
        ...
