"""Stand-ins for what the workflows use of the outside: a supervisor, snapshots, images, cgroups."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wherry.containers.assembly import Assembly, Needs, Settings
from wherry.containers.events import EventLog
from wherry.containers.exec_store import ExecStore
from wherry.containers.runtime_spec import HostFacts
from wherry.containers.start import Platform
from wherry.containers.store import ContainerStore
from wherry.kernel.inotify import Inotify
from wherry.kernel.linux import LINUX
from wherry.kernel.paths import remove_path
from wherry.model.containers import Container, ContainerSpec, LogConfig, Namespaces
from wherry.model.errors import Conflict, NotFound, StartFailed, Unavailable, WherryError
from wherry.model.ids import Digest, new_id
from wherry.model.images import Image, ImageConfig, Layer
from wherry.model.resources import Limits
from wherry.model.stats import CgroupStats
from wherry.runtime import capabilities
from wherry.runtime.cgroups import Handle
from wherry.runtime.plan import plan_launch
from wherry.storage.database import Database
from wherry.storage.leases import Leases
from wherry.storage.snapshots import OverlayView
from wherry.storage.volumes import VolumeStore
from wherry.supervisor.messages import Attachment, ExecLaunch, Exit, Launch, Started, Survivor

LAYER = Digest.of(b"layer")
IMAGE = Digest.of(b"image")


def make_image(**config: Any) -> Image:
    """Return an image of one layer; `config` are fields of its configuration."""
    settings: dict[str, Any] = {"command": ("sh",)} | config
    layer = Layer(LAYER, LAYER, LAYER, "tar", 1, 1)
    return Image(IMAGE, IMAGE, ImageConfig(**settings), (layer,), names=("bb:latest",))


def make_container(name: str = "web", **changes: Any) -> Container:
    """Return a container as create would make it."""
    spec: ContainerSpec = changes.pop("spec", ContainerSpec("bb", command=("sh",)))
    fields: dict[str, Any] = {
        "id": new_id(),
        "name": name,
        "created": time.time_ns(),
        "spec": spec,
        "image_id": IMAGE,
        "image_name": spec.image,
        "argv": ("sh",),
        "env": (),
        "working_dir": "",
        "user": "",
        "stop_signal": "SIGTERM",
        "labels": (),
        "hostname": "host",
        "chain": (LAYER,),
    }
    return Container(**(fields | changes))


@dataclass
class FakeProcess:
    """A process of the fake supervisor; `handles_term` ends it with that code at SIGTERM."""

    key: str
    pid: int
    started_at: int
    container_id: str = ""
    exit: Exit | None = None


class FakeSupervisor:
    """Keeps processes in a dictionary. `script(argv)` says what a new one does."""

    def __init__(self) -> None:
        self.processes: dict[str, FakeProcess] = {}
        self.forgotten: list[str] = []
        self.launches: list[Launch] = []
        self.signals: list[tuple[str, int]] = []
        self.attached: list[tuple[str, Attachment]] = []
        self.on_exit: Callable[[Exit], None] = lambda end: None
        self.fail: WherryError | None = None
        self.handles: dict[int, int] = {15: 143}
        self.lifetime: float | None = None
        self.skew = 0
        """Nanoseconds between an exit and what the clock is said to have shown then."""
        self._pid = 1 << 24

    async def start(self, launch: Launch, mounts: Sequence[int] = ()) -> Started:
        await asyncio.sleep(0)
        if self.fail is not None:
            raise self.fail
        if launch.id in self.processes:
            raise Conflict(f"{launch.id} runs already")
        self.launches.append(launch)
        process = self._spawn(launch.id, "")
        return Started(process.pid, process.started_at)

    async def execute(self, launch: ExecLaunch, fd: int = -1, initial: bytes = b"") -> Started:
        await asyncio.sleep(0)
        if self.fail is not None:
            raise self.fail
        process = self._spawn(launch.exec_id, launch.container_id)
        return Started(process.pid, process.started_at)

    def _spawn(self, key: str, container_id: str) -> FakeProcess:
        self._pid += 1
        process = FakeProcess(key, self._pid, time.time_ns(), container_id)
        self.processes[key] = process
        if self.lifetime is not None:
            loop = asyncio.get_running_loop()
            loop.call_later(self.lifetime, lambda: self.end(key, 0, process.pid))
        return process

    def end(self, key: str, code: int, pid: int = 0, *, oom: bool = False) -> None:
        """Let a process end."""
        process = self.processes.get(key)
        if process is None or process.exit is not None or (pid and process.pid != pid):
            return
        process.exit = Exit(key, code, time.time_ns() + self.skew, oom)
        self.on_exit(process.exit)

    async def attach(self, key: str, attachment: Attachment, fd: int, initial: bytes = b"") -> None:
        self.attached.append((key, attachment))

    async def resize(self, key: str, rows: int, columns: int) -> None:
        self._alive(key)

    async def signal(self, key: str, signo: int) -> None:
        await asyncio.sleep(0)
        self._alive(key)
        self.signals.append((key, signo))
        if signo == 9:
            self.end(key, 137)
        elif signo in self.handles:
            self.end(key, self.handles[signo])

    def _alive(self, key: str) -> FakeProcess:
        process = self.processes.get(key)
        if process is None or process.exit is not None:
            raise NotFound("process", key)
        return process

    async def forget(self, key: str) -> None:
        await asyncio.sleep(0)
        process = self.processes.get(key)
        if process is not None and process.exit is None:
            raise Conflict(f"{key} runs")
        self.processes.pop(key, None)
        self.forgotten.append(key)

    async def survivors(self) -> list[Survivor]:
        return [
            Survivor(p.key, p.pid, p.started_at, p.container_id, p.exit)
            for p in self.processes.values()
        ]


class FakeSnapshots:
    """Plain directories, nothing below them."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def prepare(self, key: str, chain: Sequence[Digest]) -> OverlayView:
        (self.root / key / "upper").mkdir(parents=True, exist_ok=True)
        return self.view_of(key, chain)

    def view(self, chain: Sequence[Digest]) -> OverlayView:
        return OverlayView((self.root,), None, None)

    def view_of(self, key: str, chain: Sequence[Digest]) -> OverlayView:
        upper = self.root / key / "upper"
        if not upper.is_dir():
            raise NotFound("snapshot", key)
        return OverlayView((), upper, None)

    def parent_paths(self, chain: Sequence[Digest]) -> tuple[Path, ...]:
        return (self.root,)

    def usage(self, path: Path) -> int:
        return 7

    def changes(self, key: str, chain: Sequence[Digest]) -> Iterator[Any]:
        self.view_of(key, chain)
        return iter(())


