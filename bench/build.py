"""Measure builds, alternately: `python -m bench.build --a HOST [--b HOST]`; A by `wherry build`, B by `docker build`.

A 12-instruction Dockerfile over Debian with 2,000 files of 25 kB (50 MB): cold, all cached, one file
changed; and ten times `RUN true`. Both engines need `debian:bookworm-slim`; the docker client needs buildx
(with DOCKER_BUILDKIT=0 in the environment B is the classic builder). Prints the table of `bench.run`.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.samples import Row, Table

_FILES: Final = 2000
_SIZE: Final = 25_000
_DOCKERFILE: Final = """\
FROM debian:bookworm-slim AS build
WORKDIR /app
ENV A=1 B=2
ARG V=1
COPY src/d0 /deps
RUN sha256sum /deps/* >/deps.sum
COPY src /app/src
RUN find /app/src -type f | wc -l >/count
RUN mkdir -p /out && cp -r /app/src/d1 /out
LABEL x=y
EXPOSE 80
CMD ["true"]
"""
_TEN: Final = "FROM debian:bookworm-slim\n" + "RUN true\n" * 10


@dataclass(frozen=True, slots=True)
class Side:
    """One engine and the client that builds on it."""

    name: str
    command: tuple[str, ...]
    host: str

    def build(self, *words: str) -> float:
        """Return the seconds of one build. AssertionError with what it printed where it fails."""
        begun = time.monotonic()
        done = subprocess.run(
            [*self.command, "build", "-q", *words],
            env={**os.environ, "DOCKER_HOST": self.host, "WHERRY_HOST": self.host},
            capture_output=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stderr.decode(errors="replace")
        return time.monotonic() - begun


def make_context(folder: Path) -> None:
    """Fill `folder` with what is built. The same on every machine."""
    source = random.Random(1)
    for number in range(_FILES):
        place = folder / "src" / f"d{number % 40}"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"f{number}").write_bytes(source.randbytes(_SIZE))
    (folder / "Dockerfile").write_text(_DOCKERFILE)
    (folder / "Ten").write_text(_TEN)


def measure(sides: list[Side], folder: Path, rounds: int) -> Table:
    """Take `rounds` samples of every case, the sides alternating."""
    table = Table(tuple(side.name for side in sides))
    changed = folder / "src/d7/f7"

    def touch() -> None:
        changed.write_bytes(os.urandom(_SIZE))

    def nothing() -> None:
        pass

    where = str(folder)
    cases: tuple[tuple[str, Callable[[], None], tuple[str, ...]], ...] = (
        ("cold", nothing, ("--no-cache", where)),
        ("all cached", nothing, (where,)),
        ("one file changed", touch, (where,)),
        ("ten RUN true", nothing, ("--no-cache", "-f", f"{where}/Ten", where)),
    )
    for name, before, words in cases:
        if name == "all cached":
            for side in sides:
                side.build(*words)
        for turn in range(rounds):
            for side in sides if turn % 2 == 0 else sides[::-1]:
                before()
                table.add(Row(f"build: {name}", "s", 3), side.name, side.build(*words))
    return table


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="bench.build", description="Measure builds.")
    parser.add_argument("--a", required=True, help="wherry's host")
    parser.add_argument("--b", default="", help="Docker's host")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    sides = [Side("wherry", ("wherry",), options.a)]
    if options.b:
        sides.insert(0, Side("docker", ("docker",), options.b))
    with tempfile.TemporaryDirectory(prefix="bench-build-") as folder:
        make_context(Path(folder))
        print(measure(sides, Path(folder), options.rounds).render())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
