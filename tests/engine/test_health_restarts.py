"""Health checks over restarts: of the daemon, killed or not, and of containers by their policies."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.engine.boxes import eventually
from tests.engine.tars import busybox_tar
from tests.harness.clients import Client
from tests.harness.engine import Engine

IMAGE = "bb:1"
CHECK = ("--health-cmd", "echo said; test -e /sig/ok", "--health-interval", "100ms")


@pytest.fixture
def own(
    new_engine: Callable[..., Engine], docker_for: Callable[[Engine], Client]
) -> tuple[Engine, Client]:
    """An engine that may be broken, with an image, and the docker client bound to it."""
    engine = new_engine()
    docker = docker_for(engine)
    docker.raw("import", "-c", "CMD sh", "-", IMAGE, stdin=busybox_tar())
    return engine, docker


class Signs:
    """Files that containers see at /sig, each container its own: what the test says to them."""

    def __init__(self, docker: Client, folder: Path) -> None:
        self.docker, self.folder = docker, folder

    def run(self, name: str, script: str, *flags: str, ok: bool = True) -> None:
        """Start a container that is well if `ok`."""
        (self.folder / name).mkdir()
        if ok:
            self(name, "ok").touch()
        words = (
            "run",
            "-d",
            "--network",
            "none",
            "--name",
            name,
            "-v",
            f"{self.folder / name}:/sig",
        )
        self.docker(*words, *CHECK, *flags, IMAGE, "sh", "-c", script)

    def __call__(self, name: str, sign: str) -> Path:
        return self.folder / name / sign


def state(docker: Client, name: str) -> dict[str, Any]:
    return json.loads(docker.line("inspect", "-f", "{{json .State}}", name))


def health(docker: Client, name: str) -> dict[str, Any]:
    return state(docker, name)["Health"]


def becomes(docker: Client, name: str, status: str) -> None:
    eventually(lambda: health(docker, name)["Status"] == status)


def told(docker: Client, name: str) -> list[str]:
    """The health events of a container that the daemon remembers."""
    # The client cuts `until` to whole seconds.
    words = (
        "--since",
        "1h",
        "--until",
        "-1s",
        "-f",
        f"container={name}",
        "-f",
        "event=health_status",
    )
    return docker.line("events", *words, "--format", "{{.Action}}").splitlines()


@pytest.mark.parametrize("end", ["killed", "politely"])
def test_the_daemon_starts_again(own: tuple[Engine, Client], end: str, tmp_path: Path) -> None:
    engine, docker = own
    signs = Signs(docker, tmp_path)
    signs.run("well", "sleep 600")
    signs.run("ill", "sleep 600", "--health-retries", "1", ok=False)
    signs.run("paused", "sleep 600")
    signs.run("falls", "sleep 600", "--health-retries", "1")
    signs.run("ends", "until test -e /sig/end; do sleep 0.05; done; exit 3")
    spared = ("--health-start-period", "1h", "--health-start-interval", "100ms")
    signs.run("spared", "sleep 600", *spared, ok=False)
    for name in ("well", "paused", "falls", "ends"):
        becomes(docker, name, "healthy")
    becomes(docker, "ill", "unhealthy")
    eventually(lambda: len(health(docker, "spared")["Log"]) >= 2)
    docker("pause", "paused")
    streak = health(docker, "ill")["FailingStreak"]
    assert streak >= 1
    if end == "killed":
        engine.crash()
    else:
        engine.halt()
    # Two things change while nobody looks.
    signs("ends", "end").touch()
    signs("falls", "ok").unlink()
    engine.start()
    # What was known is known at once, without a new probe: not `starting` again.
    assert docker.line("inspect", "-f", "{{.State.Health.Status}}", "well", "paused").split() == [
        "healthy",
        "healthy",
    ]
    assert health(docker, "ill")["Status"] == "unhealthy"
    assert docker.line("ps", "-f", "name=well", "--format", "{{.Status}}").endswith("(healthy)")
    assert docker.line("ps", "-q", "-f", "health=healthy", "-f", "name=paused")
    if end == "politely":
        assert health(docker, "ill")["FailingStreak"] >= streak
    assert health(docker, "ill")["Log"][-1]["Output"] == "said\n"
    # And the checks go on.
    becomes(docker, "falls", "unhealthy")
    last = health(docker, "well")["Log"][-1]["Start"]
    eventually(lambda: health(docker, "well")["Log"][-1]["Start"] > last)
    eventually(lambda: state(docker, "ends")["Status"] == "exited")
    assert (state(docker, "ends")["ExitCode"], health(docker, "ends")["Status"]) == (3, "unhealthy")
    # The start period counts from the container's start, which was before.
    last = health(docker, "spared")["Log"][-1]["Start"]
    eventually(lambda: health(docker, "spared")["Log"][-1]["Start"] > last)
    assert (health(docker, "spared")["Status"], health(docker, "spared")["FailingStreak"]) == (
        "starting",
        0,
    )
    probes = health(docker, "paused")["Log"]
    assert health(docker, "paused")["Log"] == probes
    docker("unpause", "paused")
    eventually(lambda: health(docker, "paused")["Log"][-1]["Start"] > probes[-1]["Start"])
    assert health(docker, "paused")["Status"] == "healthy"
    signs("ill", "ok").touch()
    becomes(docker, "ill", "healthy")
    # A restart is no change: whoever listens hears of those alone that there were.
    eventually(lambda: told(docker, "ill")[-1:] == ["health_status: healthy"])
    assert "health_status: unhealthy" not in told(docker, "well")
    assert not docker.line("ps", "-aq", "-f", "health=starting", "-f", "name=well")


def test_a_policy_starts_it_again(own: tuple[Engine, Client], tmp_path: Path) -> None:
    """Being ill restarts nobody. What ends is started again by its policy, and begins anew."""
    engine, docker = own
    signs = Signs(docker, tmp_path)
    script = "n=$(cat /sig/run 2>/dev/null); until test -e /sig/end$n; do sleep 0.05; done; exit 4"
    signs.run("box", script, "--restart", "on-failure:3", "--health-retries", "1")
    becomes(docker, "box", "healthy")
    pid = state(docker, "box")["Pid"]
    signs("box", "ok").unlink()
    becomes(docker, "box", "unhealthy")
    streak = health(docker, "box")["FailingStreak"]
    eventually(lambda: health(docker, "box")["FailingStreak"] > streak)
    assert state(docker, "box")["Pid"] == pid
    assert docker.line("inspect", "-f", "{{.RestartCount}}", "box") == "0"
    signs("box", "ok").touch()
    signs("box", "run").write_text("2")
    signs("box", "end").touch()
    eventually(lambda: docker.line("inspect", "-f", "{{.RestartCount}}", "box") == "1")
    becomes(docker, "box", "healthy")
    assert health(docker, "box")["FailingStreak"] == 0
    # It ends while no daemon runs: the next one starts it, and looks after it.
    pid = state(docker, "box")["Pid"]
    engine.crash()
    signs("box", "run").write_text("3")
    signs("box", "end2").touch()
    engine.start()
    eventually(lambda: state(docker, "box")["Running"] and state(docker, "box")["Pid"] != pid)
    becomes(docker, "box", "healthy")
    eventually(lambda: told(docker, "box")[-1:] == ["health_status: healthy"])
    # Stopped by a hand, it is neither well nor watched.
    docker("stop", "-t", "0", "box")
    found = health(docker, "box")
    assert found["Status"] == "unhealthy"
    assert docker.line("ps", "-a", "-f", "name=box", "--format", "{{.Status}}").startswith("Exited")
