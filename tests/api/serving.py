"""The API on a real socket, in a thread of its own, and a raw client."""

from __future__ import annotations

import asyncio
import json
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.api.fakes import FakeContainers, FakeEvents, FakeImages, fake_services
from wherry.api.application import application
from wherry.api.server import Server

SECONDS = 10.0


@dataclass
class Reply:
    """One response, parsed as far as tests need it."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def message(self) -> str:
        return str(self.json["message"])


class Raw:
    """A connection driven byte by byte."""

    def __init__(self, path: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(SECONDS)
        self.socket.connect(path)
        self.buffer = b""

    def __enter__(self) -> Raw:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def _more(self) -> bytes:
        data = self.socket.recv(65536)
        self.buffer += data
        return data

    def head(self) -> tuple[int, dict[str, str]]:
        """Read one response's head."""
        while b"\r\n\r\n" not in self.buffer:
            assert self._more(), f"closed before a whole head: {self.buffer!r}"
        head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        pairs = (line.partition(": ") for line in lines)
        return int(first.split()[1]), {name.lower(): value for name, _, value in pairs}

    def exactly(self, size: int) -> bytes:
        while len(self.buffer) < size:
            assert self._more(), f"closed after {self.buffer!r}"
        data, self.buffer = self.buffer[:size], self.buffer[size:]
        return data

    def chunk(self) -> bytes:
        """Read one chunk of a chunked body, b"" for the last."""
        while b"\r\n" not in self.buffer:
            assert self._more(), "closed within a chunked body"
        line, _, self.buffer = self.buffer.partition(b"\r\n")
        data = self.exactly(int(line, 16))
        assert self.exactly(2) == b"\r\n"
        return data

    def rest(self) -> bytes:
        """Read to the end of the connection."""
        while self._more():
            pass
        data, self.buffer = self.buffer, b""
        return data

    def reply(self, *, head_only: bool = False) -> Reply:
        """Read one whole response."""
        status, headers = self.head()
        body = b""
        if head_only or status in (101, 204, 304):
            pass
        elif headers.get("transfer-encoding") == "chunked":
            while piece := self.chunk():
                body += piece
        elif "content-length" in headers:
            body = self.exactly(int(headers["content-length"]))
        else:
            body = self.rest()
        return Reply(status, headers, body)

    def ask(self, method: str, target: str, body: object = None, headers: str = "") -> Reply:
        """Send one request, `body` as JSON unless it is bytes, and read its response."""
        data = b""
        if isinstance(body, bytes):
            data = body
        elif body is not None:
            data = json.dumps(body).encode()
            headers += "Content-Type: application/json\r\n"
        self.send(
            f"{method} {target} HTTP/1.1\r\nHost: x\r\n{headers}"
            f"Content-Length: {len(data)}\r\n\r\n".encode()
            + data
        )
        return self.reply(head_only=method == "HEAD")


class Api:
    """The API under test: `containers`, `images` and `events` are the fakes behind it."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self.host = f"unix://{path}"
        self.loop = asyncio.new_event_loop()
        self.services = fake_services()
        containers, images, events = (
            self.services.containers,
            self.services.images,
            self.services.events,
        )
        assert isinstance(containers, FakeContainers)
        assert isinstance(images, FakeImages) and isinstance(events, FakeEvents)
        self.containers, self.images, self.events = containers, images, events
        router = application(self.services)
        self.server = Server(router, router.at_once)
        self._ready = threading.Event()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_until_complete(self._serve())
        self.loop.close()

    async def _serve(self) -> None:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(self.path)
        await self.server.listen(listener)
        self._ready.set()
        await self._stop.wait()
        await self.server.close(grace=1)

    def start(self) -> None:
        self._thread.start()
        assert self._ready.wait(SECONDS)

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(SECONDS)
        assert not self._thread.is_alive()

    def connect(self) -> Raw:
        return Raw(self.path)

    def ask(self, method: str, target: str, body: object = None, headers: str = "") -> Reply:
        """One request on a connection of its own."""
        with self.connect() as raw:
            return raw.ask(method, target, body, headers)

    def made(self, *argv: str, **config: Any) -> str:
        """Create a container and return its id."""
        body = {"Image": "busybox", "Cmd": list(argv or ("sh",)), **config}
        reply = self.ask("POST", "/containers/create", body)
        assert reply.status == 201, reply.body
        return str(reply.json["Id"])


@contextmanager
def serving() -> Iterator[Api]:
    """Serve fakes until left."""
    with tempfile.TemporaryDirectory(prefix="wherry-api-") as folder:
        api = Api(Path(folder) / "api.sock")
        api.start()
        try:
            yield api
        finally:
            api.stop()
