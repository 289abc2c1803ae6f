"""A container's root file system as a descriptor, for copying in and out.

    running           /proc/PID/root: its own mounts included, owners shown with the host's ids
    not running, in   an overlay mounted detached: nobody else ever sees it
    not running, out  the same, read-only, the container's layer being its top
    in a mount        of a container that does not run: the bind's source, the volume, the image
    elsewhere         of such a container: with its mounts on it

What the container's processes may change meanwhile is only ever walked by descriptor. Nothing of
the container is executed or loaded (CVE-2019-14271).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from wherry.containers.held_roots import HeldRoots
from wherry.containers.hostfiles import place_files, targets
from wherry.containers.inside import Wanted
from wherry.containers.mount_trees import MountTrees
from wherry.containers.runtime_spec import View
from wherry.containers.start import clear_volatile, parse_map
from wherry.containers.transitions import ALIVE
from wherry.kernel import abi, mount
from wherry.kernel.calls import Kernel
from wherry.kernel.overlays import Overlay, open_overlay
from wherry.model.containers import Container, MountKind, MountSpec
from wherry.model.errors import Conflict, Invalid, NotFound
from wherry.model.ids import Digest
from wherry.model.oci import IdMap
from wherry.storage.snapshots import OverlayView

OwnerMap = Callable[[int, int], tuple[int, int]]
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_NOBODY = 65534
# File systems that the kernel fills: shown inside, not copied. proc(5), sysfs(5), statfs(2).
_API_KINDS = frozenset(
    "proc sysfs devpts mqueue cgroup cgroup2 bpf debugfs tracefs securityfs pstore".split()
)


class Snapshots(Protocol):
    """What is used of the snapshotter."""

    def prepare(self, key: str, chain: Sequence[Digest]) -> View: ...
    def container_paths(self, chain: Sequence[Digest]) -> tuple[Path, ...]: ...
    def view_of(self, key: str, chain: Sequence[Digest]) -> View: ...


@dataclass(frozen=True, slots=True)
class Root:
    """An open root. `to_disk` and `from_disk` turn the container's owners into what stands there."""

    fd: int
    path: str
    """Where, below `fd`, the path asked for is."""
    base: int = 0
    """What root inside is to the kernel: the fsuid to write with."""
    to_disk: OwnerMap | None = None
    from_disk: OwnerMap | None = None
    hidden: frozenset[str] = frozenset()
    """Mount points whose content is not the container's to give, absolute below `fd`."""


