"""Slots: processes with namespaces of their own, waiting for a plan; and processes that join a container.

Everything here runs in the supervisor, as host root, and ends in `runtime.child` on the other side of
the fork. Processes are made with CLONE_PARENT, so that the keeper is their parent from the first moment.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NoReturn

from wherry.kernel import abi, mount
from wherry.kernel.calls import Kernel
from wherry.model.errors import StartFailed
from wherry.model.oci import HOST, PRIVATE, IdMap
from wherry.runtime import child, handshake
from wherry.runtime.cgroups import Entrances, Handle
from wherry.runtime.devices import add_device, host_devices, make_dev
from wherry.runtime.plan import SlotProfile
from wherry.runtime.stage import CgroupMount
from wherry.runtime.terminal import open_pty

PATIENCE = 5.0
"""Seconds that anyone waits for a process that a container could hold up."""
_JOINED = b"J"
_FILES = {"mount": "mnt", "network": "net"}
_FLAGS = (
    ("user", abi.CLONE_NEWUSER),
    ("pid", abi.CLONE_NEWPID),
    ("mount", abi.CLONE_NEWNS),
    ("network", abi.CLONE_NEWNET),
    ("ipc", abi.CLONE_NEWIPC),
    ("uts", abi.CLONE_NEWUTS),
    ("cgroup", abi.CLONE_NEWCGROUP),
)


@dataclass(slots=True)
class Slot:
    """A process that waits for a plan; its descriptors belong to the pool."""

    pid: int
    pidfd: int
    socket: int
    """Becomes readable when the child has exec'd or failed."""
    profile: SlotProfile = field(default_factory=SlotProfile)
    range_index: int = -1
    owner: int = 0
    """Host id of the container's root."""
    group: int = 0
    userns: int = -1
    dev: int = -1
    data: int = -1
    """The data root through the id map: a detached mount."""
    cgroup: Handle | None = None
    warm: bool = False
    ready: bool = False
    exec_root: bool = False
    oom_score: int = 0
    """oom_score_adj of the container, for those that join it later."""
    namespaces: int = 0
    """CLONE_NEW* of the container that an exec's child has joined."""
    keep_root: bool = False
    root: int = -1
    """The overlay of a slot that is to `keep_root`, once its plan is sent; whoever asked for it owns it."""

    def close(self) -> None:
        """Close everything but pidfd and socket, which belong to whoever took the slot."""
        for fd in (self.userns, self.dev, self.data):
            if fd >= 0:
                os.close(fd)
        self.userns = self.dev = self.data = -1


def pid_of(pidfd: int) -> int:
    """Return the pid of a pidfd as this process sees it, -1 when it is gone (proc(5), fdinfo)."""
    with open(f"/proc/self/fdinfo/{pidfd}", encoding="ascii") as file:
        for line in file:
            if line.startswith("Pid:"):
                return int(line[4:])
    return -1


def namespace_flags(profile: SlotProfile) -> int:
    """Return the namespaces that the container has apart from the host's, for a later setns(2)."""
    spaces = profile.namespaces
    return sum(flag for name, flag in _FLAGS if getattr(spaces, name) != HOST)


def _fork(
    k: Kernel,
    flags: int,
    end: int,
    body: Callable[[], NoReturn],
    entrances: Entrances | None = None,
) -> tuple[int, int]:
    """clone3; the child enters the cgroups, runs `body` and never comes back. It tells failures on `end`.

    A process that moves itself costs 0.2 ms; being moved by another makes the kernel wait for RCU,
    10 ms when the machine was idle.
    """
    pid, pidfd = k.clone3(flags, entrances.unified if entrances else -1)
    if pid == 0:
        try:
            if entrances:
                entrances.enter()
            body()
        except OSError as error:
            handshake.send(
                end, handshake.FAILED, handshake.describe_failure(error, "enter the container")
            )
        finally:
            os._exit(128)
    return pid, pidfd


def spawn_slot(
    k: Kernel,
    profile: SlotProfile,
    hierarchies: tuple[CgroupMount, ...],
    entrances: Entrances,
    *,
    parent: int = abi.CLONE_PARENT,
) -> Slot:
    """Return a new slot whose child waits for GO. Raises OSError, StartFailed.

    With the default `parent` the caller's parent is the child's; with 0 the caller itself.
    """
    spaces = profile.namespaces
    new = sum(
        flag
        for name, flag in _FLAGS
        if getattr(spaces, name) == PRIVATE and flag != abi.CLONE_NEWCGROUP
    )
    with contextlib.ExitStack() as undo:
        joins: list[int] = []
        for name, _ in _FLAGS:
            if getattr(spaces, name) not in (PRIVATE, HOST):
                joins.append(_open_namespace(name, getattr(spaces, name)))
                undo.callback(os.close, joins[-1])
        ours, theirs = handshake.pair()
        failed = undo.enter_context(contextlib.ExitStack())
        failed.callback(os.close, ours)

        def run() -> NoReturn:
            child.run_slot(k, theirs, profile, hierarchies)

        def middle() -> NoReturn:
            _join_and_fork(k, theirs, new, joins, run)

        try:
            flags = parent | (0 if joins else new)
            pid, pidfd = _fork(k, flags, theirs, middle if joins else run, entrances)
        finally:
            os.close(theirs)
        if joins:
            pid, pidfd = _receive_joined(ours, pidfd)
        failed.pop_all()
    return Slot(pid, pidfd, ours, profile)


