"""Services that keep everything in memory: enough for the API to be driven over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from wherry.api.services import Services
from wherry.build.files import Export, Exported, Exporter
from wherry.build.service import CacheRecord
from wherry.build.service import Pruned as BuildPruned
from wherry.build.service import Pruning as BuildPruning
from wherry.containers.network_store import NoSuchNetwork
from wherry.model.build import (
    BuildRequest,
    BuildWarning,
    ContextRef,
    Finished,
    SecretSource,
    StepDone,
    StepFailed,
    StepRef,
    StepStarted,
)
from wherry.model.build import Progress as BuildProgress
from wherry.model.containers import (
    Container,
    ContainerSpec,
    ExecSpec,
    RestartPolicy,
    Status,
)
from wherry.model.errors import (
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    StartFailed,
    WherryError,
)
from wherry.model.events import Event
from wherry.model.ids import Digest, new_id
from wherry.model.images import HistoryEntry, Image, ImageConfig, Layer, Platform
from wherry.model.manifest_lists import ManifestList
from wherry.model.networks import Driver, EndpointSpec, Network, NetworkSpec
from wherry.model.resources import Limits
from wherry.model.stats import BlkioStats, CgroupStats, CpuStats, MemoryStats, PidsStats
from wherry.model.views import (
    AttachOptions,
    ByteSource,
    Change,
    CommitOptions,
    ContainerView,
    Created,
    DistributionView,
    EngineFacts,
    ExecView,
    Exited,
    Filters,
    ImageDeletion,
    LogOptions,
    MountPoint,
    NetworkView,
    PathStat,
    Progress,
    Pruned,
    RegistryStatus,
    Repaired,
    SearchResult,
    StatsSample,
)
from wherry.model.volumes import ANONYMOUS, Volume, VolumeRequest, VolumeView
from wherry.registry.credentials import Credentials
from wherry.storage.volumes import NoSuchVolume

DIGEST = Digest("sha256", "1" * 64)
LAYER = Layer(DIGEST, DIGEST, DIGEST, "application/vnd.oci.image.layer.v1.tar", 100, 200)
IMAGE = Image(
    id=DIGEST,
    manifest=DIGEST,
    config=ImageConfig(env=("PATH=/bin",), command=("sh",), labels=(("a", "b"),)),
    layers=(LAYER,),
    created="2026-01-02T03:04:05.000000006Z",
    names=("busybox:latest",),
    history=(
        HistoryEntry("2026-01-02T03:04:05Z", "ADD rootfs"),
        HistoryEntry("2026-01-02T03:04:06Z", "CMD sh", empty_layer=True),
    ),
    last_tagged=1_767_323_045_000_000_000,
)
FACTS = EngineFacts(
    id="id",
    name="host",
    version="0.1.0",
    data_root="/var/lib/wherry",
    exec_root="/run/wherry",
    kernel="6.18",
    operating_system="Debian",
    os_version="13",
    architecture="x86_64",
    cpus=2,
    memory=8 << 30,
    cgroup_version=1,
    cgroup_driver="cgroupfs",
    storage_driver="overlay2",
    backing_fs="extfs",
    default_log_driver="json-file",
    security_options=("name=seccomp,profile=builtin", "name=userns"),
    labels=(),
    warnings=(),
    init_path="wherry-init",
    features=(("MemoryLimit", True), ("IPv4Forwarding", True)),
)


def frame(stream: int, data: bytes) -> bytes:
    """One piece of a multiplexed stream."""
    return bytes((stream, 0, 0, 0)) + len(data).to_bytes(4) + data


def echo(
    fd: int,
    initial: bytes,
    *,
    framed: bool,
    prefix: bytes = b"",
    done: Callable[[], object] = lambda: None,
) -> None:
    """Serve a hijacked connection from a thread: echo until its client's end, then close."""

    def serve() -> None:
        with contextlib.suppress(OSError, RuntimeError), socket.socket(fileno=fd) as stream:
            assert stream.getblocking()
            data = prefix + initial
            while True:
                if data:
                    stream.sendall(frame(1, data) if framed else data)
                data = stream.recv(65536)
                if not data:
                    break
            done()
            stream.shutdown(socket.SHUT_RDWR)

    threading.Thread(target=serve, daemon=True).start()


