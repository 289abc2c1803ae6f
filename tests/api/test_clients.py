"""The unmodified docker client and docker-py against the API, with fakes behind it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest
from docker.errors import NotFound

from tests.api.serving import Api
from tests.harness.clients import Client, find_docker
from wherry.model.errors import StartFailed

# docker-py ships no types.
Py = Any


@pytest.fixture
def cli(api: Api, tmp_path: Path) -> Client:
    command = find_docker()
    assert command is not None, "there is no docker client here"
    return Client([command], api.host, tmp_path)


@pytest.fixture
def py(api: Api) -> Iterator[Py]:
    client: Py = docker.DockerClient(base_url=api.host, timeout=10)  # pyright: ignore[reportPrivateImportUsage]
    yield client
    client.close()


def test_the_client_runs_a_container_to_its_end(api: Api, cli: Client) -> None:
    cli("run", "--rm", "--network", "none", "busybox", "true")
    assert [call[0] for call in api.containers.calls] == [
        "create",
        "attach",
        "wait",
        "start",
    ]


def test_half_closed_input_comes_back(cli: Client) -> None:
    done = cli("run", "-i", "--rm", "busybox", "cat", stdin="hello\n")
    assert done.stdout == "hello\n"


def test_much_goes_both_ways(cli: Client) -> None:
    data = os.urandom(3 << 20)
    assert cli.raw("run", "-i", "busybox", "cat", stdin=data).stdout == data


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ('exec: "x": executable file not found in $PATH', 127),
        ('exec: "/x": stat /x: no such file or directory', 127),
        ('exec: "/etc": is a directory: permission denied', 126),
        ('exec: "/x": permission denied', 126),
    ],
)
def test_a_command_that_cannot_start(api: Api, cli: Client, message: str, code: int) -> None:
    api.containers.fail_start = StartFailed(message, exit_code=code)
    done = cli("run", "busybox", "x", check=False)
    assert done.returncode == code
    assert message in done.stderr


def test_a_missing_image_is_pulled(cli: Client) -> None:
    done = cli("run", "nosuch", "true", check=False)
    assert done.returncode == 125
    assert "Unable to find image 'nosuch:latest' locally" in done.stderr
    assert "latest: Pulling from library/busybox" in done.stderr


def test_the_verbs(api: Api, cli: Client, tmp_path: Path) -> None:
    name = "some"
    cli("run", "-d", "--name", name, "-m", "64m", "busybox", "sleep", "1")
    assert name in cli.line("ps")
    assert cli.line("exec", name, "echo", "hi") == "echo hi"
    assert cli("exec", name, "nosuch", check=False).returncode == 127
    assert cli.line("logs", name).splitlines() == ["hello"]
    assert cli("logs", name).stderr == "oops\n"
    assert cli.line("inspect", "-f", "{{.HostConfig.Memory}}", name) == str(64 << 20)
    assert "8GiB" in cli.line("stats", "--no-stream", name)
    assert "-ef" in cli.line("top", name)
    assert cli.line("diff", name) == "A /new"
    for verb in ("pause", "unpause", "kill", "restart"):
        assert cli.line(verb, name) == name
    cli("update", "--memory", "80m", name)
    cli("rename", name, "other")
    cli("port", "other")
    assert cli.line("commit", "other").startswith("sha256:")
    cli("export", "-o", str(tmp_path / "tar"), "other")
    assert (tmp_path / "tar").stat().st_size == 5_000_000
    cli("cp", __file__, "other:/x")
    assert Path(__file__).read_bytes()[:100] in api.containers.written
    cli("stop", "other")
    assert cli.line("wait", "other") == "137"
    cli("rm", "other")


def test_the_verbs_of_images_and_the_engine(cli: Client, tmp_path: Path) -> None:
    assert "busybox" in cli.line("images")
    assert "ADD rootfs" in cli.line("history", "busybox")
    cli("tag", "busybox", "x:y")
    cli("save", "-o", str(tmp_path / "saved"), "busybox")
    assert "Loaded image" in cli.line("load", "-i", str(tmp_path / "saved"))
    assert cli("import", "-", "x:y", stdin="tar").stdout.startswith("sha256:")
    assert "Untagged" in cli.line("rmi", "busybox")
    assert "MemTotal" in cli.line("info", "-f", "{{json .}}")
    assert "1.51" in cli.line("version")
    assert "Images" in cli.line("system", "df")
    assert "host" in cli.line("network", "ls")
    cli("volume", "ls")
    cli("system", "prune", "-f")
    assert "container start abc" in cli.line("events", "--since", "0", "--until", "1s")


@pytest.mark.parametrize(
    "words",
    [("swarm", "init"), ("swarm", "join", "10.0.0.1:2377")],
)  # fmt: skip
def test_what_comes_later_says_so(cli: Client, words: tuple[str, ...]) -> None:
    done = cli(*words, check=False)
    assert done.returncode == 1
    assert "not in this version of wherry" in done.stderr


def test_an_interrupted_client_leaves_nothing(api: Api, cli: Client) -> None:
    cli("run", "-d", "--name", "x", "busybox", "sleep")
    follow = cli.popen("logs", "-f", "x")
    assert follow.stdout is not None
    assert follow.stdout.readline() == b"hello\n"
    follow.kill()
    follow.communicate()
    assert cli.line("ps", "-q")
    deadline = time.monotonic() + 30
    while not api.containers.cancelled:
        assert time.monotonic() < deadline, "the server did not notice"
        time.sleep(0.01)


def test_docker_py(api: Api, py: Py) -> None:
    assert py.ping()
    assert py.version()["ApiVersion"] == "1.51"
    container = py.containers.run("busybox", ["sleep", "1"], detach=True, name="x", mem_limit="64m")
    assert container.status == "created"
    container.reload()
    assert container.status == "running"
    code, output = container.exec_run(["nosuch"])
    assert code == 127 and b"executable file not found" in output
    assert container.logs() == b"hello\noops\n"
    assert container.top()["Titles"] == ["PID", "CMD"]
    assert container.stats(stream=False)["memory_stats"]["usage"] == 1000
    assert container.diff() == [{"Path": "/new", "Kind": 1}]
    pieces, stat = container.get_archive("/etc/passwd")
    assert b"".join(pieces) == b"tarball" and stat["name"] == "passwd"
    assert container.put_archive("/", b"data")
    assert api.containers.written == b"data"
    container.pause()
    container.unpause()
    container.rename("y")
    container.update(mem_limit="70m")
    assert container.commit("r", "t").id == py.images.get("busybox").id
    container.stop(timeout=1)
    assert container.wait()["StatusCode"] == 137
    container.remove()
    with pytest.raises(NotFound):
        py.containers.get("y")


def test_docker_py_attaches(py: Py) -> None:
    container = py.containers.create("busybox", ["cat"], stdin_open=True, tty=True)
    stream = container.attach_socket(params={"stdin": 1, "stdout": 1, "stream": 1})
    stream._sock.sendall(b"hello")
    assert stream._sock.recv(5) == b"hello"
    stream.close()


def test_docker_py_images(py: Py) -> None:
    image = py.images.get("busybox")
    assert image.tags == ["busybox:latest"]
    assert [entry["Size"] for entry in image.history()] == [0, 200]
    assert image.tag("x", "y")
    assert b"".join(image.save()) == b"archive"
    assert py.images.list()[0].id == image.id
    assert py.images.prune()["SpaceReclaimed"] == 0
    assert py.df()["LayersSize"] == 200
    assert py.images.pull("busybox", tag="latest").id == image.id
