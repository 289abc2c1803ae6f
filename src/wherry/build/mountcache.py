"""The directories of `RUN --mount=type=cache`: kept between builds, shared, locked or private."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO

from wherry.build.cache import BuildCache
from wherry.build.steps import RunMount, Sharing
from wherry.images.bridge import in_thread
from wherry.kernel.paths import remove_path
from wherry.storage.layers import extract
from wherry.storage.layers.compression import decompressed
from wherry.storage.leftovers import remove_leftovers

_MODE = 0o755
Fill = Callable[[Path], None]
"""Fills a new cache mount's directory. Blocks."""


class MountCache:
    """Gives out cache mounts. A directory has its numbers as a name, so an id may be anything."""

    def __init__(self, root: Path, cache: BuildCache) -> None:
        self._root = root
        self._cache = cache
        self._locks: dict[str, asyncio.Lock] = {}
        self._in_use: dict[str, int] = {}
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        known = {row.folder for row in cache.mounts()}
        remove_leftovers(root, lambda entry: entry.name in known)

    @asynccontextmanager
    async def use(self, mount: RunMount, fill: Fill | None) -> AsyncGenerator[Path]:
        """Give the directory of a cache mount for as long as a step runs. Raises Full."""
        identifier = mount.id
        if mount.sharing is Sharing.LOCKED:
            lock = self._locks.setdefault(identifier, asyncio.Lock())
            async with lock:
                async with self._held(identifier, mount, fill) as path:
                    yield path
            return
        if mount.sharing is Sharing.PRIVATE:
            identifier = self._free(identifier)
        async with self._held(identifier, mount, fill) as path:
            yield path

    def in_use(self, identifier: str) -> bool:
        """Whether a step uses it now."""
        return self._in_use.get(identifier, 0) > 0

    def path(self, folder: str) -> Path:
        """Return where a cache mount's directory is."""
        return self._root / folder

    def directories(self) -> list[tuple[str, Path]]:
        """Return all cache mounts and where they are."""
        found = [(row.id, self.path(row.folder)) for row in self._cache.mounts()]
        return [(identifier, path) for identifier, path in sorted(found) if path.is_dir()]

    def restore(self, identifier: str, archive: Callable[[], BinaryIO]) -> None:
        """Make a cache mount of an archive, compressed or not, unless there is one. Blocks. Raises Invalid, Full."""
        folder = folder_of(identifier)
        path = self._root / folder
        if path.is_dir():
            return

        def fill(directory: Path) -> None:
            target = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                with archive() as stream:
                    extract(decompressed(stream)[1], target, ".")
            finally:
                os.close(target)

        self._make(path, None, fill)
        self._cache.use_mount(identifier, folder)

    def remove(self, identifier: str, folder: str) -> None:
        """Take a cache mount away; the row first. Blocks."""
        self._cache.remove_mount(identifier)
        remove_path(self._root / folder)

    def _free(self, identifier: str) -> str:
        number = 0
        while True:
            name = f"{identifier}#{number}" if number else identifier
            if not self.in_use(name):
                return name
            number += 1

    @asynccontextmanager
    async def _held(
        self, identifier: str, mount: RunMount, fill: Fill | None
    ) -> AsyncGenerator[Path]:
        self._in_use[identifier] = self._in_use.get(identifier, 0) + 1
        try:
            folder = folder_of(identifier)
            making = self._locks.setdefault(f"making {identifier}", asyncio.Lock())
            async with making:
                path = self._root / folder
                if not path.is_dir():
                    await in_thread(lambda: self._make(path, mount, fill))
                self._cache.use_mount(identifier, folder)
            yield path
        finally:
            self._in_use[identifier] -= 1

    def _make(self, path: Path, mount: RunMount | None, fill: Fill | None) -> None:
        temporary = path.with_name(path.name + ".new")
        remove_path(temporary)
        temporary.mkdir()
        try:
            if fill is not None:
                fill(temporary)
            if mount is not None:
                os.chown(temporary, mount.uid, mount.gid)
                os.chmod(temporary, _MODE if mount.mode is None else mount.mode)
            temporary.rename(path)
        except BaseException:
            remove_path(temporary)
            raise


def folder_of(identifier: str) -> str:
    """Return the name of a cache mount's directory."""
    return sha256(identifier.encode()).hexdigest()[:32]
