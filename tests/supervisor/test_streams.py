"""Attach, exec, terminals, standard input and its ends, over a real supervisor."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import struct
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.supervisor.plain import Case, pair, supervised
from wherry.model.errors import Conflict, NotFound, StartFailed
from wherry.supervisor.client import Attachment, LogSettings

BOTH = Attachment(True, True, True)
OUTPUT = Attachment(False, True, True)


def with_case(tmp_path: Path, test: Callable[[Case], Awaitable[None]]) -> None:
    async def run() -> None:
        async with supervised(tmp_path) as case:
            await test(case)

    asyncio.run(run())


async def read_all(near: socket.socket) -> bytes:
    near.settimeout(30)

    def work() -> bytes:
        out = bytearray()
        while data := near.recv(1 << 20):
            out += data
        near.close()
        return bytes(out)

    return await asyncio.to_thread(work)


async def read_until(near: socket.socket, mark: bytes) -> bytes:
    near.settimeout(30)
    out = b""
    while mark not in out:
        data = await asyncio.to_thread(near.recv, 65536)
        assert data, f"ended before {mark!r}: {out!r}"
        out += data
    return out


def demultiplex(data: bytes) -> dict[int, bytes]:
    streams = {1: b"", 2: b""}
    while data:
        stream, length = struct.unpack(">BxxxI", data[:8])
        assert len(data) >= 8 + length
        streams[stream] += data[8 : 8 + length]
        data = data[8 + length :]
    return streams


def test_attached_before_the_start_sees_everything(tmp_path: Path) -> None:
    async def test(case: Case) -> None:
        near, far = pair()
        launch = case.launch("sh", "-c", "echo out; echo err >&2; exit 3")
        await case.client.attach(launch.id, OUTPUT, far)
        await case.client.start(launch)
        assert demultiplex(await read_all(near)) == {1: b"out\n", 2: b"err\n"}
        assert (await case.exit_of(launch.id)).code == 3

    with_case(tmp_path, test)


@pytest.mark.parametrize("driver", ["json-file", "none"])
def test_half_close_ends_the_pipeline_and_loses_nothing(tmp_path: Path, driver: str) -> None:
    async def test(case: Case) -> None:
        data = os.urandom(20 << 20)
        near, far = pair()
        log = LogSettings(driver, str(case.logs("a")) if driver != "none" else "", 1 << 20, 3)
        launch = case.launch("cat", open_stdin=True, stdin_once=True, log=log)
        await case.client.attach(launch.id, BOTH, far, initial=data[:1000])

        def feed() -> None:
            near.sendall(data[1000:])
            near.shutdown(socket.SHUT_WR)

        thread = threading.Thread(target=feed)
        thread.start()
        await case.client.start(launch)
        assert demultiplex(await read_all(near))[1] == data
        thread.join()
        assert (await case.exit_of(launch.id)).code == 0

    with_case(tmp_path, test)


def test_stdin_that_is_not_once_outlives_its_clients(tmp_path: Path) -> None:
    async def test(case: Case) -> None:
        launch = case.launch("cat", open_stdin=True)
        await case.client.start(launch)
        for word in (b"first", b"second"):
            near, far = pair()
            await case.client.attach(launch.id, BOTH, far)
            near.sendall(word)
            near.shutdown(socket.SHUT_WR)
            assert word in await read_until(near, word)
            near.close()
        await case.client.signal(launch.id, signal.SIGTERM)
        assert (await case.exit_of(launch.id)).code == 143

    with_case(tmp_path, test)


def test_without_open_stdin_input_is_empty(tmp_path: Path) -> None:
    async def test(case: Case) -> None:
        near, far = pair()
        launch = case.launch("cat")
        await case.client.attach(launch.id, BOTH, far)
        near.sendall(b"nobody reads this")
        await case.client.start(launch)
        assert await read_all(near) == b""

    with_case(tmp_path, test)


def test_a_terminal_has_a_size_and_changes_it(tmp_path: Path) -> None:
    async def test(case: Case) -> None:
        near, far = pair()
        launch = case.launch("sh", tty=True, open_stdin=True, rows=33, columns=99)
        await case.client.attach(launch.id, BOTH, far)
        await case.client.start(launch)
        near.sendall(b"stty -echo; stty size\n")
        await read_until(near, b"33 99\r\n")
        await case.client.resize(launch.id, 50, 120)
        near.sendall(b"stty size; exit 5\n")
        assert (await read_all(near)).endswith(b"50 120\r\n")
        assert (await case.exit_of(launch.id)).code == 5

    with_case(tmp_path, test)


def test_detach_keys_leave_the_process_running(tmp_path: Path) -> None:
    async def test(case: Case) -> None:
        launch = case.launch("cat", tty=True, open_stdin=True, stdin_once=True)
        await case.client.start(launch)
        near, far = pair()
        await case.client.attach(launch.id, BOTH, far)
        near.sendall(b"a\x10b\n")  # ctrl-p alone is passed on
        await read_until(near, b"a\x10b\r\n")
        near.sendall(b"c\x10")
        near.sendall(b"\x11dropped")
        await read_all(near)
        near, far = pair()
        await case.client.attach(launch.id, Attachment(True, True, True, detach_keys=b"x"), far)
        near.sendall(b"\x10\n")
        await read_until(near, b"\x10\r\n")
        near.sendall(b"x")
        await read_all(near)
        await case.client.signal(launch.id, signal.SIGKILL)
        assert (await case.exit_of(launch.id)).code == 137

    with_case(tmp_path, test)


def test_a_program_may_close_and_reopen_its_terminal(tmp_path: Path) -> None:
    async def test(case: Case) -> None:
        script = (
            "t=$(tty); echo one; exec <&- >&- 2>&-; sleep 0.1; exec <$t >$t 2>&1; echo two; exit 6"
        )
        near, far = pair()
        launch = case.launch("sh", "-c", script, tty=True)
        await case.client.attach(launch.id, OUTPUT, far)
        await case.client.start(launch)
        assert await read_all(near) == b"one\r\ntwo\r\n"
        assert (await case.exit_of(launch.id)).code == 6

    with_case(tmp_path, test)


def test_several_clients_see_the_same_and_replay_the_log(tmp_path: Path) -> None:
    async def test(case: Case) -> None:
        launch = case.launch("sh", "-c", "echo one; read x; echo two", open_stdin=True)
        first, far = pair()
        await case.client.attach(launch.id, BOTH, far)
        await case.client.start(launch)
        await read_until(first, b"one\n")
        late, far = pair()
        await case.client.attach(launch.id, OUTPUT, far)
        replay, far = pair()
        await case.client.attach(launch.id, Attachment(False, True, True, logs=True), far)
        past, far = pair()
        only_past = Attachment(False, True, True, logs=True, stream=False)
        await case.client.attach(launch.id, only_past, far)
        assert demultiplex(await read_all(past))[1] == b"one\n"
        first.sendall(b"\n")
        assert demultiplex(await read_all(late))[1] == b"two\n"
        assert demultiplex(await read_all(replay))[1] == b"one\ntwo\n"
        assert demultiplex(await read_all(first))[1] == b"two\n"

    with_case(tmp_path, test)


def test_one_stream_only_and_without_frames(tmp_path: Path) -> None:
    async def test(case: Case) -> None:
        launch = case.launch("sh", "-c", "echo out; echo err >&2")
        near, far = pair()
        await case.client.attach(launch.id, Attachment(False, False, True, multiplexed=False), far)
        await case.client.start(launch)
        assert await read_all(near) == b"err\n"

    with_case(tmp_path, test)


def test_a_slow_client_loses_nothing_and_holds_no_memory(tmp_path: Path) -> None:
    async def test(case: Case) -> None:
        total = 60_000_000
        log = LogSettings("json-file", str(case.logs("a")), 1 << 20, 4)
        launch = case.launch("sh", "-c", f"yes 0123456789 | head -c {total}", key="a", log=log)
        near, far = pair()
        await case.client.attach("a", Attachment(False, True, True, multiplexed=False), far)
        before = memory_of(case.supervisor_pid())
        await case.client.start(launch)
        await asyncio.sleep(0.3)
        assert case.exits == []  # it waits for the client: the log holds 4 MiB
        assert sum(path.stat().st_size for path in case.logs("a").iterdir()) < 6 << 20
        data = await read_all(near)
        assert data == (b"0123456789\n" * (total // 11 + 1))[:total]
        assert (await case.exit_of("a")).code == 0
        assert memory_of(case.supervisor_pid()) < before + 2000

    with_case(tmp_path, test)


def test_clients_that_never_read_hold_up_nobody_s_end(tmp_path: Path) -> None:
    async def test(case: Case) -> None:
        sockets: list[socket.socket] = []
        flood = "while :; do echo 0123456789012345678901234567890123456789; done"
        for key, tty in (("a", False), ("b", True)):
            log = LogSettings("local", str(case.logs(key)), 100_000, 2)
            launch = case.launch("sh", "-c", flood, key=key, log=log, tty=tty)
            near, far = pair()
            sockets.append(near)
            await case.client.attach(key, OUTPUT, far)
            await case.client.start(launch)
        near, far = pair()
        sockets.append(near)
        execution = case.exec_launch("a", "sh", "-c", flood)
        await case.client.execute(execution, far)
        await asyncio.sleep(0.5)
        await case.client.start(case.launch("true", key="other"))
        assert (await case.exit_of("other")).code == 0
        for key in ("a", "b", execution.exec_id):
            await case.client.signal(key, signal.SIGKILL)
            assert (await case.exit_of(key)).code == 137
        for near in sockets:
            near.close()

    with_case(tmp_path, test)


def memory_of(pid: int) -> int:
    """Return resident kilobytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0])


