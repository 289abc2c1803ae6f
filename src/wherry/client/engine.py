"""An engine to talk to: paths with the version in front, JSON, streams, refusals as errors."""

from __future__ import annotations

import os

from wherry.client import wire
from wherry.client.faults import Unreachable, fault_of
from wherry.client.http import Connection, Response, escape
from wherry.model.errors import Internal

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

    from wherry.client.address import Address

API_VERSION = "1.51"
_JSON = {"Content-Type": "application/json"}


class Engine:
    """The Engine API at one address. Keeps one idle connection and opens others as needed."""

    def __init__(
        self,
        address: Address,
        *,
        user_agent: str = "wherry",
        headers: dict[str, str] | None = None,
        on_refused: Callable[[], None] | None = None,
    ) -> None:
        """`headers` go with every request.

        `on_refused` is called once, when nothing listens at `address`; then it is tried again.
        """
        self.address = address
        self._agent = {**(headers or {}), "User-Agent": user_agent}
        self._on_refused = on_refused
        self._idle: Connection | None = None

    def close(self) -> None:
        """Close the idle connection."""
        if self._idle is not None:
            self._idle.close()
            self._idle = None

    def open(
        self,
        method: str,
        path: str,
        query: dict[str, str] | None = None,
        body: bytes | Iterable[bytes] | None = None,
        headers: dict[str, str] | None = None,
    ) -> Response:
        """Send a request and return the answer with its body unread.

        `path` is without the version. Raises the engine's refusal by kind, or Unreachable.
        """
        target = _target(path, query)
        everything = {**self._agent, **(headers or {})}
        response = self._send(method, target, everything, body)
        if response.status >= 400:
            raise fault_of(response.status, _message(response))
        return response

    def _send(
        self,
        method: str,
        target: str,
        headers: dict[str, str],
        body: bytes | Iterable[bytes] | None,
    ) -> Response:
        connection = self._idle
        if connection is not None and connection.idle:
            try:
                return connection.request(method, target, headers, body)
            except Unreachable:
                # An idle connection may have been closed by the engine at any time (RFC 9112 9.3.1).
                connection.close()
                if body is not None and not isinstance(body, bytes):
                    raise
        connection = self._connect()
        if self._idle is None or self._idle.closed:
            self._idle = connection
        return connection.request(method, target, headers, body)

    def _connect(self) -> Connection:
        try:
            return Connection(self.address)
        except Unreachable as error:
            if not error.refused or self._on_refused is None:
                raise
            start, self._on_refused = self._on_refused, None
            start()
            return Connection(self.address)

    def call(
        self,
        method: str,
        path: str,
        query: dict[str, str] | None = None,
        body: object = None,
        headers: dict[str, str] | None = None,
    ) -> Any:
        """Send a request with a JSON body (None sends none) and return the answer's JSON, or None."""
        data = None if body is None else wire.encode(body).encode("utf-8", "replace")
        everything = {**(headers or {}), **({} if data is None else _JSON)}
        response = self.open(method, path, query, data, everything)
        content = response.read()
        return _decoded(content) if content.strip() else None

    def get(self, path: str, query: dict[str, str] | None = None) -> Any:
        """Return the JSON at `path`."""
        return self.call("GET", path, query)

    def events(
        self,
        method: str,
        path: str,
        query: dict[str, str] | None = None,
        body: bytes | Iterable[bytes] | None = None,
        headers: dict[str, str] | None = None,
    ) -> Iterator[dict[str, Any]]:
        """Yield the JSON objects that the answer's body streams, one a line."""
        for line in self.open(method, path, query, body, headers).lines():
            yield _decoded(line)

    def hijack(
        self, path: str, query: dict[str, str] | None = None, body: object = None
    ) -> tuple[_socket.socket, bytes, str]:
        """Upgrade a POST to a raw stream on a connection of its own.

        Returns the socket, the bytes that came with the head, and the media type: multiplexed
        frames or raw bytes.
        """
        target = _target(path, query)
        headers = {**self._agent, **_JSON, "Connection": "Upgrade", "Upgrade": "tcp"}
        data = b"" if body is None else wire.encode(body).encode("utf-8", "replace")
        response = self._connect().request("POST", target, headers, data)
        if response.status >= 400:
            raise fault_of(response.status, _message(response))
        sock, rest = response.take_socket()
        return sock, rest, response.headers.get("content-type", "")

    def ping(self) -> dict[str, str]:
        """Return the headers of `HEAD /_ping`. Raises Unreachable or the engine's refusal."""
        response = self._send("HEAD", "/_ping", dict(self._agent), None)
        if response.status >= 400:
            raise fault_of(response.status, f"ping answered {response.status}")
        return response.headers


def _decoded(content: bytes) -> Any:
    try:
        return wire.decode(content)
    except ValueError as error:
        raise Internal(f"the engine's answer is not JSON: {error}") from None


def api_version() -> str:
    """Return the version of the API that is spoken, as 1.51: DOCKER_API_VERSION's, as with docker."""
    return os.environ.get("DOCKER_API_VERSION", "").removeprefix("v") or API_VERSION


def _target(path: str, query: dict[str, str] | None) -> str:
    """The request's target. `path` may hold a query already: names that come more than once."""
    target = f"/v{escape(api_version())}{path}"
    if query:
        joint = "&" if "?" in path else "?"
        target += joint + "&".join(f"{escape(k)}={escape(v)}" for k, v in query.items())
    return target


def _message(response: Response) -> str:
    content = response.read()
    try:
        value = wire.decode(content)
    except ValueError:
        value = None
    if isinstance(value, dict) and isinstance(value.get("message"), str):  # pyright: ignore
        return value["message"].strip()  # pyright: ignore
    text = content.decode("utf-8", "replace").strip()
    return text or f"request returned {response.status} without a message"


def segment(text: str) -> str:
    """Return `text` as one segment of a path: a container's or an image's name.

    Slashes of image names stay as they are: the Engine API's routes expect them.
    """
    return escape(text, b"/:@+$&,;=")
