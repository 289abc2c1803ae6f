"""An engine that records what it is asked and answers from a table: enough for a client under test."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit


@dataclass(frozen=True)
class Request:
    """One request as it came in; `path` is without the version prefix."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


@dataclass(frozen=True)
class Answer:
    """What to send back. `raw` is sent after the head as it is (an upgraded stream)."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    chunks: tuple[bytes, ...] | None = None
    raw: bytes | None = None

    @classmethod
    def of(cls, value: object, status: int = 200) -> Answer:
        """An answer whose body is `value` as JSON."""
        return cls(status, json.dumps(value).encode(), {"Content-Type": "application/json"})


Handler = Callable[[Request], Answer]


class FakeEngine:
    """Serves a unix socket until closed; `requests` holds everything asked, pings left out."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.requests: list[Request] = []
        self.routes: dict[tuple[str, str], Handler] = {}
        self.connections = 0
        self.upgraded: list[bytes] = []
        self._upgrades: dict[str, Callable[[socket.socket], None]] = {}
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        self._listener.listen(16)
        self._threads: list[threading.Thread] = []
        self._open: list[socket.socket] = []
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    @property
    def url(self) -> str:
        """The address to give a client."""
        return f"unix://{self.path}"

    def route(self, method: str, path: str, answer: Answer | Handler) -> None:
        """Answer `method path` (without the version) with `answer`, or with what it returns."""
        self.routes[method, path] = answer if callable(answer) else lambda _request: answer

    def upgrade(self, path: str, serve: Callable[[socket.socket], None]) -> None:
        """Let `serve` have the connection of every `POST path`, once it is upgraded."""
        self._upgrades[path] = serve

    def drop_connections(self) -> None:
        """Close every connection, as an engine that restarts does."""
        for connection in self._open:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def wait_for_upgrades(self, count: int) -> None:
        """Return when the callers of so many upgraded streams have closed their end."""
        end = time.monotonic() + 30
        while len(self.upgraded) < count:
            assert time.monotonic() < end, "the caller kept the stream open"
            time.sleep(0.002)

    def close(self) -> None:
        """Stop serving."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._accepting.join(5)
        self.drop_connections()
        for thread in self._threads:
            thread.join(30)

    def __enter__(self) -> FakeEngine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._open.append(connection)
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as reader:
            try:
                while self._one(connection, reader):
                    pass
            except OSError:
                return

    def _one(self, connection: socket.socket, reader: Any) -> bool:
        line = reader.readline()
        if not line:
            return False
        method, target, _ = line.decode().split(" ", 2)
        headers: dict[str, str] = {}
        while (line := reader.readline()) not in (b"\r\n", b""):
            name, _, value = line.decode().partition(":")
            headers[name.strip().lower()] = value.strip()
        body = _read_body(reader, headers)
        parts = urlsplit(target)
        path = parts.path
        if path.startswith("/v1."):
            path = "/" + path.split("/", 2)[2]
        request = Request(method, path, dict(parse_qsl(parts.query, True)), headers, body)
        serve = self._upgrades.get(request.path)
        if serve is not None:
            self.requests.append(request)
            connection.sendall(_head(101, {"Connection": "Upgrade", "Upgrade": "tcp"}))
            serve(connection)
            connection.shutdown(socket.SHUT_RDWR)
            self.upgraded.append(b"")
            return False
        answer = self._answer(request)
        if answer.raw is not None:
            connection.sendall(_head(101, {"Connection": "Upgrade", "Upgrade": "tcp"}) + answer.raw)
            connection.shutdown(socket.SHUT_WR)
            self.upgraded.append(reader.read())
            return False
        if answer.chunks is not None:
            connection.sendall(
                _head(answer.status, {**answer.headers, "Transfer-Encoding": "chunked"})
            )
            for chunk in answer.chunks:
                connection.sendall(f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n")
            connection.sendall(b"0\r\n\r\n")
            return True
        headers = {**answer.headers, "Content-Length": str(len(answer.body))}
        connection.sendall(_head(answer.status, headers))
        if method != "HEAD":
            connection.sendall(answer.body)
        return headers.get("Connection") != "close"

    def _answer(self, request: Request) -> Answer:
        if request.path == "/_ping":
            return Answer(
                200,
                b"" if request.method == "HEAD" else b"OK",
                {"Api-Version": "1.51", "Ostype": "linux", "Server": "Docker/28.5.2 (linux)"},
            )
        self.requests.append(request)
        handler = self.routes.get((request.method, request.path))
        if handler is None:
            return Answer.of({"message": f"no route {request.method} {request.path}"}, 404)
        return handler(request)


def _head(status: int, headers: dict[str, str]) -> bytes:
    lines = [f"HTTP/1.1 {status} X", *(f"{name}: {value}" for name, value in headers.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def _read_body(reader: Any, headers: dict[str, str]) -> bytes:
    if headers.get("transfer-encoding") == "chunked":
        body = b""
        while size := int(reader.readline().split(b";")[0], 16):
            body += reader.read(size)
            reader.readline()
        reader.readline()
        return body
    return reader.read(int(headers.get("content-length", "0")))
