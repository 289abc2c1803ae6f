"""HTTP/1.1 over one stream socket: requests, bodies of every framing, upgrade to a raw stream.

Blocking and single-threaded. A body comes in pieces as they arrive, never collected unless asked.
"""

from __future__ import annotations

import _socket
import os

from wherry.client.faults import Unreachable
from wherry.model.errors import Internal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from wherry.client.address import Address

_PIECE = 1 << 18
_LONGEST_HEAD = 1 << 18
_NO_BODY = (204, 304)


def connect(address: Address) -> _socket.socket:
    """Return a blocking socket connected to `address`. Raises Unreachable."""
    try:
        if address.path:
            sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
            sock.connect(address.path)
            return sock
        if address.ssh:
            from wherry.client.secured import over_ssh

            return over_ssh(address)
        sock = _connect_tcp(address)
    except OSError as error:
        raise _unreachable(address, error) from None
    if address.credentials is not None:
        from wherry.client import secured

        wire = secured.socket.socket(fileno=sock.detach())
        return secured.secure(wire, address)
    return sock


def _connect_tcp(address: Address) -> _socket.socket:
    failure: OSError | None = None
    for family, kind, protocol, _, target in _socket.getaddrinfo(
        address.host, address.port, 0, _socket.SOCK_STREAM
    ):
        sock = _socket.socket(family, kind | _socket.SOCK_CLOEXEC, protocol)
        try:
            sock.connect(target)
        except OSError as error:
            sock.close()
            failure = error
        else:
            sock.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
            return sock
    raise failure or OSError(f"no address for {address.host}")


def _unreachable(address: Address, error: OSError) -> Unreachable:
    if isinstance(error, PermissionError):
        return Unreachable(
            f"permission denied while trying to connect to the engine at {address}",
            hint="be root, or in the group that owns the socket",
        )
    if isinstance(error, (FileNotFoundError, ConnectionRefusedError)):
        return Unreachable(
            f"Cannot connect to the engine at {address}. Is wherryd running?", refused=True
        )
    return Unreachable(
        f"Cannot connect to the engine at {address}: {error.strerror or error}. Is wherryd running?"
    )


def _closed(address: Address) -> Unreachable:
    if address.fault:
        return Unreachable(f"Cannot connect to the engine at {address}: {address.fault}")
    return Unreachable(f"the engine at {address} closed the connection")


def _length(text: str, base: int) -> int:
    try:
        length = int(text.strip(), base)
    except ValueError:
        length = -1
    if length < 0:
        raise Internal(f"not a length in the engine's answer: {text[:80]!r}")
    return length


class Response:
    """An answer whose body is still on the connection. `headers` has lower-case names."""

    __slots__ = ("_connection", "_left", "headers", "status")

    def __init__(
        self, connection: Connection, status: int, headers: dict[str, str], *, bodiless: bool
    ) -> None:
        self.status = status
        self.headers = headers
        self._connection = connection
        # Bytes of body left; -1 is chunked, -2 is until the connection closes.
        if bodiless or status in _NO_BODY or status < 200:
            self._left = 0
        elif headers.get("transfer-encoding", "").lower() == "chunked":
            self._left = -1
        elif "content-length" in headers:
            self._left = _length(headers["content-length"], 10)
        else:
            self._left = -2
        if self._left == 0:
            connection.finished(self)

    @property
    def keeps_alive(self) -> bool:
        """Whether the connection can carry another request after this body."""
        return self._left != -2 and self.headers.get("connection", "").lower() != "close"

    def pieces(self) -> Iterator[bytes]:
        """Yield the body as it arrives, in pieces of at most 256 KiB. Raises Unreachable."""
        if self._left == -1:
            yield from self._chunked()
        elif self._left == -2:
            while piece := self._connection.some(_PIECE):
                yield piece
            self._connection.close()
        else:
            while self._left > 0:
                piece = self._connection.must(min(self._left, _PIECE))
                self._left -= len(piece)
                if self._left == 0:
                    self._connection.finished(self)
                yield piece

    def _chunked(self) -> Iterator[bytes]:
        connection = self._connection
        while True:
            line = connection.line()
            size = _length(line.partition(b";")[0].decode("latin-1"), 16)
            if size == 0:
                while connection.line():
                    pass
                self._left = 0
                connection.finished(self)
                return
            while size > 0:
                piece = connection.must(min(size, _PIECE))
                size -= len(piece)
                yield piece
            connection.line()

    def read(self) -> bytes:
        """Return the rest of the body."""
        return b"".join(self.pieces())

    def lines(self) -> Iterator[bytes]:
        """Yield the body's lines without their ends; a last one without an end too."""
        rest = b""
        for piece in self.pieces():
            *whole, rest = (rest + piece).split(b"\n")
            for line in whole:
                if line.strip():
                    yield line.rstrip(b"\r")
        if rest.strip():
            yield rest

    def close(self) -> None:
        """Give up on the rest of the body, and so on the connection."""
        self._connection.close()

    def take_socket(self) -> tuple[_socket.socket, bytes]:
        """Return the socket of an upgraded answer and what already arrived on it; both are yours."""
        return self._connection.take()

    def fileno(self) -> int:
        """The socket's descriptor, for poll."""
        return self._connection.fileno()


