"""ps, inspect and diff: containers as they are shown."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from wherry.containers import hostfiles
from wherry.containers.commit import MADE_BY_RUNTIME
from wherry.containers.exec_store import ExecStore
from wherry.containers.filters import Ancestry, compile_filters, names_status
from wherry.containers.runtime_spec import View
from wherry.containers.store import ContainerStore
from wherry.containers.transitions import ACTIVE
from wherry.model.containers import Container, MountKind
from wherry.model.errors import NotFound
from wherry.model.ids import Digest
from wherry.model.views import Change, ContainerView, Filters, MountPoint

_SPARE = 256

CHANGED, DELETED = 0, 2


class FoundChange(Protocol):
    """One change as storage finds it."""

    @property
    def path(self) -> str: ...
    @property
    def kind(self) -> ChangeNumber: ...


class ChangeNumber(Protocol):
    """How storage names a change."""

    @property
    def number(self) -> int: ...


class Snapshots(Protocol):
    """What is used of the snapshotter."""

    def view(self, chain: Sequence[Digest]) -> View: ...
    def view_of(self, key: str, chain: Sequence[Digest]) -> View: ...
    def has_upper(self, key: str) -> bool: ...
    def usage(self, path: Path) -> int: ...
    def changes(self, key: str, chain: Sequence[Digest]) -> Iterable[FoundChange]: ...


class ImageFacts(Ancestry, Protocol):
    """What is asked of the images."""

    def size(self, image_id: Digest) -> int: ...
    def named(self, ref: str) -> Digest | None: ...


class Lister:
    """Answers questions about containers."""

    def __init__(
        self,
        *,
        store: ContainerStore,
        execs: ExecStore,
        snapshots: Snapshots,
        images: ImageFacts,
        folder: Callable[[str], Path],
        volume_path: Callable[[str], Path],
    ) -> None:
        self._store = store
        self._execs = execs
        self._snapshots = snapshots
        self._images = images
        self._folder = folder
        self._volume_path = volume_path
        self._views: dict[str, ContainerView] = {}
        self._inspected: dict[str, ContainerView] = {}

    async def list(
        self, *, everything: bool, limit: int, size: bool, filters: Filters
    ) -> list[ContainerView]:
        """Return containers, newest first: those that run, or all; the newest `limit` of all where positive."""
        wanted = compile_filters(filters, self._store, self._images)
        shown = everything or limit > 0 or names_status(filters)
        found = [
            container
            for container in self._store
            if (shown or container.state.status in ACTIVE) and wanted(container)
        ]
        found.sort(key=lambda container: container.created, reverse=True)
        if limit > 0:
            del found[limit:]
        linked = linked_names(self._store)
        names = {name: self._images.named(name) for name in {c.image_name for c in found}}
        stale = {c.id for c in found if names[c.image_name] != c.image_id}
        if size:
            views = [
                await self._measured(self._view(container, linked, layers=True))
                for container in found
            ]
        else:
            views = [self._listed(container, linked) for container in found]
        return [
            replace(view, image_name="") if view.container.id in stale else view for view in views
        ]

    def _listed(self, container: Container, linked: Mapping[str, tuple[str, ...]]) -> ContainerView:
        """Return a listing's view: the same object again while nothing has changed."""
        known = self._views.get(container.id)
        if (
            known is None
            or known.container is not container
            or known.linked_as != linked.get(container.id, ())
            or container.spec.links
        ):
            known = self._view(container, linked, layers=False)
            self._keep(self._views, known)
        return known

    def _keep(self, views: dict[str, ContainerView], view: ContainerView) -> None:
        if len(views) > 2 * len(self._store) + _SPARE:
            views.clear()
        views[view.container.id] = view

    async def inspect(self, ref: str, *, size: bool) -> ContainerView:
        """Return everything about one container. Raises NotFound."""
        view = self.inspect_nowait(ref)
        return await self._measured(view) if size else view

    def inspect_nowait(self, ref: str) -> ContainerView:
        """Return what `inspect` does without sizes: the same object again while nothing has changed.

        A container is replaced in the store by whatever changes it, its state, its networks or its
        health. Beside it there are only its execs, its layer, and those that its links name.
        """
        container = self._store.resolve(ref)
        known = self._inspected.get(container.id)
        if (
            known is None
            or known.container is not container
            or known.exec_ids != self._exec_ids(container)
            or bool(known.upper_dir) is not self._snapshots.has_upper(container.id)
            or container.spec.links
        ):
            known = self._view(container, {}, layers=True)
            self._keep(self._inspected, known)
        return known

    async def changes(self, ref: str) -> list[Change]:
        """Return what its layer has changed, sorted by path. Raises NotFound."""
        container = self._store.resolve(ref)
        return await asyncio.to_thread(self._changes, container)

    def _changes(self, container: Container) -> list[Change]:
        try:
            found = self._snapshots.changes(container.id, container.chain)
            return visible_changes([Change(item.path, item.kind.number) for item in found])
        except (NotFound, FileNotFoundError):
            # It has no layer of its own before it is started or copied into; or it was just removed.
            return []

    async def _measured(self, view: ContainerView) -> ContainerView:
        """Return `view`, which knows its layers, with its sizes."""
        size = await asyncio.to_thread(read_size, self._snapshots, view.upper_dir)
        whole = size + self._image_size(view.container)
        return replace(view, size_rw=size, size_root_fs=whole)

    def _exec_ids(self, container: Container) -> tuple[str, ...]:
        return tuple(entry.id for entry in self._execs.of(container.id) if entry.code is None)

    def _view(
        self, container: Container, linked: Mapping[str, tuple[str, ...]], *, layers: bool
    ) -> ContainerView:
        """Return a container as it is shown, without sizes."""
        files = hostfiles.place_files(self._folder(container.id))
        view = self._layers(container) if layers else None
        return ContainerView(
            container=container,
            image_id=container.image_id,
            image_name=container.image_name,
            mounts=tuple(mount_points(container, self._volume_path)),
            exec_ids=self._exec_ids(container),
            log_path=str(self._folder(container.id) / "logs")
            if container.spec.log.driver == "json-file"
            else "",
            hostname_path=files.hostname,
            hosts_path=files.hosts,
            resolv_conf_path=files.resolv_conf,
            upper_dir=str((view and view.upper) or ""),
            lower_dirs=tuple(str(path) for path in view.lowers) if view else (),
            work_dir=str((view and view.work) or ""),
            links=tuple(self._links(container)),
            linked_as=linked.get(container.id, ()),
        )

    def _links(self, container: Container) -> Iterable[tuple[str, str]]:
        for link in container.spec.links:
            ref, _, alias = link.partition(":")
            other = self._store.find(ref)
            if other is not None:
                yield other.name, alias

    def _layers(self, container: Container) -> View:
        try:
            return self._snapshots.view_of(container.id, container.chain)
        except NotFound:
            return self._snapshots.view(container.chain)

    def _image_size(self, container: Container) -> int:
        try:
            return self._images.size(container.image_id)
        except NotFound:
            return 0


