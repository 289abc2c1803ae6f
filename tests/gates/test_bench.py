"""The measuring program measures fairly and prints what it measured; no engine is needed here."""

from __future__ import annotations

import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from bench.cases.case import Case
from bench.engine import Engine
from bench.processes import read_usage
from bench.quiet import await_quiet, read_processors
from bench.rootfs import LINES, MEGABYTE, busybox_tar, lines_command, one_megabyte_of_lines
from bench.run import measure_case
from bench.samples import Row, Table

ROW = Row("thing", "ms")


class Recorded(Case):
    """A case that only notes on which engine it was called; `broken` fails on one of them."""

    rounds = 4

    def __init__(self, broken: str = "") -> None:
        self.calls: list[str] = []
        self.broken = broken

    def prepare(self, engine: Engine) -> None:
        """Note the call."""
        self.calls.append(f"prepare {engine.name}")

    def sample(self, engine: Engine) -> dict[Row, float]:
        """Note the call and return a figure, or fail."""
        self.calls.append(engine.name)
        if engine.name == self.broken:
            raise ValueError("out of order")
        return {ROW: 2.0}

    def finish(self, engine: Engine) -> None:
        """Note the call."""
        self.calls.append(f"finish {engine.name}")


@pytest.fixture
def pair(monkeypatch: pytest.MonkeyPatch) -> list[Engine]:
    monkeypatch.setattr("bench.run.await_quiet", lambda: True)
    return [Engine("a", "unix:///nowhere/a"), Engine("b", "unix:///nowhere/b")]


def test_samples_alternate_and_the_order_turns(pair: list[Engine]) -> None:
    case, table = Recorded(), Table(("a", "b"))
    measure_case("thing", case, pair, table, rounds=0)
    middle = ["a", "b", "b", "a", "a", "b", "b", "a"]
    assert case.calls == ["prepare a", "prepare b", *middle, "finish a", "finish b"]
    assert table.rows == {ROW: {"a": [2.0] * 4, "b": [2.0] * 4}}


def test_one_engine_failing_costs_the_other_nothing(pair: list[Engine]) -> None:
    case, table = Recorded(broken="a"), Table(("a", "b"))
    measure_case("thing", case, pair, table, rounds=3)
    assert case.calls.count("a") == 1
    assert table.rows == {ROW: {"b": [2.0] * 3}}
    assert table.failures == ["thing (sample) on a: out of order"]
    assert case.calls[-2:] == ["finish a", "finish b"]


def test_renders_medians_and_the_ratio() -> None:
    table = Table(("docker", "wherry"))
    for value in (10.0, 30.0, 20.0):
        table.add(ROW, "docker", value)
    table.add(ROW, "wherry", 5.0)
    table.add(Row("other", "s", 2), "wherry", 1.0)
    table.failures.append("x")
    assert table.render() == (
        "|  | unit | docker median (min, n) | wherry median (min, n) | wherry ÷ docker |\n"
        "| --- | --- | ---: | ---: | ---: |\n"
        "| thing | ms | 20.0 (10.0, 3) | 5.0 (5.0, 1) | 0.25 |\n"
        "| other | s | – | 1.00 (1.00, 1) | – |\n"
        "\nFailed: x"
    )


def test_lines_are_what_the_log_cases_count_on(tmp_path: Path) -> None:
    lines = one_megabyte_of_lines()
    assert len(lines) == MEGABYTE
    assert {len(line) for line in lines.splitlines(keepends=True)} == {100}
    assert lines_command(3) == ["cat", LINES, LINES, LINES]
    with tarfile.open(busybox_tar(tmp_path)) as tar:
        assert tar.getmember("lines").size == MEGABYTE
        assert tar.getmember("bin/busybox").mode == 0o755


def test_usage_of_a_process_that_is_gone_is_nothing() -> None:
    with subprocess.Popen(["true"]) as child:
        child.wait()
    mine = read_usage({os.getpid()})
    assert read_usage({os.getpid(), child.pid}).processes == mine.processes == 1
    assert 0 < mine.pss <= mine.rss
    assert read_usage({os.getpid()}).cpu_since(mine) >= 0


def test_a_sample_waits_for_rest() -> None:
    # Busy and all ticks at each look: two windows of work, then one of rest.
    looks = iter([(0, 0), (4, 4), (7, 8), (7, 12), (11, 16)])
    assert await_quiet(10, read=lambda: next(looks))
    assert next(looks) == (11, 16)
    busy = iter(range(0, 4000, 4))
    assert not await_quiet(0.1, read=lambda: (ticks := next(busy), ticks))
    first, second = read_processors(), read_processors()
    assert 0 < first[0] <= second[0] and first[0] < first[1] <= second[1]
