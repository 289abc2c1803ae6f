"""One step carried out: its inputs looked at (which its key needs), then a layer made of what it writes."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from wherry.build import owners
from wherry.build.dispatch import SCRIPTS
from wherry.build.files import Copier, Target, Tree
from wherry.build.layers import MADE_BY_RUNTIME, LayersTree, make_layer, open_view
from wherry.build.linking import Copies, Linking
from wherry.build.mountcache import MountCache
from wherry.build.placement import set_xattrs
from wherry.build.runner import (
    DirectoryMount,
    FileMount,
    HostMount,
    LayersMount,
    MemoryMount,
    Output,
    Runner,
    RunSpec,
)
from wherry.build.service import BuildFailed
from wherry.build.steps import (
    AddStep,
    CopyStep,
    FromContext,
    LayerStep,
    MountKind,
    RunMount,
    RunStep,
    Source,
    WorkdirStep,
    is_remote,
)
from wherry.build.unfolded import unfolded
from wherry.images.bridge import in_thread
from wherry.images.intake import Intakes
from wherry.images.store import StoredLayer
from wherry.kernel.paths import RESOLVE_IN_ROOT, RESOLVE_NO_MAGICLINKS, open_in_root, remove_path
from wherry.model.build import BuildRequest, SecretSource
from wherry.model.errors import Invalid, NotFound
from wherry.model.ids import Digest
from wherry.storage.durable import full
from wherry.storage.layers import extract, pack
from wherry.storage.layers.entries import Entry
from wherry.storage.layers.lower import LowerTree
from wherry.storage.snapshots import Snapshotter

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_INSIDE = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS
_AGENT = "/run/buildkit/ssh_agent.{}"
_SECRET_MODE = 0o400
Keep = Callable[[StoredLayer | None], None]
"""Is told what a step came to while that is still held."""
_LARGE = 8 << 20
"""Bytes of a layer that begin to be synced at once, while the next steps run."""
TAIL = 4 << 10
"""Bytes of a failed command's output that its error keeps."""


@dataclass(frozen=True, slots=True)
class Place:
    """What is below a step."""

    layers: tuple[StoredLayer, ...]

    @property
    def chain(self) -> tuple[Digest, ...]:
        """The chain ids, base first."""
        return tuple(stored.layer.chain_id for stored in self.layers)

    @property
    def diff_ids(self) -> tuple[Digest, ...]:
        """The digests of the layers' archives, base first."""
        return tuple(stored.layer.diff_id for stored in self.layers)


@dataclass(frozen=True, slots=True)
class Tools:
    """What every build uses."""

    snapshots: Snapshotter
    intakes: Intakes
    runner: Runner
    copier: Copier
    mounts: MountCache
    scratch: Path
    """A folder for what a step needs a copy of."""
    copies: Copies = field(default_factory=Copies)


