"""docker commit: a container's layer as an image."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from wherry.containers.events import Recorder, container_event
from wherry.containers.freeze import Pauser
from wherry.containers.runtime_spec import View
from wherry.containers.store import ContainerStore
from wherry.images.changes import apply_changes
from wherry.images.making import NewImage
from wherry.model.containers import Container, ContainerSpec, Status
from wherry.model.errors import NotFound
from wherry.model.ids import Digest, Reference
from wherry.model.images import Image, ImageConfig
from wherry.model.views import CommitOptions
from wherry.storage.layers import pack

WriteLayer = Callable[[Callable[[bytes], object]], object]
# What the runtime makes in a container's layer as mount points; Docker keeps them in a layer of their own.
MADE_BY_RUNTIME = frozenset(
    "/.dockerenv /dev /dev/console /dev/pts /dev/shm /dev/mqueue /etc/hostname /etc/hosts /etc/resolv.conf "
    "/proc /sys".split()
)


class Images(Protocol):
    """What is used of the images."""

    def get(self, identifier: Digest, ref: str = "") -> Image: ...


class Maker(Protocol):
    """What makes images."""

    async def make(
        self, base: Image | None, write_layer: WriteLayer | None, new: NewImage
    ) -> Image: ...


class Snapshots(Protocol):
    """What is used of the snapshotter."""

    def view_of(self, key: str, chain: Sequence[Digest]) -> View: ...


class Committer:
    """Makes images of containers."""

    def __init__(
        self,
        *,
        store: ContainerStore,
        images: Images,
        maker: Maker,
        snapshots: Snapshots,
        pauser: Pauser,
        events: Recorder,
    ) -> None:
        self._store = store
        self._images = images
        self._maker = maker
        self._snapshots = snapshots
        self._pauser = pauser
        self._events = events

    async def commit(
        self, ref: str, options: CommitOptions, config: ContainerSpec | None
    ) -> Digest:
        """Return the id of a new image: the container's, its layer, and the configuration changed.

        Raises NotFound, Invalid for `options`, Full.
        """
        container = self._store.resolve(ref)
        reference = Reference.parse(options.name).with_default_tag() if options.name else None
        wanted = apply_changes(image_config(container, config), options.changes)
        base = self._images.get(container.image_id)
        new = NewImage(
            config=wanted,
            created_by=" ".join(container.argv),
            author=options.author,
            comment=options.comment,
            reference=reference,
            container=container.id,
            platform=base.platform,
        )
        paused = options.pause and container.state.status is Status.RUNNING
        if paused:
            await self._pauser.pause(container.id)
        try:
            image = await self._maker.make(base, self._layer(container), new)
            attributes = {"comment": options.comment, "imageID": str(image.id)}
            if reference is not None:
                attributes["imageRef"] = reference.familiar
            self._events.record(container_event(container, "commit", **attributes))
        finally:
            if paused:
                await self._thaw(container)
        return image.id

    async def _thaw(self, container: Container) -> None:
        now = self._store.find(container.id)
        if now is not None and now.state.status is Status.PAUSED:
            await asyncio.shield(self._pauser.unpause(container.id))

    def _layer(self, container: Container) -> WriteLayer:
        try:
            upper = self._snapshots.view_of(container.id, container.chain).upper
        except NotFound:
            upper = None

        def write(out: Callable[[bytes], object]) -> None:
            if upper is None:
                # It never ran: an empty layer, as Docker's commit makes one too.
                out(bytes(1024))
                return
            pack(Path(upper), out, whiteouts=True, include=_is_content)

        return write


def _is_content(path: bytes) -> bool:
    return "/" + os.fsdecode(path) not in MADE_BY_RUNTIME


def image_config(container: Container, override: ContainerSpec | None) -> ImageConfig:
    """Return the image configuration of a container, `override` (the request's body) put over it."""
    spec = container.spec
    config = ImageConfig(
        env=container.env,
        entrypoint=spec.entrypoint,
        command=spec.command,
        working_dir=container.working_dir,
        user=container.user,
        labels=container.labels,
        exposed_ports=spec.exposed_ports,
        volumes=spec.image_volumes,
        stop_signal=spec.stop_signal or "",
        health=spec.health,
        shell=spec.shell,
    )
    if override is None:
        return config
    env = {entry.partition("=")[0]: entry for entry in (*config.env, *override.env)}
    return replace(
        config,
        env=tuple(env.values()),
        entrypoint=config.entrypoint if override.entrypoint is None else override.entrypoint,
        command=config.command if override.command is None else override.command,
        working_dir=override.working_dir or config.working_dir,
        user=override.user or config.user,
        labels=tuple((dict(config.labels) | dict(override.labels)).items()),
        exposed_ports=tuple(dict.fromkeys((*config.exposed_ports, *override.exposed_ports))),
        volumes=tuple(dict.fromkeys((*config.volumes, *override.image_volumes))),
        stop_signal=override.stop_signal or config.stop_signal,
        health=override.health or config.health,
        shell=override.shell or config.shell,
    )
