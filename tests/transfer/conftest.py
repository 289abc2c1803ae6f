"""A docker-registry for the run, and stores to pull into without an engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.harness.registry import DockerRegistry
from tests.transfer.stores import Stores


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerRegistry]:
    """Debian's docker-registry without authentication."""
    with DockerRegistry(tmp_path_factory.mktemp("registry")) as registry:
        yield registry


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[Stores]:
    """An engine's stores in a folder of their own."""
    with Stores(tmp_path / "data") as stores:
        yield stores


@pytest.fixture
def new_stores(tmp_path: Path) -> Iterator[Callable[[str], Stores]]:
    """A function that opens stores in a named folder."""
    opened: list[Stores] = []

    def make(name: str) -> Stores:
        opened.append(Stores(tmp_path / name))
        return opened[-1]

    yield make
    for stores in opened:
        stores.close()
