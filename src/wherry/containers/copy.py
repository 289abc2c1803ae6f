"""docker cp and export: archives out of and into a container, running or not."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

from wherry.containers.events import Recorder, container_event
from wherry.containers.inside import (
    NoSuchPath,
    Wanted,
    as_problem,
    open_path,
    parse_path,
    stat_path,
)
from wherry.containers.live import Lives
from wherry.containers.roots import Root, Roots
from wherry.containers.store import ContainerStore
from wherry.containers.transitions import ALIVE
from wherry.images.bridge import Flow, bytes_from, in_thread
from wherry.kernel.paths import open_in_root
from wherry.model.containers import Container
from wherry.model.errors import Invalid, Unavailable
from wherry.model.views import ByteSource, PathStat
from wherry.storage.layers import extract, pack
from wherry.storage.layers.compression import decompressed


class Copier:
    """Copies between containers and the outside, each in a thread of its own."""

    def __init__(
        self, *, store: ContainerStore, lives: Lives, roots: Roots, events: Recorder
    ) -> None:
        self._store = store
        self._lives = lives
        self._roots = roots
        self._events = events

    async def stat(self, ref: str, path: str) -> PathStat:
        """Return what is at `path`. Raises NotFound, Invalid."""
        container = self._store.resolve(ref)
        wanted = parse_path(path)
        return await in_thread(lambda: self._stat(container, wanted, ref))

    def _stat(self, container: Container, wanted: Wanted, ref: str) -> PathStat:
        with self._roots.reading(container, wanted) as root:
            if is_hidden(root, root.path):
                raise NoSuchPath(wanted.text, ref)
            return stat_path(root.fd, replace(wanted, path=root.path), ref)

    async def read(self, ref: str, path: str) -> tuple[PathStat, AsyncIterator[bytes]]:
        """Return what is at `path`, and an archive of it. Raises NotFound, Invalid."""
        container = self._store.resolve(ref)
        wanted = parse_path(path)
        found = await self.stat(ref, path)
        self._events.record(container_event(container, "archive-path"))

        def work(write: Callable[[bytes], None]) -> None:
            with self._roots.reading(container, wanted) as root:
                _pack(root, replace(wanted, path=root.path), ref, write)

        return found, bytes_from(work)

    async def write(
        self,
        ref: str,
        path: str,
        body: ByteSource,
        *,
        no_overwrite_dir_non_dir: bool,
        copy_uid_gid: bool,
    ) -> None:
        """Extract the archive `body` (plain or compressed) into the directory `path`.

        Owners are the archive's whatever `copy_uid_gid` says, as with Docker 28. Raises NotFound, Invalid.
        """
        container = self._store.resolve(ref)
        wanted = parse_path(path)
        if container.state.status in ALIVE:
            await self._write(container, wanted, ref, body, no_overwrite_dir_non_dir)
        else:
            # Two overlays must not share an upper directory: no start meanwhile.
            async with self._lives.get(container.id).lock:
                container = self._store.get(container.id)
                await self._write(container, wanted, ref, body, no_overwrite_dir_non_dir)
        self._events.record(container_event(container, "extract-to-dir"))

    async def _write(
        self,
        container: Container,
        wanted: Wanted,
        ref: str,
        body: ByteSource,
        no_overwrite: bool,
    ) -> None:
        flow = Flow()

        def work() -> None:
            with self._roots.writing(container, wanted) as root:
                here = replace(wanted, path=root.path)
                _check_directory(root, here, ref)
                _, plain = decompressed(flow)
                with self._roots.acting_as(root.base):
                    extract(
                        plain,
                        root.fd,
                        here.path.lstrip("/") or ".",
                        owner=root.to_disk,
                        no_overwrite_dir_non_dir=no_overwrite,
                    )
                # What follows the archive's end is read too, so that the client may finish sending.
                while flow.read():
                    pass

        filling = asyncio.create_task(flow.fill(body))
        try:
            await in_thread(work)
        except asyncio.CancelledError:
            flow.end(Unavailable("the client went away before the end"))
            raise
        finally:
            filling.cancel()
            await asyncio.gather(filling, return_exceptions=True)

    async def export(self, ref: str) -> AsyncIterator[bytes]:
        """Return an archive of the container's whole tree, without mounts. Raises NotFound."""
        container = self._store.resolve(ref)

        def work(write: Callable[[bytes], None]) -> None:
            with self._roots.layers(container) as fd:
                pack(fd, write)

        self._events.record(container_event(container, "export"))
        return bytes_from(work)


def _pack(root: Root, wanted: Wanted, ref: str, write: Callable[[bytes], object]) -> None:
    fd = open_path(root.fd, wanted, ref)
    try:
        is_directory = stat.S_ISDIR(os.fstat(fd).st_mode)
        if is_directory:
            folder = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=fd)
            os.close(fd)
            fd = folder
            pack(
                fd,
                write,
                prefix=os.fsencode(wanted.name),
                root_entry=True,
                include=_visible(root, wanted.path),
                owner=root.from_disk,
            )
            return
        path, name = os.fsencode(wanted.path.lstrip("/")), os.fsencode(wanted.name)
        pack(root.fd, write, path=path, prefix=name, owner=root.from_disk)
    finally:
        os.close(fd)


def is_hidden(root: Root, path: str) -> bool:
    """Return whether `path` lies below one of the kernel's own file systems."""
    return any(path.startswith(f"{point}/") for point in root.hidden)


def _visible(root: Root, path: str) -> Callable[[bytes], bool] | None:
    """Return a test that leaves out what lies below the kernel's own file systems."""
    base = path.rstrip("/") + "/"
    below = tuple(
        os.fsencode(point[len(base) :] + "/") for point in root.hidden if point.startswith(base)
    )
    if not below:
        return None
    return lambda name: not name.startswith(below)


def _check_directory(root: Root, wanted: Wanted, ref: str) -> None:
    try:
        os.close(open_in_root(root.fd, wanted.path, os.O_PATH))
    except OSError as error:
        raise as_problem(error, wanted, ref) from error
    try:
        os.close(open_in_root(root.fd, wanted.path, os.O_PATH | os.O_DIRECTORY))
    except NotADirectoryError:
        raise Invalid("extraction point is not a directory") from None
    if wanted.path in root.hidden or is_hidden(root, wanted.path):
        raise Invalid(
            f"{wanted.text} is on a file system of the kernel's: nothing can be put there"
        )
