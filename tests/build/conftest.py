"""What the tests of builds share."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.build.building import remove_engine


@pytest.fixture(scope="module")
def root() -> Iterator[Path]:
    """A folder for engines, whose supervisor is gone when it goes."""
    path = Path(tempfile.mkdtemp(prefix="wherry-", dir="/var/tmp"))
    yield path
    remove_engine(path)
