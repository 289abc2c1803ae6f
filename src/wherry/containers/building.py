"""The steps of builds as containers: isolated as all are, in no list, with no row in the database.

A daemon that dies leaves a process that the supervisor has and no row knows: the next one kills it, and
throws its directory away (`reconcile`).

    attach > start > output > the exit > forget > the output's end
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from wherry.containers.checks import check_spec
from wherry.containers.endpoints import DEFAULT_MODES, wanted_endpoints
from wherry.containers.networking import Networking
from wherry.containers.start import Starter, naming_full_disk
from wherry.kernel import mount
from wherry.kernel.calls import Kernel
from wherry.kernel.workshop import hold
from wherry.model.containers import (
    Container,
    ContainerSpec,
    LogConfig,
    MountKind,
    MountSpec,
    Namespaces,
    Security,
    Ulimit,
)
from wherry.model.errors import NotFound, Unavailable
from wherry.model.ids import Digest
from wherry.model.oci import Mount
from wherry.model.resources import Limits, validate, with_defaults
from wherry.supervisor.messages import Attachment, Exit, Launch, Started

_HOSTNAME = "buildkitsandbox"
"""As BuildKit's, so that what is built does not hang on where."""
_HEADER = 8
_KILL = 9
_KILL_SECONDS = 30.0
_PLACEHOLDER = Digest("sha256", "0" * 64)
_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC


class FileMount(Protocol):
    """A file whose content never touches a disk."""

    @property
    def target(self) -> str: ...
    @property
    def content(self) -> bytes: ...
    @property
    def mode(self) -> int: ...
    @property
    def uid(self) -> int: ...
    @property
    def gid(self) -> int: ...


class Supervisor(Protocol):
    """What is used of the supervisor's client."""

    async def start(self, launch: Launch, mounts: Sequence[int] = ()) -> Started: ...
    async def attach(self, key: str, attachment: Attachment, fd: int, initial: bytes) -> None: ...
    async def signal(self, key: str, signo: int) -> None: ...
    async def forget(self, key: str) -> None: ...


class Bin(Protocol):
    """Where directories go that are no longer wanted."""

    def throw(self, path: Path) -> None: ...


class BuildContainers:
    """Runs commands over layers. `build.runner` has the words for what is asked."""

    def __init__(
        self,
        *,
        starter: Starter,
        supervisor: Supervisor,
        trash: Bin,
        folder: Callable[[str], Path],
        kernel: Kernel,
        networking: Networking,
        default_network: str,
    ) -> None:
        """`default_network` is the network of steps that ask for none."""
        self._networking = networking
        self._default_network = default_network
        self._starter = starter
        self._supervisor = supervisor
        self._trash = trash
        self._folder = folder
        self._kernel = kernel
        self._running: dict[str, asyncio.Future[Exit]] = {}
        self._begun: set[str] = set()

    def take_exit(self, end: Exit) -> bool:
        """Note the end of a process; False where it is none of a build's."""
        waiting = self._running.get(end.key)
        if waiting is None:
            return False
        if not waiting.done():
            waiting.set_result(end)
        return True

    def begun(self) -> frozenset[str]:
        """Return the keys of processes that were started and have not ended."""
        return frozenset(key for key in self._begun if not self._running[key].done())

    def discard(self, key: str) -> None:
        """Take away all that is left of `key`; missing is fine."""
        self._trash.throw(self._folder(key))

    async def run(
        self,
        container: Container,
        files: Sequence[FileMount],
        output: Callable[[int, bytes], None],
    ) -> int:
        """Run a container that has no row, and return its exit code.

        Raises Invalid, Unsupported for what was asked of it, StartFailed, Unavailable.
        """
        check_spec(container.spec)
        validate(with_defaults(container.spec.limits), cpus=os.cpu_count())
        ended: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()
        self._running[container.id] = ended
        ours, theirs = socket.socketpair()
        copying: asyncio.Task[None] | None = None
        started = forgotten = False
        held: dict[str, int] = {}
        try:
            copying = asyncio.create_task(_copy(ours, output))
            extra = [self._memory_file(container.id, n, f, held) for n, f in enumerate(files)]
            prepared = await self._networking.attach(self._in_network(container))
            container = prepared.container
            launch = await asyncio.to_thread(
                self._starter.prepare, container, prepared.wiring, extra
            )
            await self._supervisor.attach(
                container.id, Attachment(False, True, True), theirs.detach(), b""
            )
            started = True
            with naming_full_disk("of the build", self._folder(container.id)):
                begun = await self._supervisor.start(launch, [held[name] for name in launch.held])
            self._begun.add(container.id)
            self._networking.started(container, begun.descriptors)
            # Shielded: a task that is cancelled cancels the future that it waits for, and the kill below
            # would take that for the exit.
            end = await asyncio.shield(ended)
            # The supervisor ends the stream when it may forget the process.
            await self._supervisor.forget(container.id)
            await copying
            forgotten = True
            return end.code
        except asyncio.CancelledError:
            if started:
                await asyncio.shield(self._kill(container.id, ended))
            raise
        finally:
            for fd in held.values():
                os.close(fd)
            theirs.close()
            if copying is not None:
                copying.cancel()
                await asyncio.gather(copying, return_exceptions=True)
            ours.close()
            self._begun.discard(container.id)
            del self._running[container.id]
            if not forgotten:
                await asyncio.shield(self._supervisor.forget(container.id))
            await asyncio.shield(self._networking.release(container))

    def _in_network(self, container: Container) -> Container:
        """Return the container with the networks that its mode means. Raises Invalid."""
        spec = container.spec
        if spec.namespaces.network in DEFAULT_MODES:
            mode = replace(spec.namespaces, network=self._default_network)
            spec = replace(spec, namespaces=mode)
        spec = replace(spec, endpoints=wanted_endpoints(spec))
        return replace(container, spec=self._networking.checked(spec))

    async def _kill(self, key: str, ended: asyncio.Future[Exit]) -> None:
        deadline = time.monotonic() + _KILL_SECONDS
        # A start that is under way is not to be found yet.
        while not ended.done():
            with contextlib.suppress(NotFound):
                await self._supervisor.signal(key, _KILL)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(ended), 0.2)
            if time.monotonic() > deadline:
                raise Unavailable(f"the build's container {key} could not be killed")

    def _memory_file(self, key: str, number: int, file: FileMount, held: dict[str, int]) -> Mount:
        """Put a file on a tmpfs of its own that is handed over as a descriptor and attached nowhere else."""
        name = f"{key[:12]}-{number}"
        tree = mount.new_filesystem(self._kernel, "tmpfs", (("mode", "0755"),))
        held[name] = tree
        fd = os.open("file", _FILE, 0o600, dir_fd=tree)
        try:
            with os.fdopen(fd, "wb", closefd=False) as out:
                out.write(file.content)
            os.fchown(fd, file.uid, file.gid)
            os.fchmod(fd, file.mode)
        finally:
            os.close(fd)
        del held[name]
        held[name] = hold(self._kernel, tree)
        options = ("bind", "rprivate", "ro", "nodev")
        return Mount(file.target, "bind", f"/{name}", options, subpath="file", held=name)


