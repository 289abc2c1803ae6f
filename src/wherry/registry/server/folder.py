"""The back end that there is: a folder. Blobs and uploads are files; see `records` for the rest.

    <root>/blobs/<algorithm>/<hex>      permanent, immutable
    <root>/uploads/<name>               what came so far
    <root>/uploads/<name>.owner         the repository that it is for

A blob appears by rename, after its bytes were synced, so a half-written one is never served. An upload
is not synced before that: after a power cut its digest decides whether it was whole.
"""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Final

from wherry.http.messages import FileSlice
from wherry.http.threads import in_thread
from wherry.kernel.durable import commit_file, full, sync_directory
from wherry.kernel.failpoints import failpoint
from wherry.model.errors import Invalid, NotFound
from wherry.model.ids import Digest
from wherry.registry.server.storage import Stored, Unfinished

ALGORITHMS: Final = ("sha256", "sha512")
_OWNER: Final = ".owner"
_WHERE: Final = "the registry's folder"
_READ: Final = 4 << 20
_FRESH: Final = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC


class FolderBlobs:
    """Satisfies `storage.Blobs`. `neighbour` is another store's `blobs` folder, such as the engine's."""

    def __init__(self, root: Path, neighbour: Path | None = None) -> None:
        self._root = root / "blobs"
        self._neighbour = neighbour
        for algorithm in ALGORITHMS:
            (self._root / algorithm).mkdir(mode=0o700, parents=True, exist_ok=True)
            # A process before this one may have been killed between a rename and the sync of its folder.
            sync_directory(self._root / algorithm)
        sync_directory(self._root)
        sync_directory(root)

    def path(self, digest: Digest) -> Path:
        """Return where the blob is, or would be."""
        return self._root / digest.algorithm / digest.hex

    async def size(self, digest: Digest) -> int | None:
        """See the Protocol; one stat(2), which is cheaper than a thread."""
        try:
            return self.path(digest).stat().st_size
        except FileNotFoundError:
            return None

    async def open(self, digest: Digest, offset: int, count: int) -> FileSlice:
        """See the Protocol."""
        try:
            return FileSlice(os.open(self.path(digest), os.O_RDONLY | os.O_CLOEXEC), offset, count)
        except FileNotFoundError:
            raise NotFound("blob", str(digest)) from None

    async def remove(self, digest: Digest) -> None:
        """See the Protocol."""
        await in_thread(lambda: self.path(digest).unlink(missing_ok=True))

    async def stored(self) -> AsyncIterator[Stored]:
        """See the Protocol."""
        for algorithm in ALGORITHMS:
            for name in await in_thread(partial(os.listdir, self._root / algorithm)):
                try:
                    digest = Digest.parse(f"{algorithm}:{name}")
                    fact = self.path(digest).stat()
                except (Invalid, FileNotFoundError):
                    continue
                yield Stored(digest, fact.st_size, fact.st_mtime)

    async def adopt(self, digest: Digest) -> bool:
        """Link the neighbour's blob here: link(2) works within one file system only."""
        return await in_thread(lambda: self.link_neighbour(digest))

    def link_neighbour(self, digest: Digest) -> bool:
        """Do what `adopt` says, blocking; True also where the blob is here already."""
        path = self.path(digest)
        if path.exists():
            return True
        if self._neighbour is None:
            return False
        try:
            os.link(self._neighbour / digest.algorithm / digest.hex, path)
        except FileExistsError:
            pass
        except OSError as problem:
            # EMLINK: ext4 has 65,000 links. EPERM: fs.protected_hardlinks, another owner's file.
            if problem.errno in (errno.ENOENT, errno.EXDEV, errno.EMLINK, errno.EPERM):
                return False
            raise
        # Its age here counts from now: the collector must not take it for one long forgotten.
        os.utime(path)
        sync_directory(path.parent)
        return True


