"""The pool: warm slots ahead of need, and plans begun in them. Satisfies `launcher.Launcher`.

take    a warm slot where the plan wants the usual profile, else a new one
begin   host side: cgroup and limits, the root's overlay, trees and nodes; then the plan is sent
finish  the child has exec'd (end of file), or says what failed
release after the exit: cgroups and the id range are given back
"""

from __future__ import annotations

import contextlib
import os
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from wherry.kernel.bpf import load_device_program
from wherry.kernel.calls import Kernel
from wherry.kernel.linux import LINUX
from wherry.kernel.processes import wait_readable
from wherry.model.errors import NotFound, StartFailed, WherryError
from wherry.model.oci import Process
from wherry.model.resources import DEFAULT_DEVICES, Limits
from wherry.runtime import slots
from wherry.runtime.cgroups import CgroupDriver, Handle, open_cgroups
from wherry.runtime.host import cgroup_mounts
from wherry.runtime.plan import Plan, SlotProfile
from wherry.runtime.slots import Slot
from wherry.runtime.stage import CgroupMount
from wherry.supervisor.identity import cgroup_parent
from wherry.supervisor.making import Maker, Order, end, wants_ids
from wherry.supervisor.ranges import IdRanges
from wherry.supervisor.zygote import Zygote

_WARM = SlotProfile()
_EXIT_PATIENCE = 2.0
_BRIEF = 0.05
_NEARLY = 0.005
"""Seconds to wait for the zygote: about what a slot takes that is made without it."""
_OVERDUE = 5.0
"""Seconds after which a zygote is given up on."""
_OWN = "slot-"
_ID_DIGITS = 64
_HEX_DIGITS = frozenset("0123456789abcdef")


@dataclass(frozen=True, slots=True)
class PoolConfig:
    """Where the engine keeps its data and how many slots it holds ready."""

    data_root: str
    size: int = 1


