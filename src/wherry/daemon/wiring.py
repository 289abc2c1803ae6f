"""The composition root: the only place that names concrete classes.

database > storage > images > supervisor (started where none runs) > containers, rows and processes
brought together > services
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path

from wherry.api.services import Services
from wherry.build.cache import BuildCache
from wherry.containers.assembly import Assembly, Needs, Settings
from wherry.containers.defaults import Defaults
from wherry.containers.events import EventLog
from wherry.containers.exec_store import ExecStore
from wherry.containers.hostfiles import DnsDefaults
from wherry.containers.network_store import NetworkStore
from wherry.containers.runtime_spec import HostFacts
from wherry.containers.security import parsed_profile
from wherry.containers.shared_watches import Watches
from wherry.containers.start import Platform
from wherry.containers.store import ContainerStore
from wherry.containers.undo import Undo
from wherry.daemon.config import Config
from wherry.daemon.embedded import EmbeddedRegistry
from wherry.daemon.engine import Engine, find_init, read_facts, reload_event
from wherry.daemon.late_builds import Building, LateBuilds, LateContexts, Made
from wherry.daemon.networks import network_settings
from wherry.daemon.registries import late_registries
from wherry.daemon.relays import Relays
from wherry.images.places import Places
from wherry.images.service import ImageService
from wherry.images.store import ImageStore
from wherry.kernel.linux import LINUX
from wherry.kernel.paths import remove_path
from wherry.kernel.probe import OLDEST, missing_calls, user_namespaces
from wherry.model.containers import LogConfig
from wherry.model.errors import Invalid, NotFound, Unsupported, WherryError
from wherry.model.ids import Digest
from wherry.model.views import EngineFacts
from wherry.network.dns.client import NameService
from wherry.network.service import Networks
from wherry.runtime import capabilities, seccomp
from wherry.runtime.cgroups import CgroupDriver, open_cgroups
from wherry.runtime.plan import plan_launch
from wherry.storage.collector import Collector
from wherry.storage.content import ContentStore
from wherry.storage.database import Database
from wherry.storage.leases import Leases
from wherry.storage.overlay import OverlaySnapshotter
from wherry.storage.partials import Partials
from wherry.storage.volumes import VolumeStore
from wherry.supervisor.client import Exit, SupervisorClient
from wherry.supervisor.identity import cgroup_parent, engine_id


@dataclass(frozen=True, slots=True)
class Wired:
    """Everything that serves, and how to let go of it."""

    services: Services
    _closing: tuple[Callable[[], Awaitable[None] | None], ...]
    _reload: Callable[[Config], None]

    def reload(self, config: Config) -> None:
        """Follow `config` in what may change while the daemon runs, and tell who listens."""
        self._reload(config)

    async def close(self) -> None:
        """Let go of everything; containers go on."""
        async with Undo() as undo:
            for action in self._closing:
                undo.push(action)


@dataclass(frozen=True, slots=True)
class _Storage:
    """What is kept on disk."""

    database: Database
    content: ContentStore
    snapshots: OverlaySnapshotter
    leases: Leases
    images: ImageStore
    places: Places
    containers: ContainerStore
    volumes: VolumeStore
    execs: ExecStore
    build_cache: BuildCache
    networks: NetworkStore


class _ImageFacts:
    """What containers' listings ask of the images."""

    def __init__(self, store: ImageStore) -> None:
        self._store = store

    def size(self, image_id: Digest) -> int:
        """Return the bytes of all layers. Raises NotFound."""
        return self._store.get(image_id).size

    def named(self, ref: str) -> Digest | None:
        """Return the id of the image that `ref` names now, None where there is none."""
        try:
            return self._store.resolve(ref).id
        except (NotFound, Invalid):
            return None

    def descendants(self, ref: str) -> frozenset[Digest]:
        """Return the image that `ref` names and those that have all its layers below their own."""
        try:
            base = self._store.resolve(ref)
        except NotFound:
            return frozenset()
        length = len(base.chain)
        others = (image for image in self._store.images() if length)
        return frozenset({base.id} | {i.id for i in others if i.chain[:length] == base.chain})


