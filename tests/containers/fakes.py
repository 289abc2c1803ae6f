"""Stand-ins for what the workflows use of the outside: a supervisor, snapshots, images, cgroups."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from wherry.containers.assembly import Assembly, Needs, Settings
from wherry.containers.events import EventLog
from wherry.containers.exec_store import ExecStore
from wherry.containers.network_store import NetworkStore
from wherry.containers.runtime_spec import HostFacts
from wherry.containers.shared_watches import Watches
from wherry.containers.start import Platform
from wherry.containers.store import ContainerStore
from wherry.kernel.linux import LINUX
from wherry.kernel.paths import remove_path
from wherry.model.containers import Container, ContainerSpec, LogConfig, Namespaces
from wherry.model.errors import Conflict, NotFound, StartFailed, Unavailable, WherryError
from wherry.model.ids import Digest, new_id
from wherry.model.images import Image, ImageConfig, Layer
from wherry.model.networks import (
    Attachments,
    Endpoint,
    EndpointSpec,
    Network,
    NetworkSpec,
    Pool,
    PortWish,
    PublishedPort,
)
from wherry.model.resources import Limits
from wherry.model.stats import CgroupStats
from wherry.model.wiring import Link, LinkKind, Way, Wiring
from wherry.network.dns.facts import Member, View
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
        self.connected: list[tuple[str, Wiring]] = []
        self.disconnected: list[tuple[str, str]] = []
        self.ways: dict[str, tuple[tuple[str, Way], ...]] = {}
        self.on_exit: Callable[[Exit], None] = lambda end: None
        self.fail: Exception | None = None
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
        served = (-1, -1) if launch.wiring.name_service else ()
        return Started(process.pid, process.started_at, served)

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

    async def connect_networks(self, key: str, wiring: Wiring) -> tuple[int, ...]:
        await asyncio.sleep(0)
        self._alive(key)
        if self.fail is not None:
            raise self.fail
        self.connected.append((key, wiring))
        return (-1, -1) if wiring.name_service else ()

    async def disconnect(self, key: str, interface: str) -> None:
        self._alive(key)
        self.disconnected.append((key, interface))

    async def set_ways(self, key: str, ways: Sequence[tuple[str, Way]]) -> None:
        self._alive(key)
        self.ways[key] = tuple(ways)

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


@dataclass
class FakeReport:
    """What a fake fabric has done."""

    done: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


class FakeFabric:
    """The host's part of networks: addresses counted up, ports noted, nothing made."""

    def __init__(self) -> None:
        self.networks: dict[str, Network] = {}
        self.addresses: set[str] = set()
        self.links: dict[str, list[Any]] = {}
        self.ports: dict[str, tuple[PublishedPort, ...]] = {}
        self.opened: list[tuple[str, str, Attachments]] = []
        self.fail: WherryError | None = None
        self.repairs = 0

    async def open(
        self, wanted: Sequence[Network], running: Sequence[tuple[str, str, Attachments]]
    ) -> FakeReport:
        self.networks = {network.id: network for network in wanted}
        self.opened = list(running)
        for _, _, attachments in running:
            self.addresses |= {endpoint.ipv4 for endpoint in attachments.endpoints}
        return FakeReport()

    async def make(self, spec: NetworkSpec, network_id: str, created: int) -> Network:
        await asyncio.sleep(0)
        number = len(self.networks) + 17
        pools = spec.pools or (Pool(f"172.{number}.0.0/16", gateway=f"172.{number}.0.1"),)
        network = Network(network_id, replace(spec, pools=pools, ipv6=False), created, "br")
        self.networks[network_id] = network
        return network

    async def remove(self, network: Network) -> None:
        self.networks.pop(network.id, None)

    def attach(
        self,
        container_id: str,
        name: str,
        network: Network,
        wish: EndpointSpec,
        interface: str,
        *,
        default_way: bool,
    ) -> tuple[Endpoint, Link]:
        if self.fail is not None:
            raise self.fail
        subnet = ipaddress.ip_network(network.spec.pools[0].subnet)
        hosts = (str(address) for address in subnet.hosts())
        gateway = next(hosts)
        address = wish.ipv4 or next(a for a in hosts if a not in self.addresses)
        if address in self.addresses:
            raise Conflict("Address already in use")
        self.addresses.add(address)
        endpoint = Endpoint(
            new_id(),
            network.id,
            network.name,
            interface,
            mac=wish.mac or "02:00:00:00:00:01",
            ipv4=address,
            prefix4=subnet.prefixlen,
            gateway4=gateway,
        )
        ways = (Way("default", gateway),) if default_way else ()
        link = Link(LinkKind.VETH, "br", interface, addresses=(f"{address}/16",), ways=ways)
        return endpoint, link

    def detach(self, endpoint: Endpoint) -> None:
        self.addresses.discard(endpoint.ipv4)

    def link(self, container_id: str, endpoint: Endpoint | None, targets: Sequence[Any]) -> None:
        self.links.pop(container_id, None)
        if targets:
            self.links[container_id] = list(targets)

    async def publish(
        self,
        container_id: str,
        name: str,
        wishes: Sequence[PortWish],
        endpoints: Sequence[Endpoint],
    ) -> tuple[PublishedPort, ...]:
        taken = {port.host_port for ports in self.ports.values() for port in ports}
        made: list[PublishedPort] = []
        for wish in wishes:
            number = wish.host_port or 32768 + len(taken) + len(made)
            if number in taken:
                raise Conflict(f"Bind for 0.0.0.0:{number} failed: port is already allocated")
            address = wish.host_address or "0.0.0.0"
            made.append(PublishedPort(wish.proto, wish.container_port, address, number))
        self.ports[container_id] = tuple(made)
        return tuple(made)

    async def unpublish(self, container_id: str) -> None:
        self.ports.pop(container_id, None)

    async def repair(self) -> FakeReport:
        self.repairs += 1
        return FakeReport(("made the table",))


