"""Making a slot in its cgroup: its process, its id maps and /dev.

Used by the pool for what it needs at once, and by the zygote for what it will need.
"""

from __future__ import annotations

import contextlib
import os
import signal
from dataclasses import dataclass

from wherry.kernel.calls import Kernel
from wherry.kernel.processes import read_oom_score, set_oom_score, wait_readable
from wherry.model.errors import StartFailed, WherryError
from wherry.model.oci import HOST, PRIVATE
from wherry.model.resources import DEFAULT_DEVICES, Limits
from wherry.runtime import slots
from wherry.runtime.cgroups import CgroupDriver, Handle
from wherry.runtime.host import Host
from wherry.runtime.plan import SlotProfile
from wherry.runtime.slots import Slot
from wherry.runtime.stage import CgroupMount
from wherry.supervisor.ranges import maps

_EXIT_PATIENCE = 2.0


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be made; `ids` is the number of its range of ids, -1 for none."""

    profile: SlotProfile
    ids: int = -1
    tell: bool = True
    """Whether the child says when it is furnished."""


def wants_ids(profile: SlotProfile) -> bool:
    """Return whether a slot of `profile` needs a range of ids of its own."""
    return profile.namespaces.user == PRIVATE and not profile.uid_maps


class Maker:
    """Makes slots whose layers lie below `data_root`."""

    def __init__(
        self,
        k: Kernel,
        data_root: str,
        cgroups: CgroupDriver,
        hierarchies: tuple[CgroupMount, ...],
    ) -> None:
        self.k = k
        self.host = Host(k, data_root)
        self.cgroups = cgroups
        self._data_root = data_root
        self._hierarchies = hierarchies
        self._score = read_oom_score()

    def make(self, order: Order, handle: Handle) -> Slot:
        """Return a new slot in the cgroup `handle`; its child is at work on it. Raises WherryError."""
        try:
            self.cgroups.apply(handle, Limits(devices=DEFAULT_DEVICES))
            entrances = self.cgroups.entrances(handle)
            try:
                slot = slots.spawn_slot(self.k, order.profile, self._hierarchies, entrances)
            finally:
                entrances.close()
        except OSError as error:
            text = (error.strerror or str(error)).lower()
            raise StartFailed(
                f"cannot make the container's namespaces: {text}", errno=error.errno or 0
            ) from error
        slot.cgroup = handle
        slot.range_index = order.ids
        try:
            self._equip(slot, tell=order.tell)
        except OSError as error:
            said = self.host.told(slot)
            end(slot)
            if said:
                raise said from error
            text = (error.strerror or str(error)).lower()
            raise StartFailed(f"cannot equip a slot: {text}", errno=error.errno or 0) from error
        except WherryError:
            end(slot)
            raise
        return slot

    def set_score(self, slot: Slot, score: int) -> None:
        """Have the kernel not spare a container's process as it spares the engine's own. Raises OSError."""
        if self._score or score:
            # One that may only be raised to where it was stays the engine's; it cannot be helped.
            with contextlib.suppress(PermissionError):
                set_oom_score(slot.pid, slot.pidfd, score)

    def _equip(self, slot: Slot, *, tell: bool) -> None:
        """Maps and /dev; then the child may go on."""
        self.set_score(slot, 0)
        profile = slot.profile
        user = profile.namespaces.user
        if user == PRIVATE:
            lines = profile.uid_maps or maps(slot.range_index)
            slots.map_ids(slot, lines, profile.gid_maps or lines)
        elif user != HOST:
            slot.owner = slots.outside(0, slots.read_maps(slot.pid, "uid_map"))
            slot.group = slots.outside(0, slots.read_maps(slot.pid, "gid_map"))
        if user != HOST:
            slots.open_data(self.k, slot, self._data_root)
        if profile.furnished:
            slots.furnish_dev(self.k, slot)
            trees = [slot.dev]
        else:
            trees = []
        if profile.shm_source:
            pid, _, path = profile.shm_source.partition(":")
            trees.append(slots.borrow_tree(self.k, int(pid), path))
        try:
            self.host.go(slot, tuple(trees), tell=tell)
        finally:
            for tree in trees[1:]:
                os.close(tree)


def end(slot: Slot) -> None:
    """Kill a slot's process, and close all descriptors of it."""
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(slot.pidfd, signal.SIGKILL)
    wait_readable(slot.pidfd, _EXIT_PATIENCE)
    os.close(slot.socket)
    os.close(slot.pidfd)
    slot.close()
