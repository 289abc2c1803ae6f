"""Memory and processor time of an engine's own processes, read from /proc."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from bench.api import Api

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Usage:
    """Sums over an engine's processes in megabytes (10^6 bytes); processor seconds of each."""

    processes: int
    rss: float
    pss: float
    cpu: dict[int, float]

    def cpu_since(self, before: Usage) -> float:
        """Return the processor seconds used since `before` by the processes alive both times."""
        return sum(self.cpu[pid] - before.cpu[pid] for pid in self.cpu.keys() & before.cpu.keys())


def engine_pids(api: Api, pattern: str = "") -> set[int]:
    """Return the pids of the engine behind `api`, without its containers' processes.

    They are the process that listens on the socket, those whose command line matches `pattern`
    (by default the daemon's names, see `default_pattern`), and the descendants of all these.
    """
    daemon = api.daemon_pid()
    expression = re.compile(pattern or default_pattern(daemon))
    parents = _parents()
    roots = {daemon} | {pid for pid in parents if expression.search(_command(pid))}
    roots -= _lineage(os.getpid(), parents)  # our own arguments may match
    pids = _with_descendants(roots, parents)
    contained = {
        int(api.call("GET", f"/containers/{row['Id']}/json")["State"]["Pid"])
        for row in api.call("GET", "/containers/json")
    }
    return pids - _with_descendants(contained, parents)


def default_pattern(daemon: int) -> str:
    """Return what tells an engine's processes: dockerd's and containerd's names, or a private root.

    An engine with an --exec-root of its own is told by that, since another may be running.
    """
    command = _command(daemon)
    if "dockerd" in command:
        return r"^(\S*/)?(dockerd|containerd)"
    root = re.search(r"--exec-root[= ](\S+)", command)
    return re.escape(root.group(1)) if root else r"\bwherry(d|\.|-)"


def read_usage(pids: set[int]) -> Usage:
    """Return what the processes `pids` use now; one that has ended counts as nothing."""
    rss = pss = 0.0
    cpu: dict[int, float] = {}
    for pid in pids:
        try:
            with open(f"/proc/{pid}/smaps_rollup") as file:
                fields = dict(line.split(":", 1) for line in file if ":" in line[:24])
            with open(f"/proc/{pid}/stat") as file:
                stat = file.read().rpartition(")")[2].split()
        except OSError:
            continue
        if "Rss" not in fields:  # a zombie
            continue
        rss += int(fields["Rss"].split()[0]) * 1024 / 1e6
        pss += int(fields["Pss"].split()[0]) * 1024 / 1e6
        cpu[pid] = (int(stat[11]) + int(stat[12])) / _TICKS
    return Usage(len(cpu), rss, pss, cpu)


def _parents() -> dict[int, int]:
    found: dict[int, int] = {}
    for name in os.listdir("/proc"):
        if name.isdecimal():
            try:
                with open(f"/proc/{name}/stat") as file:
                    found[int(name)] = int(file.read().rpartition(")")[2].split()[1])
            except OSError:  # it ended while being read
                continue
    return found


def _command(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def _lineage(pid: int, parents: dict[int, int]) -> set[int]:
    line: set[int] = set()
    while pid and pid not in line:
        line.add(pid)
        pid = parents.get(pid, 0)
    return line


def _with_descendants(roots: set[int], parents: dict[int, int]) -> set[int]:
    return {pid for pid in parents if _lineage(pid, parents) & roots}