class Roots:
    """Opens roots; every method blocks."""

    def __init__(
        self,
        kernel: Kernel,
        snapshots: Snapshots,
        trees: MountTrees,
        containers: Iterable[Container],
        folder: Callable[[str], Path],
        held: HeldRoots,
    ) -> None:
        """`folder` is where a container's own files are, by its id."""
        self._held = held
        self._kernel = kernel
        self._snapshots = snapshots
        self._trees = trees
        self._containers = containers
        self._folder = folder

    @contextmanager
    def reading(self, container: Container, wanted: Wanted) -> Generator[Root]:
        """Give the root to read `wanted` from. Raises Conflict when the container just ended."""
        if container.state.status in ALIVE:
            with self._running(container, wanted) as root:
                yield root
            return
        with self._resting(container, wanted, writable=False) as root:
            yield root

    @contextmanager
    def writing(self, container: Container, wanted: Wanted) -> Generator[Root]:
        """Give the root to write `wanted` to. Raises Invalid where that is read-only."""
        check_writable(container, wanted.path)
        if container.state.status in ALIVE:
            with self._running(container, wanted) as root:
                yield root
            return
        with self._resting(container, wanted, writable=True) as root:
            yield root

    @contextmanager
    def _resting(self, container: Container, wanted: Wanted, *, writable: bool) -> Generator[Root]:
        """Give the root of a container that does not run, with what it mounts."""
        self._held.settle(container.id)
        mounts = (*self._file_mounts(container), *container.mounts)
        inside = find_mount(mounts, wanted.path)
        if inside is not None and self._trees.is_shared(inside):
            if found := self._neighbour(inside):
                other, point = found
                path = point.target.rstrip("/") + wanted.path[len(inside.target.rstrip("/")) :]
                with self._running(other, replace(wanted, path=path)) as root:
                    yield root
                return
        if writable:
            view = self._snapshots.prepare(container.id, container.chain)
            clear_volatile(view)
        else:
            view = self._view(container)
        try:
            with self._mounted(view, writable=writable, mounts=mounts) as (fd, attached):
                if inside is None or inside.target in attached:
                    yield Root(fd, wanted.path)
                    return
        finally:
            if writable:
                clear_volatile(view)
        with self._mount_root(inside, wanted) as root:
            yield root

    def _file_mounts(self, container: Container) -> Iterable[MountSpec]:
        """Yield /etc/hosts and the like, which there are once it or whose network it has was started."""
        mode, _, owner = container.spec.namespaces.network.partition(":")
        folder = self._folder(owner if mode == "container" else container.id)
        taken = {mount.target for mount in container.mounts}
        for target, source in targets(place_files(folder)):
            if target not in taken and os.path.exists(source):
                yield MountSpec(MountKind.BIND, target, source)

    def _neighbour(self, mount: MountSpec) -> tuple[Container, MountSpec] | None:
        """Return a container that runs with the same volume, whole, and where it has it."""
        for other in self._containers:
            for point in other.points or ():
                if (
                    other.state.status in ALIVE
                    and (point.volume, point.subpath) == (mount.volume, mount.subpath)
                    and not (mount.read_only is False and point.read_only)
                ):
                    return other, point
        return None

    def _view(self, container: Container) -> View:
        try:
            return self._snapshots.view_of(container.id, container.chain)
        except NotFound:
            return OverlayView(self._snapshots.container_paths(container.chain), None, None)

    @contextmanager
    def layers(self, container: Container) -> Generator[int]:
        """Give the container's own tree, without any mounts, read-only; running or not."""
        with self._mounted(self._view(container), writable=False) as (fd, _):
            yield fd

    @contextmanager
    def _mounted(
        self, view: View, *, writable: bool, mounts: Sequence[MountSpec] = ()
    ) -> Generator[tuple[int, set[str]]]:
        """Give the tree of `view`, and the targets of those of `mounts` that are attached to it."""
        tree = self._open_view(view, writable=writable, attachable=bool(mounts))
        attached: set[str] = set()
        try:
            if mounts:
                attached = self._trees.attach_all(tree, mounts, making=writable)
            # The descriptor of the mount itself stays open: closing it takes away what is attached.
            fd = os.open(".", _DIRECTORY, dir_fd=tree)
            try:
                yield fd, attached
            finally:
                os.close(fd)
        finally:
            os.close(tree)

    def _open_view(self, view: View, *, writable: bool, attachable: bool) -> int:
        lowers = [os.fsencode(path) for path in view.lowers]
        upper = os.fsencode(view.upper) if view.upper is not None else b""
        work = os.fsencode(view.work) if view.work is not None else b""
        if not lowers:
            return self._open_plain(upper, attachable=attachable)
        if writable and upper:
            # Otherwise unmounting writes all of it out before the answer (190 MB: 0.1 to 1 s), which
            # a copy into a running container does not wait for either.
            tree = Overlay(tuple(lowers), upper, work, volatile=True)
            return open_overlay(self._kernel, tree)
        # A live upper may be read as the top of another overlay's layers; without an upper of
        # its own that overlay writes nothing (Documentation/filesystems/overlayfs).
        stack = [upper, *lowers] if upper else lowers
        if len(stack) == 1:
            return self._open_plain(stack[0], attachable=attachable)
        return open_overlay(self._kernel, Overlay(tuple(stack)))

    def _open_plain(self, path: bytes, *, attachable: bool) -> int:
        if not attachable:
            return os.open(path, _DIRECTORY)
        tree = mount.clone_tree(self._kernel, path)
        mount.change(self._kernel, tree, propagation=abi.MS_PRIVATE)
        return tree

    @contextmanager
    def _mount_root(self, point: MountSpec, wanted: Wanted) -> Generator[Root]:
        """Give what is mounted as a root of its own, where it could not be attached to the container's."""
        rest = wanted.path[len(point.target.rstrip("/")) :]
        if point.kind is MountKind.BIND:
            with _bind_root(point, wanted) as root:
                yield root
            return
        tree = self._trees.open(point)
        try:
            fd = os.open(".", _DIRECTORY, dir_fd=tree)
            try:
                yield Root(fd, rest or "/")
            finally:
                os.close(fd)
        finally:
            os.close(tree)

    @contextmanager
    def _running(self, container: Container, wanted: Wanted) -> Generator[Root]:
        pid = container.state.pid
        try:
            fd = os.open(f"/proc/{pid}/root", _DIRECTORY)
        except OSError as error:
            raise Conflict(f"container {container.id} is not running") from error
        try:
            uids = parse_map(Path(f"/proc/{pid}/uid_map").read_text())
            gids = parse_map(Path(f"/proc/{pid}/gid_map").read_text())
            mounts = Path(f"/proc/{pid}/mountinfo").read_text(errors="surrogateescape")
            yield Root(
                fd,
                wanted.path,
                base=_outside(uids, 0),
                to_disk=lambda uid, gid: (_outside(uids, uid), _outside(gids, gid)),
                from_disk=lambda uid, gid: (_inside(uids, uid), _inside(gids, gid)),
                hidden=hidden_mounts(mounts),
            )
        except OSError as error:
            if os.path.exists(f"/proc/{pid}"):
                raise
            raise Conflict(f"container {container.id} is not running") from error
        finally:
            os.close(fd)

    @contextmanager
    def acting_as(self, owner: int) -> Generator[None]:
        """Make files as the host's `owner` in this thread: overlay over idmapped layers refuses others.

        setfsuid(2) is of one thread; SECBIT_NO_SETUID_FIXUP keeps its capabilities meanwhile.
        """
        if not owner:
            yield
            return
        k = self._kernel
        k.prctl(abi.PR_SET_SECUREBITS, abi.SECBIT_NO_SETUID_FIXUP)
        k.setfsgid(owner)
        k.setfsuid(owner)
        try:
            yield
        finally:
            k.setfsuid(0)
            k.setfsgid(0)
            k.prctl(abi.PR_SET_SECUREBITS, 0)


