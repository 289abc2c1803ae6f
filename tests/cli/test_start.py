"""Cold start, hosts, and starting the engine when none is there."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from tests.cli.fake_engine import Answer, FakeEngine
from wherry.cli import daemon, start
from wherry.cli.failure import Failure
from wherry.client.address import parse_address

# Each costs 1 to 12 ms; all of them together are twice a whole `wherry ps`.
SLOW = (
    *("re", "typing", "dataclasses", "json", "argparse", "subprocess", "socket", "signal", "enum"),
    *("selectors", "datetime", "pathlib", "tarfile", "collections", "functools", "contextlib"),
    *("hashlib", "secrets", "inspect", "logging", "asyncio", "threading", "ipaddress", "fractions"),
)
ENVIRONMENT = {"PATH": os.environ["PATH"], "HOME": "/"}


def run_fresh(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python code in a fresh interpreter without site packages' start-up hooks."""
    source = str(Path(start.__file__).parents[2])
    return subprocess.run(
        [
            sys.executable,
            "-S",
            "-c",
            f"import sys; sys.path.insert(0, {source!r})\n{code}",
            *arguments,
        ],
        capture_output=True,
        text=True,
        timeout=60,
        env=ENVIRONMENT,
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ["version"],
        ["ps"],
        ["images"],
        ["run", "--rm", "img", "true"],
        ["exec", "x", "true"],
        ["rm", "x"],
        ["build", "-q", "-t", "app:1", "FOLDER"],
    ],
    ids=lambda a: a[0],
)
def test_the_hot_path_imports_nothing_slow(arguments: list[str], tmp_path: Path) -> None:
    with FakeEngine(tmp_path / "s") as engine:
        engine.route("GET", "/version", Answer.of({"Components": []}))
        engine.route("GET", "/containers/json", Answer.of([]))
        engine.route("GET", "/images/json", Answer.of([]))
        engine.route("DELETE", "/containers/x", Answer(204))
        engine.route("POST", "/containers/create", Answer.of({"Id": "x"}, 201))
        engine.route("POST", "/containers/x/attach", Answer(raw=b""))
        engine.route("POST", "/containers/x/wait", Answer.of({"StatusCode": 0}))
        engine.route("POST", "/containers/x/start", Answer(204))
        engine.route("POST", "/containers/x/exec", Answer.of({"Id": "e"}, 201))
        engine.route("POST", "/exec/e/start", Answer(raw=b""))
        engine.route("GET", "/exec/e/json", Answer.of({"ExitCode": 0}))
        engine.route("POST", "/wherry/build/folder", Answer.of({"tree": "t"}))
        built = {"type": "finished", "image_id": "sha256:1", "stored": True}
        engine.route("POST", "/wherry/build", Answer.of(built))
        (tmp_path / "Dockerfile").write_text("FROM scratch\n")
        code = """
            from wherry.cli.start import run
            before = set()
            status = run(sys.argv[1:])
            print(status, *sorted(set(sys.modules)), file=sys.stderr)
        """
        words = [str(tmp_path) if word == "FOLDER" else word for word in arguments]
        done = run_fresh(textwrap.dedent(code), "-H", engine.url, *words)
    status, *modules = done.stderr.splitlines()[-1].split()
    assert status == "0"
    assert [module for module in SLOW if module in modules] == []