def _open_namespace(name: str, path: str) -> int:
    """Return the namespace at `path`, which must not be this process's own. Raises OSError, StartFailed."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    # A pid that was used again may be a host's process by now: to be its neighbour was never asked for.
    if os.path.samestat(os.fstat(fd), os.stat(f"/proc/self/ns/{_FILES.get(name, name)}")):
        os.close(fd)
        raise StartFailed(f"the {name} namespace {path} to be joined is the host's own")
    return fd


def _join_and_fork(
    k: Kernel, theirs: int, new: int, joins: list[int], run: Callable[[], NoReturn]
) -> NoReturn:
    """In a process of its own: join the namespaces of others, fork what stays, and tell its pidfd."""
    try:
        child.close_all_but(k, theirs, *joins)
        k.prctl(abi.PR_SET_DUMPABLE, 0)
        for fd in joins:
            k.setns(fd, 0)
        child.become_root(k)
        _, pidfd = _fork(k, new | abi.CLONE_PARENT, theirs, run)
        handshake.send(theirs, _JOINED, b"", (pidfd,))
    except OSError as error:
        body = handshake.describe_failure(error, "join the other container's namespaces")
        handshake.send(theirs, handshake.FAILED, body)
    os._exit(0)


def _receive_joined(ours: int, middle: int) -> tuple[int, int]:
    """Return pid and pidfd of what the process in the middle (a pidfd, closed here) has forked."""
    (pidfd,) = _receive_from(ours, middle, 1)
    pid = pid_of(pidfd)
    if pid <= 0:
        os.close(pidfd)
        raise StartFailed("the container's first process ended before it was ready")
    return pid, pidfd


def _receive_from(ours: int, helper: int, count: int) -> tuple[int, ...]:
    """Return the `count` descriptors that a process which visits hostile namespaces sends.

    Its pidfd `helper` is closed here. Raises StartFailed; a helper that is held up is killed, so that
    the supervisor is not.
    """
    try:
        message = handshake.receive(ours, PATIENCE)
    except OSError as error:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(helper, signal.SIGKILL)
        text = (error.strerror or str(error)).lower()
        raise StartFailed(f"cannot enter the container: {text}") from error
    finally:
        os.close(helper)
    if message is None:
        raise StartFailed("the joining process ended without a word")
    if message.kind == handshake.FAILED:
        raise handshake.failure(message.body)
    if len(message.descriptors) != count:
        for fd in message.descriptors:
            os.close(fd)
        raise StartFailed("the joining process sent something else than was asked for")
    return message.descriptors


def spawn_joining(
    k: Kernel,
    pidfd: int,
    namespaces: int,
    entrances: Entrances | None,
    *,
    parent: int = abi.CLONE_PARENT,
) -> Slot:
    """Return a slot whose child is inside the container that `pidfd` is of, waiting for a process to run.

    Only the child enters the container's cgroups. The caller waits for the process in the middle: were
    it frozen or throttled with the container, the caller would be.
    """
    ours, theirs = handshake.pair()
    kept = (*entrances.tasks, entrances.unified) if entrances else ()

    def run() -> NoReturn:
        if entrances:
            entrances.close()
        # Last, since a cgroup namespace forbids to place a process outside of it (nsdelegate).
        if namespaces & abi.CLONE_NEWCGROUP:
            k.setns(pidfd, abi.CLONE_NEWCGROUP)
        os.close(pidfd)
        child.run_exec(k, theirs)

    def middle() -> NoReturn:
        step = "join the container's namespaces"
        try:
            child.close_all_but(k, theirs, pidfd, *(fd for fd in kept if fd >= 0))
            k.prctl(abi.PR_SET_DUMPABLE, 0)
            if others := namespaces & ~abi.CLONE_NEWCGROUP:
                k.setns(pidfd, others)
            _, inner = _fork(k, abi.CLONE_PARENT, theirs, run, entrances)
            handshake.send(theirs, _JOINED, b"", (inner,))
        except OSError as error:
            handshake.send(theirs, handshake.FAILED, handshake.describe_failure(error, step))
        os._exit(0)

    try:
        try:
            _, middle_fd = _fork(k, parent, theirs, middle)
        finally:
            os.close(theirs)
        pid, inner = _receive_joined(ours, middle_fd)
    except BaseException:
        os.close(ours)
        raise
    return Slot(pid, inner, ours, ready=True, namespaces=namespaces, exec_root=True)


def _visit(
    k: Kernel,
    pidfd: int,
    namespaces: int,
    what: str,
    errand: Callable[[], tuple[int, ...]],
    count: int,
) -> tuple[int, ...]:
    """Return the descriptors that `errand` opens inside another process's namespaces. Raises OSError, StartFailed.

    Paths there are hostile: a file system of the container's own may never answer. The process that
    goes there can be given up on, the supervisor cannot.
    """
    ours, theirs = handshake.pair()

    def visit() -> NoReturn:
        try:
            child.close_all_but(k, theirs, pidfd)
            k.prctl(abi.PR_SET_DUMPABLE, 0)
            if namespaces:
                k.setns(pidfd, namespaces)
            handshake.send(theirs, _JOINED, b"", errand())
        except (OSError, StartFailed) as error:
            handshake.send(theirs, handshake.FAILED, handshake.describe_failure(error, what))
        os._exit(0)

    try:
        try:
            _, visitor = _fork(k, abi.CLONE_PARENT, theirs, visit)
        finally:
            os.close(theirs)
        return _receive_from(ours, visitor, count)
    finally:
        os.close(ours)


def borrow_tree(k: Kernel, pid: int, path: str) -> int:
    """Return a copy of the mount at `path` as process `pid` sees it. Raises OSError, StartFailed.

    A mount can be copied from within its own mount namespace only, so a process goes there for it.
    The other container is hostile: what it put at `path` is its own to share.
    """

    def errand() -> tuple[int, ...]:
        return (mount.clone_tree(k, path.encode()),)

    pidfd = os.pidfd_open(pid)
    try:
        what = f"open {path} of the other container"
        return _visit(k, pidfd, abi.CLONE_NEWNS, what, errand, 1)[0]
    finally:
        os.close(pidfd)


def borrow_pty(k: Kernel, slot: Slot) -> tuple[int, int]:
    """Return (master, slave) of a new terminal of the running container that `slot` has joined.

    Raises OSError, StartFailed.
    """

    def errand() -> tuple[int, ...]:
        return open_pty(k, "/")

    spaces = slot.namespaces & (abi.CLONE_NEWUSER | abi.CLONE_NEWNS)
    master, slave = _visit(k, slot.pidfd, spaces, "open a terminal", errand, 2)
    return master, slave


def map_ids(slot: Slot, uid_maps: tuple[IdMap, ...], gid_maps: tuple[IdMap, ...]) -> None:
    """Write the id maps of the slot's user namespace and note who its root is outside."""
    for name, lines in (("uid_map", uid_maps), ("gid_map", gid_maps)):
        text = "".join(f"{line.inside} {line.outside} {line.size}\n" for line in lines)
        fd = os.open(f"/proc/{slot.pid}/{name}", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, text.encode())
        finally:
            os.close(fd)
    slot.owner, slot.group = outside(0, uid_maps), outside(0, gid_maps)


