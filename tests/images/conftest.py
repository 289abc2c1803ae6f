"""A house of images for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.images.house import House


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    """Stores and service over an empty folder."""
    house = House(tmp_path / "house")
    yield house
    house.close()
