"""A registry that tests share: each uses repositories of its own."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from tests.registry.serving import Client, Running, registry

_numbers = itertools.count()


@pytest.fixture(scope="session")
def shared_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with registry(tmp_path_factory.mktemp("registry"), "--gc-interval=0") as running:
        yield running


@pytest.fixture
def client(shared_registry: Running) -> Client:
    return shared_registry.client


@pytest.fixture
def name() -> str:
    """A repository that no other test uses."""
    return f"test/repository-{next(_numbers)}"
