"""A daemon that starts again: rows and processes come together."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from tests.containers.fakes import FakeProcess, House, spec, until
from wherry.containers.reconcile import LOST_CODE
from wherry.model.containers import ExecSpec, RestartPolicy, Status
from wherry.supervisor.messages import Exit


def run(tmp_path: Path, before: Any, meanwhile: Any, after: Any) -> None:
    """Play `before`, let the daemon die, do `meanwhile(house)`, and play `after` in the next daemon."""
    house = House(tmp_path)

    async def main() -> None:
        async with house.open() as service:
            await before(house, service)
        meanwhile(house)
        house.seen.clear()
        async with house.open() as service:
            await asyncio.wait_for(after(house, service), 30)

    asyncio.run(main())


async def _two(house: House, service: Any) -> None:
    for name in ("web", "db"):
        await service.create(spec("sleep"), name)
        await service.start(name)


def test_what_runs_is_taken_back(tmp_path: Path) -> None:
    async def after(house: House, service: Any) -> None:
        web = house.store.resolve("web")
        assert web.state.status is Status.RUNNING
        assert web.state.pid == house.supervisor.processes[web.id].pid
        assert await service.stop("web", 1, "") is True
        assert house.store.resolve("web").state.exit_code == 143

    run(tmp_path, _two, lambda house: None, after)


def test_an_exit_that_came_meanwhile_is_recorded_once(tmp_path: Path) -> None:
    def meanwhile(house: House) -> None:
        house.supervisor.end(house.store.resolve("web").id, 9)

    async def after(house: House, service: Any) -> None:
        web = house.store.resolve("web")
        assert (web.state.status, web.state.exit_code) == (Status.EXITED, 9)
        assert web.id in house.supervisor.forgotten
        assert house.actions("web") == ["die"]
        assert house.store.resolve("db").state.status is Status.RUNNING

    run(tmp_path, _two, meanwhile, after)


def test_exits_told_again_change_nothing(tmp_path: Path) -> None:
    async def before(house: House, service: Any) -> None:
        await _two(house, service)
        web = house.store.resolve("web")
        house.supervisor.end(web.id, 9)
        await until(lambda: house.store.resolve("web").state.status is Status.EXITED)
        ended = house.store.resolve("web").state
        house.supervisor.on_exit(Exit(web.id, 9, ended.finished_at, False))
        await service.start("web")
        house.supervisor.on_exit(Exit(web.id, 9, ended.finished_at, False))
        await asyncio.sleep(0.02)
        assert house.store.resolve("web").state.status is Status.RUNNING
        assert house.actions("web").count("die") == 1

    async def after(house: House, service: Any) -> None:
        assert house.store.resolve("web").state.status is Status.RUNNING

    run(tmp_path, before, lambda house: None, after)


@pytest.mark.parametrize("recorded", [None, 5])
def test_without_a_keeper_containers_have_exited(tmp_path: Path, recorded: int | None) -> None:
    def meanwhile(house: House) -> None:
        web = house.store.resolve("web")
        house.supervisor.processes.clear()
        house.cgroups.there = [web.id, "slot-1-2", "f" * 64]
        if recorded is not None:
            house.recorded[web.id] = (recorded, time.time_ns())

    async def after(house: House, service: Any) -> None:
        web = house.store.resolve("web")
        assert web.state.status is Status.EXITED
        assert web.state.exit_code == (LOST_CODE if recorded is None else recorded)
        assert sorted(house.cgroups.killed) == sorted(
            [f"wherry/test/{web.id}", f"wherry/test/{'f' * 64}"]
        )

    run(tmp_path, _two, meanwhile, after)


def test_a_start_whose_row_was_not_written_is_found(tmp_path: Path) -> None:
    """wherryd was killed between the supervisor's answer and its own transaction."""

    async def before(house: House, service: Any) -> None:
        for name in ("web", "db"):
            await service.create(spec("sleep"), name)

    def meanwhile(house: House) -> None:
        now = time.time_ns()
        web, db = (house.store.resolve(name).id for name in ("web", "db"))
        house.supervisor.processes[web] = FakeProcess(web, 1 << 24, now)
        ended = Exit(db, 4, now + 5, False)
        house.supervisor.processes[db] = FakeProcess(db, 1 << 25, now, exit=ended)

    async def after(house: House, service: Any) -> None:
        assert house.store.resolve("web").state.status is Status.RUNNING
        db = house.store.resolve("db").state
        assert (db.status, db.exit_code) == (Status.EXITED, 4)

    run(tmp_path, before, meanwhile, after)


def test_processes_and_folders_without_a_row_go(tmp_path: Path) -> None:
    async def before(house: House, service: Any) -> None:
        await service.create(spec("sleep"), "web")

    def meanwhile(house: House) -> None:
        house.supervisor.processes["ghost"] = FakeProcess("ghost", 1 << 24, time.time_ns())
        (house.root / "containers" / ("d" * 64) / "upper").mkdir(parents=True)
        (house.root / "trash" / "old.1234").mkdir(parents=True)

    async def after(house: House, service: Any) -> None:
        await until(lambda: "ghost" not in house.supervisor.processes)
        await until(lambda: not list((house.root / "trash").iterdir()))
        assert not list((house.root / "containers").iterdir())

    run(tmp_path, before, meanwhile, after)


def test_policies_at_the_start(tmp_path: Path) -> None:
    policies = {
        "no": RestartPolicy("no"),
        "always": RestartPolicy("always"),
        "unless": RestartPolicy("unless-stopped"),
        "failed": RestartPolicy("on-failure"),
        "fine": RestartPolicy("on-failure"),
        "never-ran": RestartPolicy("always"),
        "ended": RestartPolicy("unless-stopped"),
    }

    async def before(house: House, service: Any) -> None:
        for name, policy in policies.items():
            await service.create(spec("sleep", restart=policy), name)
            if name != "never-ran":
                await service.start(name)
        for name in ("no", "always", "unless"):
            await service.stop(name, 1, "")

    def meanwhile(house: House) -> None:
        for name, code in (("failed", 1), ("fine", 0), ("ended", 0)):
            house.supervisor.end(house.store.resolve(name).id, code)

    async def after(house: House, service: Any) -> None:
        def running() -> set[str]:
            return {c.name for c in house.store if c.state.status is Status.RUNNING}

        await until(lambda: running() == {"always", "failed", "ended"})
        await asyncio.sleep(0.05)
        assert running() == {"always", "failed", "ended"}

    run(tmp_path, before, meanwhile, after)


def test_an_exec_s_code_outlives_the_daemon(tmp_path: Path) -> None:
    keys: list[str] = []

    async def before(house: House, service: Any) -> None:
        import os
        from dataclasses import replace

        start = house.supervisor.start

        async def started(launch: Any) -> Any:
            return replace(await start(launch), pid=os.getpid())

        house.supervisor.start = started  # type: ignore[method-assign]
        await service.create(spec("sleep"), "web")
        await service.start("web")
        for _ in range(3):
            keys.append(await service.exec_create("web", ExecSpec(("true",))))
        for key in keys[:2]:
            await service.exec_start(
                key, detach=True, tty=False, console_size=(0, 0), fd=-1, initial=b""
            )
        house.supervisor.end(keys[0], 6)
        await until(lambda: not house.execs.get(keys[0]).running)

    def meanwhile(house: House) -> None:
        house.supervisor.end(keys[1], 7)

    async def after(house: House, service: Any) -> None:
        assert [(await service.exec_inspect(key)).exit_code for key in keys[:2]] == [6, 7]
        assert not house.execs.knows(keys[2])

    run(tmp_path, before, meanwhile, after)