def find_mount(mounts: Sequence[MountSpec], path: str) -> MountSpec | None:
    """Return the bind, volume or image that `path` lies in, the deepest one."""
    found = [
        mount
        for mount in mounts
        if mount.kind is not MountKind.TMPFS
        and (path + "/").startswith(mount.target.rstrip("/") + "/")
    ]
    return max(found, key=lambda mount: len(mount.target), default=None)


def check_writable(container: Container, path: str) -> None:
    """Raise Invalid, in Docker's words, where a container's root or mount at `path` is read-only."""
    inside = [
        mount
        for mount in container.mounts
        if (path + "/").startswith(mount.target.rstrip("/") + "/")
    ]
    deepest = max(inside, key=lambda mount: len(mount.target), default=None)
    if deepest is not None:
        if deepest.read_only:
            raise Invalid("mounted volume is marked read-only")
    elif container.spec.read_only:
        raise Invalid("container rootfs is marked read-only")


@contextmanager
def _bind_root(bind: MountSpec, wanted: Wanted) -> Generator[Root]:
    rest = wanted.path[len(bind.target.rstrip("/")) :]
    try:
        fd = os.open(bind.source, _DIRECTORY)
    except NotADirectoryError:
        fd = os.open(os.path.dirname(bind.source), _DIRECTORY)
        rest = "/" + os.path.basename(bind.source)
    except FileNotFoundError:
        raise Conflict(f"bind source path does not exist: {bind.source}") from None
    try:
        yield Root(fd, rest or "/")
    finally:
        os.close(fd)


def hidden_mounts(mountinfo: str) -> frozenset[str]:
    """Return the mount points of the kernel's own file systems and of /dev, proc_pid_mountinfo(5)."""
    hidden: set[str] = set()
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        fields, kind = before.split(), after.split()
        if len(fields) > 4 and kind and (kind[0] in _API_KINDS or fields[4] == "/dev"):
            hidden.add(fields[4])
    return frozenset(hidden)


def _outside(maps: tuple[IdMap, ...], number: int) -> int:
    for line in maps:
        if line.inside <= number < line.inside + line.size:
            return line.outside + number - line.inside
    return _outside(maps, _NOBODY) if number != _NOBODY else number


def _inside(maps: tuple[IdMap, ...], number: int) -> int:
    for line in maps:
        if line.outside <= number < line.outside + line.size:
            return line.inside + number - line.outside
    return _NOBODY
