"""Look-ups of a neighbour's name at 127.0.0.11, from inside a container of a user-defined network."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from bench import lookups
from bench.cases.case import Case, Settings
from bench.engine import Engine
from bench.processes import engine_pids, read_usage
from bench.samples import Row

_SECONDS = 2.0
_AT_ONCE = 16
_RATE = Row(f"look-ups of a container's name, {_AT_ONCE} at once", "1/s", 0)
_MEDIAN = Row("the same: p50", "ms", 2)
_P99 = Row("the same: p99", "ms", 2)
_CPU = Row("the same: the engine's processor time for one", "µs", 1)


class Names(Case):
    """Two containers, one of which asks for the other."""

    rounds = 4

    def __init__(self, settings: Settings) -> None:
        self._made: dict[str, tuple[str, list[str], int]] = {}

    def prepare(self, engine: Engine) -> None:
        """Make the network and the containers."""
        name = f"bench-{engine.run}"
        network = str(engine.api.call("POST", "/networks/create", {"Name": name})["Id"])
        containers = [engine.create("sleep", "600", NetworkMode=name) for _ in range(2)]
        for container in containers:
            engine.start(container)
        pid = int(engine.inspect(containers[0])["State"]["Pid"])
        self._made[engine.name] = network, containers, pid

    def sample(self, engine: Engine) -> dict[Row, float]:
        """Ask for two seconds."""
        _, containers, pid = self._made[engine.name]
        # The short id is a name in every user-defined network.
        command = [sys.executable, "-I", str(Path(lookups.__file__)), containers[1][:12]]
        pids = engine_pids(engine.api, engine.pattern)
        before = read_usage(pids)
        ended = subprocess.run(
            ["nsenter", "-t", str(pid), "-n", *command, str(_SECONDS), str(_AT_ONCE)],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        seen = json.loads(ended.stdout)
        spent = read_usage(pids).cpu_since(before)
        return {
            _RATE: seen["count"] / seen["seconds"],
            _MEDIAN: seen["p50"],
            _P99: seen["p99"],
            _CPU: spent / seen["count"] * 1e6,
        }

    def finish(self, engine: Engine) -> None:
        """Remove all of it."""
        network, containers, _ = self._made.pop(engine.name)
        for container in containers:
            engine.remove(container)
        engine.api.call("DELETE", f"/networks/{network}")
