"""What happens to containers while the database takes nothing: it is kept in memory, and written later."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.containers.fakes import House, spec, until
from wherry.containers import exits
from wherry.model.containers import Status
from wherry.model.errors import Full


class Disk:
    """Stands before the rows' database; `full` refuses every statement."""

    def __init__(self, rows: Any) -> None:
        self._rows = rows
        self.full = False

    def query(self, sql: str, *args: object) -> list[tuple[Any, ...]]:
        if self.full and not sql.startswith("SELECT"):
            raise Full("no space left")
        return self._rows.query(sql, *args)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._rows, name)


def test_an_exit_is_told_at_once_and_written_when_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exits, "_RETRY_SECONDS", 0.01)
    house = House(tmp_path)

    async def main() -> None:
        async with house.open() as service:
            disk = house.store._database = Disk(house.store._database)  # type: ignore[assignment]
            made = await service.create(spec("sleep"), "one")
            await service.start("one")
            ended = await service.wait("one", "not-running")
            disk.full = True
            house.supervisor.end(made.id, 7)
            assert (await asyncio.wait_for(ended, 5)).code == 7
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
            disk = house.store._database = Disk(house.store._database)  # type: ignore[assignment]
            made = await service.create(spec("sleep", auto_remove=True), "one")
            await service.start("one")
            ended = await service.wait("one", "")
            removed = await service.wait("one", "removed")
            disk.full = True
            house.supervisor.end(made.id, 3)
            assert (await asyncio.wait_for(ended, 5)).code == 3
            with pytest.raises(Full):
                await asyncio.wait_for(removed, 5)
            assert house.store.get(made.id).state.status is Status.EXITED
            disk.full = False
            await service.remove("one", force=False, volumes=False, link=False)
            assert house.store.find(made.id) is None

    asyncio.run(main())
