"""Logs: written, read whole, read from the end and from a moment."""

from __future__ import annotations

import time

from bench.cases.case import Settings, timed
from bench.engine import KEEP_ALL_LOGS, Engine
from bench.rootfs import MEGABYTE, lines_command
from bench.samples import Row


class LogsWrite:
    """A process prints lines as fast as the engine takes them."""

    rounds = 2

    def __init__(self, settings: Settings) -> None:
        self.megabytes = settings.log_megabytes

    def prepare(self, engine: Engine) -> None:
        pass

    def sample(self, engine: Engine) -> dict[Row, float]:
        with timed() as watch:
            container = engine.run_to_end(*lines_command(self.megabytes), LogConfig=KEEP_ALL_LOGS)
        engine.remove(container)
        return {
            Row(f"logs: {self.megabytes} MB of lines written", "MB/s"): self.megabytes
            / watch.seconds
        }

    def finish(self, engine: Engine) -> None:
        pass


class LogsRead:
    """One big log, read in three ways. The answer is counted, not decoded."""

    rounds = 5

    def __init__(self, settings: Settings) -> None:
        self.megabytes = settings.log_megabytes
        self.containers: dict[str, str] = {}
        self.moments: dict[str, float] = {}
        self.whole_read: set[str] = set()

    def prepare(self, engine: Engine) -> None:
        command = " ".join(lines_command(self.megabytes))
        script = f"{command}; sleep 2; echo the end"
        container = engine.create("sh", "-c", script, LogConfig=KEEP_ALL_LOGS)
        self.containers[engine.name] = container
        engine.start(container)
        engine.wait(container)
        # Within the two seconds of silence, seen from the end: engines are not asked for a time.
        self.moments[engine.name] = time.time() - 1

    def sample(self, engine: Engine) -> dict[Row, float]:
        size = self.megabytes * MEGABYTE
        figures: dict[Row, float] = {}
        if engine.name not in self.whole_read:  # once is enough: it takes long
            self.whole_read.add(engine.name)
            with timed() as whole:
                count = self._read(engine)
            if count < size:
                raise ValueError(f"{count} bytes of logs came back, {size} were written")
            row = Row(f"logs: {self.megabytes} MB read back", "MB/s")
            figures[row] = self.megabytes / whole.seconds
        with timed() as tail:
            count = self._read(engine, tail=100)
        if not 9_000 < count < 30_000:
            raise ValueError(f"{count} bytes are not 100 lines")
        with timed() as since:
            count = self._read(engine, since=f"{self.moments[engine.name]:.6f}")
        if not 0 < count < 2_000:
            raise ValueError(f"{count} bytes are not one line")
        return figures | {
            Row(f"logs: --tail 100 of {self.megabytes} MB", "ms"): tail.milliseconds,
            Row(f"logs: --since of {self.megabytes} MB", "ms"): since.milliseconds,
        }

    def finish(self, engine: Engine) -> None:
        engine.remove(self.containers[engine.name])

    def _read(self, engine: Engine, **query: object) -> int:
        path = f"/containers/{self.containers[engine.name]}/logs"
        return engine.api.drain(path, stdout=1, **query)
