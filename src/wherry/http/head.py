"""The head of a request in, the head of a response out."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Protocol, cast

import httptools

REASONS = {
    100: "Continue",
    101: "UPGRADED",
    200: "OK",
    201: "Created",
    202: "Accepted",
    204: "No Content",
    206: "Partial Content",
    304: "Not Modified",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    409: "Conflict",
    412: "Precondition Failed",
    413: "Content Too Large",
    416: "Range Not Satisfiable",
    429: "Too Many Requests",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    501: "Not Implemented",
    503: "Service Unavailable",
    507: "Insufficient Storage",
}
BODILESS = frozenset((101, 204, 304))
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Parser(Protocol):
    """httptools.HttpRequestParser, as far as it is used here; httptools ships no types."""

    def feed_data(self, data: bytes) -> None: ...
    def get_method(self) -> bytes: ...
    def get_http_version(self) -> str: ...
    def should_keep_alive(self) -> bool: ...


class HeadReader:
    """Parses one head. `feed` it until `complete`; llhttp refuses what is no HTTP."""

    def __init__(self) -> None:
        self.complete = False
        self.target = ""
        self.headers: dict[str, str] = {}
        self.method = ""
        self.modern = True
        """Whether the client speaks HTTP/1.1, so that chunks and `100 Continue` can be sent."""
        self.keep_alive = False
        """Whether the connection may serve another request."""
        self._parser = cast(Parser, httptools.HttpRequestParser(self))

    def feed(self, data: bytes) -> str:
        """Take bytes of the head, never beyond it. Return what is wrong with them, "" for nothing."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass
        except httptools.HttpParserError as error:
            return f"malformed request: {error}"
        except UnicodeError:
            return "malformed request: the target is no text"
        return ""

    def on_url(self, url: bytes) -> None:
        """Called by httptools, once or more."""
        self.target += url.decode("utf-8", "surrogateescape")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by httptools for each field."""
        key = name.decode("latin-1").lower()
        text = value.decode("latin-1")
        known = self.headers.get(key)
        self.headers[key] = text if known is None else f"{known}, {text}"

    def on_headers_complete(self) -> None:
        """Called by httptools at the empty line; llhttp forgets these once the message is complete."""
        self.complete = True
        self.method = self._parser.get_method().decode("ascii")
        self.modern = self._parser.get_http_version() == "1.1"
        self.keep_alive = self._parser.should_keep_alive()


_second = 0
_starts: dict[tuple[str, int, str, tuple[tuple[str, str], ...]], bytes] = {}
"""Heads without their length, as they were rendered in `_second`: most answers have the same."""
_MOST = 64


def render_head(
    fields: str,
    status: int,
    content_type: str = "",
    headers: tuple[tuple[str, str], ...] = (),
    length: str = "",
) -> bytes:
    """Return a response's head.

    `fields` are the lines that every head has, `length` is the line that tells the body's framing.
    """
    global _second
    now = int(time.time())
    if now != _second or len(_starts) > _MOST:
        _second = now
        _starts.clear()
    key = fields, status, content_type, headers
    start = _starts.get(key)
    if start is None:
        start = _starts[key] = _render_start(fields, status, content_type, headers)
    return start + length.encode() + b"\r\n"


def _render_start(
    fields: str, status: int, content_type: str, headers: Iterable[tuple[str, str]]
) -> bytes:
    reason = REASONS.get(status, "Unknown")
    date = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(_second))
    lines = [f"HTTP/1.1 {status} {reason}\r\n{fields}Date: {date}\r\n".encode()]
    if content_type:
        lines.append(f"Content-Type: {content_type}\r\n".encode())
    lines.extend(f"{name}: {value}\r\n".encode("latin-1", "replace") for name, value in headers)
    return b"".join(lines)


def render_hijack_head(content_type: str, *, upgrade: bool) -> bytes:
    """Return the head that turns a connection into a raw stream."""
    if not upgrade:
        # Docker sends nothing more either; a client without Upgrade takes what follows as raw.
        return f"HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\n\r\n".encode()
    return (
        f"HTTP/1.1 101 UPGRADED\r\nContent-Type: {content_type}\r\n"
        "Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
    ).encode()
