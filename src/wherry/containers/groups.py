"""The cgroups of running containers, found through /proc and handed to the cgroup driver."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from wherry.containers.transitions import check_running
from wherry.model.containers import Container
from wherry.model.errors import Conflict
from wherry.model.ids import is_container_id
from wherry.model.resources import Limits
from wherry.model.stats import CgroupStats
from wherry.runtime.cgroups import Handle


class Cgroups(Protocol):
    """What is used of the cgroup driver; every method blocks."""

    def check(self, limits: Limits) -> None: ...
    def apply(self, handle: Handle, limits: Limits) -> None: ...
    def freeze(self, handle: Handle) -> None: ...
    def thaw(self, handle: Handle) -> None: ...
    def is_frozen(self, handle: Handle) -> bool: ...
    def pids(self, handle: Handle) -> list[int]: ...
    def read_stats(self, handle: Handle) -> CgroupStats: ...
    def kill_all(self, handle: Handle) -> None: ...
    def remove(self, handle: Handle) -> None: ...
    def adopt(self, path: str) -> list[str]: ...


class Groups:
    """The driver's verbs, for containers instead of handles."""

    def __init__(self, cgroups: Cgroups, parent: str) -> None:
        """`parent` is what containers lie below that ask for no other."""
        self._cgroups = cgroups
        self._parent = parent
        self._known: dict[int, tuple[str, Handle]] = {}

    def check(self, limits: Limits) -> None:
        """Raise Unsupported or Invalid for limits that this machine cannot set."""
        self._cgroups.check(limits)

    def freeze(self, container: Container) -> None:
        """Stop all processes; returns when they are stopped. Raises Unavailable after some seconds."""
        self._cgroups.freeze(self.handle(container))

    def thaw(self, container: Container) -> None:
        """Let all processes go on."""
        self._cgroups.thaw(self.handle(container))

    def is_frozen(self, container: Container) -> bool:
        """Return whether the container's processes are stopped."""
        return self._cgroups.is_frozen(self.handle(container))

    def apply(self, container: Container, limits: Limits) -> None:
        """Set what `limits` says on a running container. Raises Unsupported or Invalid."""
        self._cgroups.apply(self.handle(container), limits)

    def pids(self, container: Container) -> list[int]:
        """Return the host's pids of all processes of a running container."""
        return self._cgroups.pids(self.handle(container))

    def read_stats(self, container: Container) -> CgroupStats:
        """Return the counters of a running container. Raises NotFound when it has just ended."""
        return self._cgroups.read_stats(self.handle(container))

    def handle(self, container: Container) -> Handle:
        """Return the handle of a running container's cgroups. Raises Conflict when it does not run."""
        check_running(container)
        pid = container.state.pid
        known = self._known.get(pid)
        if known is not None and known[0] == container.id:
            return known[1]
        parent = container.spec.cgroup_parent.strip("/") or self._parent
        try:
            text = Path(f"/proc/{pid}/cgroup").read_text()
        except OSError as error:
            raise Conflict(f"container {container.id} is not running") from error
        handle = find_handle(text, parent, container.id)
        if len(self._known) > 4096:
            self._known.clear()
        self._known[pid] = (container.id, handle)
        return handle

    def clear_dead(self, alive: frozenset[str]) -> None:
        """Kill and remove the cgroups of containers that are not among the ids `alive`. Blocks."""
        for name in self._cgroups.adopt(self._parent):
            if is_container_id(name) and name not in alive:
                self._clear(name)

    def clear(self, container_id: str) -> None:
        """Kill and remove the cgroup of a container, where it is still there. Blocks."""
        if container_id in self._cgroups.adopt(self._parent):
            self._clear(container_id)

    def _clear(self, name: str) -> None:
        handle = Handle(f"{self._parent}/{name}", f"{self._parent}/{name}")
        self._cgroups.kill_all(handle)
        self._cgroups.remove(handle)


def find_handle(text: str, parent: str, container_id: str) -> Handle:
    """Return the handle that a /proc/PID/cgroup `text` tells of; cgroups(7).

    v2 cannot rename, so there the name may be that of the slot that the process was made in. A
    process that moved itself deeper still counts for the level right below `parent`.
    """
    path = f"{parent}/{container_id}"
    for line in text.splitlines():
        if line.startswith("0::"):
            _, found, rest = line.partition(f"/{parent}/")
            if found:
                return Handle(path, f"{parent}/{rest.partition('/')[0]}")
    return Handle(path, path)
