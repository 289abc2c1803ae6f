"""The way of a CI runner: a network for the job, services with health, a helper, steps, and nothing left.

One step is a container that reads its script from an attached standard input (so GitLab's runner works), another
a container that stays, with an exec for each step (so GitHub's works).
"""

from __future__ import annotations

import io
import socket
import tarfile
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import docker
import docker.errors
import pytest

from tests.engine.boxes import SLEEP, Boxes, eventually
from tests.engine.conftest import HOST
from tests.engine.tars import file, tar_of
from tests.harness.clients import Client

SERVICE = "mkdir /www && echo served >/www/index.html && exec httpd -f -h /www"


class Job:
    """What a runner has of one job: all of it has the job's label."""

    def __init__(self, client: Any, image: str, name: str) -> None:
        self.client = client
        self.image = image
        self.name = name
        self.labels = {"ci.job": name}
        self.network = client.networks.create(name, labels=self.labels)
        self.builds = client.volumes.create(f"{name}-builds", labels=self.labels)

    def container(self, *argv: str, **options: Any) -> Any:
        """A container on the job's network with the job's folder, created."""
        return self.client.containers.create(
            self.image, list(argv), labels=self.labels, network=self.network.name,
            volumes={self.builds.name: {"bind": "/builds", "mode": "rw"}},
            working_dir="/builds", **options,
        )  # fmt: skip

    def service(self, alias: str) -> Any:
        """A service container, healthy."""
        container = self.client.containers.create(
            self.image, ["sh", "-c", SERVICE], labels=self.labels,
            healthcheck={"test": ["CMD", "wget", "-qO-", "http://127.0.0.1/"],
                         "interval": 100_000_000, "retries": 50},
        )  # fmt: skip
        self.client.networks.get("bridge").disconnect(container)
        self.network.connect(container, aliases=[alias])
        container.start()
        eventually(lambda: container.reload() or container.health == "healthy", 20)
        return container

    def step(self, script: str, **options: Any) -> tuple[int, str]:
        """A container that takes its script from standard input; its exit code and output."""
        container = self.container("sh", "-e", stdin_open=True, **options)
        attached = self.client.api.attach_socket(
            container.id, params={"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1}
        )
        container.start()
        attached._sock.sendall(script.encode())
        # Half of the connection is closed: the shell reads its end and the output goes on.
        attached._sock.shutdown(socket.SHUT_WR)
        code = container.wait(timeout=30, condition="not-running")["StatusCode"]
        seen = b""
        while piece := attached._sock.recv(65536):
            seen += piece
        attached.close()
        logs = container.logs().decode()
        assert all(line in seen for line in logs.encode().splitlines())
        container.remove(v=True)
        return code, logs

    def close(self) -> None:
        """Remove all that has the label."""
        for container in self.client.containers.list(
            all=True, filters={"label": f"ci.job={self.name}"}
        ):
            container.remove(force=True, v=True)
        for thing in (self.network, self.builds):
            with suppress(docker.errors.NotFound):
                thing.remove()


@pytest.fixture
def job(engine_host: str, busybox: str, boxes: Boxes) -> Iterator[Job]:
    client = docker.DockerClient(base_url=engine_host, version="auto")
    job = Job(client, busybox, boxes.name())
    try:
        yield job
    finally:
        job.close()
        client.close()


def test_scripts_by_standard_input(job: Job) -> None:
    job.service("db")
    sources = tar_of([file("project/test.sh", b"echo tested; wget -qO- http://db/ >artifact\n")])
    helper = job.container(*SLEEP)
    helper.start()
    assert helper.put_archive("/builds", sources)
    code, said = job.step("cd project\nsh test.sh\necho $CI >&2\n", environment={"CI": "true"})
    assert (code, sorted(said.split())) == (0, ["tested", "true"])
    code, said = job.step("echo before\nfalse\necho after\n")
    assert (code, said) == (1, "before\n")
    stream, stat = helper.get_archive("/builds/project")
    assert stat["name"] == "project"
    with tarfile.open(fileobj=io.BytesIO(b"".join(stream))) as tar:
        found = tar.extractfile("project/artifact")
        assert found is not None and found.read() == b"served\n"


def test_steps_by_exec(job: Job, docker: Client, tmp_path: Any) -> None:
    job.service("web")
    (tmp_path / "event.json").write_text("{}")
    flags = ("--label", f"ci.job={job.name}", "--network", job.name, "-v", f"{tmp_path}:/github:ro")
    box = docker.line(
        "create", *flags, "-w", "/github", "--entrypoint", "tail", job.image, "-f", "/dev/null"
    )
    docker("start", box)
    assert docker.line("ps", "-q", "--no-trunc", "--filter", f"label=ci.job={job.name}", "--filter",
                       "status=running").split()[0] == box  # fmt: skip
    step = ("exec", "-i", "-e", "STEP=1", "--workdir", "/tmp", box, "sh", "-e")
    assert docker(*step, stdin="cat /github/event.json; echo $STEP >out; pwd").stdout == "{}/tmp\n"
    done = docker(*step, stdin="cat out; wget -qO- http://web/; exit 3", check=False)
    assert (done.stdout, done.returncode) == ("1\nserved\n", 3)
    docker("cp", f"{box}:/tmp/out", str(tmp_path / "artifact"))
    assert (tmp_path / "artifact").read_text() == "1\n"
    assert docker.line("inspect", "-f", "{{.State.Running}}", box) == "true"


def test_a_job_that_is_cancelled(job: Job) -> None:
    container = job.container("sh", "-c", "sleep 600")
    container.start()
    began = time.monotonic()
    job.close()
    assert time.monotonic() - began < 30
    filters = {"label": f"ci.job={job.name}"}
    assert job.client.containers.list(all=True, filters=filters) == []
    assert (
        job.client.volumes.list(filters=filters) == job.client.networks.list(filters=filters) == []
    )


@pytest.mark.skipif(bool(HOST), reason="the other engine's cache of builds is others' too")
def test_prune_by_label(
    job: Job, docker: Client, boxes: Boxes, request: pytest.FixtureRequest
) -> None:
    other = boxes.create("--label", "ci.job=another", job.image)
    running = boxes.sleeper("--label", f"ci.job={job.name}")
    stopped = job.container("true")
    unnamed = docker.line("volume", "create", "--label", f"ci.job={job.name}")
    request.addfinalizer(lambda: docker("volume", "rm", "-f", unnamed, check=False))
    dangling = docker.line("commit", "-c", f"LABEL ci.job={job.name}", other)
    said = docker.line("system", "prune", "-f", "--filter", f"label=ci.job={job.name}")
    for gone in (stopped.id, job.name, dangling):
        assert gone in said, "container, network and image"
    assert unnamed not in said, "volumes only where they are asked for"
    left = docker.line("ps", "-a", "--format", "{{.Names}}").split("\n")
    assert other in left and running in left
    said = docker.line("volume", "prune", "-f", "--filter", f"label=ci.job={job.name}")
    assert unnamed in said and job.builds.name not in said
    assert job.builds.name in docker.line("volume", "ls", "-q")
    assert docker.line("inspect", "-f", "{{.State.Running}}", running) == "true"
