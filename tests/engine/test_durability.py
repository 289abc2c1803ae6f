"""kill -9 of the daemon or of the supervisor at any moment loses no container, log line or exit code."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.engine.boxes import SLEEP, eventually, started
from tests.engine.raw import Api, read_frames
from tests.engine.tars import busybox_tar
from tests.harness.clients import Client
from tests.harness.engine import Engine
from tests.harness.supervisors import supervisors

IMAGE = "bb:1"
RUN = ["run", "-d", "--network", "none"]


@pytest.fixture
def own(
    new_engine: Callable[..., Engine], docker_for: Callable[[Engine], Client]
) -> tuple[Engine, Client]:
    """An engine that may be broken, with an image, and the docker client bound to it."""
    engine = new_engine()
    docker = docker_for(engine)
    docker.raw("import", "-c", "CMD sh", "-", IMAGE, stdin=busybox_tar())
    return engine, docker


def kill_supervisor(engine: Engine) -> None:
    """Kill the supervisor and wait until the keeper has started another."""
    eventually(lambda: len(supervisors(engine)) == 1)
    (old,) = supervisors(engine)
    os.kill(old, signal.SIGKILL)
    eventually(lambda: supervisors(engine) not in ([], [old]))


def run(docker: Client, name: str, script: str) -> None:
    """Start a container in the background."""
    docker(*RUN, "--name", name, IMAGE, "sh", "-c", script)


def numbered(docker: Client, name: str) -> list[str]:
    """The container's log lines."""
    return docker.line("logs", name).split()


def is_counting(lines: list[str]) -> bool:
    """Whether the lines are 1, 2, 3, … without a gap."""
    return lines == [str(n) for n in range(1, len(lines) + 1)]


def test_daemon_killed(own: tuple[Engine, Client]) -> None:
    engine, docker = own
    run(docker, "counts", "for n in $(seq 400); do echo $n; sleep 0.005; done; exit 7")
    docker(*RUN, "--name", "sleeps", IMAGE, *SLEEP)
    docker(*RUN, "--name", "ends", IMAGE, "sh", "-c", "sleep 0.2; echo last; exit 9")
    pid = docker.line("inspect", "-f", "{{.State.Pid}}", "sleeps")
    engine.crash()
    time.sleep(0.5)  # `ends` ends while nobody is there to see it
    engine.start()
    assert docker.line("inspect", "-f", "{{.State.Pid}}", "sleeps") == pid
    assert docker.line("exec", "sleeps", "echo", "alive") == "alive"
    assert docker.line("wait", "ends") == "9"
    assert docker.line("logs", "ends") == "last"
    assert docker.line("wait", "counts") == "7"
    assert numbered(docker, "counts") == [str(n) for n in range(1, 401)]
    docker("stop", "sleeps")
    assert docker.line("inspect", "-f", "{{.State.ExitCode}}", "sleeps") == "0"


def test_daemon_killed_again_and_again(own: tuple[Engine, Client]) -> None:
    engine, docker = own
    chosen = random.Random(7)
    run(
        docker,
        "counts",
        "n=0; while [ $n -lt 300 ]; do n=$((n+1)); echo $n; sleep 0.01; done; exit 3",
    )
    for _ in range(4):
        time.sleep(chosen.random() * 0.3)
        engine.crash()
        engine.start()
        assert is_counting(numbered(docker, "counts"))
    assert docker.line("wait", "counts") == "3"
    assert numbered(docker, "counts") == [str(n) for n in range(1, 301)]


def test_supervisor_killed(own: tuple[Engine, Client]) -> None:
    engine, docker = own
    chosen = random.Random(3)
    docker(*RUN, "--name", "fast", IMAGE, "sh", "-c", "seq 300000; exit 5")
    run(
        docker,
        "slow",
        "n=0; while [ $n -lt 200 ]; do n=$((n+1)); echo $n; sleep 0.01; done; exit 6",
    )
    for _ in range(4):
        time.sleep(chosen.random() * 0.2)
        kill_supervisor(engine)
    assert docker.line("wait", "fast", timeout=30) == "5"
    assert docker.line("wait", "slow", timeout=30) == "6"
    assert numbered(docker, "slow") == [str(n) for n in range(1, 201)]
    assert numbered(docker, "fast") == [str(n) for n in range(1, 300001)]


