"""The zygote: who forks what, and that whatever happens to it a start works and nothing is left."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.supervisor.launching import (
    ALL_CHILDREN,
    House,
    children,
    house,
    start,
    warm_slot,
)
from wherry.kernel.processes import wait_readable
from wherry.model.errors import StartFailed
from wherry.runtime.slots import Slot
from wherry.supervisor import zygote
from wherry.supervisor.making import Maker
from wherry.supervisor.pool import Pool
from wherry.testing.kernel import Own


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    monkeypatch.setattr("wherry.supervisor.pool._NEARLY", 10.0)  # a busy machine makes no cold slot
    with house(tmp_path) as made:
        yield made
        for pool in list(made.pools):
            made.close(pool)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG | ALL_CHILDREN)[0]:
                pass
        assert made.left() == []


class _Counting(Own):
    """Counts the forks of the process that it was made in."""

    forks = 0

    def clone3(self, flags: int, cgroup: int = -1) -> tuple[int, int]:
        self.forks += 1
        return super().clone3(flags, cgroup)


def _zygote_of(here: House, pool: Pool) -> int:
    """Return the pid of the zygote that `pool` has just forked for its first warm slot."""
    slot = warm_slot(pool)
    (pid,) = children() - here.others - {slot.pid}
    return pid


def _ended(pid: int) -> None:
    """Return when a child has ended, which stays to be reaped."""
    pidfd = os.pidfd_open(pid)
    try:
        assert wait_readable(pidfd, 10)
    finally:
        os.close(pidfd)


def _hello(here: House, pool: Pool) -> Slot:
    run = start(pool, here.spec("id", "-u"))
    assert run.wait() == (0, "0\n")
    return run.slot


def test_the_supervisor_forks_once_for_many_warm_slots(here: House) -> None:
    k = _Counting()
    pool = here.pool(k)
    for _ in range(5):
        pool.refill()
        assert _hello(here, pool).warm
    assert k.forks == 1


def test_it_ends_when_idle_and_its_slot_stays(here: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zygote, "IDLE_SECONDS", 0.05)
    k = _Counting()
    pool = here.pool(k)
    pool.refill()
    for pid in children() - here.others:
        if Path(f"/proc/{pid}/uid_map").read_text().split()[1] == "0":
            _ended(pid)
    assert _hello(here, pool).warm
    pool.refill()
    assert _hello(here, pool).warm
    assert k.forks == 2


@pytest.mark.parametrize("asked", [False, True], ids=["idle", "asked"])
def test_its_death_is_not_felt(here: House, asked: bool) -> None:
    pool = here.pool()
    pid = _zygote_of(here, pool)
    assert _hello(here, pool).warm
    if asked:
        os.kill(pid, signal.SIGSTOP)
        pool.refill()
    os.kill(pid, signal.SIGKILL)
    _ended(pid)
    if not asked:
        pool.refill()
    assert _hello(here, pool).warm is not asked
    pool.refill()
    assert _hello(here, pool).warm


def test_one_that_hangs_is_not_waited_for_forever(
    here: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = here.pool()
    pid = _zygote_of(here, pool)
    assert _hello(here, pool).warm
    os.kill(pid, signal.SIGSTOP)
    pool.refill()
    monkeypatch.setattr("wherry.supervisor.pool._NEARLY", 0.01)
    assert not _hello(here, pool).warm
    monkeypatch.setattr("wherry.supervisor.pool._NEARLY", 3600.0)
    assert not _hello(here, pool).warm
    monkeypatch.setattr("wherry.supervisor.pool._OVERDUE", 0.0)
    assert not _hello(here, pool).warm
    _ended(pid)
    pool.refill()
    assert warm_slot(pool)


def test_what_fails_there_is_made_at_the_start(
    here: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool, equip, home = here.pool(), Maker._equip, os.getpid()  # pyright: ignore[reportPrivateUsage]

    def failing(self: Maker, slot: Slot, *, tell: bool) -> None:
        if os.getpid() != home:
            raise StartFailed("not here")
        equip(self, slot, tell=tell)

    monkeypatch.setattr(Maker, "_equip", failing)
    pool.refill()
    assert not _hello(here, pool).warm
    monkeypatch.setattr(Maker, "_equip", equip)
    pool.refill()
    assert _hello(here, pool).warm


def test_a_slot_that_nobody_received_ends_with_the_pool(here: House) -> None:
    pool = here.pool()
    pool.refill()
    here.close(pool)
    for pid in children() - here.others:
        _ended(pid)


def test_it_ends_with_the_supervisor_s_socket(here: House) -> None:
    # What a kill -9 of the supervisor does: every descriptor of it is closed, and no word is said.
    pool = here.pool()
    pid = _zygote_of(here, pool)
    pool.refill()
    slot = warm_slot(pool)
    end = pool._zygote._socket  # pyright: ignore[reportPrivateUsage]
    os.close(end)
    _ended(pid)
    os.close(pool._zygote._pidfd)  # pyright: ignore[reportPrivateUsage]
    pool._zygote._socket = -1  # pyright: ignore[reportPrivateUsage]
    assert not wait_readable(slot.pidfd, 0)


def test_what_it_makes_for_a_dead_supervisor_it_removes(here: House) -> None:
    pool = here.pool()
    pid = _zygote_of(here, pool)
    assert _hello(here, pool).warm
    os.kill(pid, signal.SIGSTOP)
    pool.refill()
    (asked,) = pool._asked  # pyright: ignore[reportPrivateUsage]
    os.close(pool._zygote._socket)  # pyright: ignore[reportPrivateUsage]
    os.kill(pid, signal.SIGCONT)
    _ended(pid)
    assert asked[0].rpartition("/")[2] not in here.driver.adopt(here.driver.parent)
    os.close(pool._zygote._pidfd)  # pyright: ignore[reportPrivateUsage]
    pool._zygote._socket = -1  # pyright: ignore[reportPrivateUsage]
    pool._asked.clear()  # pyright: ignore[reportPrivateUsage]
    pool._ranges.release(asked[1])  # pyright: ignore[reportPrivateUsage]


def test_it_holds_no_descriptor_of_the_supervisor(here: House) -> None:
    kept = os.open("/dev/zero", os.O_RDONLY | os.O_CLOEXEC)
    try:
        pid = _zygote_of(here, here.pool())
        found = {os.readlink(f"/proc/{pid}/fd/{name}") for name in os.listdir(f"/proc/{pid}/fd")}
    finally:
        os.close(kept)
    assert {name.partition(":")[0] for name in found} == {"/dev/null", "socket"}
