"""docker-compose v2 brings a small project up, works in it and takes it down again.

The plugin of the docker client is used, `docker-compose` on PATH, or what WHERRY_TEST_COMPOSE names.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.harness.clients import Client, find_docker
from tests.harness.engine import Engine

Compose = Callable[..., str]
_PROJECT = """
services:
  web:
    image: {image}
    command: ["sh", "-c", "echo served-$$WORD >/www/index.html; exec httpd -f -h /www"]
    environment: {{WORD: word}}
    volumes: ["pages:/www", "{folder}:/config:ro"]
    networks: {{front: {{aliases: [site]}}}}
    healthcheck:
      test: ["CMD", "wget", "-qO-", "http://127.0.0.1/"]
      interval: 300ms
      retries: 20
    labels: {{role: web}}
  reader:
    image: {image}
    command: ["sh", "-c", "wget -qO- http://site/; trap exit TERM; sleep 600 & wait"]
    depends_on: {{web: {{condition: service_healthy}}}}
    networks: [front]
  once:
    image: {image}
    command: ["cat", "/config/said"]
    volumes: ["{folder}:/config:ro"]
    profiles: [tools]
volumes: {{pages: {{labels: {{kept: "no"}}}}}}
networks: {{front: {{}}}}
"""


def _find() -> list[str] | None:
    """Return the command of Compose v2, None where there is none."""
    named = os.environ.get("WHERRY_TEST_COMPOSE")
    candidates = [[named]] if named else [[find_docker() or "docker", "compose"]]
    if found := shutil.which("docker-compose"):
        candidates.append([found])
    for command in candidates:
        done = subprocess.run([*command, "version", "--short"], capture_output=True, check=False)
        if done.returncode == 0 and done.stdout.lstrip(b"v")[:2] == b"2.":
            return command
    return None


@pytest.fixture
def compose(engine: Engine, busybox: str, tmp_path: Path, client_home: Path) -> Iterator[Compose]:
    """Compose on a project of the test's own, which is taken down whatever happens."""
    command = _find()
    if command is None:
        pytest.skip("no docker-compose v2 here: WHERRY_TEST_COMPOSE names one")
    (tmp_path / "said").write_text("configured\n")
    project = tmp_path / "compose.yaml"
    project.write_text(_PROJECT.format(image=busybox, folder=tmp_path))
    name = f"wt{secrets.token_hex(4)}"
    environment = {**os.environ, "DOCKER_HOST": engine.host, "HOME": str(client_home)}

    def run(*words: str) -> str:
        done = subprocess.run(
            [*command, "--project-name", name, "--file", str(project), *words],
            env=environment, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done.stdout

    try:
        yield run
    finally:
        run("--profile", "tools", "down", "--volumes", "--timeout", "1")


def test_a_project(compose: Compose, docker: Client) -> None:
    compose("up", "--detach", "--wait")
    listed = [json.loads(line) for line in compose("ps", "--format", "json").splitlines()]
    assert {one["Service"]: one["State"] for one in listed} == {
        "web": "running",
        "reader": "running",
    }
    assert {one["Service"]: one["Health"] for one in listed} == {"web": "healthy", "reader": ""}
    assert "served-word" in compose("logs", "--no-color", "reader")
    assert compose("exec", "-T", "reader", "wget", "-qO-", "http://web/") == "served-word\n"
    assert "configured" in compose("run", "--rm", "once")
    before = compose("ps", "-q", "web")
    compose("up", "--detach", "--wait")
    assert compose("ps", "-q", "web") == before, "nothing changed, so nothing is made anew"
    compose("up", "--detach", "--scale", "reader=2", "--no-recreate")
    assert len(compose("ps", "-q", "reader").split()) == 2
    compose("restart", "--timeout", "1", "web")
    compose("stop", "--timeout", "1")
    assert compose("ps", "-q") == ""
    compose("start")
    assert len(compose("ps", "-q").split()) == 3
    compose("cp", "web:/www/index.html", "-")
    compose("top")
    compose("pause", "web")
    compose("unpause", "web")
    compose("kill", "reader")
    compose("rm", "--force", "--stop", "reader")
    compose("down", "--volumes", "--timeout", "1")
    assert before.strip() not in docker("ps", "-aq", "--no-trunc").stdout