class Performer:
    """Carries out the steps of one build."""

    def __init__(
        self,
        tools: Tools,
        request: BuildRequest,
        secrets: SecretSource,
        find: Callable[[Source], Awaitable[Tree]],
    ) -> None:
        """`find` opens what `--from` names."""
        self._tools = tools
        self._request = request
        self._secrets = secrets
        self._find = find

    # -- what the key needs ------------------------------------------------------------------

    async def inputs(self, step: LayerStep, place: Place) -> dict[str, str]:
        """Return digests of all that a step reads beside the layers below it. Raises NotFound, Invalid."""
        match step:
            case CopyStep() | AddStep():
                tree = await self._source(step)
                found = {"files": await in_thread(lambda: self._tools.copier.digest(step, tree))}
                if step.link:
                    above = await in_thread(lambda: self._above(step, place))
                    found["above"] = repr([(d.name, d.mode, d.uid, d.gid) for d in above])
                return found
            case RunStep():
                found = dict[str, str]()
                for number, mount in enumerate(step.mounts):
                    if mount.origin is not None and mount.kind is MountKind.BIND:
                        found[str(number)] = await self._mount_digest(step, mount)
                return found
            case WorkdirStep():
                return {}

    async def _mount_digest(self, step: RunStep, mount: RunMount) -> str:
        assert mount.origin is not None
        tree = await self._find(mount.origin)
        if not isinstance(mount.origin, FromContext):
            return tree.digest
        # Only what is below the source counts: another file of the context changes nothing.
        probe = CopyStep(step.common, (mount.source or ".",), "/", mount.origin)
        return await in_thread(lambda: self._tools.copier.digest(probe, tree))

    async def _source(self, step: CopyStep | AddStep) -> Tree | None:
        if not step.sources:
            return None
        if isinstance(step, AddStep) and all(is_remote(source) for source in step.sources):
            return None
        return await self._find(step.origin)

    # -- doing it ----------------------------------------------------------------------------

    async def perform(
        self, step: LayerStep, place: Place, key: str, epoch: int | None, keep: Keep, output: Output
    ) -> StoredLayer | None:
        """Carry out a step in the writable tree `key`; return its layer, None where nothing changed.

        What is returned is held by nobody. Raises BuildFailed, and what went wrong.
        """
        try:
            with full(step.common.title):
                match step:
                    case RunStep():
                        return await self._run(step, place, key, epoch, keep, output)
                    case CopyStep() | AddStep():
                        tree = await self._source(step)
                        return await in_thread(
                            lambda: self._copy(step, tree, place, key, epoch, keep)
                        )
                    case WorkdirStep():
                        return await in_thread(lambda: self._workdir(step, place, key, epoch, keep))
        finally:
            self._tools.runner.discard(key)

    def _layer(
        self,
        place: Place,
        key: str,
        chain: Sequence[Digest],
        epoch: int | None,
        keep: Keep,
        stubs: Sequence[str] = (),
    ) -> StoredLayer | None:
        tools = self._tools
        view = tools.snapshots.view_of(key, chain)
        with tools.intakes() as intake:
            made = make_layer(
                tools.snapshots,
                view,
                place.chain,
                place.diff_ids,
                intake,
                stubs=stubs,
                epoch=epoch,
            )
            # While it is held: from here on the cache's row keeps it.
            keep(made)
            return made

    def _copy(
        self,
        step: CopyStep | AddStep,
        tree: Tree | None,
        place: Place,
        key: str,
        epoch: int | None,
        keep: Keep,
    ) -> StoredLayer | None:
        tools = self._tools
        chain = () if step.link else place.chain
        view = tools.snapshots.prepare(key, chain)
        assert view.upper is not None
        with ExitStack() as stack:
            upper = os.open(view.upper, _DIRECTORY)
            stack.callback(os.close, upper)
            root = users = upper if step.link else open_view(view)
            if step.link:
                make_directories(upper, self._above(step, place))
                users = open_view(tools.snapshots.view(place.chain))
            stack.callback(os.close, users)
            linking = Linking(tools.copies, root, upper)
            tools.copier.copy(step, tree, Target(root, users, epoch, linking))
        made = self._layer(place, key, chain, epoch, keep)
        if made is not None:
            tools.copies.note(tools.snapshots.layer_path(made.layer.chain_id), linking.files)
            if made.layer.size > _LARGE:
                tools.snapshots.settle_soon()
        return made

    def _above(self, step: CopyStep | AddStep, place: Place) -> list[Entry]:
        """Return the directories of the destination's path that are there: --link leaves them as they are."""
        found: list[Entry] = []
        path = b""
        with LowerTree(self._tools.snapshots.parent_paths(place.chain)) as tree:
            for part in filter(None, os.path.normpath(os.fsencode(step.destination)).split(b"/")):
                path = path + b"/" + part if path else part
                entry = tree.directory(path)
                if entry is None:
                    break
                found.append(entry)
        return found

    def _workdir(
        self, step: WorkdirStep, place: Place, key: str, epoch: int | None, keep: Keep
    ) -> StoredLayer | None:
        with LayersTree(self._tools.snapshots, place.chain).open() as fd:
            try:
                os.close(open_in_root(fd, os.fsencode(step.path), _DIRECTORY, resolve=_INSIDE))
                keep(None)
                return None
            except FileNotFoundError:
                pass
            except NotADirectoryError as error:
                raise Invalid(
                    f"WORKDIR {step.path}: something that is no directory is there"
                ) from error
        root = open_view(self._tools.snapshots.prepare(key, place.chain))
        try:
            uid, gid = owners.look_up_process(step.common.config.user, root)
            at = b""
            for part in os.fsencode(step.path).strip(b"/").split(b"/"):
                parent = open_in_root(root, at or b".", _DIRECTORY, resolve=_INSIDE)
                at = at + b"/" + part if at else part
                try:
                    os.mkdir(part, 0o755, dir_fd=parent)
                    os.chown(part, uid, gid, dir_fd=parent, follow_symlinks=False)
                except FileExistsError:
                    pass
                finally:
                    os.close(parent)
        finally:
            os.close(root)
        return self._layer(place, key, place.chain, epoch, keep)

    # -- RUN ---------------------------------------------------------------------------------

    async def _run(
        self, step: RunStep, place: Place, key: str, epoch: int | None, keep: Keep, output: Output
    ) -> StoredLayer | None:
        tail = b""

        def listen(fd: int, data: bytes) -> None:
            nonlocal tail
            tail = (tail + data)[-TAIL:]
            output(fd, data)

        request = self._request
        async with AsyncExitStack() as stack:
            mounts: list[HostMount] = []
            env = list(step.env)
            for number, mount in enumerate(step.mounts):
                mounts += await self._mount(mount, number, key, env, stack)
            mounts += [
                FileMount(f"{SCRIPTS}/{script.name}", script.content.encode(), 0o755)
                for script in step.scripts
            ]
            chain = place.chain
            if any(mount.kind is MountKind.CACHE for mount in step.mounts):
                intake = stack.enter_context(self._tools.intakes())
                chain = await in_thread(
                    lambda: unfolded(self._tools.snapshots, place.chain, intake)
                )
            network = step.network if step.network != "default" else request.network
            spec = RunSpec(
                key=key,
                chain=chain,
                argv=step.argv,
                env=tuple(env),
                working_dir=step.working_dir,
                user=step.user,
                mounts=tuple(mounts),
                network=network or "default",
                insecure=step.insecure,
                limits=request.limits,
                ulimits=request.ulimits,
                shm_size=request.shm_size,
                cgroup_parent=request.cgroup_parent,
                extra_hosts=request.extra_hosts,
                architecture=step.architecture,
            )
            code = await self._tools.runner.run(spec, listen)
        if code:
            shown = " ".join(step.argv).replace("\n", "\\n")
            raise BuildFailed(
                f"The command '{shown}' returned a non-zero code: {code}",
                exit_code=code,
                tail=tail,
            )
        stubs = [*(mount.target for mount in mounts), *MADE_BY_RUNTIME]
        return await in_thread(lambda: self._layer(place, key, place.chain, epoch, keep, stubs))

    async def _mount(
        self, mount: RunMount, number: int, key: str, env: list[str], stack: AsyncExitStack
    ) -> list[HostMount]:
        match mount.kind:
            case MountKind.TMPFS:
                return [MemoryMount(mount.target, mount.size)]
            case MountKind.CACHE:
                named, fill = await self._cache_mount(mount)
                path = await stack.enter_async_context(self._tools.mounts.use(named, fill))
                return [DirectoryMount(mount.target, str(path), mount.read_only)]
            case MountKind.SECRET:
                value = await self._secrets.secret(mount.id)
                if value is None:
                    if mount.required:
                        raise NotFound("secret", mount.id, hint="give it with --secret id=…")
                    return []
                if mount.env:
                    env[:] = [entry for entry in env if entry.partition("=")[0] != mount.env]
                    env.append(f"{mount.env}={value.decode('utf-8', 'surrogateescape')}")
                if not mount.target:
                    return []
                mode = _SECRET_MODE if mount.mode is None else mount.mode
                return [FileMount(mount.target, value, mode, mount.uid, mount.gid)]
            case MountKind.SSH:
                given = mount.id in self._request.ssh
                path = await self._secrets.agent(mount.id) if given else None
                if path is None and mount.required:
                    raise NotFound("ssh agent", mount.id, hint=f"give it with --ssh {mount.id}")
                target = mount.target or _AGENT.format(number)
                # Also where there is none: as with BuildKit.
                if not any(entry.startswith("SSH_AUTH_SOCK=") for entry in env):
                    env.append(f"SSH_AUTH_SOCK={target}")
                if path is None:
                    return []
                return [DirectoryMount(target, path)]
            case MountKind.BIND:
                return [await self._bind(mount, number, key, stack)]

    async def _bind(
        self, mount: RunMount, number: int, key: str, stack: AsyncExitStack
    ) -> HostMount:
        assert mount.origin is not None
        tree = await self._find(mount.origin)
        path = mount.source.strip("/")
        path = "" if path == "." else path
        if mount.read_only and isinstance(tree, LayersTree):
            return LayersMount(mount.target, tree.chain, path)
        if not mount.read_only:
            # What is written there is thrown away after the step, as with BuildKit.
            copy = self._tools.scratch / f"{key}.{number}"
            stack.callback(remove_path, copy)
            await in_thread(lambda: _copy_out(tree, path, copy))
            return DirectoryMount(mount.target, str(copy))
        opened = tree.open()
        root = opened.__enter__()
        stack.callback(opened.__exit__, None, None, None)
        fd = _open_source(root, path)
        stack.callback(os.close, fd)
        # A context's tree is a plain directory: the supervisor binds it by its name.
        return DirectoryMount(mount.target, os.readlink(f"/proc/self/fd/{fd}"), True)

    async def _cache_mount(self, mount: RunMount) -> tuple[RunMount, Callable[[Path], None] | None]:
        """Return a cache mount by the name of its directory, and what fills it at first.

        What it is made from, whose it is and its mode are part of the name, as with BuildKit: under one id
        there is one directory for each.
        """
        name = mount.id
        if mount.uid or mount.gid or mount.mode is not None:
            mode = "" if mount.mode is None else f" {mount.mode:o}"
            name += f" ({mount.uid}:{mount.gid}{mode})"
        if mount.origin is None:
            return replace(mount, id=name), None
        tree = await self._find(mount.origin)
        source = mount.source.strip("/")
        base = Digest.of(f"{tree.digest} {source}".encode())
        return replace(mount, id=f"{name} @{base.short}"), lambda path: _copy_out(
            tree, source, path
        )


