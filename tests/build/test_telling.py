"""What waits of a build's output is bounded, whoever reads it, and what is left out is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from tests.api.fakes import FakeBuilds, FakeContexts
from wherry.api.building import Asks, ClientBuild
from wherry.build.files import Exporter
from wherry.build.sharing import SharedWork, Tell
from wherry.build.telling import Latest, Telling, Written
from wherry.model.build import (
    BuildRequest,
    BuildWarning,
    Progress,
    SecretSource,
    StepDone,
    StepOutput,
    StepRef,
    StepStarted,
)

ONE, TWO = StepRef(1, "RUN one"), StepRef(2, "RUN two")


async def read(telling: Telling) -> list[Progress]:
    events: list[Progress] = []
    while (event := await telling.next()) is not None:
        events.append(event)
    return events


def printed(events: list[Progress], step: StepRef) -> bytes:
    return b"".join(e.data for e in events if isinstance(e, StepOutput) and e.step == step)


def test_what_is_read_in_time_is_all_there_in_its_order() -> None:
    async def work() -> None:
        telling = Telling(4096)
        told: list[Progress] = []
        for number in range(100):
            telling.tell(StepOutput(ONE, b"%d\n" % number * 300))
            told.append(await telling.next() or StepOutput(TWO, b"the end"))
        assert printed(told, ONE) == b"".join(b"%d\n" % number * 300 for number in range(100))

    asyncio.run(work())


def test_what_nobody_reads_is_left_out_and_the_gap_told_before_the_step_s_end() -> None:
    async def work() -> None:
        telling = Telling(10_000)
        telling.tell(StepStarted(ONE, 1))
        for _ in range(50):
            telling.tell(StepOutput(ONE, b"x" * 1000))
        telling.tell(BuildWarning("", "among it"))
        telling.tell(StepDone(ONE, 2))
        telling.end()
        events = await read(telling)
        kinds = [type(event) for event in events]
        assert kinds[0] is StepStarted and kinds[-3:] == [BuildWarning, StepOutput, StepDone]
        whole = printed(events, ONE)
        kept = whole.count(b"x")
        assert 5000 < kept <= 10_000
        assert f"{50_000 - kept} bytes of output left out".encode() in whole

    asyncio.run(work())


def test_who_reads_on_after_a_gap_is_told_of_it_and_goes_on() -> None:
    async def work() -> None:
        telling = Telling(10_000)
        for _ in range(50):
            telling.tell(StepOutput(ONE, b"x" * 1000))
        first: list[Progress] = []
        for _ in range(5):
            first.append(await telling.next() or StepStarted(TWO, 0))
        telling.tell(StepOutput(ONE, b"after"))
        telling.tell(StepOutput(TWO, b"another's"))
        telling.end()
        events = [*first, *await read(telling)]
        assert printed(events, ONE).endswith(b"were not read in time]\nafter")
        assert printed(events, TWO) == b"another's"

    asyncio.run(work())


def test_output_byte_by_byte_counts_for_what_it_takes() -> None:
    async def work() -> None:
        telling = Telling(100_000)
        for _ in range(10_000):
            telling.tell(StepOutput(ONE, b"x"))
        telling.tell(StepDone(ONE, 2))
        telling.end()
        assert len(await read(telling)) < 500

    asyncio.run(work())


def test_of_what_is_running_the_latest_is_kept() -> None:
    latest = Latest(5000)
    for number in range(1000):
        latest.add((1, b"%04d" % number))
    pieces = latest.pieces()
    assert 5 < len(pieces) < 20
    assert pieces == tuple((1, b"%04d" % n) for n in range(1000 - len(pieces), 1000))
    latest.add((2, b"y" * 6000))
    assert latest.pieces() == ((2, b"y" * 6000),)


def test_a_build_that_joins_hears_the_latest_and_what_comes() -> None:
    async def work() -> None:
        shared: SharedWork[str] = SharedWork()
        joined, go_on = asyncio.Event(), asyncio.Event()
        heard: dict[str, list[Written]] = {"first": [], "second": []}

        async def make(tell: Tell) -> str:
            tell((1, b"before"))
            joined.set()
            await go_on.wait()
            tell((2, b"after"))
            return "made"

        first = asyncio.create_task(shared.do("key", make, heard["first"].append))
        await joined.wait()
        second = asyncio.create_task(shared.do("key", make, heard["second"].append))
        while not heard["second"]:
            await asyncio.sleep(0)
        go_on.set()
        assert [await first, await second] == [("made", False), ("made", True)]
        assert heard["first"] == heard["second"] == [(1, b"before"), (2, b"after")]

    asyncio.run(work())


class Endless(FakeBuilds):
    """Tells for as long as it is listened to; `told` counts."""

    told = 0

    async def build(
        self, request: BuildRequest, *, secrets: SecretSource, exporter: Exporter | None = None
    ) -> AsyncGenerator[Progress]:
        while True:
            self.told += 1
            yield StepOutput(ONE, b"y")
            await asyncio.sleep(0)


def test_a_client_that_reads_nothing_has_no_queue_of_its_own() -> None:
    async def work() -> None:
        builds = Endless()
        run = ClientBuild(builds, FakeContexts(), Asks())
        events = run.run(BuildRequest(b""))
        for _ in range(10):
            await anext(events)
        for _ in range(1000):
            await asyncio.sleep(0)
        assert 10 < builds.told < 100
        await events.aclose()

    asyncio.run(work())
