"""Fixtures that bind the tests of this folder to an engine: a private wherryd, or any other."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol, TypeVar

import pytest

from tests.engine.boxes import Boxes, Runner
from tests.engine.raw import Api
from tests.engine.tars import busybox_tar
from tests.harness.clients import Client, find_docker
from tests.harness.engine import script

HOST = os.environ.get("WHERRY_TEST_HOST", "")
T = TypeVar("T")


class Either(Protocol):
    """Picks the expectation of the engine under test."""

    def __call__(self, *, docker: T, wherry: T) -> T: ...


@pytest.fixture(scope="session")
def engine_host(request: pytest.FixtureRequest) -> str:
    """The socket of the engine under test, as DOCKER_HOST takes it."""
    return HOST or request.getfixturevalue("engine").host


@pytest.fixture(scope="session")
def docker(engine_host: str, client_home: Path) -> Client:
    """The unmodified docker client on the engine under test."""
    command = find_docker()
    if command is None:
        pytest.fail("there is no docker client here: `make test` fetches one", pytrace=False)
    return Client([command], engine_host, client_home)


@pytest.fixture(scope="session")
def wherry(engine_host: str, client_home: Path) -> Client:
    """The wherry command on the engine under test."""
    return Client([script("wherry")], engine_host, client_home)


@pytest.fixture(scope="session")
def api(engine_host: str) -> Api:
    """Plain HTTP to the engine under test."""
    return Api(engine_host.removeprefix("unix://"))


@pytest.fixture(scope="session")
def is_wherry(docker: Client) -> bool:
    """Whether the engine under test is wherry (Docker otherwise)."""
    return "wherry" in docker.line("version", "--format", "{{json .Server}}").lower()


@pytest.fixture(scope="session")
def either(is_wherry: bool) -> Either:
    """`either(docker=X, wherry=Y)`: what is expected where the two differ on purpose."""

    def pick(*, docker: T, wherry: T) -> T:
        return wherry if is_wherry else docker

    return pick


@pytest.fixture(scope="session")
def busybox(docker: Client) -> Iterator[str]:
    """The name of a busybox image with `sh` as its command, made once."""
    name = f"wherry-tests-{secrets.token_hex(3)}/busybox:latest"
    path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    docker.raw("import", "-c", "CMD sh", "-c", f"ENV {path}", "-", name, stdin=busybox_tar())
    yield name
    docker("image", "rm", "-f", name, check=False)


@pytest.fixture(scope="session")
def run(docker: Client, busybox: str) -> Runner:
    """Foreground containers without a network, removed when they end."""
    return Runner(docker, busybox)


@pytest.fixture
def boxes(docker: Client, busybox: str) -> Iterator[Boxes]:
    """Containers (and images) of one test, removed at its end."""
    with Boxes(docker, busybox) as boxes:
        yield boxes


@pytest.fixture(scope="module")
def module_boxes(docker: Client, busybox: str) -> Iterator[Boxes]:
    """Containers that several tests of one file share."""
    with Boxes(docker, busybox) as boxes:
        yield boxes


@pytest.fixture(scope="module")
def box(module_boxes: Boxes) -> str:
    """The name of a running container that the tests of one file share and do not change."""
    return module_boxes.sleeper()


@pytest.fixture(scope="session")
def inspect(docker: Client) -> Callable[..., object]:
    """`inspect(name, ".State.Pid")`: one value of `docker inspect`, decoded."""

    def value(name: str, path: str) -> object:
        return json.loads(docker.line("inspect", "-f", f"{{{{json {path}}}}}", name))

    return value
