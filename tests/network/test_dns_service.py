"""The name service's process with real sockets in namespaces of the test; no container is needed."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from tests.network.names import Answer, Box, FakeUpstream, House, failing, host, house
from tests.network.questions import question, take_apart
from tests.network.spaces import Space
from wherry.model.errors import Unavailable
from wherry.network.dns import client, message
from wherry.network.dns import process as service_process
from wherry.network.dns.channel import connect
from wherry.network.dns.client import NameService
from wherry.network.dns.facts import Side, Upstream
from wherry.network.dns.message import Query, record, respond

__all__ = ["host", "house"]


def says(*records: bytes, truncate: bool = False) -> Answer:
    """Return an upstream's behaviour: these records, or over UDP only that there are some."""

    def answer(query: Query, tcp: bool) -> bytes:
        room = message.LARGEST_TCP
        if truncate and not tcp:
            room = 0
        return respond(query, list(records), room=room)

    return answer


@asynccontextmanager
async def upstream(space: Space, address: str, answer: Answer) -> AsyncIterator[FakeUpstream]:
    """A resolver in `space`."""
    fake = FakeUpstream(space, address, answer)
    try:
        yield fake
    finally:
        await fake.close()


def test_names_are_answered_over_udp_and_tcp(house: House) -> None:
    async def test() -> None:
        web, db = house.box("web"), house.box("db")
        async with house.names() as names:
            await names.open([], [])
            for box, last in ((web, 1), (db, 2)):
                names.serve(box.view(), box.sockets())
                names.put(box.member("both", address=f"10.0.0.{last}"))
            await names.settled()
            for tcp in (False, True):
                assert (await web.ask("db", tcp=tcp)).answers == ["10.0.0.2"]
                assert (await db.ask("WEB.net", tcp=tcp)).answers == ["10.0.0.1"]
                assert len((await db.ask("both", tcp=tcp)).answers) == 2
                assert (await db.ask("1.0.0.10.in-addr.arpa", "PTR", tcp=tcp)).answers == [
                    "web.net"
                ]
                assert (await db.ask("web", "AAAA", tcp=tcp)).code == 0
                # Nobody to forward to: Docker says SERVFAIL.
                assert (await db.ask("elsewhere.example", tcp=tcp)).code == message.SERVFAIL
            names.drop("n1", "db")
            names.put(web.member("renamed"))
            await names.settled()
            assert (await web.ask("db")).code == message.SERVFAIL
            assert (await web.ask("renamed")).answers == ["10.0.0.1"]

    asyncio.run(test())


def test_one_connection_carries_many_questions_and_a_half_closed_one_its_answers(
    house: House,
) -> None:
    async def test() -> None:
        web = house.box()
        async with house.names() as names:
            names.serve(web.view(), web.sockets())
            names.put(web.member())
            await names.settled()
            loop = asyncio.get_running_loop()
            with web.space.open(socket.SOCK_STREAM) as opened:
                await loop.sock_connect(opened, ("127.0.0.11", web.port))
                asked = [question("web", number=n) for n in range(50)]
                stream = b"".join(struct.pack("!H", len(data)) + data for data in asked)
                await loop.sock_sendall(opened, stream[:37])
                await loop.sock_sendall(opened, stream[37:])
                opened.shutdown(socket.SHUT_WR)
                received = b""
                while piece := await loop.sock_recv(opened, 65535):
                    received += piece
            numbers: list[int] = []
            while received:
                size = struct.unpack("!H", received[:2])[0]
                assert take_apart(received[2 : 2 + size]).answers == ["10.0.0.1"]
                numbers.append(struct.unpack("!H", received[2:4])[0])
                received = received[2 + size :]
            assert numbers == list(range(50))

    asyncio.run(test())


