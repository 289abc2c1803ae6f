"""What happens to containers while the database takes nothing: it is kept in memory, and written later."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.containers.fakes import House, spec, until
from wherry.containers import exits
from wherry.model.containers import ContainerSpec, Status
from wherry.model.errors import Full
from wherry.model.networks import EndpointSpec, NetworkSpec


class Disk:
    """Stands before the rows' database; `full` refuses every statement, `room` lets as many pass as it says."""

    def __init__(self, rows: Any) -> None:
        self._rows = rows
        self.full = False
        self.room: int | None = None

    def query(self, sql: str, *args: object) -> list[tuple[Any, ...]]:
        if not sql.startswith("SELECT"):
            if self.full or self.room == 0:
                raise Full("no space left")
            if self.room is not None:
                self.room -= 1
        return self._rows.query(sql, *args)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._rows, name)


def limited(house: House) -> Disk:
    """Put a disk before the rows of an engine."""
    disk = house.store._database = Disk(house.store._database)  # type: ignore[assignment]
    return disk


def test_an_exit_is_told_at_once_and_written_when_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exits, "_RETRY_SECONDS", 0.01)
    house = House(tmp_path)

    async def main() -> None:
        async with house.open() as service:
            disk = limited(house)
            made = await service.create(spec("sleep"), "one")
            await service.start("one")
            ended = await service.wait("one", "not-running")
            disk.full = True
            house.supervisor.end(made.id, 7)
            assert (await asyncio.wait_for(ended, 30)).code == 7
            assert house.store.is_late(made.id)
            assert made.id in house.supervisor.processes, "the keeper forgot what no row knows"
            disk.full = False
            await until(lambda: not house.store.is_late(made.id))
            await until(lambda: made.id not in house.supervisor.processes)
        async with house.open():
            state = house.store.get(made.id).state
            assert (state.status, state.exit_code) == (Status.EXITED, 7)

    asyncio.run(main())


def test_a_container_of_rm_that_cannot_be_removed_stays_and_tells_so(tmp_path: Path) -> None:
    house = House(tmp_path)

    async def main() -> None:
        async with house.open() as service:
            disk = limited(house)
            made = await service.create(spec("sleep", auto_remove=True), "one")
            await service.start("one")
            ended = await service.wait("one", "")
            removed = await service.wait("one", "removed")
            disk.full = True
            house.supervisor.end(made.id, 3)
            assert (await asyncio.wait_for(ended, 30)).code == 3
            with pytest.raises(Full):
                await asyncio.wait_for(removed, 30)
            assert house.store.get(made.id).state.status is Status.EXITED
            disk.full = False
            await service.remove("one", force=False, volumes=False, link=False)
            assert house.store.find(made.id) is None

    asyncio.run(main())


NETWORKED = ContainerSpec("bb", command=("sh",), endpoints=(EndpointSpec("bridge"),))


def test_a_network_is_left_whole_or_not_at_all(tmp_path: Path) -> None:
    house = House(tmp_path)

    async def main() -> None:
        async with house.open() as service:
            disk = limited(house)
            await house.networks.create(NetworkSpec("web"))
            made = await service.create(NETWORKED, "one")
            await service.start("one")
            await house.networks.connect("web", "one", EndpointSpec("web"))
            before = house.store.get(made.id)
            disk.full = True
            with pytest.raises(Full):
                await house.networks.disconnect("web", "one", force=False)
            assert house.store.get(made.id) == before
            assert not house.supervisor.disconnected
            # Full from the second write on: what is gone is gone, and told so.
            disk.full, disk.room = False, 1
            await house.networks.disconnect("web", "one", force=False)
            assert house.supervisor.disconnected == [(made.id, "eth1")]
            assert networks(house, made.id) == ({"bridge"}, {"bridge"})
            assert ("disconnect", "web") in house.seen
        # The row has a mark in place of what did not fit.
        disk.room = None
        async with house.open():
            assert networks(house, made.id) == ({"bridge"}, {"bridge"})
            assert not any(
                e.unsettled for e in house.store.get(made.id).state.attachments.endpoints
            )

    asyncio.run(main())


def test_a_network_is_joined_whole_or_not_at_all(tmp_path: Path) -> None:
    house = House(tmp_path)

    async def main() -> None:
        async with house.open() as service:
            disk = limited(house)
            await house.networks.create(NetworkSpec("web"))
            made = await service.create(NETWORKED, "one")
            await service.start("one")
            taken = set(house.fabric.addresses)
            for room in (0, 1):
                disk.room = room
                with pytest.raises(Full):
                    await house.networks.connect("web", "one", EndpointSpec("web"))
                assert networks(house, made.id) == ({"bridge"}, {"bridge"})
                assert house.fabric.addresses == taken
            assert house.supervisor.disconnected == [(made.id, "eth1")]
            disk.room = None
        async with house.open():
            assert networks(house, made.id) == ({"bridge"}, {"bridge"})

    asyncio.run(main())


def networks(house: House, container_id: str) -> tuple[set[str], set[str]]:
    """The networks that a container wishes for, and those that it is in."""
    container = house.store.get(container_id)
    return (
        {wish.network for wish in container.spec.endpoints},
        {endpoint.network for endpoint in container.state.attachments.endpoints},
    )
