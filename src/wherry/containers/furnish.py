"""The volumes of a container: found or made at create, filled from the image, planned and opened at start."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractContextManager, asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Protocol
from weakref import WeakValueDictionary

from wherry.containers.points import Points
from wherry.containers.volumes import VolumeService
from wherry.images.bridge import in_thread
from wherry.kernel.calls import Kernel
from wherry.kernel.workshop import hold
from wherry.model.containers import Container, MountKind, MountSpec
from wherry.model.errors import Invalid, StartFailed
from wherry.model.ids import Digest
from wherry.model.oci import Mount
from wherry.model.volumes import Volume
from wherry.storage.durable import full
from wherry.storage.layers.lower import LowerTree
from wherry.storage.layers.merge import merge_directory
from wherry.storage.volume_mounts import mount_of, open_volume

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class Store(Protocol):
    """What is used of the volumes' storage."""

    def get(self, name: str) -> Volume: ...
    def path(self, name: str) -> Path: ...
    def ensure(self, name: str) -> Path: ...
    def is_empty(self, name: str) -> bool: ...
    def filling(self, name: str) -> AbstractContextManager[Path]: ...


class Layers(Protocol):
    """What is used of the snapshotter."""

    def parent_paths(self, chain: Sequence[Digest]) -> tuple[Path, ...]: ...
    def container_paths(self, chain: Sequence[Digest]) -> tuple[Path, ...]: ...


class Furnisher:
    """Sees to the volumes and images that a container mounts."""

    def __init__(
        self, *, volumes: VolumeService, store: Store, layers: Layers, kernel: Kernel
    ) -> None:
        self._volumes = volumes
        self._store = store
        self._layers = layers
        self._kernel = kernel
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    # -- create ------------------------------------------------------------------------------

    @asynccontextmanager
    async def furnishing(self, container: Container, points: Points) -> AsyncGenerator[Container]:
        """Make and fill what `points` ask for; give the container with its points, to be kept in the block.

        What cannot be carried through leaves no anonymous volume behind; named ones stay, as Docker's do.
        Raises Invalid, NotFound, Full, StartFailed for a volume that cannot be mounted.
        """
        made: list[Volume] = []
        names = {mount.target: mount.volume for mount in points.mounts}
        try:
            with self._volumes.holding(container.id) as hold:
                for name in filter(None, names.values()):
                    hold(name)
                for target, request in points.requests:
                    volume, new = self._volumes.make(request, names[target])
                    if new and not request.name:
                        made.append(volume)
                for target, _ in points.requests:
                    if target in points.fill:
                        await self._fill(container, names[target], target)
                yield replace(container, points=points.mounts)
        except BaseException:
            for volume in made:
                self._volumes.discard(volume)
            raise

    async def _fill(self, container: Container, name: str, target: str) -> None:
        volume = self._store.get(name)
        mounted = mount_of(volume.options) is not None
        lock = self._locks.setdefault(name, asyncio.Lock())
        async with lock:
            if not mounted and not self._store.is_empty(name):
                return
            layers = self._layers.container_paths(container.chain)
            with LowerTree(layers) as lower:
                base = lower.resolve(os.fsencode(target))
                status = lower.status(base) if base is not None else None
                if base is None or status is None:
                    return
                if not stat.S_ISDIR(status.st_mode):
                    raise Invalid(f"source {target} of the image is not directory")
                others = [user for user in self._volumes.users(name) if user != container.id]
                await in_thread(lambda: self._copy(lower, base, volume, shared=bool(others)))

    def _copy(self, lower: LowerTree, base: bytes, volume: Volume, *, shared: bool) -> None:
        with full(f"volume {volume.name}"):
            self._copy_into(lower, base, volume, shared=shared)

    def _copy_into(self, lower: LowerTree, base: bytes, volume: Volume, *, shared: bool) -> None:
        name = volume.name
        if mount_of(volume.options) is not None:
            tree = open_volume(self._kernel, volume, str(self._store.path(name)))
            try:
                _merge_into(lower, base, os.open(".", _DIRECTORY, dir_fd=tree))
            finally:
                os.close(tree)
        elif shared:
            # Another container may have it mounted: its directory must stay the same one.
            _merge_into(lower, base, os.open(self._store.path(name), _DIRECTORY))
        else:
            with self._store.filling(name) as directory:
                _merge_into(lower, base, os.open(directory, _DIRECTORY))

    # -- start -------------------------------------------------------------------------------

    def plan(self, mount: MountSpec, *, mapped: bool) -> Mount:
        """Return what the runtime mounts for a volume or an image; `mapped` in a user namespace.

        Raises NotFound for a layer or a volume that is gone, StartFailed for a directory of the host.
        """
        options = ["bind", "rprivate"]
        if mapped:
            # In a user namespace nobody can make a device, so one that is there is somebody's trap.
            options.append("nodev")
        if mount.read_only:
            options.append("ro")
        if mount.kind is MountKind.IMAGE:
            layers = tuple(str(path) for path in self._layers.parent_paths(mount.chain))
            return Mount(
                mount.target,
                "bind",
                mount.source,
                tuple(options),
                subpath=mount.subpath,
                layers=layers,
            )
        wanted = mount_of(self._store.get(mount.volume).options)
        source, held = str(self._store.path(mount.volume)), ""
        if wanted is None:
            self._store.ensure(mount.volume)
        elif wanted.bind:
            if not (os.path.isabs(wanted.device) and os.path.exists(wanted.device)):
                raise StartFailed(
                    f"error while mounting volume '{source}': failed to mount local volume: mount "
                    f"{wanted.device}:{source}: no such file or directory",
                    exit_code=127,
                )
            source = wanted.device
            options = [*wanted.words, *options[1:]]
        else:
            held = mount.volume
        return Mount(mount.target, "bind", source, tuple(options), subpath=mount.subpath, held=held)

    async def open(self, names: Sequence[str]) -> list[int]:
        """Return the mounts of volumes that are a file system of their own; the caller closes them.

        Raises StartFailed.
        """
        opened: list[int] = []
        try:
            for name in names:
                volume, place = self._store.get(name), str(self._store.path(name))
                opened.append(await in_thread(partial(self._open_held, volume, place)))
        except BaseException:
            for fd in opened:
                os.close(fd)
            raise
        return opened

    def _open_held(self, volume: Volume, place: str) -> int:
        return hold(self._kernel, open_volume(self._kernel, volume, place))


def _merge_into(lower: LowerTree, base: bytes, directory: int) -> None:
    """Fill `directory`, which is closed here, unless something is in it."""
    try:
        with os.scandir(directory) as entries:
            if any(entry.name != "lost+found" for entry in entries):
                return
        merge_directory(lower, base, directory)
    finally:
        os.close(directory)
