"""The client's configuration folder: one place, whichever way it is named."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.fake_engine import Answer, FakeEngine
from wherry.cli import start
from wherry.cli.configuration import Configuration, find_folder
from wherry.cli.failure import Failure

SERVER = "registry.test:5000"
PULL = ("pull", f"{SERVER}/a:b")


def _folder(where: Path, **document: Any) -> Path:
    where.mkdir(exist_ok=True)
    (where / "config.json").write_text(json.dumps(document))
    return where


def _logged_in(where: Path, user: str) -> Path:
    auth = base64.b64encode(f"{user}:secret".encode()).decode()
    return _folder(where, auths={SERVER: {"auth": auth}})


def _sent(engine: FakeEngine, header: str) -> Any:
    text = engine.requests[-1].headers.get(header)
    return json.loads(base64.urlsafe_b64decode(text)) if text else None


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """An engine that takes pulls and builds, and a home whose credentials are not to be sent."""
    monkeypatch.delenv("DOCKER_CONFIG", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    _logged_in(tmp_path / "home" / ".docker", "of-home")
    with FakeEngine(tmp_path / "s") as engine:
        stream = Answer(200, b'{"status":"x"}\n', {"Content-Type": "application/json"})
        engine.route("POST", "/images/create", stream)
        done = Answer(
            200, b'{"type":"finished","result":{}}\n', {"Content-Type": "application/json"}
        )
        engine.route("POST", "/wherry/build", done)
        yield engine


def test_the_folder_is_of_the_flag_then_of_the_environment_then_of_home(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HOME", "/of-home")
    monkeypatch.delenv("DOCKER_CONFIG", raising=False)
    assert find_folder("") == "/of-home/.docker"
    monkeypatch.setenv("DOCKER_CONFIG", "/of-environment")
    assert find_folder("") == "/of-environment"
    assert find_folder("/of-flag") == "/of-flag"


def test_credentials_are_those_of_the_chosen_folder(
    engine: FakeEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = str(_logged_in(tmp_path / "chosen", "of-flag"))
    assert start.run(["-H", engine.url, *PULL]) == 0
    assert _sent(engine, "x-registry-auth")["username"] == "of-home"
    assert start.run(["--config", chosen, "-H", engine.url, *PULL]) == 0
    assert _sent(engine, "x-registry-auth")["username"] == "of-flag"
    monkeypatch.setenv("DOCKER_CONFIG", chosen)
    assert start.run(["-H", engine.url, *PULL]) == 0
    assert _sent(engine, "x-registry-auth")["username"] == "of-flag"


def test_a_build_gets_the_credentials_of_the_chosen_folder(
    engine: FakeEngine, tmp_path: Path
) -> None:
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    chosen = str(_logged_in(tmp_path / "chosen", "of-flag"))
    build = ("build", "-q", "-f", str(tmp_path / "Dockerfile"), "https://build.test/a.git")
    start.run(["--config", chosen, "-H", engine.url, *build])
    assert engine.requests[-1].path == "/wherry/build"
    assert _sent(engine, "x-registry-config")[SERVER]["username"] == "of-flag"


def test_logout_forgets_in_the_chosen_folder_alone(engine: FakeEngine, tmp_path: Path) -> None:
    chosen = _logged_in(tmp_path / "chosen", "of-flag")
    assert start.run(["--config", str(chosen), "-H", engine.url, "logout", SERVER]) == 0
    assert "auths" not in json.loads((chosen / "config.json").read_text())
    assert start.run(["-H", engine.url, *PULL]) == 0
    assert _sent(engine, "x-registry-auth")["username"] == "of-home"


@pytest.mark.parametrize("text", ["{", "[]", '"x"', '{"auths": []}'])
def test_a_file_that_is_no_configuration_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(Failure, match=r"config\.json"):
        Configuration(str(tmp_path)).table("auths")
