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


def test_a_setting_of_another_kind_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"auths": []}')
    with pytest.raises(Failure, match=r"config\.json"):
        Configuration(str(tmp_path)).table("auths")


@pytest.mark.parametrize("text", ["{", "{bad", "[]", '"x"'])
def test_a_file_that_is_no_configuration_is_warned_of_and_kept(
    text: str, engine: FakeEngine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "config.json"
    path.write_text(text)
    assert start.run(["--config", str(tmp_path), "-H", engine.url, *PULL]) == 0
    assert f"WARNING: Error loading config file: {path}" in capsys.readouterr().err
    configuration = Configuration(str(tmp_path))
    configuration.table("auths")["a"] = {"auth": "b"}
    with pytest.raises(Failure, match=r"config\.json"):
        configuration.write()
    assert path.read_text() == text


ONE = {
    "Id": "a" * 64,
    "Names": ["/n"],
    "Image": "i",
    "ImageID": "x",
    "Command": "c",
    "Created": 0,
    "Status": "Up",
    "State": "running",
}
PROXIES = {"httpProxy": "http://p:1", "httpsProxy": "", "noProxy": "a,b"}


@pytest.mark.parametrize(
    ("words", "printed", "query"),
    [
        (("ps",), "n!\n", {}),
        (("ps", "-q"), f"{'a' * 12}\n", {}),
        (("ps", "--format", "{{.Image}}"), "i\n", {}),
    ],
)
def test_the_form_of_a_listing_is_of_the_configuration_where_none_is_given(
    engine: FakeEngine,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    printed: str,
    query: dict[str, str],
) -> None:
    engine.route("GET", "/containers/json", Answer.of([ONE]))
    chosen = _folder(tmp_path / "chosen", psFormat="{{.Names}}!")
    assert start.run(["--config", str(chosen), "-H", engine.url, *words]) == 0
    assert capsys.readouterr().out == printed
    assert engine.requests[-1].query == query


def test_headers_of_the_configuration_go_with_every_request(
    engine: FakeEngine, tmp_path: Path
) -> None:
    engine.route("GET", "/containers/json", Answer.of([]))
    chosen = _folder(tmp_path / "chosen", HttpHeaders={"X-Own": "it", "User-Agent": "me"})
    assert start.run(["--config", str(chosen), "-H", engine.url, "ps"]) == 0
    assert engine.requests[-1].headers["x-own"] == "it"
    assert engine.requests[-1].headers["user-agent"] == "wherry"
    broken = _folder(tmp_path / "broken", HttpHeaders={"X-Own": "a\r\nX-Other: b"})
    assert start.run(["--config", str(broken), "-H", engine.url, "ps"]) == 1


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((), ["HTTP_PROXY=http://p:1", "http_proxy=http://p:1", "NO_PROXY=a,b", "no_proxy=a,b"]),
        (
            ("-e", "HTTP_PROXY=x", "-e", "no_proxy"),
            ["http_proxy=http://p:1", "NO_PROXY=a,b", "HTTP_PROXY=x", "no_proxy"],
        ),
    ],
)
def test_containers_are_given_the_proxies_that_they_do_not_name_themselves(
    engine: FakeEngine, tmp_path: Path, words: tuple[str, ...], expected: list[str]
) -> None:
    engine.route("POST", "/containers/create", Answer.of({"Id": "x"}, 201))
    for tables in ({"default": PROXIES}, {engine.url: PROXIES, "default": {"httpProxy": "other"}}):
        chosen = str(_folder(tmp_path / "chosen", proxies=tables))
        assert start.run(["--config", chosen, "-H", engine.url, "create", *words, "img"]) == 0
        assert engine.requests[-1].json["Env"] == expected


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (
            (),
            {
                "HTTP_PROXY": "http://p:1",
                "http_proxy": "http://p:1",
                "NO_PROXY": "a,b",
                "no_proxy": "a,b",
            },
        ),
        (
            ("--build-arg", "HTTP_PROXY=x", "--build-arg", "no_proxy", "--build-arg", "A=1"),
            {"HTTP_PROXY": "x", "http_proxy": "http://p:1", "NO_PROXY": "a,b", "A": "1"},
        ),
    ],
)
def test_builds_are_given_the_proxies_that_they_do_not_name_themselves(
    engine: FakeEngine,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    expected: dict[str, str],
) -> None:
    monkeypatch.delenv("no_proxy", raising=False)
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    engine.route("POST", "/wherry/build/folder", Answer.of({"tree": "t"}))
    built = {"type": "finished", "image_id": "sha256:1", "stored": True}
    engine.route("POST", "/wherry/build", Answer.of(built))
    chosen = str(_folder(tmp_path / "chosen", proxies={"default": PROXIES}))
    build = ("build", "-q", *words, str(tmp_path))
    assert start.run(["--config", chosen, "-H", engine.url, *build]) == 0
    assert engine.requests[-1].json["args"] == expected


def test_prunes_have_the_conditions_of_the_configuration_too(
    engine: FakeEngine, tmp_path: Path
) -> None:
    answer = Answer.of({"ContainersDeleted": [], "SpaceReclaimed": 0})
    engine.route("POST", "/containers/prune", answer)
    chosen = _folder(tmp_path / "chosen", pruneFilters=["label!=keep", "until=1h", "nonsense"])
    prune = ("container", "prune", "-f")
    start.run(["--config", str(chosen), "-H", engine.url, *prune])
    assert json.loads(engine.requests[-1].query["filters"]) == {
        "label!": {"keep": True},
        "until": {"1h": True},
    }
    start.run(["--config", str(chosen), "-H", engine.url, *prune, "--filter", "label=keep"])
    assert json.loads(engine.requests[-1].query["filters"]) == {
        "label": {"keep": True},
        "until": {"1h": True},
    }


def test_keys_to_detach_are_of_the_configuration(engine: FakeEngine, tmp_path: Path) -> None:
    engine.route("POST", "/containers/x/exec", Answer.of({"Id": "e"}, 201))
    engine.route("POST", "/exec/e/start", Answer())
    chosen = _folder(tmp_path / "chosen", detachKeys="ctrl-a")
    start.run(["--config", str(chosen), "-H", engine.url, "exec", "-d", "x", "true"])
    assert engine.requests[0].json["DetachKeys"] == "ctrl-a"
