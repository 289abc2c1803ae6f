"""The rooms of this package put together from what they need of the outside.

`daemon.wiring` hands in the real things, tests hand in fakes. Long, because one who reads how all hangs together
reads it in one place: the ground, what lies around containers, who acts on them, and who is told.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from wherry.containers import (
    attach,
    commit,
    create,
    execute,
    fabric,
    furnish,
    hostfiles,
    listing,
    logs,
    networks,
    roots,
    volumes,
)
from wherry.containers import reconcile as reconciling
from wherry.containers import remove as removing
from wherry.containers import start as starting
from wherry.containers.building import BuildContainers
from wherry.containers.copy import Copier
from wherry.containers.defaults import Defaults
from wherry.containers.endpoints import NONE
from wherry.containers.events import EventLog
from wherry.containers.exec_store import ExecStore
from wherry.containers.exits import Exits
from wherry.containers.freeze import Pauser
from wherry.containers.furnish import Furnisher
from wherry.containers.groups import Cgroups, Groups
from wherry.containers.health import Monitors
from wherry.containers.held_roots import HeldRoots
from wherry.containers.live import Lives, Tasks
from wherry.containers.mount_trees import MountTrees
from wherry.containers.namefeed import Feed, Names
from wherry.containers.network_store import NetworkStore
from wherry.containers.networking import Networking
from wherry.containers.networks import NetworkService
from wherry.containers.prune import Pruner
from wherry.containers.rename import Renamer
from wherry.containers.restart import Restarts
from wherry.containers.running import Runner
from wherry.containers.runtime_spec import HostFacts
from wherry.containers.service import ContainerService, Rooms
from wherry.containers.shipping.shipper import Shipping
from wherry.containers.signalling import Signals
from wherry.containers.stats import Meter
from wherry.containers.stop import Stopper
from wherry.containers.store import ContainerStore
from wherry.containers.top import Top
from wherry.containers.trash import Trash
from wherry.containers.update import Updater
from wherry.containers.volumes import VolumeService
from wherry.containers.waits import Waiter
from wherry.kernel.calls import Kernel
from wherry.model.containers import Container, LogConfig
from wherry.model.errors import WherryError
from wherry.model.ids import Digest
from wherry.model.networks import DEFAULT_BRIDGE, NetworkSpec
from wherry.model.oci import RuntimeSpec
from wherry.runtime.plan import Plan
from wherry.supervisor.messages import Exit

log = logging.getLogger(__name__)


class Supervisor(
    attach.Supervisor,
    execute.Supervisor,
    reconciling.Supervisor,
    removing.Supervisor,
    starting.Supervisor,
    fabric.Supervisor,
    Protocol,
):
    """All that is used of the supervisor's client."""


class Fabric(fabric.Fabric, networks.Fabric, Protocol):
    """All that is used of the host's part of networks."""


class VolumeStore(volumes.Store, furnish.Store, Protocol):
    """All that is used of the volumes' storage."""


class Snapshots(listing.Snapshots, roots.Snapshots, starting.Snapshots, furnish.Layers, Protocol):
    """All that is used of the snapshotter."""


class ImageStore(create.Images, commit.Images, Protocol):
    """All that is used of the image store."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What the daemon's configuration and this machine say."""

    root: Path
    """The data root: `containers` and `trash` lie in it."""
    host: HostFacts
    platform: starting.Platform
    log_default: LogConfig
    cpus: int
    default_init: bool = False
    defaults: Defaults = Defaults()
    userns_missing: str = ""
    default_bridge: Callable[[], NetworkSpec | None] = lambda: None
    """What the network `bridge` is; None where there is none."""
    ending: bool = False
    """Only to end what runs."""
    dns: hostfiles.DnsDefaults = hostfiles.DnsDefaults()
    host_gateways: tuple[str, ...] = ()
    """What `host-gateway` stands for; empty: the addresses of the default bridge."""


@dataclass(frozen=True, slots=True)
class Needs:
    """What this package is given."""

    store: ContainerStore
    execs: ExecStore
    events: EventLog
    supervisor: Supervisor
    snapshots: Snapshots
    images: ImageStore
    image_facts: listing.ImageFacts
    image_maker: commit.Maker
    leases: create.Leases
    cgroups: Cgroups
    networks: NetworkStore
    fabric: Fabric
    names: Names
    volumes: VolumeStore
    kernel: Kernel
    plan: Callable[[RuntimeSpec], Plan]
    remove_tree: Callable[[Path], None]
    watch: Callable[[], logs.Watch]
    recorded_exit: Callable[[str], tuple[int, int] | None]
    let_go: Callable[[Digest, Sequence[Digest]], Awaitable[None]]
    """Removes what only a container kept of its image (the id, the chain) once the image is gone too."""


class _Ground:
    """What all else stands on."""

    def __init__(self, needs: Needs, settings: Settings) -> None:
        self.tasks = Tasks()
        self.lives = Lives()
        self.trash = Trash(settings.root / "trash", needs.remove_tree)
        self.folders = settings.root / "containers"
        self.held = HeldRoots(settings.root)
        needs.events.on_event(self.held.heard)
        self.groups = Groups(needs.cgroups, settings.host.cgroup_parent)
        self.signals = Signals(needs.store, needs.supervisor, self.groups, needs.events)


