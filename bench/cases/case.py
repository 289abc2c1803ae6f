"""The shape of a case, and the settings that cases share."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from bench.engine import Engine
from bench.samples import Row


@dataclass(frozen=True, slots=True)
class Settings:
    """Sizes and places. `cache` keeps made files between runs; `scratch` goes with the run."""

    cache: Path
    scratch: Path
    tree: Path | None
    containers: int
    log_megabytes: int
    cat_megabytes: int
    docker: str
    ports: int = 1000


class Case(Protocol):
    """One thing to measure."""

    rounds: int
    """How many samples each engine gives, unless the command line says otherwise."""

    def prepare(self, engine: Engine) -> None:
        """Make what sampling needs in `engine`; not measured."""
        ...

    def sample(self, engine: Engine) -> dict[Row, float]:
        """Measure once and return the figures by row."""
        ...

    def finish(self, engine: Engine) -> None:
        """Remove what `prepare` made."""
        ...


class Stopwatch:
    """Seconds between entry and exit of `timed`."""

    seconds = 0.0

    @property
    def milliseconds(self) -> float:
        """The same in thousandths."""
        return self.seconds * 1000


@contextmanager
def timed() -> Generator[Stopwatch]:
    """Time the block."""
    watch = Stopwatch()
    start = time.perf_counter()
    yield watch
    watch.seconds = time.perf_counter() - start
