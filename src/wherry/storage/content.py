"""Blobs by digest: immutable, each stored once, permanent once committed.

`<root>/blobs/<algorithm>/<hex>` holds them, `<root>/ingest` what is being written. A blob is known by
its sha256, or by its sha512 where the manifest that it came with names it so. One process owns a root;
within it any number of threads may read and write.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final, Self

from wherry.kernel.failpoints import failpoint
from wherry.model.errors import Conflict, Invalid, NotFound
from wherry.model.ids import Digest
from wherry.storage.durable import commit_file, full, sync_directory
from wherry.storage.layers.streams import Hasher
from wherry.storage.leftovers import remove_leftovers

_ALGORITHMS: Final = ("sha256", "sha512")
_READ_LIMIT: Final = 4 << 20
_FRESH: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC


class ContentStore:
    """The blobs under `root`. Opening it removes what writers of a dead process left."""

    def __init__(self, root: Path) -> None:
        self._blobs = root / "blobs"
        self._ingest = root / "ingest"
        for algorithm in _ALGORITHMS:
            (self._blobs / algorithm).mkdir(mode=0o700, parents=True, exist_ok=True)
        self._ingest.mkdir(mode=0o700, exist_ok=True)
        remove_leftovers(self._ingest)

    def writer(self, algorithm: str = "sha256") -> BlobWriter:
        """Return a writer of a new blob, to be known by a digest of `algorithm`; raises Full."""
        return BlobWriter(self, self._ingest / secrets.token_hex(8), algorithm)

    def put(self, data: bytes) -> Digest:
        """Store `data` and return its digest. Raises Full."""
        with self.writer() as writer:
            writer.write(data)
            return writer.commit()

    def open(self, digest: Digest) -> BinaryIO:
        """Return the blob, open for reading and the caller's to close. Raises NotFound."""
        try:
            return open(self.path(digest), "rb")
        except FileNotFoundError:
            raise NotFound("blob", str(digest)) from None

    def read(self, digest: Digest, *, limit: int = _READ_LIMIT) -> bytes:
        """Return a blob of at most `limit` bytes. Raises NotFound, Invalid for a larger one."""
        with self.open(digest) as blob:
            size = os.fstat(blob.fileno()).st_size
            if size > limit:
                raise Invalid(f"blob {digest} has {size} bytes, more than {limit}")
            return blob.read()

    def path(self, digest: Digest) -> Path:
        """Return where the blob is, or would be."""
        return self._blobs / digest.algorithm / digest.hex

    def size(self, digest: Digest) -> int:
        """Return the blob's size in bytes. Raises NotFound."""
        try:
            return self.path(digest).stat().st_size
        except FileNotFoundError:
            raise NotFound("blob", str(digest)) from None

    def has(self, digest: Digest) -> bool:
        """Whether the blob is here."""
        return self.path(digest).exists()

    def remove(self, digest: Digest) -> None:
        """Remove the blob; missing is fine. Who has it open reads on."""
        self.path(digest).unlink(missing_ok=True)

    def adopt(self, fd: int, path: Path, digest: Digest) -> None:
        """Make the file `fd` at `path`, whose bytes the caller has verified, the blob `digest`.

        The file keeps its own name too, until the caller removes it. Raises Full.
        """
        target = self.path(digest)
        with full("the content store", self._blobs):
            os.fsync(fd)
            failpoint("content.before-adopt")
            try:
                os.link(path, target)
            except FileExistsError:
                return
            sync_directory(target.parent)

    def digests(self) -> Iterator[Digest]:
        """Yield every blob's digest, in no order."""
        for algorithm in _ALGORITHMS:
            with os.scandir(self._blobs / algorithm) as entries:
                for entry in entries:
                    yield Digest(algorithm, entry.name)


class BlobWriter:
    """One blob on its way in; hashed as it is written. Left without `commit` it never was."""

    def __init__(self, store: ContentStore, temporary: Path, algorithm: str) -> None:
        self._store = store
        self._temporary = temporary
        self._hasher = Hasher(algorithm)
        with full("the content store", temporary):
            self._fd = os.open(temporary, _FRESH, 0o600)
        self.size = 0

    def write(self, data: bytes | memoryview, /) -> int:
        """Append `data` and return its length. Raises Full."""
        if self._fd < 0:
            raise Conflict("this blob is already committed or dropped")
        piece = bytes(data)
        self._hasher.update(piece)
        with full("the content store", self._temporary):
            done = os.write(self._fd, piece)
            while done < len(piece):
                done += os.write(self._fd, memoryview(piece)[done:])
        self.size += done
        return done

    def digest(self) -> Digest:
        """Return the digest of what was written so far: who leases it before `commit` keeps it."""
        return self._hasher.digest()

    def commit(
        self, expected: Digest | None = None, *, size: int | None = None, later: bool = False
    ) -> Digest:
        """Make the blob permanent and return its digest.

        With `later` it outlives a crash of the machine only after a sync of the file system, which the
        caller sees to before anything durable refers to it.
        Raises Invalid where digest or size differ from the expected (the blob is dropped), Full.
        """
        if self._fd < 0:
            raise Conflict("this blob is already committed or dropped")
        try:
            digest = self._hasher.digest()
            if expected is not None and expected != digest:
                raise Invalid(f"digest mismatch: expected {expected}, the content is {digest}")
            if size is not None and size != self.size:
                raise Invalid(f"size mismatch: expected {size} bytes, got {self.size}")
            failpoint("content.before-commit")
            if self._store.has(digest):
                self._temporary.unlink()
            elif later:
                with full("the content store"):
                    os.rename(self._temporary, self._store.path(digest))
            else:
                with full("the content store", self._temporary):
                    commit_file(self._fd, self._temporary, self._store.path(digest))
        except BaseException:
            self.drop()
            raise
        os.close(self._fd)
        self._fd = -1
        return digest

    def drop(self) -> None:
        """Forget what was written; after `commit` this does nothing."""
        self._hasher.close()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            self._temporary.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.drop()