def test_exit_while_the_supervisor_is_dead(own: tuple[Engine, Client]) -> None:
    engine, docker = own
    run(docker, "ends", "read x </dev/null; sleep 0.15; echo bye; exit 11")
    for _ in range(3):
        kill_supervisor(engine)
    assert docker.line("wait", "ends", timeout=20) == "11"
    assert docker.line("logs", "ends") == "bye"


def test_everything_works_after_a_supervisor_died(own: tuple[Engine, Client]) -> None:
    engine, docker = own
    docker(*RUN, "--name", "box", "-i", IMAGE, "sh")
    docker(*RUN, "--name", "term", "-t", "-i", IMAGE, "sh")
    docker("pause", "term")
    kill_supervisor(engine)
    eventually(lambda: docker("exec", "box", "true", check=False).returncode == 0)
    assert docker.line("exec", "box", "echo", "hi") == "hi"
    with started(docker, "attach", "box") as typing:
        assert typing.stdin and typing.stdout
        typing.stdin.write(b"echo typed\n")
        typing.stdin.flush()
        assert typing.stdout.readline() == b"typed\n"
    docker("unpause", "term")
    docker("stop", "-t", "0", "term")
    assert docker.line("run", "--rm", "--network", "none", IMAGE, "echo", "new") == "new"
    docker("restart", "-t", "0", "box")
    docker("rm", "-f", "box", "term")


def test_both_killed(own: tuple[Engine, Client]) -> None:
    engine, docker = own
    run(
        docker,
        "counts",
        "n=0; while [ $n -lt 150 ]; do n=$((n+1)); echo $n; sleep 0.01; done; exit 4",
    )
    os.kill(supervisors(engine)[0], signal.SIGKILL)
    engine.crash()
    time.sleep(0.2)
    engine.start()
    assert docker.line("wait", "counts", timeout=20) == "4"
    assert numbered(docker, "counts") == [str(n) for n in range(1, 151)]


def test_no_byte_of_unbroken_output_is_lost(own: tuple[Engine, Client]) -> None:
    """Many kills while megabytes come: the log is the output, byte for byte."""
    engine, docker = own
    docker(
        *RUN,
        "--name",
        "flood",
        "--log-opt",
        "max-size=100m",
        IMAGE,
        "sh",
        "-c",
        "seq 1000000; exit 2",
    )
    for _ in range(6):
        kill_supervisor(engine)
        time.sleep(0.05)
    assert docker.line("wait", "flood", timeout=60) == "2"
    assert docker("logs", "flood", timeout=60).stdout == "".join(
        f"{n}\n" for n in range(1, 1_000_001)
    )


def test_an_exec_attached_to_tells_its_code_though_the_supervisor_died(
    own: tuple[Engine, Client],
) -> None:
    engine, docker = own
    docker(*RUN, "--name", "box", IMAGE, *SLEEP)
    script = "echo up; until [ -e /go ]; do sleep 0.05; done; exit 7"
    with docker.popen("exec", "box", "sh", "-c", script) as process:
        assert process.stdout is not None and process.stdout.readline() == b"up\n"
        kill_supervisor(engine)
        docker("exec", "box", "touch", "/go")
        assert process.wait(20) == 7
    count = len(os.listdir(f"/proc/{engine.pid}/fd"))
    with docker.popen("exec", "box", "sh", "-c", "echo up; sleep 60") as process:
        assert process.stdout is not None and process.stdout.readline() == b"up\n"
        docker("rm", "-f", "box")
        process.wait(20)
    eventually(lambda: len(os.listdir(f"/proc/{engine.pid}/fd")) <= count)


