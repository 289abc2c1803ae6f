"""Building put together: `build.solve` with the engine's storage, and its steps in the engine's containers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import assert_never

from wherry.build.bases import Bases
from wherry.build.cache import BuildCache
from wherry.build.context.fetched import fetchers
from wherry.build.context.store import ContextStore
from wherry.build.copying import Copying
from wherry.build.exchanging import Exchanging
from wherry.build.mountcache import MountCache
from wherry.build.outputs import Outputs, Packing
from wherry.build.perform import Tools
from wherry.build.prune import Keeper
from wherry.build.runner import (
    DirectoryMount,
    FileMount,
    HostMount,
    LayersMount,
    MemoryMount,
    Output,
    RunSpec,
)
from wherry.build.solve import Solver
from wherry.containers.building import BuildContainers, bind, layers, memory, step_container
from wherry.daemon.build_registries import BuildRegistries, PushedOutputs, Registries
from wherry.daemon.contexts import ClientContexts
from wherry.daemon.late_builds import Made
from wherry.images.archive.save import Saver
from wherry.images.intake import Intake
from wherry.images.places import Places
from wherry.images.service import ImageService
from wherry.images.store import ImageStore
from wherry.images.unpack import Unpacker
from wherry.model.containers import MountSpec
from wherry.model.images import Image
from wherry.storage.collector import Collector
from wherry.storage.content import ContentStore
from wherry.storage.leases import Leases
from wherry.storage.leftovers import remove_leftovers
from wherry.storage.snapshots import Snapshotter


def open_building(
    *,
    root: Path,
    cache: BuildCache,
    store: ImageStore,
    content: ContentStore,
    snapshots: Snapshotter,
    leases: Leases,
    collector: Collector,
    images: ImageService,
    containers: BuildContainers,
    places: Places,
    registries: Registries,
) -> Made:
    """Return what builds, and what takes its contexts in and its outputs out."""
    folder = root / "build"
    contexts = ContextStore(folder / "contexts", fetchers=fetchers(folder / "fetched-contexts"))
    remote = BuildRegistries(registries)
    builds = open_builds(
        root=root,
        cache=cache,
        images=store,
        content=content,
        snapshots=snapshots,
        leases=leases,
        collector=collector,
        unpacker=images.unpacker,
        containers=containers,
        contexts=contexts,
        tagged=images.tell_tagged,
        places=places,
        registries=remote,
    )
    packing = Packing(images.intakes, places)
    clients = ClientContexts(
        contexts,
        Outputs(Saver(store, content, leases), packing, content).write,
        load=images.load_one,
        push=PushedOutputs(remote, store, packing).push,
    )
    return Made(builds, clients, contexts.close)


def open_builds(
    *,
    root: Path,
    cache: BuildCache,
    images: ImageStore,
    content: ContentStore,
    snapshots: Snapshotter,
    leases: Leases,
    collector: Collector,
    unpacker: Unpacker,
    containers: BuildContainers,
    contexts: ContextStore,
    tagged: Callable[[Image, str], None],
    places: Places,
    registries: BuildRegistries | None = None,
) -> Solver:
    """Return what builds. `root` is the data root: build/ in it is this one's."""
    folder = root / "build"
    scratch = folder / "scratch"
    scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
    remove_leftovers(scratch)
    mounts = MountCache(folder / "mounts", cache)
    intakes = partial(Intake, content, leases, collector)
    tools = Tools(
        snapshots=snapshots,
        intakes=intakes,
        runner=StepRunner(containers),
        copier=Copying(folder / "fetched"),
        mounts=mounts,
        scratch=scratch,
    )
    keeper = Keeper(
        cache=cache,
        mounts=mounts,
        images=images,
        leases=leases,
        collector=collector,
        folders=contexts,
        root=root,
    )
    return Solver(
        tools=tools,
        cache=cache,
        store=images,
        unpacker=unpacker,
        intakes=intakes,
        contexts=contexts,
        bases=Bases(images, registries),
        keeper=keeper,
        tagged=tagged,
        exchanging=Exchanging(cache, mounts, images, places, registries),
    )


class StepRunner:
    """Runs steps."""

    def __init__(self, containers: BuildContainers) -> None:
        self._containers = containers
        self.discard = containers.discard

    async def run(self, spec: RunSpec, output: Output) -> int:
        """Return the exit code. See `build.runner.Runner`."""
        container = step_container(
            spec.key,
            chain=spec.chain,
            argv=spec.argv,
            env=spec.env,
            working_dir=spec.working_dir,
            user=spec.user,
            mounts=tuple(
                _mount(mount) for mount in spec.mounts if not isinstance(mount, FileMount)
            ),
            network=spec.network,
            insecure=spec.insecure,
            limits=spec.limits,
            ulimits=spec.ulimits,
            shm_size=spec.shm_size,
            cgroup_parent=spec.cgroup_parent,
            extra_hosts=spec.extra_hosts,
            architecture=spec.architecture,
        )
        files = [mount for mount in spec.mounts if isinstance(mount, FileMount)]
        return await self._containers.run(container, files, output)


def _mount(mount: HostMount) -> MountSpec:
    match mount:
        case DirectoryMount(target, source, read_only):
            return bind(target, source, read_only=read_only)
        case LayersMount(target, chain, path):
            return layers(target, chain, path)
        case MemoryMount(target, size):
            return memory(target, size)
        case FileMount():
            raise AssertionError("files are handed over apart")
        case _:
            assert_never(mount)