class FolderUploads:
    """Satisfies `storage.UploadStore`."""

    def __init__(self, root: Path, blobs: FolderBlobs) -> None:
        self._root = root / "uploads"
        self._blobs = blobs
        self._root.mkdir(mode=0o700, exist_ok=True)

    async def begin(self, name: str, owner: str) -> FolderUpload:
        """See the Protocol."""
        path = self._root / name
        with full(_WHERE):
            path.with_name(name + _OWNER).write_text(owner)
            try:
                fd = os.open(path, _FRESH, 0o600)
            except OSError:
                path.with_name(name + _OWNER).unlink(missing_ok=True)
                raise
        return FolderUpload(path, fd, self._blobs)

    async def resume(self, name: str, owner: str) -> FolderUpload:
        """See the Protocol. What lies there is hashed again at the next commit."""
        path = self._root / name
        try:
            if path.with_name(name + _OWNER).read_text() != owner:
                raise FileNotFoundError
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            raise NotFound("upload", name) from None
        return FolderUpload(path, fd, self._blobs)

    async def unfinished(self) -> list[Unfinished]:
        """See the Protocol."""
        return await in_thread(self._list)

    def _list(self) -> list[Unfinished]:
        found: dict[str, float] = {}
        with os.scandir(self._root) as entries:
            for entry in entries:
                name = entry.name.removesuffix(_OWNER)
                try:
                    touched = entry.stat().st_mtime
                except FileNotFoundError:
                    continue
                found[name] = max(touched, found.get(name, 0.0))
        return [Unfinished(name, touched) for name, touched in found.items()]

    async def forget(self, name: str) -> None:
        """See the Protocol."""
        _remove(self._root / name)


class FolderUpload:
    """Satisfies `storage.Upload`. Hashed while it is written, with the algorithm that most clients use."""

    def __init__(self, path: Path, fd: int, blobs: FolderBlobs) -> None:
        self._path = path
        self._fd = fd
        self._blobs = blobs
        self.size = os.fstat(fd).st_size
        self._hash = hashlib.sha256()
        # None: what lies in the file was not all hashed here, so that it has to be read once more.
        self._hashed: int | None = 0 if not self.size else None

    async def write(self, pieces: list[bytes]) -> None:
        """See the Protocol."""

        def take_all() -> None:
            for piece in pieces:
                self._take(memoryview(piece))

        await in_thread(take_all)

    def sink(self) -> Callable[[memoryview], object]:
        """See the Protocol."""
        return self._take

    def _take(self, piece: memoryview) -> None:
        # Hashing and writing let go of the interpreter's lock, so uploads do not wait for each other.
        self._hash.update(piece)
        done = 0
        try:
            with full(_WHERE):
                while done < len(piece):
                    done += os.pwrite(self._fd, piece[done:], self.size + done)
        except BaseException:
            self._hashed = None
            os.ftruncate(self._fd, self.size)
            raise
        self.size += done
        if self._hashed is not None:
            self._hashed = self.size
        failpoint("registry.after-write")

    async def cut(self, size: int) -> None:
        """See the Protocol."""
        if size < self.size:
            os.ftruncate(self._fd, size)
            self.size = size
            self._hash, self._hashed = hashlib.sha256(), None if size else 0

    async def commit(self, digest: Digest) -> None:
        """See the Protocol."""
        await in_thread(lambda: self._commit(digest))

    def _commit(self, digest: Digest) -> None:
        found = self._digest(digest.algorithm)
        if found != digest:
            raise Invalid(f"the content's digest is {found}, not {digest}")
        failpoint("registry.before-commit")
        if not self._blobs.link_neighbour(digest):
            with full(_WHERE):
                os.fchmod(self._fd, 0o600)
                commit_file(self._fd, self._path, self._blobs.path(digest))
        failpoint("registry.after-commit")
        self._close()

    def _digest(self, algorithm: str) -> Digest:
        if algorithm == "sha256" and self._hashed == self.size:
            return Digest(algorithm, self._hash.hexdigest())
        fresh = hashlib.new(algorithm)
        at = 0
        while piece := os.pread(self._fd, _READ, at):
            fresh.update(piece)
            at += len(piece)
        return Digest(algorithm, fresh.hexdigest())

    async def drop(self) -> None:
        """See the Protocol."""
        self._close()

    def close(self) -> None:
        """Let go of the file and keep the upload: it can be resumed."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def _close(self) -> None:
        self.close()
        _remove(self._path)


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.with_name(path.name + _OWNER).unlink(missing_ok=True)


def new_upload() -> str:
    """Return a fresh upload's name: 32 hexadecimal digits that nobody can guess."""
    return secrets.token_hex(16)