def test_a_client_that_leaves_hurts_nothing(tmp_path: Path) -> None:
    async def test(case: Case) -> None:
        launch = case.launch("sh", "-c", "sleep 0.2; yes | head -c 20000000; exit 2")
        waiting, far = pair()
        await case.client.attach("nothing-of-this-name", OUTPUT, far)
        near, far = pair()
        await case.client.attach(launch.id, OUTPUT, far)
        await case.client.start(launch)
        near.close()
        waiting.close()
        assert (await case.exit_of(launch.id)).code == 2
        assert sum(path.stat().st_size for path in case.logs(launch.id).glob("*.out")) == 20000000

    with_case(tmp_path, test)


def test_a_waiting_client_ends_when_its_container_is_forgotten(tmp_path: Path) -> None:
    async def test(case: Case) -> None:
        near, far = pair()
        await case.client.attach("a", OUTPUT, far)
        await case.client.forget("a")
        assert await read_all(near) == b""
        near, far = pair()
        await case.client.attach("b", OUTPUT, far)
        with pytest.raises(StartFailed):
            await case.client.start(case.launch("/no/such/program", key="b"))
        assert await read_all(near) == b""

    with_case(tmp_path, test)


def test_the_end_is_seen_after_the_exit_is_stored(tmp_path: Path) -> None:
    async def test(case: Case) -> None:
        case.forget = False
        await case.client.start(case.launch("sleep", "100", key="a"))
        near, far = pair()
        launch = case.exec_launch("a", "sh", "-c", "echo x; exit 9")
        await case.client.execute(launch, far)
        assert (await case.exit_of(launch.exec_id)).code == 9
        await read_until(near, b"x\n")
        near.settimeout(0.1)
        with pytest.raises(TimeoutError):
            await asyncio.to_thread(near.recv, 1)
        await case.client.forget(launch.exec_id)
        assert await read_all(near) == b""

    with_case(tmp_path, test)


