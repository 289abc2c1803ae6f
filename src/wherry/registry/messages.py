"""Requests and answers of HTTP/1.1 on one blocking connection: heads bounded, bodies counted.

Whoever answers is not trusted: a head has a size and a deadline, a body must keep coming, and what
is not HTTP is refused. Source: RFC 9110, RFC 9112.
"""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Callable, Mapping
from typing import Final

from wherry.model.errors import Unavailable

_LARGEST_HEAD: Final = 64 << 10
_MOST_FIELDS: Final = 200
_LONGEST_REASON: Final = 200
_PIECE: Final = 256 << 10
HEAD_SECONDS: Final = 60.0
IDLE_SECONDS: Final = 60.0
# A body must bring this much in each window: a trickle keeps a thread and a slot for ever.
_WINDOW_SECONDS: Final = 60.0
_WINDOW_BYTES: Final = 4 << 10
_BODILESS: Final = (204, 304)
_DECIMAL: Final = re.compile(r"[0-9]{1,18}")
_HEXADECIMAL: Final = re.compile(r"[0-9A-Fa-f]{1,15}")


class BrokenConnection(Unavailable):
    """The other side closed, reset, stalled, or speaks no HTTP; trying again may help."""


class NotSpoken(BrokenConnection):
    """What came is no HTTP at all: a server that wants TLS, or another protocol."""


