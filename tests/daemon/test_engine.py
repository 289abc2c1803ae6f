"""The whole engine's life: real containers outlive the daemon, and nothing outlives `wherryd stop`."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.harness.clients import Client
from tests.harness.engine import Engine, script
from tests.harness.leaks import processes_naming

SECONDS = 15.0
NewEngine = Callable[..., Engine]
ClientFor = Callable[[Engine], Client]


def stop(engine: Engine, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        engine.command(script("wherryd"), *engine.roots, "stop", *options),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.fixture
def engine_with_container(
    new_engine: NewEngine, docker_for: ClientFor, wherry_for: ClientFor
) -> tuple[Engine, Client]:
    engine = new_engine()
    docker = docker_for(engine)
    wherry_for(engine)("image", "bootstrap", "busybox")
    docker("run", "-d", "--name", "lasting", "--network", "none", "busybox", "sleep", "1000")
    return engine, docker


def test_containers_outlive_the_daemon(engine_with_container: tuple[Engine, Client]) -> None:
    engine, docker = engine_with_container
    pid = docker.line("inspect", "-f", "{{.State.Pid}}", "lasting")
    engine.restart()
    assert docker.line("inspect", "-f", "{{.State.Pid}} {{.State.Status}}", "lasting") == (
        f"{pid} running"
    )
    engine.crash()
    assert os.path.exists(f"/proc/{pid}")
    engine.start()
    assert docker.line("exec", "lasting", "echo", "still here") == "still here"


@pytest.mark.parametrize("state", ["running", "crashed", "frozen"])
def test_stop_ends_everything(engine_with_container: tuple[Engine, Client], state: str) -> None:
    engine, _ = engine_with_container
    if state == "crashed":
        engine.crash()
    if state == "frozen":
        os.kill(engine.pid, signal.SIGSTOP)
    done = stop(engine, "--timeout", "0")
    assert (done.returncode, done.stderr) == (0, "")
    deadline = time.monotonic() + SECONDS
    while left := processes_naming(str(engine.root)):
        if set(left) == {engine.process.pid if engine.process else 0}:
            break  # a zombie that this test reaps
        assert time.monotonic() < deadline, left
        time.sleep(0.02)
    if state != "crashed":
        assert engine.process is not None
        engine.process.wait(SECONDS)
        engine.process = None
    engine.start()


def test_without_live_restore_containers_end_with_the_daemon(
    new_engine: NewEngine, docker_for: ClientFor, wherry_for: ClientFor
) -> None:
    engine = new_engine("--live-restore=false", "--shutdown-timeout", "0")
    docker = docker_for(engine)
    wherry_for(engine)("image", "bootstrap", "busybox")
    docker("run", "-d", "--name", "short", "--network", "none", "busybox", "sleep", "1000")
    pid = docker.line("inspect", "-f", "{{.State.Pid}}", "short")
    engine.halt()
    assert not os.path.exists(f"/proc/{pid}")
    assert not processes_naming(str(engine.exec_root))
    engine.start()
    assert docker.line("inspect", "-f", "{{.State.Status}}", "short") == "exited"


def test_stop_of_nothing_is_fine(tmp_path: Path) -> None:
    done = stop(Engine(root=tmp_path))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not (tmp_path / "run").exists()
