"""The API with fakes behind it, fresh for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.api.serving import Api, serving


@pytest.fixture
def api() -> Iterator[Api]:
    with serving() as api:
        yield api
