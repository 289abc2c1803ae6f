"""How long small answers take: ping, the list of many containers, inspect; and events to a listener."""

from __future__ import annotations

import json
import socket
import statistics
import time

from bench.api import VERSION
from bench.cases.case import Settings
from bench.engine import Engine
from bench.samples import Row

_CONTAINERS = 100
_REQUESTS = 200
_EVENTS = 20


class Plain:
    """One kept connection, without an HTTP library's own fraction of a millisecond."""

    def __init__(self, path: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(30)
        self._socket.connect(path)

    def get(self, path: str) -> float:
        """Ask for `path` and read the answer to its end; return milliseconds."""
        request = f"GET /{VERSION}{path} HTTP/1.1\r\nHost: e\r\n\r\n".encode()
        start = time.perf_counter()
        self._socket.sendall(request)
        data = self._socket.recv(1 << 18)
        while not self._whole(data):
            piece = self._socket.recv(1 << 18)
            if not piece:
                raise ConnectionError(f"{path}: the engine hung up")
            data += piece
        return (time.perf_counter() - start) * 1000

    def median(self, path: str) -> float:
        """Ask many times; return the median in milliseconds."""
        return statistics.median(self.get(path) for _ in range(_REQUESTS))

    @staticmethod
    def _whole(data: bytes) -> bool:
        head, end, body = data.partition(b"\r\n\r\n")
        if not end:
            return False
        if not head.startswith(b"HTTP/1.1 200"):
            raise ValueError(head.decode(errors="replace"))
        _, found, length = head.lower().partition(b"\r\ncontent-length:")
        if found:
            return len(body) >= int(length.split(b"\r\n", 1)[0])
        return body.endswith(b"\r\n0\r\n\r\n") or body == b"0\r\n\r\n"

    def close(self) -> None:
        """Hang up."""
        self._socket.close()


class Answers:
    """Medians of many requests one after the other, beside a hundred containers."""

    rounds = 4

    def __init__(self, settings: Settings) -> None:
        self._made: dict[str, list[str]] = {}

    def prepare(self, engine: Engine) -> None:
        self._made[engine.name] = [engine.create("true") for _ in range(_CONTAINERS)]

    def sample(self, engine: Engine) -> dict[Row, float]:
        plain = Plain(engine.api.path)
        one = self._made[engine.name][0]
        try:
            figures = {
                Row("GET /_ping, p50", "ms", 3): plain.median("/_ping"),
                Row(f"GET containers/json of {_CONTAINERS}, p50", "ms", 3): plain.median(
                    "/containers/json?all=1"
                ),
                Row("GET containers/ID/json, p50", "ms", 3): plain.median(
                    f"/containers/{one}/json"
                ),
            }
        finally:
            plain.close()
        return figures | {Row("an event reaches its listener, p50", "ms", 3): _events(engine, one)}

    def finish(self, engine: Engine) -> None:
        for container in self._made.pop(engine.name, []):
            engine.remove(container)


def _events(engine: Engine, container: str) -> float:
    """Return the median of milliseconds between an event's own time and its arrival."""
    listener = socket.socket(socket.AF_UNIX)
    listener.settimeout(30)
    delays: list[float] = []
    with listener:
        listener.connect(engine.api.path)
        listener.sendall(f"GET /{VERSION}/events HTTP/1.1\r\nHost: e\r\n\r\n".encode())
        head = listener.recv(1 << 16)
        if not head.startswith(b"HTTP/1.1 200"):
            raise ValueError(head.decode(errors="replace"))
        for number in range(_EVENTS):
            engine.api.call("POST", f"/containers/{container}/rename", name=f"bench-e{number}")
            arrived, data = 0, b""
            while b"}\n" not in data:
                data += listener.recv(1 << 16)
                arrived = time.time_ns()
            event = json.loads(data[data.index(b"{") : data.rindex(b"}") + 1].splitlines()[0])
            delays.append((arrived - event["timeNano"]) / 1_000_000)
    return statistics.median(delays)