class Pool:
    """Slots, warm and cold. One thread, one owner: the supervisor's loop."""

    def __init__(
        self,
        k: Kernel,
        config: PoolConfig,
        cgroups: CgroupDriver,
        ranges: IdRanges,
        hierarchies: tuple[CgroupMount, ...],
    ) -> None:
        self._k = k
        self._config = config
        self._cgroups = cgroups
        self._ranges = ranges
        self._maker = Maker(k, config.data_root, cgroups, hierarchies)
        self._host = self._maker.host
        self._zygote = Zygote(self._maker, _WARM)
        self._asked: deque[tuple[str, int, float]] = deque()
        """Cgroup, range and moment of the slots that the zygote was asked for and were not received."""
        self._is_late = False
        """The zygote is not waited for, since it was in vain."""
        self._warm: deque[Slot] = deque()
        self._adopted: set[str] = set()
        self._unreleased: list[dict[str, Any]] = []
        self._swept = False
        self._serial = 0

    # -- slots -------------------------------------------------------------------------------

    def take(self, plan: Plan) -> Slot:
        """Return a slot for `plan`. Raises StartFailed."""
        try:
            slot = self._pick(plan)
            slot.oom_score = plan.process.oom_score_adj or 0
            try:
                self._settle_cgroup(slot, plan)
            except (OSError, WherryError):
                self._discard(slot)
                raise
        except StartFailed:
            raise
        except WherryError as error:
            # The request was sound; what the kernel refused is the start's failure.
            raise StartFailed(error.message, hint=error.hint) from error
        except OSError as error:
            text = (error.strerror or str(error)).lower()
            raise StartFailed(f"set up the cgroup: {text}", errno=error.errno or 0) from error
        return slot

    def _pick(self, plan: Plan) -> Slot:
        # A slot shows its cgroup as the root of a namespace, or binds its folder without one: moved to
        # another parent it would show one that is removed, and renamed while it looks it finds nothing
        # (EPERM: the hierarchy itself cannot be mounted there). So what is made now begins at its name,
        # and only warm slots, which have looked, are renamed.
        wanted = plan.cgroup_path
        beside = not wanted or wanted.rpartition("/")[0] == self._cgroups.parent
        if beside and plan.profile == _WARM:
            while slot := self._next_warm():
                if self._is_alive(slot):
                    return slot
                self._discard(slot)
        return self._make(plan.profile, tell=plan.process.terminal, path=wanted)

    def _next_warm(self) -> Slot | None:
        """Return a warm slot, None where none is ready: many starts at once wait for no zygote."""
        if not self._warm and self._asked:
            overdue = time.monotonic() - self._asked[0][2] > _OVERDUE
            if overdue or self._zygote.answered(0.0 if self._is_late else _NEARLY):
                self._receive()
            else:
                self._is_late = True
        return self._warm.popleft() if self._warm else None

    def refill(self) -> bool:
        """Have one warm slot made; return whether more are wanted."""
        if len(self._warm) + len(self._asked) < self._config.size:
            self._ask()
        return len(self._warm) + len(self._asked) < self._config.size

    def close(self) -> None:
        """Let go of the zygote and the warm slots: they end at the closed socket."""
        while self._asked:
            self._receive(_EXIT_PATIENCE)
        self._zygote.close()
        while self._warm:
            self._discard(self._warm.popleft())
        for facts in self._unreleased:
            # Nothing is held up any more; what is left even so is swept by the next supervisor.
            with contextlib.suppress(OSError, WherryError):
                self._release(facts, _EXIT_PATIENCE)
        self._unreleased.clear()
        self._cgroups.close()

    def _is_alive(self, slot: Slot) -> bool:
        return not wait_readable(slot.pidfd, 0)

    def _make(self, profile: SlotProfile, *, tell: bool, path: str = "") -> Slot:
        """Return a new slot, in the cgroup `path` or one of its own name. Raises WherryError, OSError.

        With `tell` its child says when it is furnished.
        """
        self._look_after_the_rest()
        handle = self._cgroups.create(path or self._new_path())
        order = Order(profile, tell=tell)
        try:
            if wants_ids(profile):
                order = replace(order, ids=self._ranges.take())
            return self._maker.make(order, handle)
        except (OSError, WherryError):
            self._cancel(handle.path, order.ids)
            raise

    def _look_after_the_rest(self) -> None:
        self._sweep()
        self._release_rest()

    def _new_path(self) -> str:
        self._serial += 1
        return f"{self._cgroups.parent}/{_OWN}{os.getpid()}-{self._serial}"

    def _cancel(self, path: str, ids: int) -> None:
        self._give_back({"range": ids, **facts_of(Handle(path, path))})

    def _ask(self) -> None:
        """Have the zygote make a warm slot. Raises WherryError, OSError."""
        self._look_after_the_rest()
        path, ids = self._new_path(), self._ranges.take()
        try:
            self._zygote.ask(path, ids)
        except WherryError:
            self._cancel(path, ids)
            raise
        self._asked.append((path, ids, time.monotonic()))

    def _receive(self, seconds: float = 0.0) -> None:
        """Take in the slot that the zygote was asked for first; where it has failed, none is expected."""
        self._is_late = False
        first = self._asked.popleft()
        try:
            slot = self._zygote.receive(seconds)
        except WherryError:
            # What it has made since ends with it.
            self._zygote.close()
            for path, ids, _ in (first, *self._asked):
                self._cancel(path, ids)
            self._asked.clear()
        else:
            slot.warm = True
            self._warm.append(slot)

    def _discard(self, slot: Slot) -> None:
        end(slot)
        self._give_back(self.facts(slot))

    def _give_back(self, facts: dict[str, Any]) -> None:
        """Release; what cannot be now is released later, and hides no other failure."""
        try:
            self._release(facts, _BRIEF)
        except (OSError, WherryError):
            self._unreleased.append(dict(facts))

    def _release_rest(self) -> None:
        waiting, self._unreleased = self._unreleased, []
        for facts in waiting:
            handle = _handle(facts)
            with contextlib.suppress(NotFound):
                # Nobody waits for a process that cannot be killed.
                if handle is not None and self._cgroups.pids(handle):
                    self._unreleased.append(facts)
                    continue
            self._give_back(facts)

    # -- starting ----------------------------------------------------------------------------

    def begin(
        self,
        slot: Slot,
        plan: Plan,
        stdin: int,
        stdout: int,
        stderr: int,
        console: int,
        held: Mapping[str, int],
    ) -> None:
        """Do the host's part of `plan` and send it. Raises StartFailed; the slot is then of no use."""
        self._host.send_plan(slot, plan, (stdin, stdout, stderr), console, held=held)

    def open_pty(self, slot: Slot) -> tuple[int, int]:
        """Return (master, slave) of a new terminal of the container's own devpts. Raises StartFailed."""
        return self._host.open_pty(slot)

    def finish(self, slot: Slot) -> None:
        """The slot's socket is readable: return when the child has exec'd. Raises StartFailed."""
        self._host.finish(slot)

    def facts(self, slot: Slot) -> dict[str, Any]:
        """Return what release and exec need later, as JSON data."""
        return {
            "range": slot.range_index,
            "namespaces": slots.namespace_flags(slot.profile),
            "owner": [slot.owner, slot.group],
            "oom_score": slot.oom_score,
            **facts_of(slot.cgroup),
        }

    def adopt(self, facts: Mapping[str, Any]) -> None:
        """A container that outlived a supervisor still holds these."""
        if facts.get("range", -1) >= 0:
            self._ranges.adopt(int(facts["range"]))
        if "cgroup" in facts:
            self._adopted.update(str(path).rpartition("/")[2] for path in facts["cgroup"])

    def release(self, facts: Mapping[str, Any]) -> None:
        """Give back what an ended container held; again is fine. Does not wait.

        Raises Conflict, OSError while a process is still in the cgroup: nobody else gets the ids of a
        process that lives.
        """
        self._release(facts, 0.0)

    def _release(self, facts: Mapping[str, Any], patience: float) -> None:
        handle = _handle(facts)
        if handle is not None:
            self._cgroups.kill_all(handle)
            self._cgroups.remove(handle, patience)
        if facts.get("range", -1) >= 0:
            self._ranges.release(int(facts["range"]))

    def oom_kills(self, facts: Mapping[str, Any]) -> int:
        """Return how many processes of the container the kernel killed for want of memory."""
        handle = _handle(facts)
        return self._cgroups.oom_kills(handle) if handle is not None else 0

    def _sweep(self) -> None:
        """Once, after adopting: what slots of a dead supervisor left is removed."""
        if self._swept:
            return
        self._swept = True
        self._ranges.drop_others()
        for name in self._cgroups.adopt(self._cgroups.parent):
            if name not in self._adopted and _is_own(name):
                path = f"{self._cgroups.parent}/{name}"
                self._give_back(facts_of(Handle(path, path)))

    def _settle_cgroup(self, slot: Slot, plan: Plan) -> None:
        """Give the slot's cgroup the container's name and limits."""
        handle = slot.cgroup
        assert handle is not None
        wanted = plan.cgroup_path
        if wanted and handle.path != wanted:
            # v2 has no rename: there the slot's own name stays, as `Handle.unified` tells.
            slot.cgroup = handle = self._cgroups.rename(handle, wanted)
        limits = plan.limits
        if limits.devices == DEFAULT_DEVICES:
            limits = replace(limits, devices=())
        if limits != Limits():
            self._cgroups.apply(handle, limits)

    # -- exec --------------------------------------------------------------------------------

    def take_exec(self, facts: Mapping[str, Any], pidfd: int) -> Slot:
        """Return a slot inside the running container that `facts` and `pidfd` are of. Raises StartFailed."""
        handle = _handle(facts)
        entrances = self._cgroups.entrances(handle) if handle is not None else None
        try:
            slot = slots.spawn_joining(self._k, pidfd, int(facts["namespaces"]), entrances)
        except OSError as error:
            text = (error.strerror or str(error)).lower()
            raise StartFailed(f"cannot enter the container: {text}") from error
        finally:
            if entrances is not None:
                entrances.close()
        slot.owner, slot.group = facts["owner"]
        try:
            self._maker.set_score(slot, int(facts.get("oom_score", 0)))
        except OSError as error:
            self._discard(slot)
            text = (error.strerror or str(error)).lower()
            raise StartFailed(f"cannot enter the container: {text}") from error
        return slot

    def begin_exec(
        self, slot: Slot, process: Process, stdin: int, stdout: int, stderr: int, console: int
    ) -> None:
        """Send the process to run. Raises StartFailed."""
        self._host.send_process(slot, process, (stdin, stdout, stderr), console)


def _is_own(name: str) -> bool:
    """Whether a cgroup is a slot's or a container's: a user's --cgroup-parent may lie beside them."""
    return name.startswith(_OWN) or (len(name) == _ID_DIGITS and set(name) <= _HEX_DIGITS)


def open_pool(exec_root: str, data_root: str, lock_fd: int) -> Pool:
    """Return the pool of the engine whose data is below `data_root`; `lock_fd` holds the id locks."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        mounts = cgroup_mounts(file.read())
    cgroups = open_cgroups(cgroup_parent(data_root), load_devices=load_device_program)
    return Pool(LINUX, PoolConfig(data_root), cgroups, IdRanges(lock_fd), mounts)


def facts_of(handle: Handle | None) -> dict[str, Any]:
    """Return what `Pool.release` needs to know of a cgroup."""
    return {} if handle is None else {"cgroup": [handle.path, handle.unified]}


def _handle(facts: Mapping[str, Any]) -> Handle | None:
    if "cgroup" not in facts:
        return None
    path, unified = facts["cgroup"]
    return Handle(str(path), str(unified))