def test_exec_streams(tmp_path: Path) -> None:
    async def test(case: Case) -> None:
        await case.client.start(case.launch("sleep", "100", key="a"))
        data = os.urandom(5 << 20)
        near, far = pair()
        launch = case.exec_launch("a", "sh", "-c", "cat; echo end >&2; exit 4", stdin=True)
        await case.client.execute(launch, far, initial=data[:10])

        def feed() -> None:
            near.sendall(data[10:])
            near.shutdown(socket.SHUT_WR)

        thread = threading.Thread(target=feed)
        thread.start()
        assert demultiplex(await read_all(near)) == {1: data, 2: b"end\n"}
        thread.join()
        assert (await case.exit_of(launch.exec_id)).code == 4

        near, far = pair()
        launch = case.exec_launch("a", "sh", tty=True, stdin=True, rows=11, columns=22)
        await case.client.execute(launch, far)
        near.sendall(b"stty -echo; stty size; exit 3\n")
        assert (await read_all(near)).endswith(b"11 22\r\n")
        assert (await case.exit_of(launch.exec_id)).code == 3

        launch = case.exec_launch("a", "sh", "-c", "yes | head -c 1000000; exit 8")
        await case.client.execute(launch)  # detached: output goes nowhere
        assert (await case.exit_of(launch.exec_id)).code == 8

    with_case(tmp_path, test)