class _Surroundings:
    """What containers have around them: networks, volumes, places for their logs."""

    def __init__(self, needs: Needs, settings: Settings, ground: _Ground) -> None:
        store, events = needs.store, needs.events
        lives, folder = ground.lives, ground.folders.joinpath
        feed = Feed(
            names=needs.names,
            networks=needs.networks,
            resolve=partial(_find, store),
            resolv_conf=hostfiles.read_host_resolv_conf,
            dns=settings.dns,
        )
        self.cabling = Networking(
            store=store,
            networks=needs.networks,
            fabric=needs.fabric,
            feed=feed,
            supervisor=needs.supervisor,
            events=events,
            folder=folder,
            dns=settings.dns,
        )
        self.networks = NetworkService(
            networks=needs.networks,
            containers=store,
            networking=self.cabling,
            fabric=needs.fabric,
            feed=feed,
            lives=lives,
            tasks=ground.tasks,
            events=events,
            default_bridge=settings.default_bridge,
            ending=settings.ending,
        )
        self.volumes = VolumeService(
            store=needs.volumes,
            containers=store,
            events=events,
            tasks=ground.tasks,
            remove_tree=needs.remove_tree,
            clock=time.time_ns,
        )
        self.furnisher = Furnisher(
            volumes=self.volumes,
            store=needs.volumes,
            layers=needs.snapshots,
            kernel=needs.kernel,
        )
        self.shipping = Shipping(
            store=store,
            lives=lives,
            tasks=ground.tasks,
            folder=folder,
            log_default=settings.log_default,
            watch=needs.watch,
        )
        events.on_event(self.shipping.heard)


class _Doers:
    """Who acts on containers, whoever asks for it."""

    def __init__(
        self,
        needs: Needs,
        settings: Settings,
        ground: _Ground,
        around: _Surroundings,
        let_go: Callable[[Container], None],
    ) -> None:
        store, events, supervisor = needs.store, needs.events, needs.supervisor
        lives, folder, host = ground.lives, ground.folders.joinpath, settings.host
        cabling = around.cabling
        self.remover = removing.Remover(
            store=store,
            lives=lives,
            signals=ground.signals,
            supervisor=supervisor,
            trash=ground.trash,
            execs=needs.execs,
            events=events,
            folder=folder,
            volumes=around.volumes,
            let_go=let_go,
            relink=cabling.relink,
        )
        self.starter = starting.Starter(
            store=store,
            snapshots=needs.snapshots,
            supervisor=supervisor,
            events=events,
            plan=needs.plan,
            folder=folder,
            facts=host,
            platform=settings.platform,
            log_default=settings.log_default,
            check_logs=around.shipping.check,
            networking=cabling,
            host_gateways=lambda: settings.host_gateways or needs.networks.bridge_gateways(),
            dns=settings.dns,
            furnisher=around.furnisher,
            volumes=around.volumes,
            held=ground.held,
        )
        self.executor = execute.Executor(
            store=store,
            execs=needs.execs,
            lives=lives,
            supervisor=supervisor,
            events=events,
            facts=host,
            platform=settings.platform,
        )
        self.builders = BuildContainers(
            starter=self.starter,
            supervisor=supervisor,
            trash=ground.trash,
            folder=folder,
            kernel=needs.kernel,
            networking=cabling,
            default_network=default_network(settings.default_bridge()),
        )
        self.monitors = Monitors(
            store=store,
            executor=self.executor,
            supervisor=supervisor,
            events=events,
            tasks=ground.tasks,
        )
        events.on_event(self.monitors.heard)
        self.runner = Runner(store=store, lives=lives, starter=self.starter, remover=self.remover)


