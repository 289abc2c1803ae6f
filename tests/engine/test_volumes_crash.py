"""Volumes when daemon, supervisor or both are killed, and of two engines side by side."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.engine.boxes import SLEEP, eventually
from tests.engine.tars import busybox_tar
from tests.harness.clients import Client
from tests.harness.engine import Engine
from tests.harness.supervisors import supervisors

NewEngine = Callable[..., Engine]


class Fresh:
    """An engine of one's own with a busybox image."""

    def __init__(self, engine: Engine, docker: Client) -> None:
        self.engine = engine
        self.docker = docker
        docker.raw("import", "-c", "CMD sh", "-", "bb:1", stdin=busybox_tar())

    def run(self, *words: str) -> str:
        return self.docker.line("run", "--network", "none", *words)

    def volumes(self) -> set[str]:
        return set(self.docker.line("volume", "ls", "-q").split())


@pytest.fixture
def fresh(new_engine: NewEngine, docker_for: Callable[[Engine], Client]) -> Iterator[Fresh]:
    engine = new_engine()
    yield Fresh(engine, docker_for(engine))


def supervisor_of(engine: Engine) -> int:
    """The pid of the engine's supervisor."""
    (found,) = supervisors(engine)
    return found


def test_everything_survives_the_daemon(fresh: Fresh) -> None:
    docker, engine = fresh.docker, fresh.engine
    docker("volume", "create", "--label", "a=b", "named")
    docker("volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs", "memory")
    mounts = ("-v", "named:/n", "-v", "memory:/m", "-v", "/anon")
    fresh.run("-d", "--name", "web", *mounts, "bb:1", *SLEEP)
    docker("exec", "web", "sh", "-c", "echo 1 >/n/x; echo 2 >/m/x; echo 3 >/anon/x")
    before = fresh.volumes()
    engine.crash()
    engine.start()
    assert fresh.volumes() == before
    assert '"a": "b"' in docker.line("volume", "inspect", "named")
    assert docker.line("exec", "web", "cat", "/n/x", "/m/x", "/anon/x") == "1\n2\n3"
    # The file system that is held for the container is still shared with new ones.
    assert fresh.run("--rm", "-v", "memory:/m", "bb:1", "cat", "/m/x") == "2"
    assert docker("volume", "rm", "memory", check=False).returncode == 1
    docker("rm", "-f", "-v", "web")
    assert fresh.volumes() == {"named", "memory"}
    assert fresh.run("--rm", "-v", "memory:/m", "bb:1", "ls", "-A", "/m") == ""


def test_a_tmpfs_volume_survives_the_supervisor(fresh: Fresh) -> None:
    docker = fresh.docker
    docker("volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs", "memory")
    fresh.run("-d", "--name", "web", "-v", "memory:/m", "bb:1", *SLEEP)
    docker("exec", "web", "sh", "-c", "echo kept >/m/x")
    os.kill(supervisor_of(fresh.engine), signal.SIGKILL)
    eventually(
        lambda: (
            (
                docker(
                    "run",
                    "--rm",
                    "--network",
                    "none",
                    "-v",
                    "memory:/m",
                    "bb:1",
                    "true",
                    check=False,
                )
            ).returncode
            == 0
        )
    )
    assert fresh.run("--rm", "-v", "memory:/m", "bb:1", "cat", "/m/x") == "kept"
    assert docker.line("exec", "web", "cat", "/m/x") == "kept"


@pytest.mark.parametrize("failpoint", ["volumes.before-row", "volumes.before-filled"])
def test_a_create_that_is_killed_leaves_an_engine_that_works(
    fresh: Fresh, failpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    docker, engine = fresh.docker, fresh.engine
    engine.halt()
    monkeypatch.setenv("WHERRY_FAILPOINTS", f"{failpoint}=kill")
    engine.start()
    monkeypatch.delenv("WHERRY_FAILPOINTS")
    create = ("create", "--name", "web", "-v", "data:/bin", "bb:1")
    assert docker(*create, check=False).returncode != 0
    assert engine.process is not None
    engine.process.wait(30)
    engine.start()
    docker(*create)
    assert "busybox" in fresh.run("--rm", "-v", "data:/v", "bb:1", "ls", "/v")
    docker("rm", "web")
    docker("volume", "rm", "data")
    assert sorted(os.listdir(engine.data_root / "volumes")) == [".making", ".trash"]


def test_a_full_disk_is_told_and_leaves_nothing(
    fresh: Fresh, monkeypatch: pytest.MonkeyPatch
) -> None:
    docker, engine = fresh.docker, fresh.engine
    engine.halt()
    monkeypatch.setenv("WHERRY_FAILPOINTS", "volumes.before-filled=error:ENOSPC")
    engine.start()
    monkeypatch.delenv("WHERRY_FAILPOINTS")
    done = docker("create", "--name", "web", "-v", "/bin", "bb:1", check=False)
    assert "no space left on the device: volume" in done.stderr
    assert fresh.volumes() == set()
    assert docker.line("ps", "-aq") == ""
    # What needs no filling goes on.
    assert fresh.run("--rm", "-v", "data:/v", "bb:1", "sh", "-c", "echo x >/v/x; cat /v/x") == "x"


def test_two_engines_have_volumes_of_their_own(fresh: Fresh, new_engine: NewEngine) -> None:
    other = new_engine()
    docker = Client(fresh.docker.command, other.host, Path(fresh.docker.env["HOME"]))
    fresh.docker("volume", "create", "data")
    assert docker.line("volume", "ls", "-q") == ""
    docker("volume", "create", "data")
    docker("volume", "rm", "data")
    assert fresh.volumes() == {"data"}


def test_nothing_is_mounted_on_the_host(fresh: Fresh) -> None:
    before = Path("/proc/self/mountinfo").read_text()
    fresh.docker("volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs", "memory")
    fresh.run("-d", "-v", "memory:/m", "-v", "named:/n", "bb:1", *SLEEP)
    assert Path("/proc/self/mountinfo").read_text() == before