def test_exec_goes_on_without_its_client(tmp_path: Path) -> None:
    async def test(case: Case) -> None:
        await case.client.start(case.launch("sleep", "100", key="a"))
        near, far = pair()
        launch = case.exec_launch("a", "sh", "-c", "yes | head -c 10000000; exit 8")
        await case.client.execute(launch, far)
        near.close()
        assert (await case.exit_of(launch.exec_id)).code == 8

    with_case(tmp_path, test)


def test_exec_to_a_slow_client_loses_nothing(tmp_path: Path) -> None:
    async def test(case: Case) -> None:
        await case.client.start(case.launch("sleep", "100", key="a"))
        near, far = pair()
        launch = case.exec_launch("a", "sh", "-c", "yes 01234567 | head -c 1500000")
        await case.client.execute(launch, far)
        assert (await case.exit_of(launch.exec_id)).code == 0  # reported while the client sleeps
        assert demultiplex(await read_all(near))[1] == (b"01234567\n" * 200000)[:1500000]

    with_case(tmp_path, test)


def test_a_grandchild_that_holds_the_pipe_delays_the_end_by_two_seconds(tmp_path: Path) -> None:
    async def test(case: Case) -> None:
        await case.client.start(case.launch("sleep", "100", key="a"))
        near, far = pair()
        launch = case.exec_launch("a", "sh", "-c", "sleep 60 & echo $!")
        began = time.monotonic()
        await case.client.execute(launch, far)
        out = demultiplex(await read_all(near))[1]
        assert 1.5 < time.monotonic() - began < 30
        os.kill(int(out), signal.SIGKILL)

    with_case(tmp_path, test)


def test_errors_leave_the_connection_alone(tmp_path: Path) -> None:
    async def test(case: Case) -> None:
        await case.client.start(case.launch("sleep", "100", key="a"))
        with pytest.raises(Conflict):
            await case.client.start(case.launch("sleep", "100", key="a"))
        with pytest.raises(Conflict):
            await case.client.forget("a")
        with pytest.raises(NotFound):
            await case.client.signal("b", signal.SIGTERM)
        with pytest.raises(NotFound):
            await case.client.resize("b", 1, 1)
        near, far = pair()
        ours = os.dup(far)
        with pytest.raises(StartFailed):
            await case.client.execute(case.exec_launch("a", "/no/such"), far)
        os.write(ours, b"why")
        assert await read_until(near, b"why") == b"why"
        os.close(ours)
        near.close()
        near, far = pair()
        with pytest.raises(Conflict):
            await case.client.execute(case.exec_launch("none", "true"), far)
        near.close()

    with_case(tmp_path, test)