async def build(config: Config, *, ending: bool = False) -> Wired:
    """Return the services of the engine that `config` describes, its containers taken back.

    `ending` is for ending them: nothing of the host's networks is made, no registry is started, and what
    is left of earlier lives is the next one's to clear, since that takes as long as there is much of it.

    Raises what keeps the daemon from starting: Conflict, Unavailable, Unsupported.
    """
    if not ending and (missing := missing_calls()):
        raise Unsupported(
            f"Linux {os.uname().release} does not have {', '.join(missing)}",
            hint=f"wherry needs Linux {OLDEST} or newer, and 5.19 for user namespaces",
        )
    if ending:
        # Files that are gone since are no reason not to end.
        config = replace(config, init_path="", seccomp_profile="")
    data = config.data_root
    data.mkdir(mode=0o711, parents=True, exist_ok=True)
    config.exec_root.mkdir(mode=0o711, parents=True, exist_ok=True)
    async with Undo() as undo:
        storage = _open_storage(data, alone=ending)
        undo.push(storage.database.close)
        cgroups = open_cgroups(cgroup_parent(str(data)))
        # As far as they are empty: a daemon that fails to start leaves none.
        undo.push(cgroups.close)
        userns_missing = user_namespaces(LINUX, str(data))
        facts = read_facts(
            config,
            engine_id=engine_id(str(data)),
            cgroups=cgroups,
            kernel=LINUX,
            userns_missing=userns_missing,
        )
        events = EventLog()
        collector = _open_collector(storage)
        images = _open_images(storage, collector, events, data)
        registries = late_registries(
            config,
            store=storage.images,
            content=storage.content,
            snapshots=storage.snapshots,
            places=storage.places,
            images=images,
            emit=events.record,
        )
        running = await _open_containers(
            config, storage, images, events, cgroups, facts, userns_missing, ending=ending
        )
        for action in running.closing():
            undo.push(action)
        assembly = running.assembly
        await assembly.open()
        if not ending:
            await asyncio.to_thread(images.sweep)

        def make_builds() -> Made:
            from wherry.daemon.building import open_building

            return open_building(
                root=data,
                cache=storage.build_cache,
                store=storage.images,
                content=storage.content,
                snapshots=storage.snapshots,
                leases=storage.leases,
                collector=collector,
                images=images,
                containers=assembly.build_containers,
                places=storage.places,
                registries=registries,
            )

        building = Building(data, make_builds)
        if not ending:
            building.open()
        undo.push(building.close)
        engine = Engine(
            facts,
            lambda: storage.containers,
            lambda: len(storage.images.ids()),
            running.fabric.warnings,
        )

        def reload(fresh: Config) -> None:
            registries.reload(fresh)
            engine.reload(fresh)
            events.record(reload_event(engine.facts(), fresh))

        registry = EmbeddedRegistry(data)
        undo.push(registry.close)
        if not ending:
            await registry.open()
        undo.keep()
    return Wired(
        Services(
            containers=assembly.service,
            images=images,
            networks=assembly.networks,
            volumes=assembly.volumes,
            registries=registries,
            events=events,
            registry=registry,
            builds=LateBuilds(building, storage.build_cache.empty),
            contexts=LateContexts(building),
            engine=engine,
        ),
        (
            storage.database.close,
            *running.closing(),
            registry.close,
            building.close,
        ),
        reload,
    )


@dataclass(frozen=True, slots=True)
class _Running:
    """What has connections to other processes and to the kernel."""

    supervisor: SupervisorClient
    assembly: Assembly
    names: NameService
    fabric: Networks

    def closing(self) -> tuple[Callable[[], Awaitable[None]], ...]:
        """Return what lets go of it, to be done in reverse order."""
        return (
            lambda: _leave(self.supervisor),
            self.fabric.close,
            self.names.close,
            self.assembly.close,
        )


async def _leave(supervisor: SupervisorClient) -> None:
    """Disconnect; where nothing runs, supervisor and keeper end with the daemon."""
    with contextlib.suppress(WherryError):
        await supervisor.shutdown()
    await supervisor.close()


def _open_storage(data: Path, *, alone: bool) -> _Storage:
    database = Database(data / "wherry.db", alone=alone)
    content = ContentStore(data)
    # Containers first: their execs refer to them.
    return _Storage(
        database=database,
        content=content,
        snapshots=OverlaySnapshotter(data, marked=True),
        leases=Leases(),
        images=ImageStore(database, content),
        places=Places(database),
        containers=ContainerStore(database),
        volumes=VolumeStore(database, data / "volumes"),
        execs=ExecStore(database),
        build_cache=BuildCache(database),
        networks=NetworkStore(database),
    )


