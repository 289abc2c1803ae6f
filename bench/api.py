"""HTTP over a unix socket: JSON calls on a kept connection, byte streams on one of their own."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlencode

VERSION = "v1.41"
TIMEOUT = 900.0
_PIECE = 1 << 20


class ApiError(Exception):
    """An answer of 400 or more: the request, the status and the engine's message."""


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=TIMEOUT)
        self.path = path

    def connect(self) -> None:
        self.sock = _connected(self.path)


class _Kept:
    """A kept connection that knows just enough HTTP: the client's own time is in every figure.

    http.client takes 0.2 ms for an answer, the thirtieth part of a container's whole life.
    """

    def __init__(self, path: str) -> None:
        self._socket = _connected(path)
        self._file = self._socket.makefile("rb")

    def exchange(self, method: str, target: str, body: bytes | None) -> tuple[int, bytes]:
        """Return the status and the body of the answer."""
        kind = "Content-Type: application/json\r\n" if body else ""
        head = f"{method} {target} HTTP/1.1\r\nHost: localhost\r\n{kind}"
        if body is not None or method == "POST":
            head += f"Content-Length: {len(body or b'')}\r\n"
        self._socket.sendall(head.encode() + b"\r\n" + (body or b""))
        first = self._file.readline()
        if not first:
            raise ApiError(f"{method} {target}: the engine closed the connection")
        status = _status(first)
        length, chunked = 0, False
        while (line := self._file.readline()) not in (b"\r\n", b""):
            name, _, value = line.partition(b":")
            if (name := name.lower()) == b"content-length":
                length = int(value)
            elif name == b"transfer-encoding":
                chunked = b"chunked" in value
        return status, self._chunks() if chunked else self._file.read(length)

    def _chunks(self) -> bytes:
        pieces: list[bytes] = []
        while size := int(self._file.readline().split(b";")[0], 16):
            pieces.append(self._file.read(size))
            self._file.readline()
        self._file.readline()
        return b"".join(pieces)


class Api:
    """The API at `host` (`unix:///path`). One kept connection for each thread."""

    def __init__(self, host: str) -> None:
        scheme, _, self.path = host.partition("://")
        if scheme != "unix":
            raise SystemExit(f"{host}: only unix sockets can be measured here")
        self._local = threading.local()

    def call(self, method: str, path: str, body: object = None, /, **query: object) -> Any:
        """Return the decoded JSON of the answer (None when empty); raises ApiError."""
        connection: _Kept | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = _Kept(self.path)
        target = f"/{VERSION}{path}" + (f"?{urlencode(query)}" if query else "")
        data = None if body is None else json.dumps(body).encode()
        status, answer = connection.exchange(method, target, data)
        return _checked(method, target, status, answer)

    def drain(self, path: str, /, **query: object) -> int:
        """GET `path` and throw the answer away; return its size in bytes as sent, chunking included.

        The body is not decoded, so that a slow client does not hide a fast engine.
        """
        buffer = memoryview(bytearray(_PIECE))
        with self._stream("GET", path, query) as stream:
            total = 0
            while count := stream.recv_into(buffer):
                if not total and (status := _status(bytes(buffer[:16]))) >= 400:
                    raise ApiError(f"GET {path}: {status} {bytes(buffer[:count])!r}")
                total += count
        return total

    def hijack(self, path: str, body: object) -> bytes:
        """POST `body`, take the connection over and return all that comes until its end."""
        data = json.dumps(body).encode()
        upgrade = "Connection: Upgrade\r\nUpgrade: tcp\r\nContent-Type: application/json\r\n"
        with self._stream("POST", path, {}, upgrade, data) as stream:
            pieces: list[bytes] = []
            while piece := stream.recv(65536):
                pieces.append(piece)
        head, _, rest = b"".join(pieces).partition(b"\r\n\r\n")
        if _status(head) >= 400:
            raise ApiError(f"POST {path}: {head.decode()} {rest.decode(errors='replace')}")
        return rest

    def fetch(self, path: str, /, **query: object) -> bytes:
        """GET `path` and return the whole answer."""
        with self._exchange("GET", path, None, query) as response:
            return response.read()

    def post(self, path: str, /, **query: object) -> bytes:
        """POST to `path` without a body and return the whole answer."""
        with self._exchange("POST", path, None, query) as response:
            return response.read()

    def download(self, path: str, target: Path, /, **query: object) -> int:
        """GET `path` into the file `target`; return its size in bytes."""
        with self._exchange("GET", path, None, query) as response, target.open("wb") as file:
            while piece := response.read(_PIECE):
                file.write(piece)
            return file.tell()

    def upload(self, method: str, path: str, source: Path, /, **query: object) -> bytes:
        """Send the file `source` as the body and return the whole answer."""
        with source.open("rb") as file, self._exchange(method, path, file, query) as response:
            return response.read()

    @contextmanager
    def _exchange(
        self, method: str, path: str, body: IO[bytes] | None, query: dict[str, object]
    ) -> Generator[http.client.HTTPResponse]:
        connection = _UnixConnection(self.path)
        connection.blocksize = _PIECE
        headers = {"Content-Type": "application/x-tar"}
        if body is not None:
            headers["Content-Length"] = str(Path(body.name).stat().st_size)
        try:
            connection.request(method, f"/{VERSION}{path}?{urlencode(query)}", body, headers)
            response = connection.getresponse()
            if response.status >= 400:
                _checked(method, path, response.status, response.read())
            yield response
        finally:
            connection.close()

    @contextmanager
    def _stream(
        self,
        method: str,
        path: str,
        query: dict[str, object],
        headers: str = "Connection: close\r\n",
        body: bytes = b"",
    ) -> Generator[socket.socket]:
        with _connected(self.path) as stream:
            target = f"/{VERSION}{path}" + (f"?{urlencode(query)}" if query else "")
            length = f"Content-Length: {len(body)}\r\n" if body else ""
            head = f"{method} {target} HTTP/1.1\r\nHost: localhost\r\n{headers}{length}\r\n"
            stream.sendall(head.encode() + body)
            yield stream

    def daemon_pid(self) -> int:
        """Return the pid of the process that listens on the socket."""
        with socket.socket(socket.AF_UNIX) as stream:
            stream.connect(self.path)
            credentials = stream.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        return int.from_bytes(credentials[:4], "little")


def _connected(path: str) -> socket.socket:
    made = socket.socket(socket.AF_UNIX)
    made.settimeout(TIMEOUT)
    made.connect(path)
    return made


def _status(head: bytes) -> int:
    return int(head.split(b" ", 2)[1][:3])


def _checked(method: str, target: str, status: int, data: bytes) -> Any:
    if status >= 400:
        raise ApiError(f"{method} {target}: {status} {data.decode(errors='replace').strip()}")
    return json.loads(data) if data.strip() else None
