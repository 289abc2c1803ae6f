"""docker volume: create, ls, inspect, rm, prune, and who uses what.

A volume is in use as long as a container exists that mounts it, running or not, or one is being made.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from wherry.containers.events import Recorder
from wherry.containers.live import Tasks
from wherry.containers.store import ContainerStore
from wherry.containers.volume_filters import compile_list_filters, compile_prune_filters
from wherry.model.containers import Container, MountKind
from wherry.model.errors import Conflict, Invalid, NotFound
from wherry.model.events import Event, prune_event
from wherry.model.ids import new_id
from wherry.model.views import Filters, Pruned
from wherry.model.volumes import ANONYMOUS, LOCAL, Volume, VolumeRequest, VolumeView
from wherry.storage.volume_mounts import check_options
from wherry.storage.volumes import NoSuchVolume, check_volume_name


class Store(Protocol):
    """What is used of the volumes' storage."""

    def __iter__(self) -> Iterator[Volume]: ...
    def find(self, name: str) -> Volume | None: ...
    def get(self, name: str) -> Volume: ...
    def path(self, name: str) -> Path: ...
    def add(self, volume: Volume) -> Volume: ...
    def remove(self, name: str) -> Sequence[Path]: ...
    def usage(self, name: str) -> int: ...


class NoSuchDriver(NotFound):
    """A volume driver other than `local` is asked for."""

    def __init__(self, name: str, driver: str) -> None:
        super().__init__("volume driver", driver)
        self.message = (
            f'create {name}: error looking up volume plugin {driver}: plugin "{driver}" not found'
        )


