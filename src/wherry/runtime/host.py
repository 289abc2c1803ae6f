"""The host's part of a start: what only a process outside of the container's namespaces may do.

It opens the root, the trees and the terminal, makes nodes, sets scores and owners, and sends the plan to
the slot's child. The supervisor's pool and `command` both start containers through it.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import stat
from collections.abc import Generator, Mapping
from types import MappingProxyType

from wherry.kernel import abi, mount
from wherry.kernel.calls import Kernel
from wherry.kernel.overlays import Overlay, open_overlay
from wherry.kernel.paths import RESOLVE_BENEATH, RESOLVE_NO_MAGICLINKS, open_in_root
from wherry.kernel.processes import set_oom_score
from wherry.kernel.workshop import copy_part, holding
from wherry.model.errors import StartFailed
from wherry.model.oci import OverlayRoot, PathRoot, Process
from wherry.runtime import handshake, wire
from wherry.runtime.devices import add_device
from wherry.runtime.plan import Plan, Tree
from wherry.runtime.slots import PATIENCE, Slot, borrow_pty
from wherry.runtime.stage import CgroupMount, settle
from wherry.runtime.terminal import open_pty

_NOTHING: Mapping[str, int] = MappingProxyType({})
# A link that leads outside is refused, as Docker does, rather than followed inside.
_INSIDE = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS


@contextlib.contextmanager
def _closing(fd: int) -> Generator[None]:
    try:
        yield
    finally:
        os.close(fd)


class Host:
    """Performs the host's part of plans; layers lie below `data_root`."""

    def __init__(self, k: Kernel, data_root: str, patience: float | None = PATIENCE) -> None:
        """`patience` are the seconds to wait for a child; None for a caller that serves nobody else."""
        self._k = k
        self._data_root = data_root
        self._patience = patience

    def go(self, slot: Slot, trees: tuple[int, ...], *, tell: bool) -> None:
        """Have the slot's child furnish itself; with `tell` `await_ready` waits for it. Raises OSError.

        Without, whatever fails is told at `finish`, and nobody waits: a container whose namespaces the
        child has joined may stop it.
        """
        handshake.send(slot.socket, handshake.GO, handshake.TELL if tell else b"", trees)
        slot.ready = not tell

    def await_ready(self, slot: Slot) -> None:
        """Return when the slot's child is furnished. Raises StartFailed."""
        if slot.ready:
            return
        message = self._receive(slot)
        if message is None:
            raise StartFailed("the container's first process ended before it was ready")
        if message.kind == handshake.FAILED:
            raise handshake.failure(message.body)
        slot.ready = True

    def send_plan(
        self,
        slot: Slot,
        plan: Plan,
        stdio: tuple[int, int, int],
        console: int,
        gate: int = -1,
        held: Mapping[str, int] = _NOTHING,
    ) -> None:
        """Do the host's part of `plan` and send the rest to the child. Raises StartFailed.

        A process on a terminal for which no `console` is given opens its own: see `take_terminal`.
        `gate`, where given, is a descriptor that the child waits on just before it execs. `held` are
        mounts by the names that the plan's trees give them; they stay the caller's.
        """
        step = "mount the root"
        opened: list[int] = []
        try:
            opened.append(self._open_root(slot, plan))
            for tree in plan.trees:
                step = f"open {tree.source}"
                opened.append(self._open_tree(slot, tree, held))
            step = "make device nodes"
            for device in plan.devices:
                add_device(slot.dev, device, slot.owner, slot.group)
            step = "set the OOM score"
            self._score(slot, plan.process)
            self.own(slot, stdio, console)
            self.await_ready(slot)
            step = "send the plan"
            body = {
                "process": wire.encode(plan.process),
                "steps": wire.encode(plan.steps),
                "gate": gate >= 0,
                "terminal": plan.process.terminal and console < 0,
            }
            descriptors = (*opened, *((gate,) if gate >= 0 else ()), *stdio)
            if len(descriptors) > handshake.MOST_DESCRIPTORS:
                raise StartFailed(
                    f"{len(plan.trees)} mounts are too many",
                    hint=f"at most {handshake.MOST_DESCRIPTORS - 5} bind mounts fit one container",
                )
            handshake.send(slot.socket, handshake.PLAN, json.dumps(body).encode(), descriptors)
            if slot.keep_root:
                slot.root = os.dup(opened[0])
        except OSError as error:
            if said := self.told(slot):
                raise said from error
            where = f" {os.fsdecode(error.filename)}" if error.filename else ""
            text = (error.strerror or str(error)).lower()
            raise StartFailed(
                f"{step}:{where} {text}", step=step, errno=error.errno or 0
            ) from error
        finally:
            for fd in opened:
                os.close(fd)
            slot.close()

    def send_process(
        self, slot: Slot, process: Process, stdio: tuple[int, int, int], console: int
    ) -> None:
        """Send the process to run in a container that the slot has joined. Raises StartFailed."""
        try:
            self.own(slot, stdio, console)
            body = json.dumps(wire.encode(process)).encode()
            handshake.send(slot.socket, handshake.PLAN, body, stdio)
        except OSError as error:
            if said := self.told(slot):
                raise said from error
            text = (error.strerror or str(error)).lower()
            raise StartFailed(f"cannot start the process: {text}") from error

    def finish(self, slot: Slot) -> None:
        """The slot's socket is readable: return when the child has exec'd. Raises StartFailed."""
        message = self._receive(slot)
        if message is not None and message.kind == handshake.FAILED:
            raise handshake.failure(message.body)

    def _receive(self, slot: Slot) -> handshake.Message | None:
        try:
            return handshake.receive(slot.socket, self._patience)
        except OSError as error:
            text = (error.strerror or str(error)).lower()
            raise StartFailed(f"the container's first process is held up: {text}") from error

    def take_terminal(self, slot: Slot) -> int:
        """Return the master of the terminal that the child has opened inside. Raises StartFailed."""
        message = self._receive(slot)
        if message is not None and message.kind == handshake.FAILED:
            raise handshake.failure(message.body)
        if message is None or len(message.descriptors) != 1:
            raise StartFailed("the container's first process ended before it had a terminal")
        return message.descriptors[0]

    def told(self, slot: Slot) -> StartFailed | None:
        """Return what the child has said of its own failure, None where it said nothing; does not wait.

        Its end shows here first as EPIPE or ESRCH of something that was done to it.
        """
        try:
            message = handshake.receive(slot.socket, 0)
        except OSError:
            return None
        if message is None or message.kind != handshake.FAILED:
            return None
        return handshake.failure(message.body)

    def _open_root(self, slot: Slot, plan: Plan) -> int:
        match plan.root:
            case PathRoot(path=path):
                tree = mount.clone_tree(self._k, os.fsencode(path), recursive=True)
                try:
                    if slot.userns >= 0:
                        mount.idmap(self._k, tree, slot.userns)
                    # A copy of a shared mount is its peer: /proc would be mounted on the host's side too.
                    mount.change(self._k, tree, propagation=abi.MS_PRIVATE, recursive=True)
                except BaseException:
                    os.close(tree)
                    raise
                return tree
            case OverlayRoot() as root:
                wanted = Overlay(
                    tuple(self._through(slot, lower) for lower in root.lowers),
                    self._through(slot, root.upper) if root.upper else b"",
                    self._through(slot, root.work) if root.work else b"",
                    root.volatile,
                    slot.data,
                )
                return open_overlay(self._k, wanted, owner=slot.owner)

    def _through(self, slot: Slot, path: str) -> bytes:
        """Return `path` below the slot's idmapped data root; as it is where the slot has none."""
        if slot.data < 0:
            return os.fsencode(path)
        inside = os.fsencode(path).removeprefix(os.fsencode(self._data_root) + b"/")
        if inside.startswith(b"/"):
            raise StartFailed(f"the layer {path} lies outside of {self._data_root}")
        return inside

    def _open_tree(self, slot: Slot, wanted: Tree, held: Mapping[str, int]) -> int:
        options = mount.parse_options(wanted.options)
        tree, mapped = self._clone(slot, wanted, held, recursive=options.recursive)
        try:
            if (
                slot.userns >= 0
                and not mapped
                and not wanted.foreign
                and not mount.idmap(self._k, tree, slot.userns, recursive=options.recursive)
            ):
                # Something below cannot be idmapped (procfs, a network file system): the top alone, or as it is.
                mount.idmap(self._k, tree, slot.userns)
            if not options.propagation:
                mount.change(self._k, tree, propagation=abi.MS_PRIVATE, recursive=options.recursive)
            settle(self._k, tree, options)
        except BaseException:
            os.close(tree)
            raise
        return tree

    def _clone(
        self, slot: Slot, wanted: Tree, held: Mapping[str, int], *, recursive: bool
    ) -> tuple[int, bool]:
        """Return a detached mount, and whether it shows the slot's ids already. Raises OSError, StartFailed."""
        if len(wanted.layers) > 1:
            layers = tuple(self._through(slot, layer) for layer in wanted.layers)
            wanted_layers = Overlay(layers, base=slot.data)
            tree = open_overlay(self._k, wanted_layers, owner=slot.owner)
            if not wanted.subpath:
                return tree, True
            with _closing(tree):
                return self._below(tree, wanted, recursive=recursive), True
        source = os.fsencode(wanted.layers[0] if wanted.layers else wanted.source)
        if not wanted.held:
            if not wanted.subpath:
                return mount.clone_tree(self._k, source, recursive=recursive), False
            base = os.open(source, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            with _closing(base):
                return self._below(base, wanted, recursive=recursive), False
        if wanted.held not in held:
            raise StartFailed(f"the volume {wanted.held} was not handed over")
        with holding(self._k, held[wanted.held]) as base:
            return self._below(base, wanted, recursive=recursive), False

    def _below(self, base: int, wanted: Tree, *, recursive: bool) -> int:
        """Return a copy of the mount at the tree's subpath in `base`. Raises StartFailed.

        What lies there belongs to containers that may run and change it meanwhile: it is looked up once,
        links leading nowhere outside, and what was found is what is mounted (CVE-2021-30465).
        """
        spot = -1
        try:
            if wanted.subpath:
                spot = open_in_root(base, wanted.subpath, os.O_PATH, resolve=_INSIDE)
            part = spot if wanted.subpath else base
            return copy_part(self._k, base, part, recursive=recursive)
        except FileNotFoundError as error:
            path = f"{wanted.source}/{wanted.subpath}"
            raise StartFailed(
                f"cannot access path {path}: lstat {path}: no such file or directory", exit_code=127
            ) from error
        except OSError as error:
            if wanted.subpath and error.errno in (errno.EXDEV, errno.ELOOP):
                raise StartFailed(
                    "path concatenation escapes the base directory, "
                    f"base: {wanted.source}, subpath: {wanted.subpath}"
                ) from error
            raise
        finally:
            if spot >= 0:
                os.close(spot)

    def _score(self, slot: Slot, process: Process) -> None:
        if not process.oom_score_adj:
            return
        try:
            set_oom_score(slot.pid, slot.pidfd, process.oom_score_adj)
        except PermissionError as error:
            raise StartFailed(
                f"cannot lower the OOM score to {process.oom_score_adj}",
                hint="that needs CAP_SYS_RESOURCE, which the engine does not have here",
            ) from error

    def own(self, slot: Slot, stdio: tuple[int, int, int], console: int) -> None:
        """Pipes and the terminal become the container's root's; the child hands them on to its user.

        Files that were handed in (`wherry-runtime run > file`) keep their owner.
        """
        if not slot.owner:
            return
        for fd in {*stdio, console} - {-1}:
            if fd == console:
                os.fchown(fd, slot.owner, slot.group + 5)
            elif stat.S_ISFIFO(os.fstat(fd).st_mode):
                os.fchown(fd, slot.owner, slot.group)

    def open_pty(self, slot: Slot) -> tuple[int, int]:
        """Return (master, slave) of a new pseudo-terminal of the container's own devpts. Raises StartFailed."""
        self.await_ready(slot)
        try:
            if slot.exec_root:
                return borrow_pty(self._k, slot)
            return open_pty(self._k, f"/proc/{slot.pid}/root/tmp")
        except OSError as error:
            raise StartFailed(
                f"cannot open a terminal: {(error.strerror or '').lower()}"
            ) from error


def cgroup_mounts(mountinfo: str) -> tuple[CgroupMount, ...]:
    """Return the host's hierarchies as a container is to see them, from /proc/self/mountinfo's text."""
    out: list[CgroupMount] = []
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        fields, (kind, _, options) = left.split(), right.split(" ")[:3]
        if kind not in ("cgroup", "cgroup2") or not fields[4].startswith("/sys/fs/cgroup"):
            continue
        name = fields[4].removeprefix("/sys/fs/cgroup").lstrip("/")
        words = tuple(
            word
            for word in options.split(",")
            if kind == "cgroup"
            and word not in ("rw", "ro", "xattr", "clone_children")
            # release_agent=: who may not choose it may not repeat it, EINVAL.
            and ("=" not in word or word.startswith("name="))
        )
        if any(word.startswith("name=") for word in words):
            words = ("none", *(word for word in words if word.startswith("name=")))
        out.append(CgroupMount(name, kind, words))
    return tuple(out)
