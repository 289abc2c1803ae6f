"""Starts that go wrong between the fork and the program, and containers that take their time to go."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.supervisor.plain import Case, supervised
from wherry.model.errors import StartFailed


def with_case(tmp_path: Path, test: Callable[[Case], Awaitable[None]]) -> None:
    async def run() -> None:
        async with asyncio.timeout(30), supervised(tmp_path) as case:
            await test(case)
            assert not [s for s in await case.client.survivors() if not s.exit]

    asyncio.run(run())


def released(case: Case) -> int:
    path = case.exec_root / "released"
    return len(path.read_text().split()) if path.exists() else 0


@pytest.mark.parametrize(
    ("order", "words"),
    [("stop", "has not begun its program within 1 s"), ("die", "killed for want of memory")],
)
def test_a_child_that_never_begins_is_a_failed_start(
    tmp_path: Path, order: str, words: str
) -> None:
    async def test(case: Case) -> None:
        for _ in range(3):  # it is undone: the same container may be started again
            with pytest.raises(StartFailed, match=words):
                await case.client.start(case.launch(order, key="a"))
        assert released(case) == 3
        assert case.exits == []
        await case.client.start(case.launch("true", key="a"))
        assert (await case.exit_of("a")).code == 0

    with_case(tmp_path, test)


def test_an_exec_that_never_begins_leaves_the_container_alone(tmp_path: Path) -> None:
    async def test(case: Case) -> None:
        await case.client.start(case.launch("sleep", "100", key="a"))
        for order in ("stop", "die"):
            with pytest.raises(StartFailed):
                await case.client.execute(case.exec_launch("a", order))
        assert [s.key for s in await case.client.survivors()] == ["a"]
        await case.client.signal("a", signal.SIGKILL)
        await case.exit_of("a")

    with_case(tmp_path, test)


def test_programs_that_end_at_once_have_begun(tmp_path: Path) -> None:
    async def test(case: Case) -> None:
        launches = [case.launch("sh", "-c", f"kill -{9 if n % 2 else 15} $$") for n in range(40)]
        await asyncio.gather(*map(case.client.start, launches))
        for n, launch in enumerate(launches):
            assert (await case.exit_of(launch.id)).code == (137 if n % 2 else 143)

    with_case(tmp_path, test)


def test_a_start_waits_for_what_the_container_held_before(tmp_path: Path) -> None:
    async def test(case: Case) -> None:
        held = case.exec_root / "held"
        held.touch()
        await case.client.start(case.launch("true", key="a"))
        await case.exit_of("a")
        again = asyncio.create_task(case.client.start(case.launch("true", key="a")))
        # Others are not held up.
        await case.client.start(case.launch("sleep", "100", key="b"))
        await case.client.signal("b", signal.SIGKILL)
        await case.exit_of("b")
        assert not again.done()
        assert released(case) == 0
        held.unlink()
        await again
        assert released(case) >= 1
        while len([end for end in case.exits if end.key == "a"]) < 2:
            await asyncio.sleep(0.01)

    with_case(tmp_path, test)


def test_namespaces_are_joined_of_the_container_that_was_meant(tmp_path: Path) -> None:
    async def test(case: Case) -> None:
        other = await case.client.start(case.launch("sleep", "100", key="other"))
        one = await case.client.start(case.launch("sleep", "100", key="one"))
        for joins in ((("gone", one.pid),), (("one", other.pid),)):
            with pytest.raises(StartFailed, match="is not running"):
                await case.client.start(case.launch("true", key="a", joins=joins))
        await case.client.start(case.launch("true", key="a", joins=(("one", one.pid),)))
        await case.exit_of("a")
        late = case.launch("kill-joined", str(one.pid), key="b", joins=(("one", one.pid),))
        with pytest.raises(StartFailed, match="ended meanwhile"):
            await case.client.start(late)
        assert (await case.exit_of("one")).code == 137
        os.kill(other.pid, signal.SIGKILL)
        await case.exit_of("other")

    with_case(tmp_path, test)
