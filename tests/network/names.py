"""A name service under test: its process below a folder of the test, containers that are only namespaces."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import struct
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.harness.leaks import processes_naming
from tests.network.questions import Response, exchange, question, take_apart
from tests.network.spaces import Space
from wherry.model.errors import NotFound
from wherry.network.dns.client import NameService
from wherry.network.dns.facts import Member, Upstream, View
from wherry.network.dns.message import Query, parse_query, refuse

Answer = Callable[[Query, bool], bytes | None]
"""What a fake upstream says to a query (over TCP: True); None for nothing."""
NET = ("n1", "net")


class Box:
    """A container as the name service knows it: a namespace, two sockets in it, a process maybe."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.space = Space()
        self.port = 0
        self.pidfd = -1
        self.opened = 0

    def sockets(self) -> list[int]:
        """Open the service's sockets inside, as the supervisor does; on one port, as it need not."""
        self.opened += 1
        tcp = self.space.open(socket.SOCK_STREAM, "127.0.0.11", self.port)
        self.port = tcp.getsockname()[1]
        udp = self.space.open(socket.SOCK_DGRAM, "127.0.0.11", self.port)
        fds = [udp.detach(), tcp.detach()]
        return [*fds, os.dup(self.pidfd)] if self.pidfd >= 0 else fds

    async def ask(
        self,
        name: str,
        kind: str | int = "A",
        *,
        tcp: bool = False,
        edns: int = 0,
        seconds: float = 10,
    ) -> Response:
        """Ask from inside."""
        data = question(name, kind, edns=edns)
        return take_apart(await exchange(self.space, self.port, data, tcp=tcp, seconds=seconds))

    async def ask_until(self, name: str, seconds: float = 10) -> Response:
        """Ask again, over TCP, until there is somebody who answers."""
        async with asyncio.timeout(seconds):
            while True:
                try:
                    return await self.ask(name, tcp=True)
                except (OSError, AssertionError):
                    await asyncio.sleep(0.01)

    def view(self, *upstreams: Upstream, internal: bool = False) -> View:
        """Return a view of the one network of these tests."""
        return View(self.name, (NET,), upstreams=upstreams, internal=internal)

    def member(self, *names: str, address: str = "10.0.0.1") -> Member:
        """Return it as a member of the one network."""
        return Member(NET[0], self.name, self.name, (self.name, *names), (address,))

    def close(self) -> None:
        """Let go of the namespace."""
        self.space.close()


class House:
    """Boxes by name, and clients that know how to get sockets in them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.boxes: dict[str, Box] = {}

    def box(self, name: str = "web") -> Box:
        """Return a new box."""
        box = self.boxes[name] = Box(name)
        return box

    async def open_sockets(self, name: str) -> Sequence[int]:
        """Open sockets again, as the supervisor is asked to."""
        if name not in self.boxes:
            raise NotFound("container", name)
        return self.boxes[name].sockets()

    @asynccontextmanager
    async def names(self) -> AsyncIterator[NameService]:
        """A wherryd's client; at the end all containers have ended, and it leaves."""
        service = NameService(self.folder, sockets=self.open_sockets)
        try:
            yield service
        finally:
            for name in self.boxes:
                service.forget(name)
            await service.close()

    def log(self) -> str:
        """Return what the process has complained of."""
        path = self.folder / "names.log"
        return path.read_text() if path.exists() else ""


class FakeUpstream:
    """A resolver at an address in a namespace; `seen` are the queries that reached it."""

    def __init__(self, space: Space, address: str, answer: Answer) -> None:
        self._answer = answer
        self.seen: list[tuple[str, bool]] = []
        self._udp = space.open(socket.SOCK_DGRAM, address, 53)
        self._tcp = space.open(socket.SOCK_STREAM, address, 53)
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._serve_udp()), loop.create_task(self._serve_tcp())]

    async def _serve_udp(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            data, sender = await loop.sock_recvfrom(self._udp, 4096)
            response = self._handle(data, False)
            if response is not None:
                await loop.sock_sendto(self._udp, response, sender)

    async def _serve_tcp(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            opened, _ = await loop.sock_accept(self._tcp)
            with opened:
                data = await loop.sock_recv(opened, 4096)
                response = self._handle(data[2:], True)
                if response is not None:
                    framed = struct.pack("!H", len(response)) + response
                    # In two pieces: a stream has no message borders.
                    await loop.sock_sendall(opened, framed[:5])
                    await asyncio.sleep(0)
                    await loop.sock_sendall(opened, framed[5:])

    def _handle(self, data: bytes, tcp: bool) -> bytes | None:
        query = parse_query(data)
        self.seen.append((query.name, tcp))
        return self._answer(query, tcp)

    async def close(self) -> None:
        """Stop."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._udp.close()
        self._tcp.close()


def failing(code: int) -> Answer:
    """Return an upstream's behaviour: it always says `code`."""
    return lambda query, tcp: refuse(query, code)


@pytest.fixture
def host() -> Iterator[Space]:
    """The namespace that stands for the host's; the test, and what it starts, is in it."""
    space = Space()
    with space.inside():
        yield space
    space.close()


@pytest.fixture
def house(host: Space, tmp_path: Path) -> Iterator[House]:
    """Boxes and clients; fails when the process stays or complained."""
    house = House(tmp_path)
    yield house
    for box in house.boxes.values():
        box.close()
    deadline = time.monotonic() + 30
    while (tmp_path / "names.lock").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    stays = (tmp_path / "names.lock").exists()
    if stays:  # of a test that failed halfway too
        for pid in processes_naming(str(tmp_path)):
            os.kill(pid, signal.SIGKILL)
    assert not stays, "the process did not end"
    assert not (tmp_path / "names.sock").exists()
    assert house.log() == ""
