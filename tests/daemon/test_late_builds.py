"""What builds is made when it is asked for, once; what was left is cleared without it."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.api.fakes import fake_services
from wherry.build.service import Pruning
from wherry.daemon.late_builds import Building, LateBuilds, LateContexts, Made
from wherry.model.build import ContextKind, ContextRef


class Maker:
    """Makes fakes, and counts."""

    def __init__(self) -> None:
        self.made = self.closed = 0

    def make(self) -> Made:
        """Make them."""
        self.made += 1
        services = fake_services()
        return Made(services.builds, services.contexts, self.close)

    def close(self) -> None:
        """Note it."""
        self.closed += 1


def test_it_is_made_once_and_closed(tmp_path: Path) -> None:
    maker = Maker()

    async def use() -> None:
        building = Building(tmp_path, maker.make)
        building.open()
        builds, contexts = LateBuilds(building, lambda: True), LateContexts(building)
        assert await builds.disk_usage() == []
        builds.cancel("some")
        assert maker.made == 0
        await asyncio.gather(*(contexts.known("x") for _ in range(3)), builds.prune(Pruning({})))
        assert await builds.disk_usage() != []
        await contexts.release(ContextRef(ContextKind.TREE, "x"))
        await building.close()

    asyncio.run(use())
    assert (maker.made, maker.closed) == (1, 1)


def test_a_cache_that_has_something_is_told_of(tmp_path: Path) -> None:
    async def ask() -> int:
        return len(await LateBuilds(Building(tmp_path, Maker().make), lambda: False).disk_usage())

    assert asyncio.run(ask()) == 1


def test_what_a_dead_process_left_is_cleared_unmade(tmp_path: Path) -> None:
    maker = Maker()
    build = tmp_path / "build"
    for name in ("contexts/a/files", "scratch/b", "fetched-contexts/git/c", "mounts/1", ".gone-d"):
        (build / name).mkdir(parents=True)

    async def open_and_wait() -> None:
        building = Building(tmp_path, maker.make)
        building.open()
        await building.cleared()
        await building.close()

    asyncio.run(open_and_wait())
    assert maker.made == maker.closed == 0
    assert sorted(str(p.relative_to(build)) for p in build.rglob("*")) == [
        "fetched-contexts",
        "mounts",
        "mounts/1",
    ]
