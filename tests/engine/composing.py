"""Projects of Docker Compose, each with a name and a folder of its own, gone afterwards.

Set-up unpacks Compose; WHERRY_TEST_COMPOSE names another one.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.harness.clients import Client

_UNPACKED = (
    Path(__file__).parents[2] / ".venv/docker-compose/usr/libexec/docker/cli-plugins/docker-compose"
)
_LABEL = "com.docker.compose.project"


def find_compose() -> str:
    """Return the program, a plugin of the docker client that runs alone too."""
    return os.environ.get("WHERRY_TEST_COMPOSE", "") or str(_UNPACKED)


class Project(Client):
    """`project("up", "-d")` is `docker compose up -d` for `folder`/compose.yaml."""

    def __init__(self, folder: Path, text: str, docker: Client) -> None:
        self.name = f"wt{secrets.token_hex(4)}"
        self.folder = folder
        self.docker = docker
        self.file = folder / "compose.yaml"
        self.file.write_text(text)
        words = [find_compose(), "--project-name", self.name, "--file", str(self.file)]
        super().__init__(words, docker.host, Path(docker.env["HOME"]))
        # Containers' logs and states are asked for by the tests; a terminal's colours are not.
        self.env |= {"COMPOSE_ANSI": "never"}

    def ids(self, service: str) -> list[str]:
        """The ids of a service's running containers."""
        return self.line("ps", "-q", service).split()

    def rows(self, *words: str) -> dict[str, dict[str, Any]]:
        """`ps --format json`, by service."""
        listed = [
            json.loads(line) for line in self.line("ps", *words, "--format", "json").split("\n")
        ]
        return {row["Service"]: row for row in listed}

    def left(self) -> dict[str, list[str]]:
        """What the engine still has of the project: containers, volumes, networks."""
        mine = ("--filter", f"label={_LABEL}={self.name}", "-q")
        asked = {
            "containers": ("ps", "-a"),
            "volumes": ("volume", "ls"),
            "networks": ("network", "ls"),
        }
        return {
            kind: found
            for kind, words in asked.items()
            if (found := self.docker.line(*words, *mine).split())
        }


@contextmanager
def project_of(folder: Path, text: str, docker: Client) -> Iterator[Project]:
    """A project in `folder`, taken down at the end whatever happens."""
    project = Project(folder, text, docker)
    try:
        yield project
    finally:
        words = ("down", "--volumes", "--remove-orphans", "--rmi", "local", "--timeout", "0")
        project("--profile", "*", *words, check=False)
        assert project.left() == {}