def test_a_half_closed_connection_waits_for_what_is_forwarded(house: House, host: Space) -> None:
    async def test() -> None:
        web = house.box()
        given = says(record(message.A, 77, bytes([192, 0, 2, 1])))
        async with house.names() as names, upstream(host, "127.0.0.53", given):
            names.serve(web.view(Upstream("127.0.0.53", Side.HOST)), web.sockets())
            await names.settled()
            loop = asyncio.get_running_loop()
            with web.space.open(socket.SOCK_STREAM) as opened:
                await loop.sock_connect(opened, ("127.0.0.11", web.port))
                data = question("far.example")
                await loop.sock_sendall(opened, struct.pack("!H", len(data)) + data)
                opened.shutdown(socket.SHUT_WR)
                received = b""
                async with asyncio.timeout(20):
                    while piece := await loop.sock_recv(opened, 65535):
                        received += piece
            assert take_apart(received[2:]).answers == ["192.0.2.1"]

    asyncio.run(test())


@pytest.mark.parametrize("tcp", [False, True])
@pytest.mark.parametrize("side", list(Side))
def test_the_rest_is_forwarded_from_the_right_side(
    house: House, host: Space, side: Side, tcp: bool
) -> None:
    """A loopback resolver is reached only from the namespace that it is in."""

    async def test() -> None:
        web = house.box()
        where = host if side is Side.HOST else web.space
        given = says(record(message.A, 77, bytes([192, 0, 2, 1])))
        async with house.names() as names, upstream(where, "127.0.0.53", given) as fake:
            names.serve(web.view(Upstream("127.0.0.53", side)), web.sockets())
            names.put(web.member())
            await names.settled()
            seen = await web.ask("Some.Example", tcp=tcp)
            assert (seen.answers, seen.ttls, seen.question) == (["192.0.2.1"], [77], "Some.Example")
            assert fake.seen == [("some.example", tcp)]
            assert (await web.ask("web", tcp=tcp)).answers == ["10.0.0.1"]
            assert (await web.ask("web", "TXT", tcp=tcp)).code == 0
            assert fake.seen[1:] == [("web", tcp)]

    asyncio.run(test())


def test_an_ipv6_resolver_is_asked(house: House, host: Space) -> None:
    async def test() -> None:
        web = house.box()
        given = says(record(message.AAAA, 5, bytes(15) + b"\x09"))
        async with house.names() as names, upstream(host, "::1", given):
            names.serve(web.view(Upstream("::1", Side.HOST)), web.sockets())
            await names.settled()
            assert (await web.ask("six.example", "AAAA")).answers == ["::9"]

    asyncio.run(test())


def test_internal_networks_let_no_question_out(house: House, host: Space) -> None:
    """CVE-2024-29018: a name can carry data to whoever answers for it."""

    async def test() -> None:
        web = house.box()
        async with house.names() as names, upstream(host, "127.0.0.53", says()) as fake:
            loopback = Upstream("127.0.0.53", Side.HOST)
            names.serve(web.view(loopback, internal=True), web.sockets())
            await names.settled()
            assert (await web.ask("secret.example")).code == message.SERVFAIL
            assert fake.seen == []
            names.update(web.view(loopback))
            await names.settled()
            assert (await web.ask("secret.example")).code == 0

    asyncio.run(test())


def test_truncation_is_passed_on_and_tcp_brings_all(house: House, host: Space) -> None:
    async def test() -> None:
        web = house.box()
        many = [record(message.A, 1, bytes([10, 1, n >> 8, n & 255])) for n in range(2000)]
        async with (
            house.names() as names,
            upstream(host, "127.0.0.53", says(*many, truncate=True)) as fake,
        ):
            names.serve(web.view(Upstream("127.0.0.53", Side.HOST)), web.sockets())
            await names.settled()
            small = await web.ask("big.example")
            assert "tc" in small.flags and small.answers == []
            assert len((await web.ask("big.example", tcp=True)).answers) == 2000
            assert fake.seen == [("big.example", False), ("big.example", True)]

    asyncio.run(test())