async def _copy(ours: socket.socket, output: Callable[[int, bytes], None]) -> None:
    """Hand on the frames of an attach stream until its end. Source: Engine API, attach."""
    ours.setblocking(False)
    loop = asyncio.get_running_loop()
    buffer = b""
    while data := await loop.sock_recv(ours, 1 << 16):
        buffer += data
        at = 0
        while len(buffer) - at >= _HEADER:
            size = int.from_bytes(buffer[at + 4 : at + _HEADER], "big")
            if len(buffer) - at - _HEADER < size:
                break
            output(buffer[at], buffer[at + _HEADER : at + _HEADER + size])
            at += _HEADER + size
        buffer = buffer[at:]


def step_container(
    key: str,
    *,
    chain: tuple[Digest, ...],
    argv: tuple[str, ...],
    env: tuple[str, ...],
    working_dir: str,
    user: str,
    mounts: tuple[MountSpec, ...],
    network: str,
    insecure: bool,
    limits: Limits,
    ulimits: tuple[Ulimit, ...],
    shm_size: int,
    cgroup_parent: str,
    extra_hosts: tuple[str, ...],
    architecture: str,
) -> Container:
    """Return the container that a step runs in."""
    spec = ContainerSpec(
        image="",
        # What is written becomes a layer that is synced by itself: no sync at the end.
        auto_remove=True,
        mounts=mounts,
        limits=limits,
        ulimits=ulimits,
        shm_size=shm_size,
        cgroup_parent=cgroup_parent,
        extra_hosts=extra_hosts,
        log=LogConfig("none"),
        namespaces=Namespaces(network=network),
        security=Security(privileged=insecure),
    )
    return Container(
        id=key,
        name=key[:12],
        created=time.time_ns(),
        spec=spec,
        image_id=_PLACEHOLDER,
        image_name="",
        argv=argv,
        env=env,
        working_dir=working_dir,
        user=user,
        stop_signal="",
        labels=(),
        hostname=_HOSTNAME,
        chain=chain,
        architecture=architecture,
    )


def bind(target: str, source: str, *, read_only: bool) -> MountSpec:
    """Return a bind mount as a step has it."""
    return MountSpec(MountKind.BIND, target, source, read_only=read_only)


def layers(target: str, chain: tuple[Digest, ...], path: str) -> MountSpec:
    """Return a mount of the tree of layers, read-only."""
    return MountSpec(
        MountKind.IMAGE, target, "a stage", read_only=True, chain=chain, image_subpath=path
    )


def memory(target: str, size: int) -> MountSpec:
    """Return a tmpfs that programs may be executed on, as BuildKit's."""
    return MountSpec(MountKind.TMPFS, target, tmpfs_size=size, tmpfs_options="exec")
