"""Ports published on [::1]: real connections and datagrams through the process."""

from __future__ import annotations

import asyncio
import os
import random
import socket
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from tests.network.names import House, host, house
from tests.network.spaces import Space
from wherry.daemon.relays import Relays
from wherry.model.errors import Conflict
from wherry.model.networks import PublishedPort
from wherry.network.dns.client import NameService
from wherry.network.ports import Ports

__all__ = ["host", "house"]


def bound(kind: int, address: str = "::1") -> tuple[socket.socket, int]:
    """Return a socket of the present namespace that listens or is bound, and its port."""
    opened = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind)
    opened.bind((address, 0))
    if kind == socket.SOCK_STREAM:
        opened.listen(64)
    return opened, opened.getsockname()[1]


@asynccontextmanager
async def digesting(address: str) -> AsyncIterator[int]:
    """A server that reads to the end and then sends back all it got, reversed; yields its port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        data = await reader.read()
        writer.write(data[::-1])
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, address, 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def send_all(port: int, data: bytes) -> bytes:
    """Send to [::1], shut that half, and return all that comes back."""
    reader, writer = await asyncio.open_connection("::1", port)
    writer.write(data)
    await writer.drain()
    with suppress(OSError):  # a reset may have come already: reading tells of it
        writer.write_eof()
    received = await reader.read()
    writer.close()
    return received


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_connections_are_carried_whole_both_ways(house: House, address: str) -> None:
    async def test() -> None:
        async with house.names() as names, digesting(address) as target:
            listener, port = bound(socket.SOCK_STREAM)
            names.relay("k", "web", listener, (address, target))
            await names.settled()
            sizes = [0, 1, 100_000, 20_000_000]
            data = [random.Random(size).randbytes(size) for size in sizes]
            back = await asyncio.gather(*(send_all(port, one) for one in data))
            assert back == [one[::-1] for one in data]
            # 40 at once, and none is left open.
            assert await asyncio.gather(*(send_all(port, b"ab") for _ in range(40))) == [b"ba"] * 40
            pid = await names.pid()
            async with asyncio.timeout(20):
                while sum(1 for _ in os.scandir(f"/proc/{pid}/fd")) > 20:
                    await asyncio.sleep(0.01)
            names.unrelay("k")
            await names.settled()
            with pytest.raises(ConnectionRefusedError):
                await send_all(port, b"")

    asyncio.run(test())


def test_nobody_behind_the_port_means_a_reset(house: House) -> None:
    async def test() -> None:
        async with house.names() as names:
            gone, target = bound(socket.SOCK_STREAM, "127.0.0.1")
            gone.close()
            listener, port = bound(socket.SOCK_STREAM)
            names.relay("k", "web", listener, ("127.0.0.1", target))
            await names.settled()
            with pytest.raises(ConnectionResetError):
                await send_all(port, b"")
            names.unrelay("k")

    asyncio.run(test())


def test_who_does_not_read_is_not_read_from(house: House, host: Space) -> None:
    """The buffers in between are bounded: a sender stops when nobody reads at the far end."""

    async def test() -> None:
        loop = asyncio.get_running_loop()
        async with house.names() as names:
            server, target = bound(socket.SOCK_STREAM, "127.0.0.1")
            server.setblocking(False)
            listener, port = bound(socket.SOCK_STREAM)
            names.relay("k", "web", listener, ("127.0.0.1", target))
            await names.settled()
            with socket.socket(socket.AF_INET6) as client:
                client.setblocking(False)
                await loop.sock_connect(client, ("::1", port))
                far, _ = await loop.sock_accept(server)
                sent = 0
                with pytest.raises(TimeoutError):
                    while sent < 400 << 20:
                        async with asyncio.timeout(0.5):
                            await loop.sock_sendall(client, bytes(1 << 20))
                        sent += 1 << 20
                pid = await names.pid()
                with open(f"/proc/{pid}/statm") as statm:
                    assert int(statm.read().split()[1]) * 4096 < 20 << 20
                before = processor_ticks(pid)
                await asyncio.sleep(0.5)
                assert processor_ticks(pid) - before < 10, "it spins while it waits"
                far.close()
            server.close()
            names.unrelay("k")

    asyncio.run(test())


def processor_ticks(pid: int) -> int:
    """Return the hundredths of a second that a process has used."""
    with open(f"/proc/{pid}/stat") as stat:
        words = stat.read().rpartition(")")[2].split()
    return int(words[11]) + int(words[12])


def test_datagrams_find_their_way_back(house: House) -> None:
    async def test() -> None:
        loop = asyncio.get_running_loop()
        async with house.names() as names:
            server, target = bound(socket.SOCK_DGRAM, "127.0.0.1")
            server.setblocking(False)
            given, port = bound(socket.SOCK_DGRAM)
            names.relay("u", "web", given, ("127.0.0.1", target))
            await names.settled()
            clients = [socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) for _ in range(5)]
            try:
                for number, client in enumerate(clients):
                    client.setblocking(False)
                    client.connect(("::1", port))
                    client.send(b"hello %d" % number)
                async with asyncio.timeout(20):
                    for _ in clients:
                        data, sender = await loop.sock_recvfrom(server, 100)
                        await loop.sock_sendto(server, data.upper(), sender)
                    for number, client in enumerate(clients):
                        assert await loop.sock_recv(client, 100) == b"HELLO %d" % number
            finally:
                for client in (*clients, server):
                    client.close()
            names.unrelay("u")

    asyncio.run(test())


def test_connections_go_on_while_wherryd_changes(house: House) -> None:
    async def test() -> None:
        async with digesting("127.0.0.1") as target:
            first = NameService(house.folder, sockets=house.open_sockets)
            listener, port = bound(socket.SOCK_STREAM)
            first.relay("tcp/[::1]:80", "web", listener, ("127.0.0.1", target))
            await first.settled()
            reader, writer = await asyncio.open_connection("::1", port)
            writer.write(b"one ")
            await writer.drain()
            await first.close()
            writer.write(b"two")
            async with house.names() as names:
                await names.open([], [])
                adopted = await names.adopt()
                assert adopted.keys() == {"tcp/[::1]:80"}
                again = adopted["tcp/[::1]:80"]
                assert again.getsockname()[1] == port
                names.relay("tcp/[::1]:80", "web", again, ("127.0.0.1", target))
                await names.settled()
                writer.write_eof()
                assert await reader.read() == b"owt eno"
                writer.close()
                # Killed, it is started again with the sockets that wherryd kept.
                os.kill(await names.pid(), 9)
                async with asyncio.timeout(20):
                    assert await send_all(port, b"abc") == b"cba"
                await names.settled()
                names.unrelay("tcp/[::1]:80")

    asyncio.run(test())


def test_a_port_is_free_when_its_container_has_ended(house: House) -> None:
    async def test() -> None:
        with subprocess.Popen(["sleep", "600"]) as sleeper:
            first = NameService(house.folder, sockets=house.open_sockets)
            listener, port = bound(socket.SOCK_STREAM)
            first.relay("k", "web", listener, ("127.0.0.1", 9))
            first.watch("web", sleeper.pid)
            await first.settled()
            await first.close()
            with socket.socket(socket.AF_INET6) as probe, pytest.raises(OSError):
                probe.bind(("::1", port))
            sleeper.kill()
        async with asyncio.timeout(20):
            while True:
                with socket.socket(socket.AF_INET6) as probe:
                    try:
                        probe.bind(("::1", port))
                        return
                    except OSError:
                        await asyncio.sleep(0.01)

    asyncio.run(test())


def test_the_next_daemon_adopts_what_is_published_and_ends_the_rest(house: House) -> None:
    async def test() -> None:
        async with digesting("127.0.0.1") as target:
            ports = Ports(lambda proto, port: "")
            names = NameService(house.folder, sockets=house.open_sockets)
            relays = Relays(names)
            kept, left = (PublishedPort("tcp", 80, "::1", free_port()) for _ in range(2))
            for port in (kept, left):
                held = ports.restore("web", "web", port, listen=True)
                assert held.socket is not None
                await relays.relay("web", held.socket.fileno(), "tcp", "127.0.0.1", target)
            await names.settled()
            ports.close()
            await names.close()
            assert await send_all(kept.host_port, b"ab") == b"ba"

            async with house.names() as names:
                relays = Relays(names)
                with pytest.raises(Conflict):
                    Ports(lambda proto, port: "").restore("web", "web", kept, listen=True)
                again = Ports(lambda proto, port: "")
                served = await relays.adopt("web", kept)
                assert served is not None
                held = again.restore("web", "web", kept, listen=True, kept=served)
                await relays.relay("web", served.fileno(), "tcp", "127.0.0.1", target)
                await names.open([], [])
                await relays.sweep()
                await names.settled()
                assert await send_all(kept.host_port, b"ab") == b"ba"
                with pytest.raises(ConnectionRefusedError):
                    await send_all(left.host_port, b"")
                again.close()
                await relays.stop("web")
                await names.settled()
                with pytest.raises(ConnectionRefusedError):
                    await send_all(kept.host_port, b"")

    asyncio.run(test())


def free_port() -> int:
    """Return a port of ::1 that nobody has now."""
    with socket.socket(socket.AF_INET6) as probe:
        probe.bind(("::1", 0))
        return probe.getsockname()[1]
