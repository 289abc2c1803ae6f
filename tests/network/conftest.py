"""Fixtures: a site (a host with an uplink and an outsider), and an engine's networks on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.harness.hosts import Site
from tests.network.rig import Rig


@pytest.fixture
def site() -> Iterator[Site]:
    """A host with an uplink, and an outsider."""
    with Site() as site:
        yield site


@pytest.fixture
def new_rig(site: Site) -> Iterator[Callable[..., Rig]]:
    """A function that opens networks of one more engine on the site's host; its arguments are settings."""
    with ExitStack() as stack:

        def make(**settings: Any) -> Rig:
            rig = Rig(site, **settings)
            stack.callback(rig.close)
            rig.open()
            return rig

        yield make


@pytest.fixture
def rig(new_rig: Callable[..., Rig]) -> Rig:
    """An engine's networks, open."""
    return new_rig()