def test_keeper_killed(own: tuple[Engine, Client]) -> None:
    """Nothing that can be killed is below the keeper: what dies with it is known, and is started again."""
    engine, docker = own
    docker(*RUN, "--name", "plain", IMAGE, *SLEEP)
    docker(*RUN, "--name", "again", "--restart", "always", IMAGE, *SLEEP)
    pids = [docker.line("inspect", "-f", "{{.State.Pid}}", name) for name in ("plain", "again")]
    keeper = int(Path(f"/proc/{pids[0]}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(keeper, signal.SIGKILL)
    assert docker.line("wait", "plain", timeout=20) == "137"
    assert docker.line("inspect", "-f", "{{.State.Status}}", "plain") == "exited"

    def runs_anew() -> bool:
        form = "{{.State.Status}} {{.State.Pid}}"
        status, pid = docker.line("inspect", "-f", form, "again").split()
        return status == "running" and pid != pids[1]

    eventually(runs_anew)
    assert docker.line("exec", "again", "echo", "alive") == "alive"
    docker("start", "plain")
    docker("rm", "-f", "plain", "again")


def test_restart_policies_after_the_daemon_died(own: tuple[Engine, Client]) -> None:
    engine, docker = own
    docker(
        *RUN, "--name", "always", "--restart", "always", IMAGE, "sh", "-c", "sleep 0.3; echo again"
    )
    docker(*RUN, "--name", "stopped", "--restart", "unless-stopped", IMAGE, *SLEEP)
    docker("stop", "stopped")
    engine.crash()
    time.sleep(0.5)
    engine.start()
    eventually(lambda: docker.line("logs", "always").count("again") >= 2)
    assert docker.line("inspect", "-f", "{{.State.Status}}", "stopped") == "exited"


def test_commands_while_the_daemon_dies(own: tuple[Engine, Client]) -> None:
    """A start or a removal that the kill cuts in two is there or not there, never half."""
    engine, docker = own
    chosen = random.Random(11)
    for n in range(5):
        process = docker.popen("run", "-d", "--name", f"c{n}", "--network", "none", IMAGE, *SLEEP)
        time.sleep(chosen.random() * 0.1)
        engine.crash()
        process.communicate(timeout=20)
        engine.start()
    for line in docker.line("ps", "-a", "--format", "{{.Names}} {{.State}}").splitlines():
        name, state = line.split()
        assert state in ("created", "running", "exited"), line
        if state == "running":
            assert docker.line("exec", name, "echo", "ok") == "ok"
        docker("rm", "-f", name)
    assert docker.line("ps", "-aq") == ""
    assert docker.line("run", "--rm", "--network", "none", IMAGE, "echo", "fine") == "fine"


def test_polite_restart_keeps_everything(own: tuple[Engine, Client]) -> None:
    engine, docker = own
    docker(*RUN, "--name", "box", "-m", "64m", "-l", "a=b", IMAGE, *SLEEP)
    docker("tag", IMAGE, "other:2")
    before = docker.line("inspect", "box")
    engine.restart()
    assert docker.line("inspect", "box") == before
    assert docker.line("images", "-q", "other") != ""
    docker("rm", "-f", "box")


def test_attached_client_reads_on_while_no_daemon_runs(own: tuple[Engine, Client]) -> None:
    """The supervisor owns the streams."""
    engine, docker = own
    docker(
        "create",
        "--name",
        "box",
        "--network",
        "none",
        IMAGE,
        "sh",
        "-c",
        "echo one; sleep 0.4; echo two",
    )
    path = "/containers/box/attach?stream=1&stdout=1&stderr=1"
    with Api(str(engine.socket)).upgrade(path) as connection:
        docker("start", "box")
        engine.crash()
        assert read_frames(connection) == [(1, b"one\n"), (1, b"two\n")]
    engine.start()
    assert docker.line("wait", "box") == "0"


def test_two_engines_side_by_side(
    own: tuple[Engine, Client],
    new_engine: Callable[..., Engine],
    docker_for: Callable[[Engine], Client],
) -> None:
    engine, docker = own
    other = docker_for(new_engine())
    other.raw("import", "-", IMAGE, stdin=busybox_tar())
    for client in (docker, other):
        client(*RUN, "--name", "same", IMAGE, *SLEEP)
    maps = {client.line("exec", "same", "cat", "/proc/self/uid_map") for client in (docker, other)}
    assert len(maps) == 2
    engine.crash()
    assert other.line("exec", "same", "echo", "alive") == "alive"
    engine.start()
    assert docker.line("exec", "same", "echo", "alive") == "alive"
