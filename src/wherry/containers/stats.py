"""docker stats: one reading of a container's counters."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Protocol

from wherry.containers.store import ContainerStore
from wherry.containers.transitions import ALIVE
from wherry.model.containers import Container
from wherry.model.errors import Conflict, NotFound
from wherry.model.stats import CgroupStats
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
        )


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
