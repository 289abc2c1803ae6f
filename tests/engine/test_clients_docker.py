"""Everyday work with docker clients of several ages: what set-up unpacked beside the one that is there.

WHERRY_TEST_CLIENTS names more of them, with colons between.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine.boxes import SLEEP, Boxes, eventually, started
from tests.engine.tars import busybox_tar
from tests.engine.terminal import Terminal
from tests.harness.clients import Client, find_docker

_UNPACKED = Path(__file__).parents[2] / ".venv"


def _clients() -> list[str]:
    named = os.environ.get("WHERRY_TEST_CLIENTS", "").split(":")
    unpacked = sorted(str(path) for path in _UNPACKED.glob("docker-*/usr/bin/docker"))
    return list(dict.fromkeys(filter(None, (find_docker(), *unpacked, *named))))


def _label(path: str) -> str:
    folder = next((part for part in Path(path).parts if part.startswith("docker-")), "")
    return folder.removeprefix("docker-") or "own"


@pytest.fixture(scope="module", params=_clients(), ids=_label)
def docker(request: pytest.FixtureRequest, engine_host: str, client_home: Path) -> Client:
    """One docker client after the other."""
    client = Client([request.param], engine_host, client_home)
    client.env["DOCKER_BUILDKIT"] = "0"
    return client


@pytest.fixture
def boxes(docker: Client, busybox: str) -> Iterator[Boxes]:
    with Boxes(docker, busybox) as boxes:
        yield boxes


@pytest.fixture(scope="module")
def busybox(docker: Client) -> Iterator[str]:
    """An image that this client imports."""
    name = f"client-{docker.version[0]}/busybox:latest"
    docker.raw("import", "-c", "CMD sh", "-", name, stdin=busybox_tar())
    yield name
    docker("image", "rm", "-f", name)


def test_a_terminal(docker: Client, busybox: str) -> None:
    with Terminal(docker, "run", "--rm", "-it", busybox) as terminal:
        terminal.expect("#")
        terminal.send("echo $((40+2)); exit 3\n")
        terminal.expect("\n42")
        assert terminal.wait() == 3


def test_a_life(docker: Client, boxes: Boxes, tmp_path: Path) -> None:
    name = boxes.name()
    words = ("-d", "--name", name, "-e", "A=b", "-l", "mine=1", "-m", "64m", "-p", "127.0.0.1::80")
    docker(
        "run",
        *words,
        "--restart",
        "unless-stopped",
        boxes.image,
        "sh",
        "-c",
        f"echo begun; {SLEEP[2]}",
    )
    row = json.loads(docker.line("ps", "--filter", "label=mine=1", "--format", "{{json .}}"))
    assert row["Names"] == name and "->80/tcp" in row["Ports"]
    assert docker.line("port", name, "80").startswith("127.0.0.1:")
    done = docker(
        "exec", "-i", name, "sh", "-c", "cat; echo $A >&2; exit 7", stdin="fed", check=False
    )
    assert (done.stdout, done.stderr, done.returncode) == ("fed", "b\n", 7)
    (tmp_path / "in").write_text("data")
    docker("cp", str(tmp_path / "in"), f"{name}:/tmp/in")
    docker("cp", f"{name}:/tmp/.", str(tmp_path / "out"))
    assert (tmp_path / "out/in").read_text() == "data"
    assert "A /tmp/in" in docker.line("diff", name).split("\n")
    assert "sleep 3600" in docker.line("top", name)
    with started(docker, "logs", "-f", name) as logs:
        assert logs.stdout is not None and logs.stdout.readline() == b"begun\n"
        docker("pause", name)
        assert "(Paused)" in docker.line("ps", "--filter", f"name={name}")
        docker("unpause", name)
        docker("update", "-m", "96m", "--memory-swap", "96m", name)
        docker("restart", "-t", "1", name)
        docker("stop", "-t", "1", name)
        assert logs.wait(30) == 0
    assert docker.line("logs", "--tail", "1", name) == "begun"
    assert docker.line("wait", name) == "0"
    docker("start", name)
    eventually(
        lambda: (
            docker.line("inspect", "-f", "{{.State.Running}} {{.HostConfig.Memory}}", name)
            == f"true {96 << 20}"
        )
    )
    docker("rm", "-f", name)
    name = boxes.create("-i", boxes.image, "sh", "-c", "read word; echo got $word; exit 5")
    done = docker("start", "-ai", name, stdin="typed\n", check=False)
    assert (done.stdout, done.returncode) == ("got typed\n", 5)


def test_images(docker: Client, boxes: Boxes, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(
        f"FROM {boxes.image}\nARG WORD\nCOPY said /\nRUN echo $WORD >/word\n"
    )
    (tmp_path / "said").write_text("copied\n")
    name = boxes.image_name()
    done = docker("build", "-t", name, "--build-arg", "WORD=fed", str(tmp_path))
    assert "Successfully tagged" in done.stdout
    ran = ("run", "--rm", "--network", "none", name, "cat", "/said", "/word")
    assert docker.line(*ran) == "copied\nfed"
    assert len(docker.line("history", "-q", name).split()) >= 2
    saved = docker.raw("save", name).stdout
    docker("image", "rm", name)
    assert name in docker.raw("load", stdin=saved).stdout.decode()
    assert docker.line(*ran) == "copied\nfed"
    box = boxes.create(name, "cat", "/word")
    other = boxes.image_name()
    docker("commit", "-c", "CMD cat /said", box, other)
    assert docker.line("run", "--rm", "--network", "none", other) == "copied"
    assert {name, other} <= set(
        docker.line("images", "--format", "{{.Repository}}:{{.Tag}}").split()
    )


def test_networks_and_volumes(docker: Client, boxes: Boxes) -> None:
    network, volume = boxes.name(), boxes.volume("--label", "mine=1")
    docker("network", "create", network)
    try:
        words = ("-d", "--name", boxes.name(), "--network", network, "--network-alias", "friend")
        server = docker.line("run", *words, "-v", f"{volume}:/v", boxes.image, *SLEEP)
        docker("exec", server, "sh", "-c", "echo kept >/v/f")
        script = "ping -c1 -w5 friend >/dev/null && cat /w/f"
        mount = ("--mount", f"type=volume,src={volume},dst=/w,readonly")
        said = docker.line(
            "run", "--rm", "--network", network, *mount, boxes.image, "sh", "-c", script
        )
        assert said == "kept"
        docker("network", "disconnect", network, server)
        docker("network", "connect", "--alias", "again", network, server)
        assert "again" in docker.line("inspect", "-f", "{{json .NetworkSettings.Networks}}", server)
        assert docker.line("volume", "ls", "-q", "--filter", "label=mine=1") == volume
        docker("rm", "-f", server)
    finally:
        docker("network", "rm", network)


def test_the_engine(docker: Client, boxes: Boxes) -> None:
    shown = json.loads(docker.line("version", "--format", "{{json .}}"))
    assert shown["Client"]["Version"].split("+")[0].startswith(f"{docker.version[0]}.")
    assert shown["Server"]["Os"] == "linux"
    assert json.loads(docker.line("info", "--format", "{{json .}}"))["OSType"] == "linux"
    assert "Images" in docker.line("system", "df")
    mark = boxes.name()
    boxes.create("-l", mark, boxes.image)
    assert len(docker.line("ps", "-aq", "--filter", f"label={mark}").split()) == 1
    docker("container", "prune", "-f", "--filter", f"label={mark}")
    assert docker.line("ps", "-aq", "--filter", f"label={mark}") == ""