@dataclass
class Exec:
    container: str
    spec: ExecSpec
    running: bool = False
    exit_code: int | None = None


@dataclass
class FakeContainers:
    """Containers that do nothing. `calls` records what was asked, arguments and all."""

    rows: dict[str, Container] = field(default_factory=dict)
    execs: dict[str, Exec] = field(default_factory=dict)
    calls: list[tuple[Any, ...]] = field(default_factory=list)
    ended: dict[str, asyncio.Event] = field(default_factory=dict)
    fail_start: StartFailed | None = None
    cancelled: int = 0
    written: bytes = b""
    slow: asyncio.Event | None = None
    log_pieces: tuple[bytes, ...] = (frame(1, b"hello\n"), frame(2, b"oops\n"))

    def find(self, ref: str) -> Container:
        for row in self.rows.values():
            if ref in (row.id, row.name) or (ref and row.id.startswith(ref)):
                return row
        raise NotFound("container", ref)

    def put(self, container: Container, **changes: Any) -> None:
        state = replace(container.state, **changes)
        self.rows[container.id] = replace(container, state=state)

    async def create(self, spec: ContainerSpec, name: str) -> Created:
        self.calls.append(("create", spec, name))
        if spec.image not in ("busybox", "busybox:latest", str(DIGEST)):
            raise NotFound("image", f"{spec.image}:latest")
        container_id = new_id()
        argv = (spec.entrypoint or ()) + (spec.command or ("sh",))
        self.rows[container_id] = Container(
            id=container_id,
            name=name or "brave_dart",
            created=time.time_ns(),
            spec=replace(spec, command=argv[len(spec.entrypoint or ()) :] or None),
            image_id=DIGEST,
            image_name=spec.image,
            argv=argv,
            env=("PATH=/bin", *spec.env),
            working_dir=spec.working_dir or "/",
            user=spec.user,
            stop_signal="SIGTERM",
            labels=spec.labels,
            hostname=container_id[:12],
            chain=(DIGEST,),
        )
        self.ended[container_id] = asyncio.Event()
        return Created(container_id, ("take care",) if name == "/warned" else ())

    async def start(self, ref: str) -> bool:
        self.calls.append(("start", ref))
        row = self.find(ref)
        if self.fail_start is not None:
            self.put(row, exit_code=self.fail_start.exit_code, error=str(self.fail_start))
            self.ended[row.id].set()
            raise self.fail_start
        if row.state.status is Status.RUNNING:
            return False
        self.put(row, status=Status.RUNNING, pid=42, started_at=time.time_ns())
        if row.argv[0] == "true":
            self.end(row.id, 0)
        return True

    def end(self, container_id: str, code: int) -> None:
        row = self.rows[container_id]
        self.put(row, status=Status.EXITED, pid=0, exit_code=code, finished_at=time.time_ns())
        self.ended[container_id].set()

    async def stop(self, ref: str, timeout: int | None, signal: str) -> bool:
        self.calls.append(("stop", ref, timeout, signal))
        row = self.find(ref)
        if row.state.status is not Status.RUNNING:
            return False
        self.end(row.id, 137)
        return True

    async def restart(self, ref: str, timeout: int | None, signal: str) -> None:
        self.calls.append(("restart", self.find(ref).id, timeout, signal))

    async def kill(self, ref: str, signal: str) -> None:
        self.calls.append(("kill", self.find(ref).id, signal))

    async def pause(self, ref: str) -> None:
        self.put(self.find(ref), status=Status.PAUSED)

    async def unpause(self, ref: str) -> None:
        self.put(self.find(ref), status=Status.RUNNING)

    async def rename(self, ref: str, name: str) -> None:
        row = self.find(ref)
        self.rows[row.id] = replace(row, name=name)

    async def remove(self, ref: str, *, force: bool, volumes: bool, link: bool) -> None:
        row = self.find(ref)
        self.calls.append(("remove", row.id, force, volumes, link))
        if row.state.status is Status.RUNNING and not force:
            raise Conflict(f'cannot remove container "{row.name}": container is running')
        self.ended[row.id].set()
        del self.rows[row.id]

    async def wait(self, ref: str, condition: str) -> Awaitable[Exited]:
        row = self.find(ref)
        self.calls.append(("wait", ref, condition))

        async def exited() -> Exited:
            try:
                if condition != "not-running" or row.state.status is Status.RUNNING:
                    await self.ended[row.id].wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
            return Exited(self.rows.get(row.id, row).state.exit_code)

        return exited()

    async def check_attach(self, ref: str, options: AttachOptions) -> Container:
        if self.slow is not None:
            await self.slow.wait()
        return self.find(ref)

    async def attach(self, ref: str, options: AttachOptions, fd: int, initial: bytes) -> None:
        self.calls.append(("attach", ref, options, initial))
        prefix = b"attached\n" if options.logs else b""
        loop, row = asyncio.get_running_loop(), self.find(ref)

        def done() -> None:
            if options.stdin:
                loop.call_soon_threadsafe(self.end, row.id, 0)

        echo(fd, initial, framed=options.multiplexed, prefix=prefix, done=done)

    async def resize(self, ref: str, rows: int, columns: int) -> None:
        self.calls.append(("resize", self.find(ref).id, rows, columns))

    async def logs(self, ref: str, options: LogOptions) -> tuple[bool, AsyncIterator[bytes]]:
        row = self.find(ref)
        self.calls.append(("logs", ref, options))

        async def pieces() -> AsyncIterator[bytes]:
            try:
                for piece in self.log_pieces:
                    yield piece
                if options.follow:
                    await self.ended[row.id].wait()
            except (asyncio.CancelledError, GeneratorExit):
                self.cancelled += 1
                raise

        return row.spec.tty, pieces()

    async def top(self, ref: str, ps_args: str) -> tuple[list[str], list[list[str]]]:
        self.find(ref)
        return ["PID", "CMD"], [["1", ps_args]]

    async def stats(self, ref: str) -> StatsSample:
        row = self.find(ref)
        running = row.state.status is Status.RUNNING
        counters = CgroupStats(
            CpuStats(total_ns=5, user_ns=3, system_ns=2, per_cpu_ns=(2, 3)),
            MemoryStats(1000, 2**63 - 4096, 2000, 0, {"cache": 1}),
            PidsStats(2, 10),
            BlkioStats(),
            1,
        )
        return StatsSample(row.id, row.name, time.time_ns(), counters if running else None, 2, 77)

    async def update(
        self, ref: str, limits: Limits, restart: RestartPolicy | None
    ) -> tuple[str, ...]:
        self.calls.append(("update", self.find(ref).id, limits, restart))
        return ()

    async def list(
        self, *, everything: bool, limit: int, size: bool, filters: Filters
    ) -> list[ContainerView]:
        self.calls.append(("list", everything, limit, size, dict(filters)))
        rows = (r for r in self.rows.values() if everything or r.state.status is Status.RUNNING)
        return [self.view(row) for row in rows]

    def view(self, row: Container) -> ContainerView:
        return ContainerView(
            row,
            DIGEST,
            mounts=(MountPoint("bind", "/tmp", "/x", "ro", False, "rprivate"),),
            lower_dirs=("/a", "/b"),
            upper_dir="/u",
        )

    async def inspect(self, ref: str, *, size: bool) -> ContainerView:
        view = self.inspect_nowait(ref)
        return replace(view, size_rw=0, size_root_fs=9) if size else view

    def inspect_nowait(self, ref: str) -> ContainerView:
        return self.view(self.find(ref))

    async def plan(self, ref: str) -> str:
        return f"clone {self.find(ref).id}\n"

    async def changes(self, ref: str) -> list[Change]:
        self.find(ref)
        return [Change("/new", 1)]

    async def stat_path(self, ref: str, path: str) -> PathStat:
        self.find(ref)
        return PathStat(path.rsplit("/", 1)[-1], 3, 0o644, 1_700_000_000_000_000_000)

    async def read_archive(self, ref: str, path: str) -> tuple[PathStat, AsyncIterator[bytes]]:
        return await self.stat_path(ref, path), _pieces(b"tar", b"ball")

    async def write_archive(
        self,
        ref: str,
        path: str,
        body: ByteSource,
        *,
        no_overwrite_dir_non_dir: bool,
        copy_uid_gid: bool,
    ) -> None:
        self.calls.append(("write_archive", ref, path, no_overwrite_dir_non_dir, copy_uid_gid))
        self.find(ref)
        pieces: list[bytes] = []
        try:
            while piece := await body.read():
                pieces.append(piece)
        except BaseException:
            self.cancelled += 1
            raise
        self.written = b"".join(pieces)

    async def export(self, ref: str) -> AsyncIterator[bytes]:
        self.find(ref)
        return _pieces(*(b"x" * 100_000 for _ in range(50)))

    async def commit(
        self, ref: str, options: CommitOptions, config: ContainerSpec | None
    ) -> Digest:
        self.calls.append(("commit", self.find(ref).id, options, config))
        return DIGEST

    async def prune(self, filters: Filters) -> Pruned:
        return Pruned((), 0)

    async def exec_create(self, ref: str, spec: ExecSpec) -> str:
        exec_id = new_id()
        self.execs[exec_id] = Exec(self.find(ref).id, spec)
        return exec_id

    async def exec_check(self, exec_id: str) -> None:
        found = await self.exec_inspect(exec_id)
        if found.running or found.exit_code is not None:
            state = "has already run" if found.exit_code is not None else "is already running"
            raise Conflict(f"exec command {exec_id} {state}")
        status = self.find(found.container_id).state.status
        if status == "paused":
            raise Conflict(
                f"container {found.container_id} is paused, unpause the container before exec"
            )
        if status != "running":
            raise Conflict(f"container {found.container_id} is not running")
        if found.spec.user == "nobody-of-that-name":
            raise Invalid(
                "unable to find user nobody-of-that-name: no matching entries in passwd file"
            )

    async def exec_start(
        self,
        exec_id: str,
        *,
        detach: bool,
        tty: bool,
        console_size: tuple[int, int],
        fd: int,
        initial: bytes,
    ) -> None:
        self.calls.append(("exec_start", exec_id, detach, tty, console_size))
        found = self.execs[exec_id]
        if found.spec.argv[0] == "nosuch":
            found.exit_code = 127
            if fd >= 0:
                os.close(fd)
            raise StartFailed('exec: "nosuch": executable file not found in $PATH', exit_code=127)
        found.exit_code = 0
        if fd >= 0:
            echo(fd, initial, framed=not tty, prefix=" ".join(found.spec.argv).encode() + b"\n")

    async def exec_inspect(self, exec_id: str) -> ExecView:
        if exec_id not in self.execs:
            raise NotFound("exec instance", exec_id)
        found = self.execs[exec_id]
        return ExecView(exec_id, found.container, found.spec, found.running, found.exit_code, 7)

    async def exec_resize(self, exec_id: str, rows: int, columns: int) -> None:
        await self.exec_inspect(exec_id)