class VolumeService:
    """Everything that can be asked of volumes."""

    def __init__(
        self,
        *,
        store: Store,
        containers: ContainerStore,
        events: Recorder,
        tasks: Tasks,
        remove_tree: Callable[[Path], None],
        clock: Callable[[], int],
    ) -> None:
        self._store = store
        self._containers = containers
        self._events = events
        self._tasks = tasks
        self._remove_tree = remove_tree
        self._clock = clock
        self._held: dict[str, Counter[str]] = {}

    # -- the API -----------------------------------------------------------------------------

    async def create(self, request: VolumeRequest) -> VolumeView:
        """Make a volume, or find the one of that name as it is. Raises Invalid, NotFound, Full."""
        return self._view(self.make(request)[0])

    async def list(self, filters: Filters) -> list[VolumeView]:
        """Return the volumes that pass, by name. Raises Invalid."""
        used = self._used()
        wanted = compile_list_filters(filters, lambda name: name in used)
        found = sorted(filter(wanted, self._store), key=lambda volume: volume.name)
        return [self._view(volume) for volume in found]

    async def inspect(self, name: str) -> VolumeView:
        """Return one volume. Raises NotFound."""
        return self._view(self._store.get(name))

    async def remove(self, name: str, *, force: bool) -> None:
        """Remove a volume that no container mounts. Raises NotFound unless `force`, Conflict."""
        volume = self._store.find(name)
        if volume is None:
            if force:
                return
            raise NoSuchVolume(name)
        if users := self.users(name):
            raise Conflict(f"remove {name}: volume is in use - [{', '.join(users)}]")
        self._take_away(volume)

    async def prune(self, filters: Filters, *, everything: bool) -> Pruned:
        """Remove what no container mounts: anonymous volumes, with `everything` (or all=1) named ones too."""
        wanted = compile_prune_filters(filters, everything=everything)
        deleted: list[str] = []
        space = 0
        for volume in sorted(filter(wanted, self._store), key=lambda volume: volume.name):
            if self.users(volume.name):
                continue
            size = 0 if volume.options else await self._size(volume.name)
            # It may have been taken into use, or away, while it was measured.
            if self._store.find(volume.name) is volume and not self.users(volume.name):
                self._take_away(volume)
                deleted.append(volume.name)
                space += size
        self._events.record(prune_event("volume", space))
        return Pruned(tuple(deleted), space)

    async def usage(self) -> list[VolumeView]:
        """Return the volumes that are directories of this engine, with sizes and how many use them."""
        used = self._used()
        return [
            self._view(volume, await self._size(volume.name), used[volume.name])
            for volume in sorted(self._store, key=lambda volume: volume.name)
            if not volume.options
        ]

    def _size(self, name: str) -> Awaitable[int]:
        return asyncio.to_thread(self._store.usage, name)

    def _view(self, volume: Volume, size: int = -1, users: int = -1) -> VolumeView:
        return VolumeView(volume, str(self._store.path(volume.name)), size, users)

    # -- for those who make and remove containers --------------------------------------------

    def make(self, request: VolumeRequest, otherwise: str = "") -> tuple[Volume, bool]:
        """Return the volume that is asked for, and whether it was made just now.

        One that nobody named is called `otherwise`, or anything. Raises Invalid, NotFound for the driver, Full.
        """
        name = request.name
        if request.driver not in ("", LOCAL):
            raise NoSuchDriver(name, request.driver)
        if name and (found := self._store.find(name)):
            return found, False
        labels = request.labels
        if not name:
            name = otherwise or new_id()
            labels = tuple(sorted((dict(labels or ()) | {ANONYMOUS: ""}).items()))
        check_volume_name(name)
        options = dict(request.options or ())
        if any("\0" in text for pair in options.items() for text in pair):
            raise Invalid(f"create {name}: a NUL character in an option")
        check_options(name, options)
        volume = self._store.add(Volume(name, self._clock(), labels, request.options))
        self._record("create", volume)
        return volume, True

    def users(self, name: str) -> list[str]:
        """Return the ids of the containers that mount the volume `name`, or are being made with it."""
        found = [c.id for c in self._containers if c.points and name in _names(c)]
        return found + [holder for holder in self._held.get(name, ()) if holder not in found]

    def _used(self) -> Counter[str]:
        used = Counter(
            name
            for container in self._containers
            if container.points
            for name in set(_names(container))
        )
        for name in self._held:
            used[name] += 1
        return used

    @contextmanager
    def holding(self, container_id: str) -> Generator[Callable[[str], None]]:
        """Give a function that keeps the volume of a name in use until the block ends."""
        held: list[str] = []

        def hold(name: str) -> None:
            held.append(name)
            self._held.setdefault(name, Counter())[container_id] += 1

        try:
            yield hold
        finally:
            for name in held:
                counts = self._held[name]
                counts[container_id] -= 1
                if not +counts:
                    del self._held[name]

    def let_go(self, container: Container) -> None:
        """Remove the anonymous volumes of a container that is gone, but for those that another mounts."""
        for mount in container.points or ():
            if mount.kind is MountKind.VOLUME and not mount.source:
                volume = self._store.find(mount.volume)
                if volume is not None and not self.users(mount.volume):
                    self._take_away(volume)

    def tell_mounted(self, container: Container) -> None:
        """Record that a container has its volumes."""
        for mount in container.points or ():
            if mount.kind is MountKind.VOLUME:
                self._events.record(
                    _event(
                        "mount",
                        mount.volume,
                        container=container.id,
                        destination=mount.target,
                        driver=mount.driver,
                        propagation="",
                        **{"read/write": "false" if mount.read_only else "true"},
                    )
                )

    def tell_unmounted(self, container: Container) -> None:
        """Record that a container has let go of its volumes."""
        for mount in container.points or ():
            if mount.kind is MountKind.VOLUME:
                self._events.record(
                    _event("unmount", mount.volume, container=container.id, driver=mount.driver)
                )

    def discard(self, volume: Volume) -> None:
        """Take a volume away again that was made for a container which could not be made."""
        if self._store.find(volume.name) is volume and not self.users(volume.name):
            self._take_away(volume)

    def _take_away(self, volume: Volume) -> None:
        graves = self._store.remove(volume.name)
        self._record("destroy", volume)
        for grave in graves:
            self._tasks.spawn(self._bury(grave))

    async def _bury(self, grave: Path) -> None:
        try:
            await asyncio.to_thread(self._remove_tree, grave)
        except OSError:
            # It stays in the trash for the next start.
            return

    def _record(self, action: str, volume: Volume) -> None:
        self._events.record(_event(action, volume.name, driver=volume.driver))


def _names(container: Container) -> list[str]:
    return [mount.volume for mount in container.points or () if mount.volume]


def _event(action: str, name: str, **attributes: str) -> Event:
    return Event("volume", action, name, tuple(sorted(attributes.items())))
