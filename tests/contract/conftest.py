"""One engine, one checking client, and the file that answers are held against."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.contract.checked import Checked
from tests.contract.specification import Specification, find_file
from tests.harness.engine import Engine


@pytest.fixture(scope="session")
def specification() -> Specification:
    """The OpenAPI file, where it was given to this run."""
    path = find_file()
    if path is None:
        pytest.skip("the OpenAPI file is not here: WHERRY_API_SPEC=FILE names it")
    return Specification(path)


@pytest.fixture(scope="session")
def checked(specification: Specification, request: pytest.FixtureRequest) -> Iterator[Checked]:
    """A client that remembers what it asked and what was wrong with the answers.

    WHERRY_TEST_HOST names another engine, a Docker among them, to see what the file says of it.
    """
    host = os.environ.get("WHERRY_TEST_HOST")
    if host is None:
        engine: Engine = request.getfixturevalue("engine")
        request.getfixturevalue("busybox")
        host = engine.host
    yield Checked(specification, host.removeprefix("unix://"))