@pytest.mark.parametrize("code", [message.SERVFAIL, message.REFUSED])
def test_the_next_resolver_is_asked_when_one_fails(house: House, host: Space, code: int) -> None:
    async def test() -> None:
        web = house.box()
        servers = [Upstream(f"127.0.0.{n}", Side.HOST) for n in (51, 52, 53)]
        async with (
            house.names() as names,
            upstream(host, "127.0.0.52", failing(code)),
            upstream(host, "127.0.0.53", failing(message.NXDOMAIN)) as last,
        ):
            # The first is nobody's address (refused by the kernel), the second fails.
            names.serve(web.view(*servers), web.sockets())
            await names.settled()
            for tcp in (False, True):
                seen = await web.ask("gone.example", tcp=tcp, seconds=1.5)
                assert seen.code == message.NXDOMAIN
            assert len(last.seen) == 2

    asyncio.run(test())


def test_what_ended_is_not_served_again_by_an_update(house: House) -> None:
    # A network that was connected while its container ended left a view for which a process was started
    # every half a minute.
    async def test() -> None:
        async with house.names() as names:
            box = house.box("a")
            names.serve(box.view(), box.sockets())
            await names.settled()
            names.forget("a")
            names.update(box.view())
            os.kill(await names.pid(), signal.SIGKILL)
            with suppress(Unavailable):
                while await names.pid():
                    await asyncio.sleep(0.01)
            await names.settled()
            assert await names.pid() == 0
            # A process again, which leaves as it should.
            other = house.box("b")
            names.serve(other.view(), other.sockets())
            await names.settled()
            assert await names.pid()

    asyncio.run(test())


def test_what_ended_is_found_by_nobody_though_told_of_late(house: House) -> None:
    async def test() -> None:
        async with house.names() as names:
            web, db = house.box("web"), house.box("db")
            for box in (web, db):
                names.serve(box.view(), box.sockets())
            names.put(db.member())
            names.forget("db")
            names.put(db.member())
            assert (await web.ask("db")).code == message.SERVFAIL
            db.close()
            # A network that is connected while the container ends is told of afterwards, with sockets.
            process = subprocess.Popen(["true"])
            wait_ended(process.pid)
            for reaped in (False, True):
                if reaped:
                    process.wait()
                db = house.box("db")
                names.serve(db.view(), db.sockets())
                names.watch("db", process.pid)
                names.put(db.member())
                assert (await web.ask("db")).code == message.SERVFAIL
                db.close()
            names.forget("web")
            os.kill(await names.pid(), signal.SIGKILL)
            with suppress(Unavailable):
                while await names.pid():
                    await asyncio.sleep(0.01)
            await names.settled()
            assert await names.pid() == 0, "nothing is wanted"
            # A process again, which leaves as it should.
            other = house.box("other")
            names.serve(other.view(), other.sockets())
            await names.settled()

    asyncio.run(test())


def wait_ended(pid: int) -> None:
    """Return when a child has ended, and leave it to be reaped."""
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


def test_a_process_that_nothing_is_wanted_of_is_left_and_ends(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "IDLE", 0.2)

    async def test() -> None:
        web = house.box("web")
        async with house.names() as names:
            await names.open([], [])
            names.serve(web.view(), web.sockets())
            await names.settled()
            # While something is wanted it stays.
            before = os.pidfd_open(await names.pid())
            await asyncio.sleep(0.5)
            assert (await web.ask("web")).code == message.SERVFAIL
            # Wanted again within the time: the same process.
            names.forget("web")
            await names.settled()
            names.serve(web.view(), web.sockets())
            names.put(web.member())
            await asyncio.sleep(0.5)
            assert (await web.ask("web")).answers == ["10.0.0.1"]
            names.forget("web")
            await readable(before)
            # On a busy machine that was too late for the first, and there is a second.
            async with asyncio.timeout(20):
                while await names.pid():
                    await asyncio.sleep(0.01)
            assert not (house.folder / "names.sock").exists()
            os.close(before)
            # And another one when something is wanted again.
            names.serve(web.view(), web.sockets())
            names.put(web.member())
            assert (await web.ask("web")).answers == ["10.0.0.1"]

    asyncio.run(test())


async def readable(fd: int) -> None:
    """Return when a descriptor can be read, a pidfd when its process has ended."""
    loop, event = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(fd, event.set)
    try:
        async with asyncio.timeout(20):
            await event.wait()
    finally:
        loop.remove_reader(fd)


