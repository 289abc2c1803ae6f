"""The engine's socket without a client between: any bytes, any order, any moment to leave."""

from __future__ import annotations

import http.client
import json
import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer, read to its end."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """The body decoded."""
        return json.loads(self.body)

    @property
    def message(self) -> str:
        """What the engine said was wrong."""
        return str(self.json()["message"])


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("engine", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Api:
    """`api("POST", "/containers/create", {...}, name="x")`."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __call__(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        version: str = "v1.47",
        kind: str = "application/json",
        timeout: float = 20,
        search: str = "",
        headers: Mapping[str, object] | None = None,
        **query: object,
    ) -> Answer:
        """Send one request on a connection of its own; objects go as JSON, bytes as they are."""
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        where = f"/{version}{quote(path)}" if version else path
        if query or search:
            # `search` is for names that come twice, or that this function has for itself.
            where += "?" + (search or urlencode(query))
        connection = _Connection(self.path, timeout)
        try:
            sent = {name: str(value) for name, value in (headers or {}).items()}
            connection.request(method, where, data, sent | ({"Content-Type": kind} if data else {}))
            answer = connection.getresponse()
            return Answer(answer.status, dict(answer.getheaders()), answer.read())
        finally:
            connection.close()

    def connect(self, timeout: float = 20) -> socket.socket:
        """Return a connected socket."""
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(timeout)
        connection.connect(self.path)
        return connection

    def upgrade(self, path: str, body: object = None, timeout: float = 20) -> socket.socket:
        """POST with `Upgrade: tcp`; return the hijacked socket, its answer's head read off."""
        data = b"" if body is None else json.dumps(body).encode()
        connection = self.connect(timeout)
        connection.sendall(
            f"POST /v1.47{path} HTTP/1.1\r\nHost: e\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n".encode()
            + data
        )
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            byte = connection.recv(1)
            assert byte, f"the engine hung up: {head!r}"
            head += byte
        assert head.startswith(b"HTTP/1.1 101"), head
        return connection


def read_frames(connection: socket.socket) -> list[tuple[int, bytes]]:
    """Read (stream, bytes) frames of a multiplexed stream to its end."""
    data = b""
    while piece := connection.recv(1 << 16):
        data += piece
    frames: list[tuple[int, bytes]] = []
    while data:
        stream, size = struct.unpack(">BxxxL", data[:8])
        frames.append((stream, data[8 : 8 + size]))
        data = data[8 + size :]
    return frames