class FakeNames:
    """Keeps what the name service was told."""

    def __init__(self) -> None:
        self.views: dict[str, View] = {}
        self.watched: dict[str, int] = {}
        self.members: dict[tuple[str, str], Member] = {}

    async def open(self, views: Sequence[View], members: Sequence[Member]) -> None:
        self.views = {view.container: view for view in views}
        self.members = {(m.network, m.container): m for m in members}

    def serve(self, view: View, descriptors: Sequence[int]) -> None:
        self.views[view.container] = view

    def update(self, view: View) -> None:
        self.views[view.container] = view

    def watch(self, container: str, pid: int) -> None:
        self.watched[container] = pid

    def forget(self, container: str) -> None:
        self.views.pop(container, None)
        for key in [key for key in self.members if key[1] == container]:
            del self.members[key]

    def put(self, member: Member) -> None:
        self.members[member.network, member.container] = member

    def drop(self, network: str, container: str) -> None:
        self.members.pop((network, container), None)


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

    def has_upper(self, key: str) -> bool:
        return (self.root / key / "upper").is_dir()

    def parent_paths(self, chain: Sequence[Digest]) -> tuple[Path, ...]:
        return (self.root,)

    def container_paths(self, chain: Sequence[Digest]) -> tuple[Path, ...]:
        return self.parent_paths(chain)

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

    def named(self, ref: str) -> Digest | None:
        return self.image.id if ref in ("bb", "bb:latest") else None

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
        self.fabric = FakeFabric()
        self.names = FakeNames()
        self.snapshots = FakeSnapshots(root / "containers")
        self.recorded: dict[str, tuple[int, int]] = {}
        self.seen: list[tuple[str, str]] = []

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncGenerator[Any]:
        """Open the database and the assembly; give the service."""
        database = Database(self.root / "wherry.db")
        self.store = ContainerStore(database)
        self.execs = ExecStore(database)
        self.network_store = NetworkStore(database)
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
            networks=self.network_store,
            fabric=self.fabric,
            names=self.names,
            volumes=VolumeStore(database, self.root / "volumes"),
            kernel=LINUX,
            plan=plan_launch,
            remove_tree=remove_path,
            watch=Watches().open,
            recorded_exit=self.recorded.get,
            let_go=self.images.let_go,
        )
        settings = Settings(
            root=self.root,
            host=HostFacts("wherry/test", capabilities=capabilities.ALL),
            platform=Platform("x86_64", (6, 18)),
            log_default=LogConfig("json-file"),
            cpus=2,
            default_bridge=lambda: NetworkSpec("bridge"),
        )
        assembly = Assembly(needs, settings)
        self.supervisor.on_exit = assembly.take_exit
        self.networks = assembly.networks
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