class Assembly:
    """The service, and what has to be told to its rooms from outside."""

    def __init__(self, needs: Needs, settings: Settings) -> None:
        ground = _Ground(needs, settings)
        around = _Surroundings(needs, settings, ground)
        doers = _Doers(needs, settings, ground, around, self._let_go_soon)
        store, lives, supervisor = needs.store, ground.lives, needs.supervisor
        self._tasks, self._lives, self._trash = ground.tasks, ground.lives, ground.trash
        self._held = ground.held
        self._release_layers = needs.let_go
        self._shipping, self._monitors = around.shipping, doers.monitors
        self.networks, self.volumes = around.networks, around.volumes
        self.build_containers = doers.builders
        self._runner = doers.runner
        self._restarts = Restarts(self._tasks, self._runner.restart)
        self._exits = Exits(
            store=store,
            lives=lives,
            execs=doers.executor,
            supervisor=supervisor,
            remover=doers.remover,
            restarts=self._restarts,
            networking=around.cabling,
            volumes=self.volumes,
            events=needs.events,
            drain=self._shipping.drain,
        )
        self._reconciler = reconciling.Reconciler(
            store=store,
            execs=needs.execs,
            lives=lives,
            exits=self._exits,
            restarts=self._restarts,
            supervisor=supervisor,
            groups=ground.groups,
            trash=self._trash,
            networks=self.networks,
            root=ground.folders,
            recorded_exit=needs.recorded_exit,
        )
        rooms = self._rooms(needs, settings, ground, around, doers)
        self.service = ContainerService(rooms, self._tasks)

    @staticmethod
    def _rooms(
        needs: Needs, settings: Settings, ground: _Ground, around: _Surroundings, doers: _Doers
    ) -> Rooms:
        store, events, supervisor = needs.store, needs.events, needs.supervisor
        lives, folder, host = ground.lives, ground.folders.joinpath, settings.host
        groups, signals = ground.groups, ground.signals
        pauser = Pauser(store=store, lives=lives, signals=signals, freezer=groups, events=events)
        reader = logs.Logs(
            store=store,
            lives=lives,
            folder=folder,
            log_default=settings.log_default,
            watch=needs.watch,
        )
        return Rooms(
            store=store,
            creator=create.Creator(
                store=store,
                images=needs.images,
                leases=needs.leases,
                groups=groups,
                events=events,
                log_default=settings.log_default,
                cpus=settings.cpus,
                capabilities=host.capabilities,
                init_path=host.init_path,
                default_init=settings.default_init,
                defaults=settings.defaults,
                userns_missing=settings.userns_missing,
                networking=around.cabling,
                default_network=default_network(settings.default_bridge()),
                furnisher=around.furnisher,
                finish=ground.tasks.finish,
            ),
            starter=doers.starter,
            runner=doers.runner,
            stopper=Stopper(
                store=store, lives=lives, signals=signals, events=events, start=doers.runner.start
            ),
            pauser=pauser,
            renamer=Renamer(store=store, lives=lives, events=events, networking=around.cabling),
            remover=doers.remover,
            waiter=Waiter(store=store, lives=lives),
            attacher=attach.Attacher(
                store=store, lives=lives, supervisor=supervisor, events=events, logs=reader
            ),
            executor=doers.executor,
            logs=reader,
            top=Top(store=store, groups=groups, events=events),
            meter=Meter(store=store, groups=groups),
            updater=Updater(
                store=store, lives=lives, groups=groups, events=events, cpus=settings.cpus
            ),
            lister=listing.Lister(
                store=store,
                execs=needs.execs,
                snapshots=needs.snapshots,
                images=needs.image_facts,
                folder=folder,
                volume_path=needs.volumes.path,
            ),
            copier=Copier(
                store=store,
                lives=lives,
                roots=roots.Roots(
                    needs.kernel,
                    needs.snapshots,
                    MountTrees(needs.kernel, needs.snapshots, needs.volumes),
                    store,
                    folder,
                    ground.held,
                ),
                events=events,
            ),
            committer=commit.Committer(
                store=store,
                images=needs.images,
                maker=needs.image_maker,
                snapshots=needs.snapshots,
                pauser=pauser,
                events=events,
            ),
            pruner=Pruner(
                store=store,
                lives=lives,
                remover=doers.remover,
                snapshots=needs.snapshots,
                events=events,
            ),
        )

    def take_exit(self, end: Exit) -> None:
        """A process has ended. Exits of one container are seen to in order, others do not wait for it."""
        if self.build_containers.take_exit(end):
            return
        self._tasks.spawn(self._see_to(end))

    async def _see_to(self, end: Exit) -> None:
        try:
            await self._exits(end)
        except Exception:
            log.exception("the exit of %s could not be recorded", end.key)

    def _let_go_soon(self, gone: Container) -> None:
        self._tasks.spawn(self._let_go(gone))

    async def _let_go(self, gone: Container) -> None:
        try:
            await self._release_layers(gone.image_id, gone.chain)
            for mount in gone.points or ():
                if mount.image_id is not None:
                    await self._release_layers(mount.image_id, mount.chain)
        except Exception:
            log.exception("the layers of removed container %s could not be let go", gone.id)

    async def open(self) -> None:
        """Bring rows and processes together, and start what policies want, in the background."""
        wanted = await self._reconciler.run()
        self._monitors.open()
        self._shipping.open()
        if wanted:
            self._tasks.spawn(self._runner.start_all(wanted))

    async def look_again(self) -> None:
        """Take note of what was lost with the keeper, if it was; to be called when the supervisor is back."""
        building = self.build_containers.begun()
        here = await self._reconciler.look_again()
        for key in building - here:
            self.build_containers.take_exit(Exit(key, reconciling.LOST_CODE, time.time_ns(), False))

    async def close(self) -> None:
        """Finish what is under way; containers go on."""
        self._restarts.close(self._lives.all())
        self._monitors.close()
        self._shipping.close()
        await self._tasks.close()
        await asyncio.to_thread(self._trash.close)
        await asyncio.to_thread(self._held.close)


def default_network(bridge: NetworkSpec | None) -> str:
    """Return the network of a container that names none."""
    return DEFAULT_BRIDGE if bridge is not None else NONE


def _find(store: ContainerStore, ref: str) -> Container | None:
    try:
        return store.resolve(ref)
    except WherryError:
        return None
