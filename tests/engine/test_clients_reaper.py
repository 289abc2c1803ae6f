"""testcontainers' reaper: what a test run leaves, killed or not, is removed, and nothing else is."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine.boxes import SLEEP, Boxes, eventually
from tests.engine.reaping import PORT, make_reaper
from tests.harness.clients import Client
from tests.harness.engine import Engine

pytest.importorskip("testcontainers")

_PROGRAM = """
import io, os, sys
from testcontainers.core.container import DockerContainer
from testcontainers.core.image import DockerImage
from testcontainers.core.labels import LABEL_SESSION_ID, SESSION_ID
from testcontainers.core.network import Network
from testcontainers.core.wait_strategies import LogMessageWaitStrategy
mine = {LABEL_SESSION_ID: SESSION_ID}
network = Network().create()
box = DockerContainer(sys.argv[1]).with_network(network).waiting_for(LogMessageWaitStrategy("ready"))
box.with_command(["sh", "-c", "echo ready; exec sleep 600"]).start()
client = box.get_docker_client().client
stopped = client.containers.run(sys.argv[1], "true", volumes=["/anonymous"], labels=mine, detach=True)
stopped.wait()
client.volumes.create(f"left-{SESSION_ID}", labels=mine)
DockerImage(sys.argv[2], tag=f"left-{SESSION_ID}", labels=mine, clean_up=False).build()
print(f"{LABEL_SESSION_ID}={SESSION_ID}", flush=True)
if sys.argv[3] == "killed":
    sys.stdin.read()
elif sys.argv[3] == "crash":
    os._exit(1)
stopped.remove(v=True); box.stop(); network.remove()
"""


@pytest.fixture(scope="module")
def reaper(docker: Client, debian: str) -> Iterator[str]:
    """The name of an image whose program does what Ryuk does."""
    name = make_reaper(docker, debian)
    yield name
    docker("image", "rm", "-f", name, check=False)


def things(docker: Client, label: str) -> dict[str, list[str]]:
    """What the engine has with a label."""
    asked = {"containers": ("ps", "-aq"), "networks": ("network", "ls", "-q"),
             "volumes": ("volume", "ls", "-q"), "images": ("images", "-q")}  # fmt: skip
    return {
        kind: found
        for kind, words in asked.items()
        if (found := docker.line(*words, "--filter", f"label={label}").split())
    }


@pytest.mark.parametrize("end", ["killed", "crash", "polite"])
def test_what_a_test_run_leaves(
    end: str, engine: Engine, docker: Client, busybox: str, reaper: str, tmp_path: Path
) -> None:
    (tmp_path / "Dockerfile").write_text(f"FROM {busybox}\nRUN echo built >/built\n")
    before = set(docker.line("volume", "ls", "-q").split())
    environment = {
        **os.environ,
        "DOCKER_HOST": engine.host,
        "HOME": str(tmp_path),
        "RYUK_CONTAINER_IMAGE": reaper,
        "RYUK_RECONNECTION_TIMEOUT": "500ms",
        "TC_HOST": "127.0.0.1",
        "TC_POOLING_INTERVAL": "0.05",
    }
    words = engine.command(sys.executable, "-c", _PROGRAM, busybox, str(tmp_path), end)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(words, env=environment, **pipes) as run:
        assert run.stdout is not None and run.stdin is not None
        label = run.stdout.readline().strip()
        assert label, "the run failed"
        if end == "killed":
            made = {kind: len(found) for kind, found in things(docker, label).items()}
            assert made == {"containers": 2, "networks": 1, "volumes": 1, "images": 1}
            assert docker.line("ps", "-q", "--filter", "name=testcontainers-ryuk")
            run.kill()
        assert run.wait(30) == {"killed": -9, "crash": 1, "polite": 0}[end]
    if end == "polite":
        # The library stops its reaper itself, and leaves what it was not told to remove.
        assert set(things(docker, label)) == {"volumes", "images"}
        docker("volume", "rm", *things(docker, label)["volumes"])
        docker("image", "rm", *things(docker, label)["images"])
    eventually(lambda: things(docker, label) == {}, 20)
    gone = ("ps", "-aq", "--filter", "name=testcontainers-ryuk")
    eventually(lambda: not docker.line(*gone))
    assert set(docker.line("volume", "ls", "-q").split()) <= before


def test_its_protocol(engine: Engine, docker: Client, boxes: Boxes, reaper: str) -> None:
    """Several connections, several labels in a filter, and one who comes back in time."""
    one, two = (f"wherry.{which}={secrets.token_hex(4)}" for which in ("one", "two"))
    flags = ("-v", f"{engine.socket}:/var/run/docker.sock", "-e", "RYUK_RECONNECTION_TIMEOUT=1s")
    name = boxes.name()
    docker("run", "-d", "--name", name, "-p", f"127.0.0.1::{PORT}", *flags, reaper)
    eventually(lambda: "Started!" in docker("logs", name).stdout)
    address = docker.line("port", name, str(PORT)).split(":")
    both = ("--label", one, "--label", two)
    boxes.sleeper(*both)
    kept = boxes.sleeper("--label", one)
    volume, network = boxes.volume_name(), boxes.name()
    docker("volume", "create", *both, volume)
    docker("network", "create", *both, network)
    try:
        assert engine.network is not None
        for _ in range(2):  # who comes back within the second finds all there
            with engine.network.inside():
                first, second = (
                    socket.create_connection((address[0], int(address[1])), 10) for _ in range(2)
                )
            with first, second, second.makefile("rb") as said:
                first.sendall(b"label=nothing=at-all\r\nlabel=")
                assert first.recv(100) == b"ACK\n"
                second.sendall(f"label={one}&label={two}\n".encode())
                assert said.readline() == b"ACK\n"
                assert set(things(docker, two)) == {"containers", "networks", "volumes"}
        eventually(lambda: things(docker, two) == {}, 20)
        assert docker.line("wait", name) == "0"
        assert f"removed 3 of label={one}&label={two}" in docker.line("logs", name)
        assert docker.line("inspect", "-f", "{{.State.Running}}", kept) == "true"
    finally:
        docker("network", "rm", network, check=False)


def test_many_runs_beside_each_other(
    engine: Engine, docker: Client, busybox: str, reaper: str, tmp_path: Path
) -> None:
    """Each has a reaper of its own: the end of one touches nothing of another."""
    program = """
import sys
from testcontainers.core.container import DockerContainer
from testcontainers.core.labels import LABEL_SESSION_ID, SESSION_ID
DockerContainer(sys.argv[1]).with_command(sys.argv[2:]).start()
print(f"{LABEL_SESSION_ID}={SESSION_ID}", flush=True)
sys.stdin.read()
"""
    environment = {
        **os.environ, "DOCKER_HOST": engine.host, "HOME": str(tmp_path), "RYUK_CONTAINER_IMAGE": reaper,
        "RYUK_RECONNECTION_TIMEOUT": "200ms", "TC_HOST": "127.0.0.1",
    }  # fmt: skip
    words = engine.command(sys.executable, "-c", program, busybox, *SLEEP)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    runs = [subprocess.Popen(words, env=environment, **pipes) for _ in range(3)]
    try:
        labels = [run.stdout.readline().strip() for run in runs if run.stdout]
        assert len({*labels, ""}) == 4
        runs[1].kill()
        eventually(lambda: things(docker, labels[1]) == {}, 20)
        assert [len(things(docker, each)["containers"]) for each in (labels[0], labels[2])] == [
            1,
            1,
        ]
    finally:
        for run in runs:
            run.kill()
            run.communicate()
    eventually(lambda: not any(things(docker, label) for label in labels), 20)
