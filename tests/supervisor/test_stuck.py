"""Processes that hold a pipe's lock asleep: the engine goes on, and they pay for it.

Each of these hangs a supervisor that nobody watches, since the lock is waited for uninterruptibly.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.supervisor.plain import Case, pair, supervised
from wherry.supervisor.client import Attachment

BOTH = Attachment(True, True, True)
SECONDS = 15
# Makes a file, waits until it is gone, and then sleeps in splice(2) with the pipe's lock: from the pipe
# into a full socket, or from an empty socket into the pipe.
HOLDER = """
import os, socket, sys, time
path, way, mark = sys.argv[1:]
near, far = socket.socketpair()
if way == "in":
    near.setblocking(False)
    try:
        while True:
            near.send(bytes(1 << 16))
    except BlockingIOError:
        near.setblocking(True)
fd = int(path) if path.isdecimal() else os.open(path, os.O_RDWR)
open(mark, "w").close()
while os.path.exists(mark):
    time.sleep(0.001)
if way == "in":
    os.splice(fd, near.fileno(), 1 << 16)
else:
    os.write(fd, b"to be read")
    os.splice(far.fileno(), fd, 1 << 16)
"""


def holder(path: str, way: str, mark: Path) -> list[str]:
    """Return what holds the pipe `path` (a descriptor or a path), used `in` or `out`."""
    return [sys.executable, "-I", "-S", "-c", HOLDER, path, way, str(mark)]


async def until(what: Callable[[], bool]) -> None:
    async with asyncio.timeout(SECONDS):
        while not what():
            await asyncio.sleep(0.005)


def sleeps_in(pid: int, *words: str) -> bool:
    """Whether the kernel functions that the process sleeps in are named so."""
    place = Path(f"/proc/{pid}/stack").read_text()
    return all(word in place for word in words)


@asynccontextmanager
async def begun(case: Case, pid: int, mark: Path) -> AsyncIterator[None]:
    """Let a holder go while the supervisor stands still: it comes back when the lock is held."""
    supervisor = case.supervisor_pid()
    await until(mark.exists)
    os.kill(supervisor, signal.SIGSTOP)
    try:
        mark.unlink()
        await until(lambda: sleeps_in(pid, "unix_stream", "splice"))
        yield
    finally:
        os.kill(supervisor, signal.SIGCONT)


async def engine_goes_on(case: Case) -> None:
    """A container can be started, ends, and its output is logged."""
    launch = case.launch("echo", "well")
    async with asyncio.timeout(SECONDS):
        await case.client.start(launch)
    assert (await case.exit_of(launch.id, SECONDS)).code == 0
    assert case.logs(launch.id).joinpath("000001.out").read_bytes() == b"well\n"


async def is_killed(case: Case, key: str, *, told: bool = True) -> None:
    outcome = await case.exit_of(key, SECONDS)
    assert outcome.code == 137
    assert ("blocked" in outcome.reason) == told
    assert not told or f"{key} kept the supervisor waiting" in said(case)


def said(case: Case) -> str:
    return (case.exec_root / "supervisor.log").read_text()


def with_case(tmp_path: Path, test: Callable[[Case], Awaitable[None]]) -> None:
    async def run() -> None:
        async with supervised(tmp_path) as case:
            bystander = case.launch("sleep", "100")
            await case.client.start(bystander)
            await test(case)
            running = {s.key for s in await case.client.survivors() if s.exit is None}
            assert running == {bystander.id}

    asyncio.run(run())


def rests(keeper: int) -> bool:
    """Whether the keeper sleeps without a timeout: poll(2) is 7 on x86-64, its third argument that."""
    words = Path(f"/proc/{keeper}/syscall").read_text().split()
    return words[0] == "7" and int(words[3], 16) & 0xFFFFFFFF == 0xFFFFFFFF


@pytest.mark.parametrize("how", ["typed", "ended", "killed"])
def test_stdin_of_a_container(tmp_path: Path, how: str) -> None:
    mark = tmp_path / "mark"

    async def test(case: Case) -> None:
        launch = case.launch(*holder("0", "in", mark), open_stdin=True, stdin_once=True)
        near, far = pair()
        await case.client.attach(launch.id, BOTH, far, initial=b"first")
        started = await case.client.start(launch)
        async with begun(case, started.pid, mark):
            if how == "ended":
                near.shutdown(socket.SHUT_WR)  # the last close of a pipe asks for its lock, too
            else:
                near.sendall(b"second")
        if how == "killed":
            await until(lambda: sleeps_in(case.supervisor_pid(), "splice_file_to_pipe"))
            os.kill(case.supervisor_pid(), signal.SIGKILL)
        await engine_goes_on(case)
        await is_killed(case, launch.id)
        near.close()

    with_case(tmp_path, test)


@pytest.mark.parametrize("fd", ["1", "2"])
def test_output_of_a_container(tmp_path: Path, fd: str) -> None:
    mark = tmp_path / "mark"

    async def test(case: Case) -> None:
        launch = case.launch(*holder(fd, "out", mark))
        started = await case.client.start(launch)
        async with begun(case, started.pid, mark):
            pass
        await engine_goes_on(case)
        await is_killed(case, launch.id)
        name = {"1": "000001.out", "2": "000001.err"}[fd]
        assert case.logs(launch.id).joinpath(name).read_bytes() == b"to be read"

    with_case(tmp_path, test)


def test_output_held_by_a_descendant_that_outlives_the_process(tmp_path: Path) -> None:
    mark = tmp_path / "mark"

    async def test(case: Case) -> None:
        words = " ".join(f"'{word}'" for word in holder("1", "out", mark))
        pid_file = tmp_path / "pid"
        script = f"{words} & echo $! > {pid_file}.new; mv {pid_file}.new {pid_file}; sleep 100"
        launch = case.launch("sh", "-c", script)
        started = await case.client.start(launch)
        await until(pid_file.exists)
        pid = int(pid_file.read_text())
        async with begun(case, pid, mark):
            os.kill(started.pid, signal.SIGKILL)
        await engine_goes_on(case)
        await is_killed(case, launch.id, told=False)
        assert f"process {pid} keeps the supervisor waiting" in said(case)
        await until(lambda: not Path(f"/proc/{pid}/fd/1").exists())

    with_case(tmp_path, test)


@pytest.mark.parametrize(("fd", "way"), [("0", "in"), ("1", "out")])
def test_streams_of_an_exec(tmp_path: Path, fd: str, way: str) -> None:
    mark = tmp_path / "mark"

    async def test(case: Case) -> None:
        container = case.launch("sleep", "100")
        await case.client.start(container)
        near, far = pair()
        launch = case.exec_launch(container.id, *holder(fd, way, mark), stdin=True)
        near.sendall(b"first")
        started = await case.client.execute(launch, far)
        async with begun(case, started.pid, mark):
            near.sendall(b"second")
        await engine_goes_on(case)
        await is_killed(case, launch.exec_id)
        # The exec alone was to blame.
        assert container.id in {s.key for s in await case.client.survivors() if not s.exit}
        await case.client.signal(container.id, signal.SIGKILL)
        await case.exit_of(container.id)
        near.close()

    with_case(tmp_path, test)


def test_the_pipe_of_an_exec_held_by_its_container(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    pipe = tmp_path / "pipe"

    async def test(case: Case) -> None:
        container = case.launch(
            "sh", "-c", 'while ! test -e "$0"; do sleep 0.01; done; exec "$@"', str(pipe),
            *holder(str(pipe), "out", mark),
        )  # fmt: skip
        holding = await case.client.start(container)
        near, far = pair()
        launch = case.exec_launch(container.id, "sleep", "100")
        started = await case.client.execute(launch, far)
        pipe.symlink_to(f"/proc/{started.pid}/fd/1")
        async with begun(case, holding.pid, mark):
            pass
        await engine_goes_on(case)
        await is_killed(case, launch.exec_id)
        await is_killed(case, container.id)
        near.close()

    with_case(tmp_path, test)


def test_the_pipe_of_one_container_held_by_another(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    pipe = tmp_path / "pipe"

    async def test(case: Case) -> None:
        owner = case.launch("sleep", "100")
        owned = await case.client.start(owner)
        pipe.symlink_to(f"/proc/{owned.pid}/fd/1")
        other = case.launch(*holder(str(pipe), "out", mark))
        holding = await case.client.start(other)
        async with begun(case, holding.pid, mark):
            pass
        await engine_goes_on(case)
        await is_killed(case, owner.id)
        await is_killed(case, other.id, told=False)

    with_case(tmp_path, test)


def test_one_that_only_prints_a_lot_is_left_alone(tmp_path: Path) -> None:
    async def test(case: Case) -> None:
        launch = case.launch("sh", "-c", "yes & yes >&2 & sleep 3; kill $!; kill %1")
        await case.client.start(launch)
        assert (await case.exit_of(launch.id, SECONDS)).reason == ""
        # With nothing to look after, the keeper sleeps for good.
        await until(lambda: rests(case.keeper_pid()))

    with_case(tmp_path, test)