def _open_collector(storage: _Storage) -> Collector:
    return Collector(
        storage.content,
        storage.snapshots,
        storage.leases,
        layer_roots=(storage.images, storage.containers, storage.build_cache),
        blob_roots=(storage.images, storage.places, storage.build_cache),
    )


def _open_images(
    storage: _Storage, collector: Collector, events: EventLog, data: Path
) -> ImageService:
    scratch = data / "tmp"
    scratch.mkdir(mode=0o700, exist_ok=True)
    return ImageService(
        store=storage.images,
        content=storage.content,
        snapshots=storage.snapshots,
        leases=storage.leases,
        collector=collector,
        users=storage.containers,
        emit=events.record,
        scratch=scratch / "images",
        # Opened at the start, which removes what nobody came back for.
        partials=Partials(data),
    )


async def _open_containers(
    config: Config,
    storage: _Storage,
    images: ImageService,
    events: EventLog,
    cgroups: CgroupDriver,
    facts: EngineFacts,
    userns_missing: str,
    *,
    ending: bool,
) -> _Running:
    # What may be wrong with it comes before anything runs.
    defaults = Defaults(
        config.default_ipc_mode,
        config.default_cgroupns_mode,
        read_seccomp(config.seccomp_profile),
        config.no_new_privileges,
        config.userns_remap if config.userns_remap == "host" else "",
    )
    ready: asyncio.Future[Assembly] = asyncio.get_running_loop().create_future()

    async def on_exit(end: Exit) -> None:
        (await ready).take_exit(end)

    async def on_return() -> None:
        await (await ready).look_again()

    supervisor = await SupervisorClient.connect(
        config.exec_root, data_root=config.data_root, on_exit=on_exit, on_return=on_return
    )
    names = NameService(config.exec_root, sockets=supervisor.name_sockets)
    fabric = Networks(facts.id, network_settings(config), Relays(names))
    system = os.uname()
    needs = Needs(
        store=storage.containers,
        execs=storage.execs,
        events=events,
        supervisor=supervisor,
        snapshots=storage.snapshots,
        images=storage.images,
        image_facts=_ImageFacts(storage.images),
        image_maker=images,
        leases=storage.leases,
        cgroups=cgroups,
        networks=storage.networks,
        fabric=fabric,
        names=names,
        volumes=storage.volumes,
        kernel=LINUX,
        plan=plan_launch,
        remove_tree=remove_path,
        watch=Watches().open,
        recorded_exit=lambda key: read_recorded_exit(config.exec_root, key),
        let_go=images.let_go,
    )
    settings = Settings(
        root=config.data_root,
        host=HostFacts(
            cgroup_parent=config.cgroup_parent.strip("/") or cgroups.parent,
            init_path=find_init(config.init_path),
            default_ulimits=config.default_ulimits,
            default_shm=config.default_shm_size,
            capabilities=capabilities.bounding(Path("/proc/self/status").read_text()),
        ),
        platform=Platform(system.machine, seccomp.kernel_version(system.release)),
        log_default=LogConfig(config.log_driver, config.log_options),
        cpus=facts.cpus,
        default_init=config.init,
        defaults=defaults,
        userns_missing=userns_missing,
        default_bridge=lambda: None if config.bridge == "none" else fabric.default_spec(),
        ending=ending,
        host_gateways=config.host_gateway_ips,
        dns=DnsDefaults(config.dns, config.dns_search, config.dns_opts),
    )
    assembly = Assembly(needs, settings)
    ready.set_result(assembly)
    return _Running(supervisor, assembly, names, fabric)


def read_seccomp(named: str) -> str:
    """Return the profile that `--seccomp-profile` names, as --security-opt has it. Raises Invalid."""
    if named in ("", "builtin", "unconfined"):
        return "" if named == "builtin" else named
    try:
        text = Path(named).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise Invalid(f"invalid seccomp-profile: {named} cannot be read: {error}") from None
    parsed_profile(text)
    return text


def read_recorded_exit(exec_root: Path, key: str) -> tuple[int, int] | None:
    """Return (code, nanoseconds) of an exit that the keeper wrote down, or None."""
    try:
        _, outcome = (exec_root / "exits" / key).read_text().split()
        status, _, at = outcome.partition(":")
        code = os.waitstatus_to_exitcode(int(status))
        return (code if code >= 0 else 128 - code), int(at)
    except (OSError, ValueError):
        return None
