"""Many clients who contradict each other: whatever the order, everything ends in a legal state."""

from __future__ import annotations

import asyncio
import os
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.containers.fakes import House, make_container, spec, until
from wherry.containers import transitions
from wherry.model.containers import Container, ContainerState, RestartPolicy, Status
from wherry.model.errors import Conflict, Internal, WherryError

ALIVE = transitions.ALIVE
CLIENTS = 16
NAMES = ("one", "two", "three")


async def _client(house: House, service: Any, dice: random.Random, rounds: int) -> None:
    for _ in range(rounds):
        name = dice.choice(NAMES)
        act = dice.choice(
            (
                lambda n: service.create(
                    spec(
                        "sleep",
                        auto_remove=dice.random() < 0.3,
                        restart=RestartPolicy("no"),
                    ),
                    n,
                ),
                lambda n: service.create(spec("sleep", restart=RestartPolicy("always")), n),
                lambda n: service.start(n),
                lambda n: service.start(n),
                lambda n: service.stop(n, 0, ""),
                lambda n: service.restart(n, 0, ""),
                lambda n: service.kill(n, ""),
                lambda n: service.pause(n),
                lambda n: service.unpause(n),
                lambda n: service.rename(n, dice.choice(NAMES)),
                lambda n: service.remove(n, force=dice.random() < 0.5, volumes=False, link=False),
                lambda n: _let_end(house, n),
                lambda n: service.prune({}),
            )
        )
        try:
            await asyncio.wait_for(act(name), 30)
        except Internal:
            raise
        except WherryError:
            pass
        await asyncio.sleep(0)


async def _let_end(house: House, name: str) -> None:
    if house.store.has_name(name):
        house.supervisor.end(house.store.resolve(name).id, 1)


@pytest.mark.parametrize("seed", range(6))
def test_sixteen_clients_end_in_a_legal_state(tmp_path: Path, seed: int) -> None:
    house = House(tmp_path)
    start = house.supervisor.start

    async def started(launch: Any) -> Any:
        # The cgroups of a frozen one are looked up in /proc: a pid that is there.
        return replace(await start(launch), pid=os.getpid())

    house.supervisor.start = started  # type: ignore[method-assign]

    async def main() -> None:
        async with house.open() as service:
            dice = [random.Random(seed * 100 + number) for number in range(CLIENTS)]
            async with asyncio.TaskGroup() as group:
                for each in dice:
                    group.create_task(_client(house, service, each, 25))
            await _settle(house)
            _check(house)
        # What memory knows, the database knows.
        known = {c.id: c for c in house.store}
        async with house.open():
            await until(
                lambda: all(not c.state.pid or c.state.status in ALIVE for c in house.store)
            )
            for container in house.store:
                before = known.pop(container.id)
                assert container.name == before.name and container.spec == before.spec
            assert not known

    asyncio.run(main())


async def _settle(house: House) -> None:
    await until(
        lambda: (
            all(c.state.status is not Status.REMOVING for c in house.store)
            and all(
                p.exit is None or p.key in {c.id for c in house.store if c.state.status in ALIVE}
                for p in house.supervisor.processes.values()
            )
        )
    )


def _check(house: House) -> None:
    running = {key for key, p in house.supervisor.processes.items() if p.exit is None}
    for container in house.store:
        alive = container.state.status in ALIVE
        assert alive == (container.id in running), container.state
        assert alive == bool(container.state.pid)
        assert house.store.resolve(container.name) == container
    assert running <= {c.id for c in house.store}
    folders = {entry.name for entry in (house.root / "containers").iterdir()}
    assert folders <= {c.id for c in house.store}


steps = st.lists(st.sampled_from(list(Status)), max_size=30)


@given(steps)
def test_moves_follow_the_table(wanted: list[Status]) -> None:
    state = ContainerState()
    for status in wanted:
        legal = status in transitions.TABLE[state.status]
        if legal:
            state = transitions.move(state, status)
            assert state.status is status
        else:
            with pytest.raises(Internal):
                transitions.move(state, status)


def test_the_table_is_complete_and_leads_out() -> None:
    assert set(transitions.TABLE) == set(Status)
    for status in Status:
        if status not in (Status.REMOVING, Status.DEAD):
            assert Status.REMOVING in transitions.TABLE[status]
    # Nothing comes back from a removal.
    assert transitions.TABLE[Status.REMOVING] <= {Status.REMOVING, Status.DEAD}


def _in(status: Status) -> Container:
    return make_container(state=ContainerState(status))


@pytest.mark.parametrize("status", list(Status))
def test_checks_agree_with_the_table(status: Status) -> None:
    container = _in(status)
    table = transitions.TABLE[status]
    try:
        starts = transitions.check_start(container)
    except Conflict:
        starts = False
    idle = status not in transitions.ACTIVE
    assert starts == (idle and Status.RUNNING in table)
    for check, target in (
        (transitions.check_pause, Status.PAUSED),
        (transitions.check_unpause, Status.RUNNING),
    ):
        try:
            check(container)
        except Conflict:
            continue
        assert target in table
    try:
        transitions.check_remove(container, force=False)
    except Conflict:
        assert not idle
    else:
        assert idle
    transitions.check_remove(container, force=True)