class Connection:
    """One socket. At most one answer is being read on it at any time."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self._socket: _socket.socket | None = connect(address)
        self._buffer = b""
        self.idle = True
        self.used = False

    def fileno(self) -> int:
        """The socket's descriptor."""
        return -1 if self._socket is None else self._socket.fileno()

    def close(self) -> None:
        """Close the socket; harmless when it is closed."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        self.idle = False

    @property
    def closed(self) -> bool:
        """Whether the socket is gone."""
        return self._socket is None

    def request(
        self,
        method: str,
        target: str,
        headers: dict[str, str],
        body: bytes | Iterable[bytes] | None = None,
    ) -> Response:
        """Send a request and return its answer's head. An iterable body goes out chunked.

        Raises Unreachable when the connection breaks.
        """
        self.idle = False
        lines = [f"{method} {target} HTTP/1.1", "Host: wherry"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        try:
            if body is None or isinstance(body, bytes):
                payload = body or b""
                if body is not None or method in ("POST", "PUT"):
                    lines.append(f"Content-Length: {len(payload)}")
                self._send("\r\n".join([*lines, "", ""]).encode() + payload)
            else:
                lines.append("Transfer-Encoding: chunked")
                self._send("\r\n".join([*lines, "", ""]).encode())
                self._send_chunks(body)
        except (BrokenPipeError, ConnectionResetError):
            # An engine that refuses a body early has answered already: read what it says.
            pass
        status, answer_headers = self._head()
        while status in (100, 102, 103):
            status, answer_headers = self._head()
        self.used = True
        return Response(self, status, answer_headers, bodiless=method == "HEAD")

    def _send(self, data: bytes) -> None:
        if self._socket is None:
            raise Unreachable(f"the connection to {self.address} is closed")
        self._socket.sendall(data)

    def _send_chunks(self, body: Iterable[bytes]) -> None:
        for piece in body:
            if piece:
                self._send(b"%x\r\n" % len(piece))
                self._send(piece)
                self._send(b"\r\n")
        self._send(b"0\r\n\r\n")

    def _head(self) -> tuple[int, dict[str, str]]:
        while (end := self._buffer.find(b"\r\n\r\n")) < 0:
            if len(self._buffer) > _LONGEST_HEAD:
                raise Internal(f"the engine at {self.address} sent a head without an end")
            if not self._fill():
                raise _closed(self.address)
        first, *lines = self._buffer[:end].decode("latin-1").split("\r\n")
        self._buffer = self._buffer[end + 4 :]
        words = first.split(" ", 2)
        if len(words) < 2 or not words[0].startswith("HTTP/1.") or not words[1].isdecimal():
            raise Internal(f"not an HTTP answer from {self.address}: {first[:80]!r}")
        headers: dict[str, str] = {}
        for line in lines:
            name, _, value = line.partition(":")
            headers[name.strip().lower()] = value.strip()
        return int(words[1]), headers

    def _fill(self) -> bool:
        if self._socket is None:
            return False
        try:
            data = self._socket.recv(_PIECE)
        except ConnectionResetError:
            return False
        self._buffer = self._buffer + data if self._buffer else data
        return bool(data)

    def some(self, most: int) -> bytes:
        """Return between 1 and `most` bytes, or none at the end of the stream."""
        if not self._buffer and not self._fill():
            return b""
        data = self._buffer
        if len(data) <= most:
            self._buffer = b""
            return data
        self._buffer = data[most:]
        return data[:most]

    def must(self, most: int) -> bytes:
        """As `some`, but the stream may not end here. Raises Unreachable."""
        data = self.some(most)
        if not data:
            self.close()
            raise Unreachable(f"the engine at {self.address} closed the connection in mid-answer")
        return data

    def line(self) -> bytes:
        """Return the bytes up to the next CRLF, which is taken too. Raises Unreachable."""
        while (end := self._buffer.find(b"\n")) < 0:
            if not self._fill():
                self.close()
                raise Unreachable(
                    f"the engine at {self.address} closed the connection in mid-answer"
                )
        line, self._buffer = self._buffer[:end], self._buffer[end + 1 :]
        return line.rstrip(b"\r")

    def finished(self, response: Response) -> None:
        """Note that `response` has been read to its end: the connection may carry another."""
        if response.status == 101:
            return
        if response.keeps_alive:
            self.idle = True
        else:
            self.close()

    def take(self) -> tuple[_socket.socket, bytes]:
        """Return the socket and the bytes read ahead; this object is closed."""
        if self._socket is None:
            raise Unreachable(f"the connection to {self.address} is closed")
        sock, rest = self._socket, self._buffer
        self._socket, self._buffer, self.idle = None, b"", False
        return sock, rest


def escape(text: str, keep: bytes = b"") -> str:
    """Return `text` percent-encoded for a query or a path; `keep` names bytes that stay."""
    safe = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~" + keep
    return "".join(chr(b) if b in safe else f"%{b:02X}" for b in os.fsencode(text))
