"""`wherry create` sends what `docker create` sends, and refuses with its words and exit codes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.cli.fake_engine import FakeEngine
from tests.cli.record_create import (
    ENVIRONMENT,
    RECORDED,
    answer_creates,
    delta,
    docker_outcome,
    lay_files,
    outcome,
)
from wherry.cli import start

BASE, *RECORDS = [json.loads(line) for line in RECORDED.read_text().splitlines()]
# Go's words for a JSON syntax error are not repeated.
OTHER_WORDS = ("compacting json for seccomp profile",)


@pytest.mark.parametrize("record", RECORDS, ids=lambda r: " ".join(r["arguments"]))
def test_create_is_dockers(
    record: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    lay_files(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("os.environ", dict(ENVIRONMENT))
    with FakeEngine(tmp_path / "s") as engine:
        answer_creates(engine)
        code = start.run(["-H", engine.url, "create", *record["arguments"]])
        found = outcome(engine, code, capsys.readouterr().err, tmp_path)
    expected = {key: record[key] for key in ("code", "error", "query", "body")}
    if found["body"] is not None:
        found["body"] = delta(found["body"], BASE)
    if expected["error"].startswith(OTHER_WORDS):
        assert found["error"].startswith(OTHER_WORDS)
        found["error"] = expected["error"]
    assert found == expected


@pytest.mark.skipif(shutil.which("docker") is None, reason="no docker client to record again")
@pytest.mark.parametrize("record", RECORDS[::23], ids=lambda r: " ".join(r["arguments"]))
def test_recording_is_what_the_real_client_does(record: dict[str, Any]) -> None:
    expected = {key: record[key] for key in ("code", "error", "query", "body")}
    found = docker_outcome(record["arguments"])
    if found["body"] is not None:
        found["body"] = delta(found["body"], BASE)
    assert found == expected


def test_plain_body_has_dockers_members(tmp_path: Path) -> None:
    with FakeEngine(tmp_path / "s") as engine:
        answer_creates(engine)
        assert start.run(["-H", engine.url, "create", "img"]) == 0
        assert engine.requests[0].json == BASE
