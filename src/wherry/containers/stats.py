"""docker stats: one reading of a container's counters."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from wherry.containers.namespaces import referenced
from wherry.containers.store import ContainerStore
from wherry.containers.transitions import ALIVE
from wherry.model.containers import Container
from wherry.model.errors import Conflict, NotFound
from wherry.model.stats import CgroupStats, LinkStats
from wherry.model.views import StatsSample

_NS_PER_TICK = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
_BUSY_FIELDS = 7
"""user nice system idle iowait irq softirq: what Docker adds up, proc_stat(5)."""


class Groups(Protocol):
    """What is asked of the containers' cgroups."""

    def read_stats(self, container: Container) -> CgroupStats: ...


class Meter:
    """Reads counters."""

    def __init__(self, *, store: ContainerStore, groups: Groups) -> None:
        self._store = store
        self._groups = groups

    async def stats(self, ref: str) -> StatsSample:
        """Return a sample; its counters are None where the container does not run. Raises NotFound."""
        container = self._store.resolve(ref)
        counters: CgroupStats | None = None
        if container.state.status in ALIVE:
            try:
                counters = self._groups.read_stats(container)
            except (NotFound, Conflict):
                counters = None
        cpus, busy = parse_proc_stat(Path("/proc/stat").read_text())
        return StatsSample(
            id=container.id,
            name=container.name,
            read_at=time.time_ns(),
            counters=counters,
            online_cpus=cpus,
            system_cpu_ns=busy,
            pids_limit=max(container.spec.limits.pids_limit or 0, 0),
            links=self._links(container) if counters is not None else {},
        )

    def _links(self, container: Container) -> Mapping[str, LinkStats]:
        """Its own interfaces, or those of the container whose network it shares; those of networks alone."""
        owner: Container | None = container
        if ref := referenced(container.spec.namespaces.network):
            owner = self._store.find(ref)
        if owner is None or owner.state.status not in ALIVE:
            return {}
        names = {endpoint.interface for endpoint in owner.state.attachments.endpoints}
        if not names:
            return {}
        try:
            text = Path(f"/proc/{owner.state.pid}/net/dev").read_text()
        except OSError:  # it ended this moment
            return {}
        return {name: found for name, found in parse_net_dev(text).items() if name in names}


def parse_net_dev(text: str) -> dict[str, LinkStats]:
    """Return the counters of each interface of /proc/PID/net/dev, proc_pid_net(5)."""
    found: dict[str, LinkStats] = {}
    for line in text.splitlines()[2:]:
        # A name may hold a colon (an alias of old), the counters none.
        name, _, counters = line.rpartition(":")
        numbers = [int(word) for word in counters.split()]
        found[name.strip()] = LinkStats(*numbers[:4], *numbers[8:12])
    return found


def parse_proc_stat(text: str) -> tuple[int, int]:
    """Return how many processors are on line, and the nanoseconds that all of them spent, proc_stat(5)."""
    cpus = busy = 0
    for line in text.splitlines():
        if line.startswith("cpu "):
            busy = sum(int(word) for word in line.split()[1 : _BUSY_FIELDS + 1]) * _NS_PER_TICK
        elif line.startswith("cpu"):
            cpus += 1
        else:
            break
    return cpus, busy
