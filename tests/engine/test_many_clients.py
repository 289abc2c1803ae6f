"""Two thousand clients who want nothing, half of something, or never listen; and more than fit."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.engine.boxes import eventually
from tests.engine.raw import Api
from tests.engine.tars import busybox_tar
from tests.harness.clients import Client
from tests.harness.engine import Engine
from tests.harness.hosts import Site

IMAGE = "bb:1"
MANY = 2000
GROWTH = 192 << 20
"""Bytes for 2,000 clients: 32 KiB each, and 3 MiB for each that began a download and does not read it."""
HEAD = "HTTP/1.1\r\nHost: e\r\n"
# What each of them sends; `!` for half-closing after it.
WAYS = (
    "",
    "!",
    "GET /_pi",
    f"GET /_ping {HEAD}X-Slow: ",
    f"POST /v1.51/containers/create {HEAD}Content-Type: application/json\r\n"
    'Content-Length: 4000\r\n\r\n{"Image": "',
    f"POST /v1.51/images/load {HEAD}Transfer-Encoding: chunked\r\n\r\n100\r\nabc",
    f"GET /_ping {HEAD}\r\n" * 20,
    f"GET /v1.51/events {HEAD}\r\n",
    f"GET /v1.51/events {HEAD}\r\n!",
    f"GET /v1.51/containers/box/logs?follow=1&stdout=1 {HEAD}\r\n",
    f"POST /v1.51/containers/box/wait {HEAD}\r\n",
    f"POST /v1.51/containers/box/attach?stream=1&stdout=1&stdin=1 {HEAD}"
    "Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n",
)
DOWNLOAD = f"GET /v1.51/images/{IMAGE}/get {HEAD}\r\n"


@pytest.fixture
def own(
    new_engine: Callable[..., Engine], docker_for: Callable[[Engine], Client]
) -> Iterator[tuple[Engine, Client]]:
    """An engine with a container that prints, in a process that may have many descriptors itself."""
    engine = new_engine()
    docker = docker_for(engine)
    docker.raw("import", "-c", "CMD sh", "-", IMAGE, stdin=busybox_tar())
    script = "while :; do echo a line of output; sleep 0.2; done"
    docker("run", "-d", "--init", "--name", "box", "--network", "none", IMAGE, "sh", "-c", script)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 2 * MANY:
        pytest.skip(f"this machine allows a process {hard} descriptors")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        yield engine, docker
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class Crowd:
    """Connections that are held open; all closed on exit."""

    def __init__(self, engine: Engine) -> None:
        self._path = str(engine.socket)
        self.held: list[socket.socket] = []

    def __enter__(self) -> Crowd:
        return self

    def __exit__(self, *_: object) -> None:
        for one in self.held:
            one.close()

    def add(self, text: str = "") -> socket.socket:
        """Connect and send `text`."""
        one = socket.socket(socket.AF_UNIX)
        self.held.append(one)
        one.settimeout(20)
        one.connect(self._path)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            one.sendall(text.rstrip("!").encode())
            if text.endswith("!"):
                one.shutdown(socket.SHUT_WR)
        return one


def check_log(engine: Engine) -> None:
    """AssertionError, with what it says, where the log tells of a defect."""
    log = engine.log.read_text(errors="replace")
    at = log.find("Traceback")
    assert at < 0, log[max(at - 1000, 0) : at + 4000]


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def memory(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()


def listeners(api: Api) -> int:
    """For how many clients the engine keeps events."""
    return api("GET", "/info").json()["NEventsListener"]


def test_two_thousand_clients(own: tuple[Engine, Client]) -> None:
    engine, docker = own
    api, pid = Api(str(engine.socket)), engine.pid
    with Crowd(engine) as warm:  # what the first of each kind loads and keeps
        for way in (*WAYS, DOWNLOAD):
            warm.add(way)
        docker("run", "--rm", "--network", "none", IMAGE, "true")
    eventually(lambda: descriptors(pid) < 80)
    eventually(lambda: listeners(api) == 0, 30)
    before, weight = descriptors(pid), memory(pid)
    with Crowd(engine) as crowd:
        for number in range(MANY):
            crowd.add(WAYS[number % len(WAYS)] if number % 50 else DOWNLOAD)
        began = time.monotonic()
        assert api("GET", "/_ping", version="", timeout=60).body == b"OK"
        assert time.monotonic() - began < 30
        # A start, an exec and an end, with all of them there.
        assert docker.line("run", "--rm", "--network", "none", IMAGE, "echo", "hi") == "hi"
        assert docker.line("exec", "box", "echo", "alive") == "alive"
        assert descriptors(pid) > MANY // 2
        assert listeners(api) > MANY // len(WAYS) - 20
        assert memory(pid) < weight + GROWTH, (weight, memory(pid))
    eventually(lambda: descriptors(pid) <= before + 4, 30)
    # Nothing goes on for those who have left.
    eventually(lambda: listeners(api) == 0, 30)
    assert docker.line("exec", "box", "echo", "alive") == "alive"
    check_log(engine)


def test_more_clients_than_descriptors(own: tuple[Engine, Client]) -> None:
    engine, docker = own
    pid = engine.pid
    most = 600
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (most, most))
    with Crowd(engine) as crowd:
        first = crowd.add()
        for _ in range(most):
            crowd.add()
        told: list[bytes] = []

        def hear() -> bool:
            for one in crowd.held[-300:]:
                one.setblocking(False)
                with contextlib.suppress(BlockingIOError, ConnectionResetError):
                    told.append(one.recv(4096))
            return any(b"HTTP/1.1 503 " in each and b"LimitNOFILE" in each for each in told)

        eventually(hear)
        # Who is in is served, with descriptors for what is asked.
        first.sendall(f"GET /v1.51/containers/box/archive?path=/etc {HEAD}\r\n".encode())
        assert first.recv(100).startswith(b"HTTP/1.1 200")
    eventually(lambda: descriptors(pid) < 80, 20)
    assert docker.line("run", "--rm", "--network", "none", IMAGE, "echo", "hi") == "hi"
    assert docker.line("exec", "box", "echo", "alive") == "alive"
    check_log(engine)


def test_a_client_whose_machine_vanishes_is_looked_for(nothing_left: None) -> None:
    """It says no farewell: the kernel asks after it, by the time `ss` shows, and ends what nobody answers."""
    with (
        Site(ipv6=False) as site,
        Engine("--bridge", "none", "-H", f"tcp://{Site.HOST}:2375", host=site.host) as engine,
    ):
        with site.outside.connect(site.HOST, 2375) as client:
            client.sendall(f"GET /v1.51/events {HEAD}\r\n".encode())
            assert client.recv(100).startswith(b"HTTP/1.1 200")
            shown = site.host.run("ss", "-tnoH", "state", "established")
        left = re.search(r"timer:\(keepalive,(\d+)", shown)
        assert left and int(left[1]) <= 30, shown
        assert engine.answers()
