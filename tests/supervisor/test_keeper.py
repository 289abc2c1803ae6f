"""The keeper and the connections to the supervisor: who starts what, who may say what, what is left."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import random
import signal
import socket
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.supervisor.plain import Case, program, supervised
from wherry.model.errors import Conflict, Invalid, NotFound, StartFailed, Unavailable
from wherry.supervisor import boot, protocol
from wherry.supervisor.client import SupervisorClient
from wherry.supervisor.messages import (
    Attachment,
    Fields,
    Launch,
    LogSettings,
    error_from_wire,
    error_to_wire,
)


def resident(pid: int) -> int:
    """Return resident kilobytes."""
    return int(Path(f"/proc/{pid}/status").read_text().split("VmRSS:")[1].split()[0])


def test_keeper_and_socket_appear_once_and_go_at_shutdown(tmp_path: Path) -> None:
    async def run() -> None:
        async with supervised(tmp_path) as case:
            keeper = case.keeper_pid()
            others = [await case.connect() for _ in range(3)]
            assert case.keeper_pid() == keeper
            path = case.exec_root / "supervisor.sock"
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            await case.client.start(case.launch("sleep", "100", key="a"))
            assert await others[0].shutdown() is False
            assert [s.key for s in await others[1].survivors()] == ["a"]
            for other in others:
                await other.close()
            # Its own session: no terminal of whoever started the engine reaches it.
            assert os.getsid(keeper) == keeper
            os.kill(keeper, signal.SIGTERM)
            os.kill(keeper, signal.SIGINT)
            await asyncio.sleep(0.05)
            assert [s.key for s in await case.client.survivors()] == ["a"]
        assert case.keeper_pid() == 0
        assert not path.exists()
        assert not (case.exec_root / "keeper.lock").exists()

    asyncio.run(run())


def test_many_may_start_the_keeper_at_once(tmp_path: Path) -> None:
    async def run() -> None:
        case = Case(tmp_path)
        clients = await asyncio.gather(*(case.connect() for _ in range(5)))
        for client in clients[1:]:
            assert await client.survivors() == []
            await client.close()
        assert await clients[0].shutdown()
        while case.keeper_pid() or case.supervisor_pid():
            await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(run(), 20))


def test_a_stale_lock_and_socket_are_in_nobodys_way(tmp_path: Path) -> None:
    async def run() -> None:
        root = tmp_path / "run"
        root.mkdir()
        (root / "keeper.lock").touch()
        dead = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with contextlib.chdir(root):
            dead.bind("supervisor.sock")
        dead.close()
        async with supervised(tmp_path) as case:
            assert await case.client.survivors() == []

    asyncio.run(run())


def test_a_long_path_is_fine(tmp_path: Path) -> None:
    async def run() -> None:
        async with supervised(tmp_path / ("long" * 50)) as case:
            assert await case.client.survivors() == []

    asyncio.run(run())


def test_memory(tmp_path: Path) -> None:
    async def run() -> None:
        async with supervised(tmp_path) as case:
            await case.client.start(case.launch("sleep", "100", key="a"))
            assert resident(case.keeper_pid()) < 10_000
            # Idle is idle, once the start is over.
            async with asyncio.timeout(20):
                before = -2
                while (
                    now := _ticks(case.keeper_pid()) + _ticks(case.supervisor_pid())
                ) > before + 1:
                    before = now
                    await asyncio.sleep(0.5)

    asyncio.run(run())


def _ticks(pid: int) -> int:
    return sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]))


def test_the_keepers_end_takes_everything_with_it(tmp_path: Path) -> None:
    async def run() -> None:
        case = Case(tmp_path)
        case.client = await case.connect()
        started = await case.client.start(case.launch("sleep", "100", key="a"))
        supervisor = case.supervisor_pid()
        os.kill(case.keeper_pid(), signal.SIGKILL)
        async with asyncio.timeout(30):
            while Path(f"/proc/{supervisor}/exe").exists() or _runs(started.pid):
                await asyncio.sleep(0.01)
            # The client starts a new pair by itself.
            assert await case.client.survivors() == []
            assert await case.client.shutdown()
            while case.keeper_pid() or case.supervisor_pid():
                await asyncio.sleep(0.01)

    asyncio.run(run())


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_the_program_can_be_replaced_in_place(tmp_path: Path) -> None:
    async def run() -> None:
        async with supervised(tmp_path) as case:
            await case.client.start(case.launch("sh", "-c", "sleep 0.3; exit 6", key="a"))
            before = case.supervisor_pid()
            await case.client.replace([*program(case.exec_root), "newer"])
            assert [s.key for s in await case.client.survivors()] == ["a"]
            after = case.supervisor_pid()
            assert after != before
            assert b"newer" in Path(f"/proc/{after}/cmdline").read_bytes()
            assert (await case.exit_of("a")).code == 6

    asyncio.run(run())


def test_cve_2019_5736_the_interpreter_is_behind_a_read_only_mount(tmp_path: Path) -> None:
    """Slots are forks of the supervisor: what a container reaches as /proc/self/exe is what this one is."""

    async def run() -> None:
        async with supervised(tmp_path) as case:
            await case.client.survivors()
            first = case.supervisor_pid()
            assert os.statvfs(f"/proc/{first}/exe").f_flag & os.ST_RDONLY
            os.kill(first, signal.SIGKILL)
            async with asyncio.timeout(30):
                while case.supervisor_pid() in (0, first):
                    await asyncio.sleep(0.01)
            await case.client.survivors()
            second = case.supervisor_pid()
            assert os.statvfs(f"/proc/{second}/exe").f_flag & os.ST_RDONLY

    asyncio.run(run())


def test_nobody_there_is_an_error_when_nothing_may_be_started(tmp_path: Path) -> None:
    async def run() -> None:
        async def on_exit(_: object) -> None:
            pass

        with pytest.raises(Unavailable):
            await SupervisorClient.connect(
                tmp_path / "none", data_root=tmp_path, on_exit=on_exit, spawn=False
            )

    asyncio.run(run())


GARBAGE = [
    b"",
    b"x",
    b"J",
    b"J{",
    b"J[]",
    b"J{}",
    b'J{"id":1}',
    b'J{"id":1,"do":"nothing"}',
    b'J{"id":1,"do":"start","launch":{}}',
    b'J{"id":1,"do":"start","launch":{"id":"../../x","plan":{}}}',
    b'J{"id":1,"do":"attach","key":"a","attachment":{},"initial":""}',
    b'J{"id":1,"do":"execute","launch":{"process":{"@":"Process","argv":5}}}',
    b'J{"id":true,"do":"survivors"}',
    b'J{"id":1,"do":"signal","key":"a","signal":"15"}',
    b'J{"id":1,"do":"signal","key":"a","signal":99999999999999999999}',
    b'J{"id":1,"do":"resize","key":"a","rows":-1,"columns":1}',
    b"M",
    b"J" + b"[" * 100_000,
    b"J\xff\xfe" * 10,
]


def test_garbage_ends_its_own_connection_only(tmp_path: Path) -> None:
    async def run() -> None:
        async with supervised(tmp_path) as case:
            await case.client.start(case.launch("sleep", "100", key="a", tty=True))
            pid = case.supervisor_pid()
            held = len(os.listdir(f"/proc/{pid}/fd"))
            chance = random.Random(5)
            messages = GARBAGE + [chance.randbytes(chance.randrange(300)) for _ in range(50)]
            for message in messages:
                with boot.connect(str(case.exec_root), 0) as channel, open("/dev/null") as null:
                    channel.settimeout(30)
                    socket.send_fds(channel, [message], [null.fileno()] * 3)
                    if message[:1] == b"J" and b'"a"' in message:
                        continue  # well-formed, and refused by name or harmless
                    try:
                        answer = await asyncio.to_thread(channel.recv, 1000)
                    except ConnectionResetError:
                        answer = b""
                    assert answer == b"", message
            with boot.connect(str(case.exec_root), 0) as channel:
                memory = os.memfd_create("sparse")
                os.truncate(memory, 1 << 40)
                socket.send_fds(channel, [b"M"], [memory])
                os.close(memory)
                assert await asyncio.to_thread(channel.recv, 1000) == b""
            assert [s.key for s in await case.client.survivors()] == ["a"]
            assert case.supervisor_pid() == pid
            assert len(os.listdir(f"/proc/{pid}/fd")) == held

    asyncio.run(run())


def test_a_message_beyond_the_socket_buffer_arrives(tmp_path: Path) -> None:
    async def run() -> None:
        async with supervised(tmp_path) as case:
            words = ["x" * 100_000] * 12
            launch = case.launch("sh", "-c", 'printf %s "$*" | wc -c', "sh", *words, key="a")
            await case.client.start(launch)
            assert (await case.exit_of("a")).code == 0
            log = b"".join(path.read_bytes() for path in case.logs("a").glob("*.out"))
            assert int(log) == 1_200_011

    asyncio.run(run())


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(st.dictionaries(st.text(), json_values))
def test_messages_come_back_as_they_were(message: dict[str, object]) -> None:
    assert protocol.decode(protocol.encode(message)) == message


@given(st.binary())
def test_only_objects_are_messages(data: bytes) -> None:
    try:
        message = protocol.decode(data)
    except Invalid:
        return
    assert isinstance(message, dict)


@given(json_values)
def test_requests_are_checked(value: object) -> None:
    for kind in (Launch, LogSettings, Attachment):
        with pytest.raises(Invalid):
            kind.from_wire(value)


@pytest.mark.parametrize("key", ["", "a b", "a/b", "..", "a\n", "x" * 200, "é/"])
def test_keys_are_words(key: str) -> None:
    with pytest.raises(Invalid):
        Fields({"key": key}).key("key")


@pytest.mark.parametrize(
    "error",
    [
        NotFound("process", "x", hint="h"),
        Conflict("busy"),
        StartFailed("no", exit_code=127, step="exec", errno=2, hint="h"),
    ],
)
def test_errors_travel_whole(error: Exception) -> None:
    back = error_from_wire(error_to_wire(error))  # type: ignore[arg-type]
    assert type(back) is type(error) and vars(back) == vars(error)


def test_descriptors_do_not_reach_the_processes(tmp_path: Path) -> None:
    async def run() -> None:
        async with supervised(tmp_path) as case:
            await case.client.start(case.launch("ls", "/proc/self/fd", key="a"))
            await case.exit_of("a")
            log = b"".join(path.read_bytes() for path in case.logs("a").glob("*.out"))
            assert log.split() == [b"0", b"1", b"2", b"3"]

    asyncio.run(run())


def test_pipes_are_large(tmp_path: Path) -> None:
    async def run() -> None:
        async with supervised(tmp_path) as case:
            script = f"import fcntl; print(fcntl.fcntl(1, {fcntl.F_GETPIPE_SZ}))"
            await case.client.start(case.launch("python3", "-c", script, key="a"))
            await case.exit_of("a")
            log = b"".join(path.read_bytes() for path in case.logs("a").glob("*.out"))
            assert int(log) == 256 << 10

    asyncio.run(run())


def test_the_kernel_spares_the_engine_first(tmp_path: Path) -> None:
    own = int(Path("/proc/self/oom_score_adj").read_text())
    status = Path("/proc/self/status").read_text()
    capabilities = int(status.split("CapEff:")[1].split()[0], 16)
    may_lower = bool(capabilities >> 24 & 1)  # CAP_SYS_RESOURCE

    async def run() -> None:
        async with supervised(tmp_path) as case:
            # The keeper is there when it listens, before it has started a supervisor.
            async with asyncio.timeout(20):
                while not (case.keeper_pid() and case.supervisor_pid()):
                    await asyncio.sleep(0.02)
            for pid in (case.keeper_pid(), case.supervisor_pid()):
                found = int(Path(f"/proc/{pid}/oom_score_adj").read_text())
                assert found == (-999 if may_lower else own)

    asyncio.run(run())
