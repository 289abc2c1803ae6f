"""Overlays held beyond their containers: when each descriptor is closed, and who waits for it."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from wherry.containers import held_roots
from wherry.containers.held_roots import HeldRoots
from wherry.model.events import Event


def _open() -> int:
    return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def _holding_two(folder: Path) -> tuple[HeldRoots, list[int]]:
    held, fds = HeldRoots(folder), [_open(), _open()]
    for number, fd in enumerate(fds):
        held.hold(f"c{number}", fd)
    return held, fds


def _die(container_id: str) -> Event:
    return Event("container", "die", container_id, (), 1)


async def _until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not true():
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("action", ["die", "destroy"])
def test_closed_some_time_after_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, action: str
) -> None:
    async def run() -> None:
        held, fds = _holding_two(tmp_path)
        held.heard(Event("container", "start", "c0", (), 1))
        held.heard(Event("volume", action, "c0", (), 1))
        await held.settled("c0")
        assert _is_open(fds[0])
        held.heard(Event("container", action, "c0", (), 1))
        assert all(_is_open(fd) for fd in fds)
        await _until(lambda: not _is_open(fds[0]))
        assert _is_open(fds[1])
        held.close()
        assert not _is_open(fds[1])

    monkeypatch.setattr(held_roots, "PAUSE", 0.02)
    asyncio.run(run())


def test_a_next_start_waits_until_it_is_closed(tmp_path: Path) -> None:
    async def run() -> None:
        held = HeldRoots(tmp_path)
        fd = _open()
        held.hold("c", fd)
        await held.settled("c")
        assert _is_open(fd), "it runs"
        held.heard(_die("c"))
        await held.settled("c")
        assert not _is_open(fd)
        await held.settled("c")
        held.close()

    asyncio.run(run())


def test_who_settles_waits_for_a_closing_under_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go = threading.Event(), threading.Event()
    closed: list[int] = []

    def slow(fd: int) -> None:
        begun.set()
        assert go.wait(10)
        closed.append(fd)

    async def run() -> None:
        held = HeldRoots(tmp_path)
        held.hold("c", 1234)
        held.heard(_die("c"))
        assert await asyncio.to_thread(begun.wait, 10)
        settled = asyncio.ensure_future(held.settled("c"))
        await asyncio.sleep(0.05)
        assert not settled.done()
        go.set()
        await settled
        assert closed == [1234]
        await asyncio.to_thread(held.close)
        assert closed == [1234]

    monkeypatch.setattr(held_roots, "PAUSE", 0.0)
    monkeypatch.setattr("wherry.containers.held_roots.os.close", slow)
    asyncio.run(run())


def test_a_sync_that_fails_closes_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[int] = []

    def broken(fd: int) -> None:
        closed.append(fd)
        raise OSError(errno.EIO, "Input/output error")

    async def run() -> None:
        held = HeldRoots(tmp_path)
        held.hold("c", 1234)
        held.heard(_die("c"))
        await held.settled("c")
        held.close()
        assert closed == [1234]

    monkeypatch.setattr("wherry.containers.held_roots.os.close", broken)
    asyncio.run(run())


def test_nothing_is_put_off_where_room_is_scarce(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        held = HeldRoots(tmp_path)
        fd = _open()
        held.hold("c", fd)
        held.heard(_die("c"))
        await _until(lambda: not _is_open(fd))
        held.close()

    monkeypatch.setattr(held_roots, "PAUSE", 3600.0)
    monkeypatch.setattr(held_roots, "_SCARCE", 1 << 62)
    asyncio.run(run())


@pytest.mark.parametrize(("longest", "most"), [(0.0, 9), (3600.0, 1)])
def test_while_others_end_nothing_is_closed_but_for_the_oldest_and_too_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, longest: float, most: int
) -> None:
    async def run() -> None:
        held, fds = _holding_two(tmp_path)
        held.heard(_die("c0"))
        held.heard(_die("c1"))
        # The pause counts from the last end: this timer finds it long ahead.
        monkeypatch.setattr(held_roots, "PAUSE", 3600.0)
        await asyncio.sleep(0.05)
        assert all(_is_open(fd) for fd in fds)
        monkeypatch.setattr(held_roots, "LONGEST", longest)
        monkeypatch.setattr(held_roots, "MOST", most)
        held._begin()  # pyright: ignore[reportPrivateUsage]
        await _until(lambda: not any(_is_open(fd) for fd in fds))
        held.close()

    monkeypatch.setattr(held_roots, "PAUSE", 0.01)
    monkeypatch.setattr(held_roots, "LONGEST", 3600.0)
    asyncio.run(run())


def test_another_of_the_same_container_lets_go_of_the_first(tmp_path: Path) -> None:
    async def run() -> None:
        held = HeldRoots(tmp_path)
        first, second = _open(), _open()
        held.hold("c", first)
        held.hold("c", second)
        held.hold("none", -1)
        await held.settled("c")
        assert not _is_open(first) and _is_open(second)
        held.close()
        assert not _is_open(second)

    asyncio.run(run())