def test_no_query_is_lost_where_leaving_and_coming_meet(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the order of what is wanted, left, and killed: who is served is answered at the first query."""
    monkeypatch.setattr(client, "IDLE", 0.0)
    monkeypatch.setattr(
        service_process,
        "_MAIN",
        service_process._MAIN.replace(
            "from wherry.network.dns.process",
            "import wherry.network.dns.service as s; s.IDLE = 0.3; from wherry.network.dns.process",
        ),
    )
    chance = random.Random(8)

    async def test() -> None:
        async with house.names() as names:
            await names.open([], [])
            for _ in range(8):
                web = house.box("web")
                names.serve(web.view(), web.sockets())
                names.put(web.member())
                # Asked at once: the query waits in the socket, whoever comes to answer it.
                assert (await web.ask("web", seconds=10)).answers == ["10.0.0.1"]
                if chance.random() < 0.2:
                    os.kill(await names.pid(), signal.SIGKILL)
                    assert (await web.ask_until("web")).answers == ["10.0.0.1"]
                names.forget("web")
                house.boxes.pop("web").close()
                # In the middle of the leaving, or of the end, or after it.
                await asyncio.sleep(0.25 + chance.random() * 0.15)

    asyncio.run(test())


def test_a_silent_resolver_delays_only_its_own_question(house: House, host: Space) -> None:
    async def test() -> None:
        web = house.box()
        silent = [Upstream("127.0.0.51", Side.HOST)]
        given = says(record(message.A, 1, bytes([192, 0, 2, 9])))
        async with (
            house.names() as names,
            upstream(host, "127.0.0.51", lambda query, tcp: None) as fake,
            upstream(host, "127.0.0.52", given),
        ):
            names.serve(web.view(*silent), web.sockets())
            names.put(web.member())
            await names.settled()
            begun = time.monotonic()
            hanging = asyncio.create_task(web.ask("slow.example", seconds=20))
            # Which servers are asked is settled when the question arrives: before the view changes.
            async with asyncio.timeout(30):
                while not fake.seen:
                    await asyncio.sleep(0.01)
            for _ in range(20):
                before = time.monotonic()
                assert (await web.ask("web")).answers == ["10.0.0.1"]
                assert time.monotonic() - before < 3
            assert not hanging.done()
            names.update(web.view(*silent, Upstream("127.0.0.52", Side.HOST)))
            await names.settled()
            assert (await web.ask("other.example", seconds=4.5)).answers == ["192.0.2.9"]
            # One resolver alone is asked twice: datagrams get lost.
            assert (await hanging).code == message.SERVFAIL
            assert 5 < time.monotonic() - begun < 20
            assert fake.seen.count(("slow.example", False)) == 2

    asyncio.run(test())


def test_forged_answers_are_not_taken(house: House, host: Space) -> None:
    """An answer counts when it comes from the server asked, under the id and with the question asked."""

    def forge(query: Query, tcp: bool) -> bytes:
        evil = [record(message.A, 1, bytes([6, 6, 6, 6]))]
        right = respond(query, evil, room=512)
        if query.name == "id.example":
            return message.with_id(right, query.id ^ 1)
        return right.replace(b"name", b"nome")

    async def test() -> None:
        web = house.box()
        good = says(record(message.A, 1, bytes([192, 0, 2, 9])))
        servers = [Upstream(f"127.0.0.{n}", Side.HOST) for n in (51, 52)]
        async with (
            house.names() as names,
            upstream(host, "127.0.0.51", forge) as forger,
            upstream(host, "127.0.0.52", good),
        ):
            names.serve(web.view(*servers), web.sockets())
            await names.settled()
            seen = await asyncio.gather(web.ask("id.example"), web.ask("name.example"))
            assert [one.answers for one in seen] == [["192.0.2.9"]] * 2
            assert len(forger.seen) == 2

    asyncio.run(test())


def test_questions_under_way_are_counted(house: House, host: Space) -> None:
    async def test() -> None:
        web, db = house.box("web"), house.box("db")
        async with (
            house.names() as names,
            upstream(host, "127.0.0.51", lambda query, tcp: None),
        ):
            for box in (web, db):
                names.serve(box.view(Upstream("127.0.0.51", Side.HOST)), box.sockets())
                names.put(box.member())
            await names.settled()
            loop = asyncio.get_running_loop()
            with web.space.open(socket.SOCK_DGRAM) as opened:
                await loop.sock_connect(opened, ("127.0.0.11", web.port))
                refused = 0
                for number in range(1200):
                    await loop.sock_sendall(opened, question("x.example", number=number))
                    if number % 50 == 49:
                        # The neighbour does not notice, and the socket's queue is emptied meanwhile.
                        assert (await db.ask("db")).answers == ["10.0.0.1"]
                        assert (await web.ask("web")).answers == ["10.0.0.1"]
                async with asyncio.timeout(20):
                    while refused < 100:
                        seen = take_apart(await loop.sock_recv(opened, 4096))
                        refused += seen.code == message.REFUSED

    asyncio.run(test())


def test_random_bytes_change_nothing(house: House) -> None:
    dice = random.Random(11)

    async def test() -> None:
        web = house.box()
        async with house.names() as names:
            names.serve(web.view(), web.sockets())
            names.put(web.member())
            await names.settled()
            loop = asyncio.get_running_loop()
            pid = await names.pid()
            with web.space.open(socket.SOCK_DGRAM) as opened:
                await loop.sock_connect(opened, ("127.0.0.11", web.port))
                for number in range(3000):
                    data = dice.randbytes(dice.choice([0, 1, 11, 12, 30, 600, 3000]))
                    if number % 3 == 0:
                        data = question("web")[: dice.randint(0, 30)] + data
                    await loop.sock_sendall(opened, data)
                    if number % 100 == 0:
                        assert (await web.ask("web")).answers == ["10.0.0.1"]
            for _ in range(100):
                with web.space.open(socket.SOCK_STREAM) as opened:
                    await loop.sock_connect(opened, ("127.0.0.11", web.port))
                    try:
                        await loop.sock_sendall(opened, dice.randbytes(dice.randint(0, 2000)))
                    except ConnectionError:
                        continue
            assert (await web.ask("web", tcp=True)).answers == ["10.0.0.1"]
            assert await names.pid() == pid
            assert resident(pid) < 20 << 20

    asyncio.run(test())


def test_connections_are_counted_and_the_oldest_goes(house: House) -> None:
    async def test() -> None:
        web = house.box()
        async with house.names() as names:
            names.serve(web.view(), web.sockets())
            names.put(web.member())
            await names.settled()
            loop = asyncio.get_running_loop()
            held = [web.space.open(socket.SOCK_STREAM) for _ in range(80)]
            try:
                for opened in held:
                    await loop.sock_connect(opened, ("127.0.0.11", web.port))
                assert (await web.ask("web", tcp=True)).answers == ["10.0.0.1"]
                async with asyncio.timeout(20):
                    assert await loop.sock_recv(held[0], 1) == b""
            finally:
                for opened in held:
                    opened.close()

    asyncio.run(test())


def test_a_killed_process_is_started_again(house: House) -> None:
    async def test() -> None:
        web, db = house.box("web"), house.box("db")
        async with house.names() as names:
            for box in (web, db):
                names.serve(box.view(), box.sockets())
                names.put(box.member())
            await names.settled()
            for _ in range(3):
                pid = await names.pid()
                os.kill(pid, signal.SIGKILL)
                for box in (web, db):
                    assert (await box.ask_until("web")).answers == ["10.0.0.1"]
                await names.settled()
                assert await names.pid() != pid
            assert web.opened == db.opened == 4

    asyncio.run(test())


def test_a_container_that_is_gone_is_not_served_again(house: House) -> None:
    async def test() -> None:
        web, db = house.box("web"), house.box("db")
        async with house.names() as names:
            for box in (web, db):
                names.serve(box.view(), box.sockets())
            await names.settled()
            house.boxes.pop("db").close()
            os.kill(await names.pid(), signal.SIGKILL)
            assert (await web.ask_until("web")).code == message.SERVFAIL
            names.forget("db")
            await names.settled()

    asyncio.run(test())


_WHERRYD = """
import asyncio, sys
from pathlib import Path
from wherry.network.dns.client import NameService
from wherry.network.dns.facts import Member, View

async def main():
    async def none(name): raise AssertionError
    names = NameService(Path(sys.argv[1]), sockets=none)
    await names.open([], [Member("n1", "old", "old", ("old",), ("10.0.0.2",))])
    names.serve(View("web", (("n1", "net"),)), [int(word) for word in sys.argv[2:]])
    names.put(Member("n1", "web", "web", ("web",), ("10.0.0.1",)))
    await names.settled()
    print(await names.pid(), flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


def start_wherryd(house: House, box: Box) -> tuple[subprocess.Popen[bytes], int]:
    """Return a process with a client that serves `box`, to be killed, and the service's pid."""
    descriptors = box.sockets()
    wherryd = subprocess.Popen(
        [sys.executable, "-c", _WHERRYD, str(house.folder), *map(str, descriptors)],
        stdout=subprocess.PIPE,
        pass_fds=descriptors,
    )
    for fd in descriptors:
        os.close(fd)
    assert wherryd.stdout
    return wherryd, int(wherryd.stdout.readline())


def end(process: subprocess.Popen[bytes]) -> None:
    """Kill a process and wait for its end."""
    process.kill()
    process.wait()
    assert process.stdout
    process.stdout.close()


def test_answers_go_on_without_wherryd_and_the_next_one_takes_over(house: House) -> None:
    web = house.box("web")
    wherryd, pid = start_wherryd(house, web)
    end(wherryd)

    async def test() -> None:
        assert (await web.ask("web")).answers == ["10.0.0.1"]
        assert (await web.ask("old")).answers == ["10.0.0.2"]
        async with house.names() as names:
            changed = web.member("newer", address="10.0.0.7")
            stop = asyncio.Event()

            async def keep_asking() -> int:
                count = 0
                while not stop.is_set():
                    assert (await web.ask("web")).code == 0
                    count += 1
                return count

            asking = asyncio.create_task(keep_asking())
            await names.open([web.view()], [changed])
            await names.settled()
            stop.set()
            assert await asking > 0
            assert await names.pid() == pid
            assert web.opened == 1, "the living process needs no new sockets"
            assert (await web.ask("newer")).answers == ["10.0.0.7"]
            assert (await web.ask("old")).code == message.SERVFAIL
            names.forget("web")

    asyncio.run(test())


def test_what_the_next_wherryd_does_not_want_ends(house: House) -> None:
    web = house.box("web")
    wherryd, _ = start_wherryd(house, web)
    end(wherryd)

    async def test() -> None:
        async with house.names() as names:
            await names.open([], [])
            with pytest.raises((OSError, AssertionError)):
                await until_refused(web)

    asyncio.run(test())


async def until_refused(box: Box) -> None:
    """Ask over TCP until nobody listens; raises that, and AssertionError when it goes on for 30 s."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        await box.ask("web", tcp=True)
    pytest.fail("it is served still")


def test_a_new_wherryd_serves_what_was_lost_with_the_process(house: House) -> None:
    web = house.box("web")
    wherryd, pid = start_wherryd(house, web)
    end(wherryd)
    os.kill(pid, signal.SIGKILL)

    async def test() -> None:
        async with house.names() as names:
            await names.open([web.view()], [web.member()])
            assert (await web.ask_until("web")).answers == ["10.0.0.1"]
            assert web.opened == 2

    asyncio.run(test())


def test_an_ended_container_lets_its_namespace_go_without_wherryd(house: House) -> None:
    web = house.box("web")
    with subprocess.Popen(["sleep", "600"]) as sleeper:
        web.pidfd = os.pidfd_open(sleeper.pid)
        try:
            wherryd, pid = start_wherryd(house, web)
            end(wherryd)
            assert holds(pid, "socket:") > 0
            asyncio.run(web.ask("web"))
        finally:
            sleeper.kill()
            os.close(web.pidfd)
    # The house sees that the process ends too: nothing is served any more.
    with pytest.raises((OSError, AssertionError)):
        asyncio.run(until_refused(web))


def test_another_version_is_replaced(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    web = house.box("web")
    wherryd, pid = start_wherryd(house, web)
    end(wherryd)
    monkeypatch.setattr(client, "__version__", "0.0.0-older")

    async def test() -> None:
        refused = NameService(house.folder, sockets=house.open_sockets)
        await refused.open([], [])
        await refused.close()

    asyncio.run(test())
    deadline = time.monotonic() + 30
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not Path(f"/proc/{pid}/exe").exists()


def test_nonsense_from_wherryd_ends_the_connection_only(house: House) -> None:
    web = house.box("web")

    async def test() -> None:
        async with house.names() as names:
            names.serve(web.view(), web.sockets())
            names.put(web.member())
            await names.settled()
            for nonsense in (b"{", b"[]", b"1", b"\xff", b'{"id":"x"}', b"[" * 100_000):
                channel = connect(str(house.folder))
                opened = socket.socket(fileno=os.dup(channel.fileno()))
                channel.close()
                with opened:
                    opened.setblocking(True)
                    opened.settimeout(20)
                    opened.send(nonsense)
                    assert opened.recv(100) == b""
            channel = connect(str(house.folder))
            with socket.socket(fileno=os.dup(channel.fileno())) as opened:
                opened.setblocking(True)
                opened.settimeout(20)
                for request in (
                    {"do": "fly"},
                    {"do": "serve", "view": {}},
                    {"do": "serve", "view": web.view().to_wire()},
                    {"do": "put", "member": 3},
                    {"do": "relay", "key": "k", "container": "c", "address": "::1", "port": 1},
                ):
                    opened.send(json.dumps({"id": 1} | request).encode())
                    assert "error" in json.loads(opened.recv(4096)), request
            channel.close()
            assert (await web.ask("web")).answers == ["10.0.0.1"]

    asyncio.run(test())


def test_hundreds_of_containers_in_small_memory(house: House) -> None:
    async def test() -> None:
        boxes = [house.box(f"box{n}") for n in range(200)]
        async with house.names() as names:
            for box in boxes:
                names.serve(box.view(), box.sockets())
                names.put(box.member("all", address=f"10.0.{len(box.name)}.{int(box.name[3:])}"))
            await names.settled()
            assert len((await boxes[7].ask("all", tcp=True)).answers) == 200
            assert (await boxes[199].ask("box8")).answers == ["10.0.4.8"]
            assert resident(await names.pid()) < 20 << 20
            assert Path(f"/proc/{await names.pid()}/comm").read_text() == "wherry-names\n"
            for box in boxes:
                names.forget(box.name)
            await names.settled()
            assert holds(await names.pid(), "socket:") < 10

    asyncio.run(test())


def test_a_process_with_nothing_to_serve_ends_with_its_wherryd(house: House) -> None:
    async def test() -> None:
        web = house.box("web")
        async with house.names() as names:
            await names.open([], [])
            assert await names.pid() == 0, "none is started before there is something to serve"
            names.serve(web.view(), web.sockets())
            await names.settled()
            names.forget("web")
            await names.settled()
            again = house.box("again")
            names.serve(again.view(), again.sockets())
            names.put(again.member())
            assert (await again.ask_until("again")).code == 0
            names.forget("again")

    asyncio.run(test())
    deadline = time.monotonic() + 30
    while (house.folder / "names.lock").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not (house.folder / "names.lock").exists()


def resident(pid: int) -> int:
    """Return the bytes of memory that a process has."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def holds(pid: int, kind: str) -> int:
    """Return how many descriptors of a kind a process has."""
    folder = f"/proc/{pid}/fd"
    return sum(os.readlink(f"{folder}/{name}").startswith(kind) for name in os.listdir(folder))
