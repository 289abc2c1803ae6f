"""The event log: past and to come, filtered; the undo stack."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from tests.containers.fakes import make_container
from wherry.containers import events as module
from wherry.containers.events import EventLog, compile_filters, container_event
from wherry.containers.undo import Undo
from wherry.model.errors import Invalid, Unavailable
from wherry.model.events import Event


def asynchronous(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run an async test to its end."""

    def run() -> None:
        asyncio.run(asyncio.wait_for(test(), 30))

    run.__name__ = test.__name__
    return run


def _event(action: str, time: int = 0) -> Event:
    return Event("container", action, "c" * 64, (("name", "web"),), time)


async def _take(log: EventLog, count: int, **wanted: Any) -> list[str]:
    wanted = {"since": 0, "until": 0, "filters": {}} | wanted
    found: list[str] = []
    async for event in log.subscribe(**wanted):
        found.append(event.action)
        if len(found) == count:
            break
    return found


@asynchronous
async def test_past_then_present() -> None:
    now = 1000
    log = EventLog(clock=lambda: now)
    for number in range(3):
        log.record(_event(f"old{number}"))
    taking = asyncio.ensure_future(_take(log, 3, since=1001))
    await asyncio.sleep(0)
    log.record(_event("new"))
    # The clock stands still, yet no two events bear the same time.
    assert await taking == ["old1", "old2", "new"]
    assert await _take(log, 9, since=1, until=1001) == ["old0", "old1"]
    assert await _take(log, 9, until=999) == []


@asynchronous
async def test_until_ends_a_listener() -> None:
    log = EventLog()
    import time

    taking = asyncio.ensure_future(_take(log, 9, until=time.time_ns() + 50_000_000))
    await asyncio.sleep(0)
    log.record(_event("now"))
    assert await taking == ["now"]


@asynchronous
async def test_the_ring_keeps_the_last() -> None:
    log = EventLog(kept=2)
    for number in range(5):
        log.record(_event(str(number)))
    assert await _take(log, 2, since=1) == ["3", "4"]


@asynchronous
async def test_a_slow_listener_is_cut_off() -> None:
    log = EventLog()
    listener = log.subscribe(since=0, until=0, filters={})
    first = asyncio.ensure_future(anext(aiter(listener)))
    await asyncio.sleep(0)
    for number in range(module.QUEUE + 5):
        log.record(_event(str(number)))
    assert (await first).action == "0"
    with pytest.raises(Unavailable):
        async for _ in listener:
            pass


def test_attributes() -> None:
    event = container_event(
        make_container(labels=(("k", "v"), ("name", "spoof"))), "die", exitCode="3"
    )
    assert dict(event.attributes) == {"k": "v", "exitCode": "3", "image": "bb", "name": "web"}


@pytest.mark.parametrize(
    ("wanted", "passes"),
    [
        ({}, True),
        ({"event": ["exec_create"]}, True),
        ({"event": ["exec"]}, False),
        ({"type": ["container"]}, True),
        ({"type": ["image"]}, False),
        ({"container": ["web"]}, True),
        ({"container": ["cccc"]}, True),
        ({"container": ["we"]}, True),
        ({"container": ["eb"]}, False),
        ({"container": ["x", "w"]}, True),
        ({"container": [""]}, True),
        ({"image": ["bb"]}, True),
        ({"image": ["cc"]}, False),
        ({"label": ["k"]}, True),
        ({"label": ["k=v", "x"]}, False),
        ({"container": ["web"], "event": ["die"]}, False),
        ({"network": ["web"]}, False),
    ],
)
def test_filters(wanted: dict[str, list[str]], passes: bool) -> None:
    attributes = (("image", "bb:latest"), ("k", "v"), ("name", "web"))
    event = Event("container", "exec_create: sh ", "c" * 64, attributes)
    assert compile_filters(wanted)(event) is passes


def test_unknown_filters_are_refused() -> None:
    with pytest.raises(Invalid, match="invalid filter 'foo'"):
        compile_filters({"foo": ["x"]})


@asynchronous
async def test_undo_runs_backwards_unless_kept() -> None:
    done: list[object] = []

    async def later(what: object) -> None:
        await asyncio.sleep(0)
        done.append(what)

    async with Undo() as undo:
        undo.push(done.append, 1)
        undo.push(later, 2)
        undo.keep()
    assert done == []
    with pytest.raises(ZeroDivisionError):
        async with Undo() as undo:
            undo.push(done.append, 1)
            undo.push(later, 2)
            raise ZeroDivisionError
    assert done == [2, 1]


@asynchronous
async def test_undo_goes_on_after_a_failure_and_through_a_cancellation() -> None:
    done: list[int] = []

    async def slow() -> None:
        await asyncio.sleep(0.02)
        done.append(3)

    def broken() -> None:
        raise OSError

    async def work() -> None:
        async with Undo() as undo:
            undo.push(done.append, 1)
            undo.push(broken)
            undo.push(slow)
            await asyncio.sleep(60)

    task = asyncio.ensure_future(work())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.sleep(0.005)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert done == [3, 1]
