"""What the loop needs from whoever makes processes: `supervisor.pool` does it for real."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from wherry.model import oci
from wherry.runtime.plan import Plan
from wherry.runtime.slots import Slot


class Launcher(Protocol):
    """Makes processes that are children of the keeper (CLONE_PARENT) from their first moment.

    Order of a start: take > (the loop stores the process with the keeper) > begin > socket readable >
    finish. A slot's `socket` becomes readable when it is decided: end of file means that the child has
    exec'd, bytes tell of its failure. The loop owns the slot's pidfd and socket from take on. Facts are JSON
    objects that the keeper holds for the next supervisor.
    """

    def take(self, plan: Plan) -> Slot:
        """Return a slot for `plan`, warm or cold; raise StartFailed."""
        ...

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
        """Do the host's steps, then hand the child its plan and descriptors; raise StartFailed.

        `console` is a terminal's slave, or -1; the three streams are then the same descriptor.
        `held` are mounts that the plan names. The caller keeps its descriptors and closes them.
        """
        ...

    def finish(self, slot: Slot) -> None:
        """Return when `slot.socket` tells of an exec, raise StartFailed when of a failure."""
        ...

    def facts(self, slot: Slot) -> dict[str, Any]:
        """Return what exec, release and adopt need to know later."""
        ...

    def open_pty(self, slot: Slot) -> tuple[int, int]:
        """Return (master, slave) of a new terminal for the slot's process; raise StartFailed."""
        ...

    def take_exec(self, facts: Mapping[str, Any], pidfd: int) -> Slot:
        """Return a slot inside the container that `facts` and its init's `pidfd` tell of."""
        ...

    def begin_exec(
        self, slot: Slot, process: oci.Process, stdin: int, stdout: int, stderr: int, console: int
    ) -> None:
        """Hand the child its process and descriptors; raise StartFailed."""
        ...

    def release(self, facts: Mapping[str, Any]) -> None:
        """Give back what a dead container held (cgroups, ids); doing it twice is fine.

        Does not wait: raises WherryError or OSError where it cannot be given back yet.
        """
        ...

    def oom_kills(self, facts: Mapping[str, Any]) -> int:
        """Return how often the kernel killed in this container for want of memory."""
        ...

    def refill(self) -> bool:
        """Make one warm slot; return whether more are wanted. Called when there is nothing else to do."""
        ...

    def adopt(self, facts: Mapping[str, Any]) -> None:
        """Learn of a container that an earlier supervisor started."""
        ...

    def close(self) -> None:
        """Kill the warm slots."""
        ...