async def _pieces(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


@dataclass
class FakeImages:
    """One image, and archives that are only counted."""

    calls: list[tuple[Any, ...]] = field(default_factory=list)
    broken: Exception | None = None
    loaded: int = 0

    async def list(self, *, everything: bool, filters: Filters) -> list[Image]:
        self.calls.append(("list", everything, dict(filters)))
        return [IMAGE]

    async def inspect(self, ref: str) -> Image:
        if ref not in ("busybox", "busybox:latest", str(DIGEST), DIGEST.hex, "a/b/c"):
            raise NotFound("image", ref if ":" in ref else f"{ref}:latest")
        return IMAGE

    async def history(self, ref: str) -> tuple[Image, ...]:
        return (await self.inspect(ref),)

    async def tag(self, ref: str, repository: str, tag: str) -> None:
        self.calls.append(("tag", (await self.inspect(ref)).id, repository, tag))

    async def remove(self, ref: str, *, force: bool, prune: bool) -> list[ImageDeletion]:
        await self.inspect(ref)
        return [ImageDeletion(untagged=ref), ImageDeletion(deleted=str(DIGEST))]

    async def prune(self, filters: Filters) -> tuple[list[ImageDeletion], int]:
        return [], 0

    async def load(
        self, body: ByteSource, *, quiet: bool, platform: Platform | None = None
    ) -> AsyncIterator[Progress]:
        self.calls.append(("load", quiet, platform))
        if self.broken is not None:
            raise self.broken
        yield Progress(status="Loading layer", id="abc", current=1, total=2)
        while piece := await body.read():
            self.loaded += len(piece)
            await asyncio.sleep(0)
        yield Progress(stream="Loaded image: busybox:latest\n")

    async def import_archive(
        self,
        body: ByteSource,
        *,
        repository: str,
        tag: str,
        message: str,
        changes: Sequence[str],
        platform: str,
        source: str = "-",
    ) -> AsyncIterator[Progress]:
        if source != "-":
            self.calls.append(("fetch", source))
        self.calls.append(("import", repository, tag, message, tuple(changes), platform))
        while piece := await body.read():
            self.loaded += len(piece)
        yield Progress(status=str(DIGEST))
        if self.broken is not None:
            raise self.broken

    async def save(
        self, refs: Sequence[str], *, form: str, compression: str
    ) -> AsyncIterator[bytes]:
        self.calls.append(("save", tuple(refs), form, compression))
        for ref in refs:
            await self.inspect(ref)
        return _pieces(b"archive")

    async def bootstrap(self, name: str, options: Mapping[str, str]) -> AsyncIterator[Progress]:
        self.calls.append(("bootstrap", name, dict(options)))
        yield Progress(status="done")

    async def disk_usage(self) -> int:
        return 200

    async def container_counts(self) -> dict[str, int]:
        return {str(DIGEST): 1}


@dataclass
class FakeRegistries:
    """One image in one registry."""

    calls: list[tuple[Any, ...]] = field(default_factory=list)
    broken: Exception | None = None

    async def pull(
        self, name: str, tag: str, platform: str, credentials: Credentials
    ) -> AsyncIterator[Progress]:
        self.calls.append(("pull", name, tag, platform, credentials))
        if self.broken is not None:
            raise self.broken
        yield Progress("Pulling from library/busybox", tag)

    async def push(
        self, name: str, tag: str, platform: str, credentials: Credentials
    ) -> AsyncIterator[Progress]:
        self.calls.append(("push", name, tag, platform, credentials))
        yield Progress(f"The push refers to repository [{name}]")
        if self.broken is not None:
            raise self.broken
        yield Progress(aux=(("Tag", tag), ("Digest", str(DIGEST)), ("Size", 7)))

    async def login(self, server: str, credentials: Credentials) -> str:
        self.calls.append(("login", server, credentials))
        if self.broken is not None:
            raise self.broken
        return ""

    async def distribution(self, name: str, credentials: Credentials) -> DistributionView:
        return DistributionView("application/json", DIGEST, 7, (("linux", "arm64", "v8", ""),))

    async def manifest(
        self, name: str, credentials: Credentials, insecure: bool = False
    ) -> tuple[str, Digest, bytes]:
        return "application/json", DIGEST, b"{}"

    async def image_config(
        self, name: str, credentials: Credentials, insecure: bool = False
    ) -> bytes:
        return b"{}"

    async def push_list(
        self, name: str, wanted: ManifestList, credentials: Credentials, insecure: bool = False
    ) -> tuple[list[Digest], Digest]:
        self.calls.append(("push_list", name, wanted, insecure))
        return [DIGEST for _ in wanted.entries], DIGEST

    async def referrers(self, name: str, credentials: Credentials) -> bytes:
        return b"{}"

    async def search(
        self, term: str, limit: int, filters: Filters, credentials: Credentials
    ) -> Sequence[SearchResult]:
        self.calls.append(("search", term, limit, dict(filters)))
        return [SearchResult(f"{term}-1", "the first", 3, official=True)]


@dataclass
class FakeEvents:
    """One event, then silence."""

    calls: list[tuple[Any, ...]] = field(default_factory=list)

    async def subscribe(self, *, since: int, until: int, filters: Filters) -> AsyncIterator[Event]:
        self.calls.append((since, until, dict(filters)))
        yield Event(
            "container", "start", "abc", (("image", "busybox"), ("name", "x")), 1_000_000_007
        )
        if not until:
            await asyncio.Event().wait()


class FakeVolumes:
    """Two volumes, one of them anonymous; every call is noted."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.views = [
            VolumeView(Volume("data", 1_700_000_000_000_000_000), "/v/data/_data"),
            VolumeView(
                Volume(
                    "a" * 64, 1_700_000_000_000_000_000, ((ANONYMOUS, ""),), (("type", "tmpfs"),)
                ),
                f"/v/{'a' * 64}/_data",
            ),
        ]

    async def create(self, request: VolumeRequest) -> VolumeView:
        self.calls.append(("create", request))
        return self.views[0]

    async def list(self, filters: Filters) -> list[VolumeView]:
        self.calls.append(("list", dict(filters)))
        return self.views

    async def inspect(self, name: str) -> VolumeView:
        for view in self.views:
            if view.volume.name == name:
                return view
        raise NoSuchVolume(name)

    async def remove(self, name: str, *, force: bool) -> None:
        self.calls.append(("remove", name, force))
        await self.inspect(name)

    async def prune(self, filters: Filters, *, everything: bool) -> Pruned:
        self.calls.append(("prune", dict(filters), everything))
        return Pruned(("a" * 64,), 7)

    async def usage(self) -> list[VolumeView]:
        return [replace(self.views[0], size=5, users=2)]


class FakeEngine:
    """Constant facts."""

    def facts(self) -> EngineFacts:
        return FACTS

    async def counts(self) -> dict[str, int]:
        return {"containers": 3, "running": 1, "paused": 0, "stopped": 2, "images": 1}


class FakeNetworks:
    """Two networks that are always there, and what was asked for."""

    def __init__(self) -> None:
        self.networks = [
            Network("a" * 64, NetworkSpec("host", Driver.HOST), 1_000),
            Network("b" * 64, NetworkSpec("none", Driver.NONE), 1_000),
        ]
        self.calls: list[tuple[Any, ...]] = []

    def _find(self, ref: str) -> Network:
        for network in self.networks:
            if ref == network.name or network.id.startswith(ref):
                return network
        raise NoSuchNetwork(ref)

    async def list(self, filters: Filters) -> list[NetworkView]:
        self.calls.append(("list", dict(filters)))
        return [NetworkView(network) for network in self.networks]

    async def inspect(self, ref: str, scope: str = "") -> NetworkView:
        return NetworkView(self._find(ref))

    async def create(self, spec: NetworkSpec) -> tuple[str, str]:
        self.calls.append(("create", spec))
        return "c" * 64, ""

    async def remove(self, ref: str) -> None:
        name = self._find(ref).name
        raise Forbidden(f"{name} is a pre-defined network and cannot be removed")

    async def prune(self, filters: Filters) -> list[str]:
        self.calls.append(("prune", dict(filters)))
        return []

    async def connect(self, ref: str, container_ref: str, wish: EndpointSpec) -> None:
        self.calls.append(("connect", ref, container_ref, wish))

    async def disconnect(self, ref: str, container_ref: str, *, force: bool) -> None:
        self.calls.append(("disconnect", ref, container_ref, force))

    async def repair(self) -> Repaired:
        return Repaired(("made the table",), ())


class FakeRegistry:
    """Remembers what it was started with."""

    def __init__(self) -> None:
        self.arguments: tuple[str, ...] | None = None

    def status(self) -> RegistryStatus:
        if self.arguments is None:
            return RegistryStatus(running=False, root="/registry")
        return RegistryStatus(True, "/registry", ("http://127.0.0.1:5000",), 7)

    async def start(self, arguments: tuple[str, ...]) -> RegistryStatus:
        self.arguments = arguments
        return self.status()

    async def stop(self) -> bool:
        running, self.arguments = self.arguments is not None, None
        return running


class FakeBuilds:
    """Builds nothing, in three steps; what it was asked is kept."""

    def __init__(self) -> None:
        self.requests: list[BuildRequest] = []
        self.cancelled: list[str] = []
        self.error: WherryError | None = None

    async def build(
        self, request: BuildRequest, *, secrets: SecretSource, exporter: Exporter | None = None
    ) -> AsyncGenerator[BuildProgress]:
        """Tell of one step and its end."""
        self.requests.append(request)
        step = StepRef(1, "FROM scratch", number=1, total=1)
        yield StepStarted(step, 1)
        if self.error is not None:
            yield StepFailed(step, 2, str(self.error))
            raise self.error
        for name in request.secrets:
            value = await secrets.secret(name)
            yield BuildWarning("", f"{name}={'' if value is None else value.decode()}")
        yield StepDone(step, 2, "sha256:" + "1" * 64)
        yield Finished("sha256:" + "2" * 64, names=request.tags)

    def cancel(self, build_id: str) -> None:
        """Note it."""
        self.cancelled.append(build_id)

    async def disk_usage(self) -> list[CacheRecord]:
        """Return one record."""
        return [CacheRecord("r", "regular", "RUN x", 5, 1, 2)]

    async def prune(self, wanted: BuildPruning) -> BuildPruned:
        """Remove nothing."""
        del wanted
        return BuildPruned()


class FakeContexts:
    """One context with one Dockerfile."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {"Dockerfile": b"FROM scratch\n"}
        self.released: list[ContextRef] = []

    async def receive(self, body: ByteSource) -> str:
        """Swallow the body."""
        while await body.read():
            pass
        return "tree"

    async def known(self, digest: str) -> str:
        """Return the tree of one digest."""
        return "tree" if digest == "known" else ""

    async def begin_sync(self, key: str, manifest: bytes) -> tuple[str, str, tuple[int, ...]]:
        """Want the first entry."""
        del key, manifest
        return "", "sync", (0,)

    async def finish_sync(self, sync: str, body: ByteSource) -> str:
        """Take it."""
        del sync
        return await self.receive(body)

    async def prepare(self, ref: ContextRef, platforms: Sequence[str] = ()) -> ContextRef:
        """Return it as it is."""
        del platforms
        return ref

    async def read(self, ref: ContextRef, path: str) -> bytes:
        """Return a file."""
        if path not in self.files:
            raise NotFound("file in the build context", path)
        return self.files[path]

    async def release(self, ref: ContextRef) -> None:
        """Note it."""
        self.released.append(ref)

    async def write_output(self, export: Export, write: Callable[[bytes], object]) -> Exported:
        """Write a word."""
        del export
        write(b"output")
        return Exported()

    async def push(self, export: Export, report: Callable[[BuildProgress], None]) -> Exported:
        """Push nothing."""
        return Exported()


def fake_services() -> Services:
    """Return fresh fakes."""
    return Services(
        FakeContainers(),
        FakeImages(),
        FakeNetworks(),
        FakeVolumes(),
        FakeRegistries(),
        FakeEvents(),
        FakeEngine(),
        registry=FakeRegistry(),
        builds=FakeBuilds(),
        contexts=FakeContexts(),
    )