def _open_source(root: int, path: str) -> int:
    try:
        return open_in_root(
            root, os.fsencode(path) or b".", os.O_PATH | os.O_CLOEXEC, resolve=_INSIDE
        )
    except OSError as error:
        raise NotFound("path", f"/{path}", hint="as source of a RUN --mount") from error


def _copy_out(tree: Tree, path: str, to: Path) -> None:
    """Copy what is at `path` in a tree into the directory `to`, made where it is missing."""
    to.mkdir(exist_ok=True)
    with tree.open() as root, tempfile.TemporaryFile(dir=to.parent) as spool:
        pack(root, spool.write, path=os.fsencode(path), prefix=b".")
        spool.seek(0)
        target = os.open(to, _DIRECTORY)
        try:
            extract(spool, target, ".")
        finally:
            os.close(target)


def make_directories(root: int, wanted: Sequence[Entry]) -> None:
    """Make directories in an empty one, parents first, each as it is described."""
    for entry in wanted:
        os.mkdir(entry.name, 0o700, dir_fd=root)
        fd = os.open(entry.name, _DIRECTORY | os.O_NOFOLLOW, dir_fd=root)
        try:
            os.fchown(fd, entry.uid, entry.gid)
            os.fchmod(fd, entry.mode)
            set_xattrs(fd, entry.xattrs)
        finally:
            os.close(fd)
    for entry in reversed(wanted):
        os.utime(entry.name, ns=(entry.mtime_ns, entry.mtime_ns), dir_fd=root)