def linked_names(containers: Iterable[Container]) -> dict[str, tuple[str, ...]]:
    """Return the names that legacy links give containers, `web/db`, by the id of the linked one."""
    found: dict[str, tuple[str, ...]] = {}
    for container in containers:
        for link in container.spec.links:
            ref, _, alias = link.partition(":")
            found[ref] = (*found.get(ref, ()), f"{container.name}/{alias}")
    return found


class Measure(Protocol):
    """What measures a tree."""

    def usage(self, path: Path) -> int: ...


def read_size(snapshots: Measure, upper: str) -> int:
    """Return the bytes of a container's own layer; 0 where it has none or has just been removed."""
    if not upper:
        return 0
    try:
        return snapshots.usage(Path(upper))
    except FileNotFoundError:
        return 0


def mount_points(container: Container, place: Callable[[str], object]) -> Iterable[MountPoint]:
    """Yield an inspect's `Mounts`; `place(name)` is where a volume is.

    `--tmpfs` is shown in HostConfig only, as Docker does.
    """
    for mount in container.mounts:
        if mount.kind is MountKind.TMPFS and mount.legacy_tmpfs:
            continue
        mode = mount.mode
        if mount.kind is MountKind.VOLUME:
            yield MountPoint(
                kind=str(mount.kind),
                name=mount.volume,
                source=str(place(mount.volume)),
                destination=mount.target,
                driver=mount.driver,
                mode=mode,
                read_write=not mount.read_only,
            )
            continue
        if mount.legacy_bind:
            mode = mount.bind_text.split(":", 2)[2] if mount.bind_text.count(":") > 1 else ""
        shown = mount.kind is not MountKind.TMPFS
        yield MountPoint(
            kind=str(mount.kind),
            name=mount.source if mount.kind is MountKind.IMAGE else "",
            source=mount.source,
            destination=mount.target,
            mode=mode,
            read_write=not mount.read_only,
            propagation=(mount.propagation or "rprivate") if shown else "",
        )


def visible_changes(found: Iterable[Change]) -> list[Change]:
    """Return the changes without the mount points that the runtime makes, and the folders changed by that."""
    found = list(found)
    own = [change.path for change in found if change.path not in MADE_BY_RUNTIME]
    wanted = [
        change
        for change in found
        if change.kind == DELETED
        or change.path not in MADE_BY_RUNTIME
        or any(path.startswith(change.path + "/") for path in own)
    ]
    parents = {path.rpartition("/")[0] for path in MADE_BY_RUNTIME}
    return [
        change
        for change in wanted
        if change.kind != CHANGED
        or change.path not in parents
        or any(other.path.startswith(change.path + "/") for other in wanted)
    ]
