"""Records on a folder: each a small file, durable before `put` returns."""

from __future__ import annotations

import os
import time
from pathlib import Path

from wherry.http.threads import in_thread
from wherry.kernel.durable import full, is_temporary, sync_directory, write_file
from wherry.kernel.failpoints import failpoint
from wherry.model.errors import Internal


class FolderRecords:
    """Satisfies `storage.Records`, below `<root>/records`.

    Reading is done in the loop's thread: a few small system calls on what is nearly always cached.
    """

    def __init__(self, root: Path) -> None:
        self._root = root / "records"
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        sync_directory(root)
        self._opened = time.time()

    def tidy(self) -> int:
        """Remove what a crash of a process before this one left of a `put`; return how many. Blocks."""
        removed = 0
        for folder, _, names in os.walk(self._root):
            for name in names:
                path = Path(folder, name)
                # Whatever is younger may be this process's own, half-way.
                if is_temporary(name) and path.lstat().st_mtime < self._opened:
                    path.unlink(missing_ok=True)
                    removed += 1
        return removed

    def _path(self, key: str) -> Path:
        # Keys are built from checked names; this is the second lock on the door.
        if not key or key.startswith("/") or any(p in ("", ".", "..") for p in key.split("/")):
            raise Internal(f"{key!r} is no key of a record")
        return self._root / key

    async def get(self, key: str) -> bytes | None:
        """See the Protocol."""
        try:
            return self._path(key).read_bytes()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None

    async def put(self, key: str, value: bytes) -> None:
        """See the Protocol."""
        path = self._path(key)
        await in_thread(lambda: self._put(path, value))

    def _put(self, path: Path, value: bytes) -> None:
        failpoint("registry.before-record")
        while True:
            self._make_folder(path.parent)
            try:
                write_file(path, value)
            except FileNotFoundError:
                # `remove` took the folder, which was empty, away meanwhile.
                continue
            failpoint("registry.after-record")
            return

    def _make_folder(self, folder: Path) -> None:
        if folder.is_dir():
            return
        self._make_folder(folder.parent)
        with full(str(folder)):
            try:
                folder.mkdir(mode=0o700)
            except FileExistsError:
                return
            except FileNotFoundError:
                return self._make_folder(folder)
        sync_directory(folder.parent)

    async def remove(self, key: str) -> bool:
        """See the Protocol."""
        path = self._path(key)
        return await in_thread(lambda: self._remove(path))

    def _remove(self, path: Path) -> bool:
        try:
            path.unlink()
        except (FileNotFoundError, NotADirectoryError):
            return False
        folder = path.parent
        while folder != self._root:
            try:
                folder.rmdir()
            except OSError:
                break
            folder = folder.parent
        try:
            sync_directory(folder)
        except FileNotFoundError:
            # Somebody else removed it, and synced what held it.
            pass
        return True

    async def written(self, key: str) -> float | None:
        """See the Protocol."""
        try:
            return self._path(key).stat().st_mtime
        except (FileNotFoundError, NotADirectoryError):
            return None

    async def names(self, prefix: str) -> list[str]:
        """See the Protocol. What a crash left of a `put` is not among them."""
        try:
            found = os.listdir(self._path(prefix) if prefix else self._root)
        except (FileNotFoundError, NotADirectoryError):
            return []
        return [name for name in found if not name.startswith(".")]