def test_host_comes_from_flag_then_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WHERRY_HOST", raising=False)
    engines = {name: FakeEngine(tmp_path / name) for name in ("flag", "wherry", "docker")}
    try:
        for engine in engines.values():
            engine.route("GET", "/containers/json", Answer.of([]))
        monkeypatch.setenv("DOCKER_HOST", engines["docker"].url)
        assert start.run(["ps"]) == 0
        monkeypatch.setenv("WHERRY_HOST", engines["wherry"].url)
        assert start.run(["ps"]) == 0
        assert start.run(["-H", engines["flag"].url, "ps"]) == 0
        assert [len(engine.requests) for engine in engines.values()] == [1, 1, 1]
    finally:
        for engine in engines.values():
            engine.close()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-H", "nonsense", "ps"], "unable to parse engine host"),
        (["-H", "unix:///a", "-H", "unix:///b", "ps"], "specify only one -H"),
        (["-c", "other", "ps"], 'context "other": context not found'),
        (["-c", "other", "-H", "unix:///a", "ps"], "cannot specify both --host and --context"),
        (["--tls", "-H", "tcp://127.0.0.1:1", "ps"], "Is wherryd running?"),
        (["--tlsverify", "-H", "tcp://127.0.0.1:1", "ps"], "ca.pem: no such file"),
        (["-l", "loud", "ps"], "Unable to parse logging level: loud"),
        (["-H", "ssh://-oProxyCommand=x/", "ps"], "unable to parse engine host"),
        (["-H", "ssh://me:secret@x", "ps"], "no password in it"),
        (["-H", "npipe:////./pipe/x", "ps"], "npipe:// is not supported"),
    ],
)
def test_bad_globals(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert start.run(arguments) == 1
    assert words in capsys.readouterr().err


def test_version_flag(capsys: pytest.CaptureFixture[str]) -> None:
    assert start.run(["--version"]) == 0
    assert capsys.readouterr().out.startswith("wherry version ")


def test_no_engine_at_a_chosen_host(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert start.run(["-H", f"unix://{tmp_path}/none", "ps"]) == 1
    assert f"Cannot connect to the engine at unix://{tmp_path}/none" in capsys.readouterr().err


DAEMON = """#!{python}
import contextlib, os, socket, sys, time
path = {socket!r}
{before}
listener = socket.socket(socket.AF_UNIX)
listener.bind(path)
listener.listen(5)
print("ready", *sys.argv[1:], flush=True)
end = time.monotonic() + 20
listener.settimeout(0.2)
while time.monotonic() < end and os.path.exists(path):
    try:
        connection, _ = listener.accept()
    except TimeoutError:
        continue
    connection.settimeout(0.5)
    with connection, contextlib.suppress(TimeoutError):
        while b"\\r\\n\\r\\n" in (data := connection.recv(65536)):
            body = b"" if data.startswith(b"HEAD") else b"[]"
            connection.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\n" + body)
"""


def _children() -> set[int]:
    """The pids of this process's children, ended ones that nobody waited for among them."""
    tasks = Path("/proc/self/task").glob("*/children")
    return {int(pid) for task in tasks for pid in task.read_text().split()}


@pytest.fixture
def fake_daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A program that takes wherryd's place, found on PATH alone."""
    before = _children()
    bin_dir = tmp_path / "bin"
    bin_dir.mkdir()
    path = tmp_path / "run" / "wherry.sock"
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    monkeypatch.delenv("WHERRY_HOST", raising=False)
    monkeypatch.delenv("WHERRY_NO_START", raising=False)
    monkeypatch.setenv("PATH", f"{bin_dir}:{os.environ['PATH']}")
    monkeypatch.setattr("sys.argv", [str(tmp_path / "elsewhere" / "wherry")])
    monkeypatch.setattr("sys.executable", str(tmp_path / "elsewhere" / "python"))
    python = os.path.realpath("/proc/self/exe")
    monkeypatch.setattr("wherry.cli.endpoint.DEFAULT_HOST", f"unix://{path}")

    def install(before: str = "") -> Path:
        program = bin_dir / "wherryd"
        program.write_text(DAEMON.format(python=python, socket=str(path), before=before))
        program.chmod(0o755)
        return path

    yield install
    # Without its socket the stand-in ends by itself; it is a child of this process, which may have others.
    path.unlink(missing_ok=True)
    end = time.monotonic() + 30
    for pid in _children() - before:
        while time.monotonic() < end:
            try:
                if os.waitpid(pid, os.WNOHANG) != (0, 0):
                    break
            except ChildProcessError:
                break
            time.sleep(0.02)


def test_the_engine_is_started_when_none_is_there(fake_daemon, capsys) -> None:
    path: Path = fake_daemon()
    assert start.run(["ps", "-q"]) == 0
    assert start.run(["ps", "-q"]) == 0
    assert capsys.readouterr() == ("", "")
    log = (path.parent / "wherry" / "wherryd.log").read_text()
    assert log == f"ready -H unix://{path}\n"


@pytest.mark.parametrize("how", ["flag", "environment"])
def test_no_start_refuses(fake_daemon, capsys, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    path: Path = fake_daemon()
    if how == "environment":
        monkeypatch.setenv("WHERRY_NO_START", "1")
    assert start.run([*(["--no-start"] if how == "flag" else []), "ps"]) == 1
    assert "Cannot connect" in capsys.readouterr().err
    assert not path.exists()


def test_a_daemon_that_fails_is_quoted(fake_daemon, capsys) -> None:
    fake_daemon("print('no cgroups here'); sys.exit(1)")
    assert start.run(["ps"]) == 1
    err = capsys.readouterr().err
    assert "ended at once" in err
    assert "no cgroups here" in err
    assert "wherryd.log" in err


def test_a_daemon_that_hangs_is_given_up_on(fake_daemon, capsys, monkeypatch) -> None:
    monkeypatch.setattr(daemon, "DEADLINE", 0.3)
    fake_daemon("time.sleep(2); sys.exit(0)")
    assert start.run(["ps"]) == 1
    assert "did not answer within" in capsys.readouterr().err


def test_no_daemon_to_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("sys.argv", [str(tmp_path / "wherry")])
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    with pytest.raises(Failure, match="found neither beside wherry nor on PATH"):
        daemon.start_daemon(parse_address(f"unix://{tmp_path}/x/s"))


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    with FakeEngine(tmp_path / "s") as engine:
        engine.route(
            "GET",
            "/networks",
            Answer.of([{"Id": "x" * 64, "Name": "n" * 500, "Driver": "d", "Scope": "s"}] * 5000),
        )
        code = "from wherry.cli.start import main; main()"
        source = str(Path(start.__file__).parents[2])
        program = subprocess.Popen(
            [
                sys.executable,
                "-S",
                "-c",
                f"import sys; sys.path.insert(0, {source!r})\n{code}",
                "-H",
                engine.url,
                "network",
                "ls",
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert program.stdout is not None and program.stderr is not None
        program.stdout.read(10)
        program.stdout.close()
        assert program.stderr.read() == b""
        program.stderr.close()
        program.wait(20)
