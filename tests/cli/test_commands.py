"""`wherry` prints, asks and exits as the real `docker` did over the same answers."""

from __future__ import annotations

import io
import json
import os
import shlex
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.cli.fake_engine import FakeEngine
from tests.cli.record_commands import (
    ENVIRONMENT,
    RECORDED,
    docker_observed,
    lay_answers,
    observed,
)
from wherry.cli import start

# What is meant to differ, and why.
DIFFERENT = {
    # Found out from the engine's answer, not before asking.
    "ps --format '{{.Nope}}'": {"asked"},
    "ps --format '{{.ID'": {"asked"},
    # The client has a slip of the pen there.
    "images a b": {"stderr"},
    # An image known by digest alone has an empty digest there, when only a template asks for it.
    "images --format 'table {{.ID}}\\t{{.Digest}}'": {"stdout"},
    # Docker asks whether it is part of a swarm.
    "inspect x nosuch": {"asked", "stderr"},
    # Docker looks the container up first, or waits for what it does not wait for, or asks at once.
    "logs nosuch": {"asked", "stderr"},
    "exec nosuch cmd": {"asked", "stderr"},
    "run -d img": {"asked"},
    "run -d --rm img": {"asked"},
    "kill -s HUP x nosuch": {"asked"},
    # The name that was typed is the one that is named.
    "commit x Repo": {"stderr"},
    # There is no build cache to filter.
    "system prune -f": {"asked"},
    "system prune -af --volumes": {"asked"},
    # Attributes come in the engine's order.
    "events --format json": {"stdout"},
}
RECORDS: list[dict[str, Any]] = [json.loads(line) for line in RECORDED.read_text().splitlines()]


def run_in_process(
    line: str, engine: FakeEngine, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> dict[str, Any]:
    """Run a command line here, with `in` on descriptor 0, and return what is compared."""
    (tmp_path / "stdin").write_text("in")
    saved = os.dup(0)
    given = os.open(tmp_path / "stdin", os.O_RDONLY)
    os.dup2(given, 0)
    os.close(given)
    try:
        code = start.run(["-H", engine.url, *shlex.split(line)])
        sys.stdout.flush()
    finally:
        os.dup2(saved, 0)
        os.close(saved)
    out, err = capfd.readouterr()
    return observed(engine, code, out, err)


@pytest.mark.parametrize("record", RECORDS, ids=lambda r: r["line"])
def test_command_is_dockers(
    record: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("os.environ", dict(ENVIRONMENT))
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    monkeypatch.setattr("sys.stdin", io.StringIO("in"))
    with FakeEngine(tmp_path / "s") as engine:
        lay_answers(engine)
        found = run_in_process(record["line"], engine, capfd, tmp_path)
    compared = {"code", "stdout", "stderr", "asked"} - DIFFERENT.get(record["line"], set())
    assert {key: found[key] for key in compared} == {key: record[key] for key in compared}


def test_differences_are_of_recorded_commands() -> None:
    assert set(DIFFERENT) <= {record["line"] for record in RECORDS}


@pytest.mark.skipif(shutil.which("docker") is None, reason="no docker client to record again")
@pytest.mark.parametrize("record", RECORDS[::20], ids=lambda r: r["line"])
def test_recording_is_what_the_real_client_does(record: dict[str, Any]) -> None:
    expected = {key: record[key] for key in ("code", "stdout", "stderr", "asked")}
    assert docker_observed(record["line"]) == expected