def outside(inside: int, lines: tuple[IdMap, ...]) -> int:
    """Return the host's id of `inside`, 0 where it is not mapped."""
    for line in lines:
        if line.inside <= inside < line.inside + line.size:
            return line.outside + inside - line.inside
    return 0


def read_maps(pid: int, name: str) -> tuple[IdMap, ...]:
    """Return a process's uid_map or gid_map."""
    with open(f"/proc/{pid}/{name}", encoding="ascii") as file:
        return tuple(IdMap(*(int(word) for word in line.split())) for line in file)


def furnish_dev(k: Kernel, slot: Slot) -> None:
    """Make the slot's /dev."""
    slot.dev = make_dev(k, slot.owner, slot.group)
    if slot.profile.all_devices:
        for device in host_devices():
            add_device(slot.dev, device, slot.owner, slot.group)


def open_data(k: Kernel, slot: Slot, data_root: str) -> None:
    """Open the data root through the slot's id map: one idmapped mount serves all layers.

    Raises StartFailed where the file system or the kernel cannot.
    """
    slot.userns = os.open(f"/proc/{slot.pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    slot.data = mount.clone_tree(k, data_root.encode())
    if not mount.idmap(k, slot.data, slot.userns):
        raise StartFailed(
            f"{data_root} is on a file system without id-mapped mounts",
            hint="move --data-root to ext4, xfs or btrfs, or run with --userns=host",
        )
