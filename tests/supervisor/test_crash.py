"""kill -9 of the supervisor: no log byte lost or doubled, no exit code lost, nothing half-made left."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.supervisor.plain import Case, pair, supervised
from wherry.model.errors import StartFailed
from wherry.supervisor.client import Attachment, LogSettings
from wherry.supervisor.logs.reader import LogReader

LINES = 60_000
KILLS = 24
SECONDS = 20
# Numbered lines in bursts and pauses, so that kills fall on full pipes, empty ones and everything between.
WRITER = f"""
import os, random, time
chance = random.Random(7)
at = 0
while at < {LINES}:
    end = min(at + chance.choice((1, 3, 50, 2000)), {LINES})
    text = b"".join(b"%07d\\n" % n for n in range(at, end))
    while text:
        text = text[os.write(1, text):]
    at = end
    time.sleep(chance.choice((0, 0, 0.001, 0.02)))
"""


async def kill_supervisor(case: Case) -> None:
    """Kill it, and return when its successor answers."""
    os.kill(case.supervisor_pid(), signal.SIGKILL)
    await case.client.survivors()


def data_of(case: Case, key: str) -> bytes:
    files = sorted(case.logs(key).glob("*.out"))
    return b"".join(path.read_bytes() for path in files)


async def _no_byte_is_lost(root: Path, tty: bool) -> None:
    async with supervised(root) as case:
        settings = LogSettings("json-file", str(case.logs("a")), 50_000, 1000)
        launch = case.launch(sys.executable, "-S", "-c", WRITER, key="a", tty=tty, log=settings)
        await case.client.start(launch)
        chance = random.Random()
        for _ in range(KILLS):
            await asyncio.sleep(chance.uniform(0, 0.05))
            if "a" in {outcome.key for outcome in case.exits}:
                break
            await kill_supervisor(case)
        outcome = await case.exit_of("a", 60)
        assert outcome.code == 0
        end = b"\r\n" if tty else b"\n"
        expected = b"".join(b"%07d" % n + end for n in range(LINES))
        assert data_of(case, "a") == expected
        assert b"".join(LogReader(case.logs("a"), raw=True).read()) == expected


@pytest.mark.parametrize("tty", [False, True], ids=["pipe", "terminal"])
def test_no_log_byte_is_lost_or_doubled(tmp_path: Path, tty: bool) -> None:
    asyncio.run(_no_byte_is_lost(tmp_path, tty))


def test_exits_while_no_supervisor_runs_are_told_by_the_next(tmp_path: Path) -> None:
    async def run() -> None:
        async with supervised(tmp_path) as case:
            for number in range(5):
                launch = case.launch("sh", "-c", f"sleep 0.1; exit {number}", key=f"k{number}")
                await case.client.start(launch)
            killed = case.launch("sleep", "100", key="killed")
            started = await case.client.start(killed)
            os.kill(case.supervisor_pid(), signal.SIGKILL)
            os.kill(started.pid, signal.SIGKILL)
            for number in range(5):
                assert (await case.exit_of(f"k{number}")).code == number
            assert (await case.exit_of("killed")).code == 137

    asyncio.run(run())


def test_exits_are_told_again_until_they_are_forgotten(tmp_path: Path) -> None:
    async def run() -> None:
        async with supervised(tmp_path) as case:
            case.forget = False
            launch = case.launch("sh", "-c", "echo out; exit 7", key="a")
            await case.client.start(launch)
            first = await case.exit_of("a")
            assert (tmp_path / "run" / "exits" / "a").exists()
            await kill_supervisor(case)
            again = await case.connect()
            assert [survivor.exit for survivor in await again.survivors()] == [first]
            async with asyncio.timeout(20):
                while len(case.exits) < 3:
                    await asyncio.sleep(0.01)
            assert set(case.exits) == {first}
            await again.forget("a")
            assert await again.survivors() == []
            assert await wait_gone(tmp_path / "run" / "exits" / "a")
            await again.close()

    asyncio.run(run())


async def wait_gone(path: Path) -> bool:
    for _ in range(500):
        if not path.exists():
            return True
        await asyncio.sleep(0.01)
    return False


def test_streams_and_signals_work_after_a_kill(tmp_path: Path) -> None:
    async def run() -> None:
        async with supervised(tmp_path) as case:
            launch = case.launch("cat", key="a", open_stdin=True, stdin_once=True)
            await case.client.start(launch)
            near, far = pair()
            near.settimeout(20)
            await case.client.attach("a", Attachment(True, True, True), far)
            near.sendall(b"one")
            assert await asyncio.to_thread(near.recv, 100) == b"\x01\0\0\0\0\0\0\x03one"
            await kill_supervisor(case)
            assert await asyncio.to_thread(near.recv, 100) == b""
            near.close()
            near, far = pair()
            near.settimeout(20)
            await case.client.attach("a", Attachment(True, True, True), far)
            near.sendall(b"two")
            assert await asyncio.to_thread(near.recv, 100) == b"\x01\0\0\0\0\0\0\x03two"
            near.shutdown(1)
            assert (await case.exit_of("a")).code == 0
            assert await asyncio.to_thread(near.recv, 100) == b""
            near.close()
            assert data_of(case, "a") == b"onetwo"

    asyncio.run(run())


def test_an_exec_goes_on_after_a_kill(tmp_path: Path) -> None:
    async def run() -> None:
        async with supervised(tmp_path) as case:
            await case.client.start(case.launch("sleep", "100", key="a"))
            near, far = pair()
            script = "yes | head -c 1000000; read line; exit 4"
            launch = case.exec_launch("a", "sh", "-c", script, stdin=True)
            await case.client.execute(launch, far)
            os.kill(case.supervisor_pid(), signal.SIGKILL)
            while await asyncio.to_thread(near.recv, 65536):
                pass
            near.close()
            # Its output is dropped now, and its input still open: the keeper holds the pipe.
            survivors = {survivor.key: survivor for survivor in await case.client.survivors()}
            assert survivors[launch.exec_id].container_id == "a"
            await case.client.signal(launch.exec_id, signal.SIGTERM)
            assert (await case.exit_of(launch.exec_id)).code == 143

    asyncio.run(run())


@pytest.mark.parametrize(
    "point",
    [
        "supervisor.before-store",
        "supervisor.after-store",
        "supervisor.after-begin",
        "supervisor.after-exec",
        "supervisor.before-answer",
        "supervisor.before-report",
        "log.after-splice",
    ],
)
def test_a_start_survives_a_kill_at(
    point: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WHERRY_FAILPOINTS", f"{point}=kill")

    async def run() -> None:
        async with supervised(tmp_path) as case:
            first = case.supervisor_pid()
            await case.client.start(case.launch("sh", "-c", "echo hello; exit 3", key="a"))
            assert (await case.exit_of("a")).code == 3
            assert case.supervisor_pid() != first
            log = data_of(case, "a")
            # Killed between exec and the note of it, a process may run twice; nothing of it is lost.
            assert log in (b"hello\n", b"hello\nhello\n")
            if point in (
                "supervisor.before-answer",
                "supervisor.before-report",
                "log.after-splice",
            ):
                assert log == b"hello\n"
            # Every byte has its record again: this does not look beyond the records.
            with LogReader(case.logs("a"), raw=True).open() as tail:
                assert b"".join(tail.read()) == log

    asyncio.run(run())


def test_a_start_waits_until_what_a_dead_supervisor_had_begun_is_undone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It was refused with "is running, or its exit was not taken yet" until the keeper told of the end.
    monkeypatch.setenv("WHERRY_FAILPOINTS", "supervisor.after-store=kill")

    async def run() -> None:
        async with supervised(tmp_path) as case:
            (tmp_path / "run" / "slow").touch()
            await case.client.start(case.launch("sh", "-c", "exit 3", key="a"))
            assert (await case.exit_of("a")).code == 3

    asyncio.run(run())


def test_a_failed_start_leaves_nothing(tmp_path: Path) -> None:
    async def run() -> None:
        async with supervised(tmp_path) as case:
            with pytest.raises(StartFailed) as caught:
                await case.client.start(case.launch("/no/such/program", key="a"))
            assert caught.value.exit_code == 127
            with pytest.raises(StartFailed):
                await case.client.start(case.launch("no-slot", key="b"))
            assert await case.client.survivors() == []
            async with asyncio.timeout(30):  # the keeper may not have come to it yet
                while list((tmp_path / "run" / "exits").iterdir()):
                    await asyncio.sleep(0.01)
            assert len((tmp_path / "run" / "released").read_text().split()) == 1
            fds = len(os.listdir(f"/proc/{case.supervisor_pid()}/fd"))
            kept = len(os.listdir(f"/proc/{case.keeper_pid()}/fd"))
            for _ in range(5):
                with pytest.raises(StartFailed):
                    await case.client.start(case.launch("/no/such/program", key="a"))
            assert len(os.listdir(f"/proc/{case.supervisor_pid()}/fd")) == fds
            assert len(os.listdir(f"/proc/{case.keeper_pid()}/fd")) == kept

    asyncio.run(run())


def test_a_log_that_cannot_be_written_holds_nothing_up(tmp_path: Path) -> None:
    async def test() -> None:
        async with supervised(tmp_path) as case:
            launch = case.launch("sh", "-c", "head -c 1000000 /dev/zero; exit 7")
            (case.logs(launch.id) / "000001.idx").mkdir(parents=True)
            near, far = pair()
            wanted = Attachment(False, True, True, logs=True)
            await case.client.attach(launch.id, wanted, far)
            async with asyncio.timeout(SECONDS):
                await case.client.start(launch)
                loop = asyncio.get_running_loop()
                near.setblocking(False)
                seen = 0
                while data := await loop.sock_recv(near, 1 << 16):
                    seen += len(data)
            assert seen >= 1_000_000
            assert (await case.exit_of(launch.id)).code == 7
            near.close()

    asyncio.run(test())


def test_a_full_exec_root_ends_nobody(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(run)], check=True)

    async def test() -> None:
        async with supervised(tmp_path) as case:
            keeper = case.keeper_pid()
            try:
                with open(run / "supervisor.log", "ab", 0) as log:
                    log.write(
                        bytes(-log.tell() % 4096)
                    )  # what is there of a page is still written to
                with contextlib.suppress(OSError), open(run / "ballast", "ab", 0) as ballast:
                    while True:
                        ballast.write(bytes(4096))
                for code in range(5):
                    launch = case.launch("sh", "-c", f"exit {code}")
                    await case.client.start(launch)
                    assert (await case.exit_of(launch.id, SECONDS)).code == code
                assert case.keeper_pid() == keeper
                for fd in Path(f"/proc/{keeper}/fd").iterdir():
                    with contextlib.suppress(FileNotFoundError):  # closed meanwhile
                        assert "/exits/" not in os.readlink(fd)
            finally:
                (run / "ballast").unlink(missing_ok=True)

    try:
        asyncio.run(test())
    finally:
        subprocess.run(["umount", "-l", str(run)], check=True)
