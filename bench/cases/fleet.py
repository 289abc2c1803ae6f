"""Many idle containers, and what the engine's processes cost with and without them."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

from bench.cases.case import Settings, timed
from bench.engine import Engine
from bench.processes import Usage, engine_pids, read_usage
from bench.samples import Row

_AT_ONCE = 8
_IDLE_SECONDS = 10.0


def usage(engine: Engine) -> Usage:
    """Return what the engine's own processes use now."""
    return read_usage(engine_pids(engine.api, engine.pattern))


class Fleet:
    """Start, weigh and remove idle containers, eight requests at a time."""

    rounds = 2

    def __init__(self, settings: Settings) -> None:
        self.count = settings.containers

    def prepare(self, engine: Engine) -> None:
        container = engine.create("true")
        engine.start(container)
        engine.wait(container)
        engine.remove(container)

    def sample(self, engine: Engine) -> dict[Row, float]:
        def begin(_: int) -> str:
            container = engine.create("sleep", "100000")
            engine.start(container)
            return container

        before = usage(engine)
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            with timed() as started:
                containers = list(pool.map(begin, range(self.count)))
            time.sleep(1)  # what starting them set in motion has come to rest
            during = usage(engine)
            with timed() as removed:
                list(pool.map(engine.remove, containers))
        return {
            Row(f"{self.count} idle containers: started", "s", 2): started.seconds,
            Row(f"{self.count} idle containers: removed", "s", 2): removed.seconds,
            Row(f"engine memory for each of {self.count}", "MB PSS", 3): (during.pss - before.pss)
            / self.count,
        }

    def finish(self, engine: Engine) -> None:
        pass


class Memory:
    """All processes of the engine when nothing runs: memory, and processor time in ten seconds."""

    rounds = 1

    def __init__(self, settings: Settings) -> None:
        pass

    def prepare(self, engine: Engine) -> None:
        pass

    def sample(self, engine: Engine) -> dict[Row, float]:
        pids = engine_pids(engine.api, engine.pattern)
        before = read_usage(pids)
        time.sleep(_IDLE_SECONDS)
        after = read_usage(pids)
        return {
            Row("idle engine: processes", "", 0): after.processes,
            Row("idle engine: memory", "MB RSS"): after.rss,
            Row("idle engine: memory", "MB PSS"): after.pss,
            Row("idle engine: processor time in 10 s", "ms", 0): after.cpu_since(before) * 1000,
        }

    def finish(self, engine: Engine) -> None:
        pass