class Connection:
    """One socket, plain or TLS; carries one request and its answer at a time."""

    def __init__(self, sock: socket.socket, name: str) -> None:
        self.name = name
        self._socket = sock
        self._buffer = bytearray()
        self.used = False
        self.open = True

    def abort(self) -> None:
        """Wake whoever waits on the socket, from another thread."""
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

    def close(self) -> None:
        """Close the socket; harmless when it is closed."""
        self.open = False
        self._socket.close()

    def send_head(self, method: str, target: str, headers: Mapping[str, str]) -> None:
        """Send a request's head. Raises BrokenConnection."""
        lines = [f"{method} {target} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        text = "\r\n".join([*lines, "", ""])
        # A file or a challenge of a registry's may have put something into a header.
        if text.count("\n") != len(lines) + 1:
            raise Unavailable("a header with a line break was not sent")
        self.send(text.encode("latin-1", "replace"))

    def send(self, data: bytes | memoryview) -> None:
        """Send bytes of a request's body. Raises BrokenConnection."""
        try:
            self._socket.settimeout(IDLE_SECONDS)
            self._socket.sendall(data)
        except (OSError, ValueError) as error:
            raise self._broken(error) from error

    def answer(self, method: str) -> Answer:
        """Read the head of the answer, passing over 1xx. Raises BrokenConnection."""
        deadline = time.monotonic() + HEAD_SECONDS
        while True:
            status, reason, headers = self._head(deadline)
            if status >= 200:
                self.used = True
                return Answer(self, method, status, reason, headers)

    def ready(self) -> bool:
        """Whether something (an early answer, the end) waits to be read, without waiting."""
        if self._buffer:
            return True
        try:
            self._socket.settimeout(0)
            data = self._socket.recv(1)
        except (BlockingIOError, TimeoutError):
            return False
        except OSError as error:
            # ssl says SSLWantReadError where a plain socket says BlockingIOError.
            return "Want" not in type(error).__name__
        self._buffer += data
        return True

    def receive(self, most: int, deadline: float | None = None) -> bytes:
        """Return between 1 and `most` bytes, none at the end of the stream. Raises BrokenConnection."""
        if self._buffer:
            data = bytes(self._buffer[:most])
            del self._buffer[: len(data)]
            return data
        seconds = IDLE_SECONDS if deadline is None else deadline - time.monotonic()
        if seconds <= 0:
            raise BrokenConnection(f"{self.name} took too long to answer")
        try:
            self._socket.settimeout(min(seconds, IDLE_SECONDS))
            return self._socket.recv(most)
        except (OSError, ValueError) as error:
            raise self._broken(error) from error

    def line(self, limit: int, deadline: float | None = None) -> bytes:
        """Return the bytes before the next line's end, which is taken too. Raises BrokenConnection."""
        while (end := self._buffer.find(b"\n")) < 0:
            if len(self._buffer) > limit:
                raise NotSpoken(f"{self.name} sent a line without an end")
            kept = bytes(self._buffer)
            self._buffer.clear()
            data = self.receive(_PIECE, deadline)
            if not data:
                raise BrokenConnection(f"{self.name} closed the connection")
            self._buffer += kept + data
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        if len(line) > limit:
            raise NotSpoken(f"{self.name} sent a line of {len(line)} bytes")
        return line.rstrip(b"\r")

    def _head(self, deadline: float) -> tuple[int, str, dict[str, str]]:
        first = self.line(_LARGEST_HEAD, deadline).decode("latin-1")
        version, _, rest = first.partition(" ")
        code, _, reason = rest.partition(" ")
        if not version.startswith("HTTP/1.") or len(code) != 3 or not code.isdecimal():
            raise NotSpoken(f"{self.name} does not answer in HTTP: {first[:60]!r}")
        reason = "".join(c if c.isprintable() else "?" for c in reason[:_LONGEST_REASON])
        headers: dict[str, str] = {}
        size = len(first)
        for _ in range(_MOST_FIELDS):
            line = self.line(_LARGEST_HEAD, deadline)
            size += len(line)
            if size > _LARGEST_HEAD:
                break
            if not line:
                return int(code), reason, headers
            name, _, value = line.decode("latin-1").partition(":")
            name, value = name.strip().lower(), value.strip()
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        raise BrokenConnection(f"{self.name} sent a head of more than {_LARGEST_HEAD} bytes")

    def _broken(self, error: Exception) -> BrokenConnection:
        if isinstance(error, TimeoutError):
            return BrokenConnection(f"{self.name} sent nothing for {IDLE_SECONDS:.0f} seconds")
        reason = tls_reason(error) or getattr(error, "strerror", None) or str(error)
        reason = reason or type(error).__name__
        return BrokenConnection(f"the connection to {self.name} broke: {reason}")


def tls_reason(error: Exception) -> str:
    """Return what an ssl.SSLError says, a peer's alert as Go's clients say it; "" for other errors."""
    words = getattr(error, "reason", None) or ""
    if not isinstance(words, str):
        return ""
    version, alert, rest = words.lower().partition("_alert_")
    if alert and version.startswith(("tls", "ssl")):
        return f"remote error: tls: {rest.replace('_', ' ')}"
    return words.lower().replace("_", " ")


class Answer:
    """An answer whose body is still on the connection; `headers` has lower-case names.

    `done` is called once, with whether the connection can carry another request.
    """

    def __init__(
        self, connection: Connection, method: str, status: int, reason: str, headers: dict[str, str]
    ) -> None:
        self.status = status
        self.reason = reason
        self.headers = headers
        self.origin = ""
        """Who answered, as a URL without a path."""
        self.done: Callable[[bool], object] | None = None
        self._connection = connection
        self._chunked = False
        self._left: int | None = None
        self._window = (time.monotonic(), 0)
        codings = headers.get("transfer-encoding", "").lower()
        length = headers.get("content-length")
        if method == "HEAD" or status in _BODILESS:
            self._left = 0
        elif codings:
            if codings != "chunked":
                raise BrokenConnection(f"{connection.name} sent a {codings!r} transfer coding")
            self._chunked = True
            self._left = 0
        elif length is not None:
            self._left = _one_length(length, connection.name)
        self.length = None if self._chunked or method == "HEAD" else self._left
        self._ended = False
        if self._left == 0 and not self._chunked:
            self._end()

    def begin(self, done: Callable[[bool], object]) -> None:
        """Have `done` called when the body has been read to its end, at once if it has been."""
        if self._ended:
            done(self._reusable())
        else:
            self.done = done

    def read(self, n: int = _PIECE) -> bytes:
        """Return at most `n` bytes of the body, b"" at its end. Raises BrokenConnection."""
        if self._ended:
            return b""
        if self._chunked and not self._left and not self._next_chunk():
            return b""
        most = n if self._left is None else min(n, self._left)
        data = self._connection.receive(most)
        if not data:
            if self._left is None:
                self._end()
                return b""
            raise BrokenConnection(
                f"{self._connection.name} closed the connection {self._left} bytes too early"
            )
        self._check_rate(len(data))
        if self._left is not None:
            self._left -= len(data)
            if not self._left:
                if not self._chunked:
                    self._end()
                elif self._connection.line(16):
                    raise BrokenConnection(f"{self._connection.name} sent a malformed chunk")
        return data

    def read_all(self, limit: int) -> bytes:
        """Return the rest of the body. Raises BrokenConnection where it is longer than `limit` bytes."""
        pieces: list[bytes] = []
        size = 0
        while data := self.read():
            size += len(data)
            if size > limit:
                raise BrokenConnection(
                    f"{self._connection.name} sent more than {limit} bytes where less was expected"
                )
            pieces.append(data)
        return b"".join(pieces)

    def abort(self) -> None:
        """Wake whoever reads the body, from another thread."""
        self._connection.abort()

    def close(self) -> None:
        """Give up what is left of the body, and with it the connection."""
        if not self._ended:
            self._ended = True
            self._finish(False)

    def _next_chunk(self) -> bool:
        line = self._connection.line(1024)
        text = line.partition(b";")[0].decode("latin-1")
        self._left = _length(text, 16, self._connection.name)
        if self._left:
            return True
        for _ in range(_MOST_FIELDS):
            if not self._connection.line(_LARGEST_HEAD):
                self._end()
                return False
        raise BrokenConnection(f"{self._connection.name} sent endless trailers")

    def _check_rate(self, size: int) -> None:
        since, taken = self._window
        taken += size
        now = time.monotonic()
        if now - since < _WINDOW_SECONDS:
            self._window = (since, taken)
            return
        self._window = (now, 0)
        if taken < _WINDOW_BYTES:
            raise BrokenConnection(
                f"{self._connection.name} sent {taken} bytes in {now - since:.0f} seconds: too slow"
            )

    def _reusable(self) -> bool:
        return self._left is not None and self.headers.get("connection", "").lower() != "close"

    def _end(self) -> None:
        self._ended = True
        self._finish(self._reusable())

    def _finish(self, reusable: bool) -> None:
        done, self.done = self.done, None
        if done is not None:
            done(reusable)


def _length(text: str, base: int, name: str) -> int:
    digits = text.strip()
    # int() would take a sign, underscores, 0x and digits of other scripts as well.
    if not (_HEXADECIMAL if base == 16 else _DECIMAL).fullmatch(digits):
        raise BrokenConnection(f"{name} sent {text[:40]!r} for a length")
    return int(digits, base)


def _one_length(field: str, name: str) -> int:
    """Return what a Content-Length says. Raises BrokenConnection for two that differ (RFC 9112, 6.3)."""
    lengths = {_length(text, 10, name) for text in field.split(",")}
    if len(lengths) > 1:
        raise BrokenConnection(f"{name} sent {field[:40]!r} for a length")
    return lengths.pop()