@dataclass
class FakeImages:
    """One image, `bb`."""

    image: Image = field(default_factory=make_image)
    made: list[Any] = field(default_factory=list[Any])
    released: list[Any] = field(default_factory=list[Any])
    refuses: bool = False

    def resolve(self, ref: str) -> Image:
        if ref not in ("bb", "bb:latest"):
            raise NotFound("image", ref)
        return self.image

    def get(self, identifier: Digest, ref: str = "") -> Image:
        if identifier != self.image.id:
            raise NotFound("image", str(identifier))
        return self.image

    def size(self, image_id: Digest) -> int:
        return 100

    def descendants(self, ref: str) -> frozenset[Digest]:
        return frozenset({IMAGE}) if ref == "bb" else frozenset()

    async def make(self, base: Any, write_layer: Any, new: Any) -> Image:
        self.made.append(new)
        return self.image

    async def let_go(self, image: Digest, chain: Sequence[Digest]) -> None:
        if self.refuses:
            raise Unavailable("the disk is gone")
        self.released.append((image, tuple(chain)))


class FakeCgroups:
    """Knows no limits; remembers what is frozen."""

    def __init__(self) -> None:
        self.frozen: set[str] = set()
        self.applied: list[tuple[str, Limits]] = []
        self.there: list[str] = []
        self.killed: list[str] = []

    def check(self, limits: Limits) -> None: ...

    def apply(self, handle: Handle, limits: Limits) -> None:
        self.applied.append((handle.path, limits))

    def freeze(self, handle: Handle) -> None:
        self.frozen.add(handle.path)

    def thaw(self, handle: Handle) -> None:
        self.frozen.discard(handle.path)

    def is_frozen(self, handle: Handle) -> bool:
        return handle.path in self.frozen

    def pids(self, handle: Handle) -> list[int]:
        return []

    def read_stats(self, handle: Handle) -> CgroupStats:
        raise NotFound("cgroup", handle.path)

    def kill_all(self, handle: Handle) -> None:
        self.killed.append(handle.path)

    def remove(self, handle: Handle) -> None: ...

    def adopt(self, path: str) -> list[str]:
        return self.there


class House:
    """The whole package over fakes, in one folder. `open` may be called again: a daemon's restart."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "containers").mkdir(exist_ok=True)
        self.supervisor = FakeSupervisor()
        self.cgroups = FakeCgroups()
        self.images = FakeImages()
        self.snapshots = FakeSnapshots(root / "containers")
        self.recorded: dict[str, tuple[int, int]] = {}
        self.seen: list[tuple[str, str]] = []

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncGenerator[Any]:
        """Open the database and the assembly; give the service."""
        database = Database(self.root / "wherry.db")
        self.store = ContainerStore(database)
        self.execs = ExecStore(database)
        self.events = EventLog()
        record = self.events.record

        def note(event: Any) -> None:
            self.seen.append((event.action, dict(event.attributes).get("name", "")))
            record(event)

        self.events.record = note  # type: ignore[method-assign]
        needs = Needs(
            store=self.store,
            execs=self.execs,
            events=self.events,
            supervisor=self.supervisor,
            snapshots=self.snapshots,
            images=self.images,
            image_facts=self.images,
            image_maker=self.images,
            leases=Leases(),
            cgroups=self.cgroups,
            volumes=VolumeStore(database, self.root / "volumes"),
            kernel=LINUX,
            plan=plan_launch,
            remove_tree=remove_path,
            watch=Inotify,
            recorded_exit=self.recorded.get,
            let_go=self.images.let_go,
        )
        settings = Settings(
            root=self.root,
            host=HostFacts("wherry/test", capabilities=capabilities.ALL),
            platform=Platform("x86_64", (6, 18)),
            log_default=LogConfig("json-file"),
            cpus=2,
        )
        assembly = Assembly(needs, settings)
        self.supervisor.on_exit = assembly.take_exit
        try:
            await assembly.open()
            yield assembly.service
        finally:
            self.supervisor.on_exit = lambda end: None
            await assembly.close()
            database.close()

    def actions(self, name: str) -> list[str]:
        """Return the actions of events about the container called `name`."""
        return [action for action, who in self.seen if who == name]


def spec(*argv: str, **changes: Any) -> ContainerSpec:
    """Return a specification without surprises: no network, so no warning."""
    changes.setdefault("namespaces", Namespaces(network="none"))
    return ContainerSpec("bb", command=argv or ("sh",), **changes)


async def until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    """Wait until `condition` holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that"
        await asyncio.sleep(0.002)


NOT_FOUND = StartFailed('exec: "nope": executable file not found in $PATH', exit_code=127)
