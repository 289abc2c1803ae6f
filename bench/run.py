"""Measure one engine, or two alternately: `python -m bench.run --a HOST [--b HOST]`.

Prints a Markdown table on standard output and progress on standard error. Samples of the two
engines alternate, first A then B, next B then A, so that a change of the machine's mood meets both.
Each waits until the machine rests from the one before.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

from bench.cases.archives import import_tar
from bench.cases.case import Case, Settings
from bench.cases.catalogue import CASES
from bench.engine import IMAGE, Engine
from bench.quiet import await_quiet
from bench.rootfs import busybox_tar
from bench.samples import Row, Table


def main(argv: list[str] | None = None) -> int:
    """Run the command; the exit code is 1 when a case failed."""
    options = _parser().parse_args(argv)
    engines = [Engine(options.name_a, options.a, options.processes_a)]
    if options.b:
        engines.append(Engine(options.name_b, options.b, options.processes_b))
    for engine in engines:
        try:
            engine.api.call("GET", "/version")
        except OSError as error:
            raise SystemExit(f"{engine.host}: {error.strerror}: is that engine running?") from None
    options.cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="scratch-", dir=options.cache) as scratch:
        settings = Settings(
            cache=options.cache,
            scratch=Path(scratch),
            tree=options.tree,
            containers=options.containers,
            log_megabytes=options.log_mb,
            cat_megabytes=options.cat_mb,
            ports=options.ports,
            docker=shutil.which("docker") or ".venv/docker-client/usr/bin/docker",
        )
        table = measure(engines, options.cases, settings, options.rounds)
    print(table.render())
    if options.json:
        options.json.write_text(json.dumps(_plain(table), indent=1) + "\n")
    return 1 if table.failures else 0


def measure(engines: list[Engine], names: list[str], settings: Settings, rounds: int) -> Table:
    """Run the cases `names` on the engines and return all samples; nothing is left in them."""
    table = Table(tuple(engine.name for engine in engines))
    image = busybox_tar(settings.cache)
    try:
        for engine in engines:
            import_tar(engine, image, IMAGE)
        for name in names:
            measure_case(name, CASES[name](settings), engines, table, rounds)
    finally:
        for engine in engines:
            engine.clean()
    return table


def measure_case(name: str, case: Case, engines: list[Engine], table: Table, rounds: int) -> None:
    """Take the samples of one case into `table`; a failure is noted there, and not raised."""
    willing = list(engines)

    def attempt(engine: Engine, what: str) -> dict[Row, float]:
        # One engine's failure is reported and must not cost the other its figures.
        try:
            if what == "sample":
                await_quiet()
                return case.sample(engine)
            (case.prepare if what == "prepare" else case.finish)(engine)
        except Exception as error:
            table.failures.append(f"{name} ({what}) on {engine.name}: {error}")
            if engine in willing:
                willing.remove(engine)
        return {}

    for engine in engines:
        attempt(engine, "prepare")
    for number in range(rounds or case.rounds):
        _say(f"{name}: {number + 1} of {rounds or case.rounds}")
        for engine in list(willing) if number % 2 == 0 else list(reversed(willing)):
            for row, value in attempt(engine, "sample").items():
                table.add(row, engine.name, value)
    for engine in engines:
        attempt(engine, "finish")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _plain(table: Table) -> list[dict[str, object]]:
    return [
        {"row": row.label, "unit": row.unit, "samples": samples}
        for row, samples in table.rows.items()
    ]


def _case_names(text: str) -> list[str]:
    names = text.split(",")
    if unknown := [name for name in names if name not in CASES]:
        raise argparse.ArgumentTypeError(f"{unknown[0]} is none of {', '.join(CASES)}")
    return names


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    host = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    add = parser.add_argument
    add("--a", metavar="HOST", default=host, help="the engine to measure against (%(default)s)")
    add("--b", metavar="HOST", help="the engine to measure beside it")
    add("--name-a", default="docker", help="its name in the table")
    add("--name-b", default="wherry", help="its name in the table")
    pattern = "what the command lines of its processes match, where that cannot be told"
    add("--processes-a", metavar="REGEX", default="", help=pattern)
    add("--processes-b", metavar="REGEX", default="", help=pattern)
    add("--cases", type=_case_names, default=list(CASES), help="comma-separated; all by default")
    add("--rounds", type=int, default=0, help="samples per engine, instead of each case's own")
    add("--containers", type=int, default=200, help="how many in the fleet (%(default)s)")
    add("--ports", type=int, default=1000, help="how many published ports (%(default)s)")
    add("--log-mb", type=int, default=200, help="size of the logs (%(default)s)")
    add("--cat-mb", type=int, default=200, help="bytes through cat (%(default)s MB)")
    add("--tree", type=Path, help="a tar of a root file system, instead of a Debian made for it")
    add("--cache", type=Path, default=Path(".cache/bench"), help="where made files are kept")
    add("--json", type=Path, help="write all samples to this file")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
