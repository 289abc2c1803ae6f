"""A request as a route sees it, and a response as a route gives it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import parse_qsl

from wherry.model.errors import Invalid

JSON_LIMIT = 4 << 20
"""Bytes of a request body that is read whole."""

_FIELDS = 1000
# Docker's httputils.BoolValue: everything else is true.
_FALSE = frozenset(("", "0", "no", "false", "none"))


class ClientGone(ConnectionError):
    """The client closed its connection; there is nobody to answer."""


class TooLarge(Invalid):
    """A body that is read whole is larger than JSON_LIMIT (413)."""


class Body(Protocol):
    """A request body as it comes in."""

    async def read(self) -> bytes:
        """Return the next piece, b"" at the end. Raises ClientGone."""
        ...

    async def read_pieces(self) -> list[bytes]:
        """Return all pieces that are here, at least one, [] at the end. Raises ClientGone."""
        ...

    async def pour(self, take: Callable[[memoryview], object]) -> int:
        """Hand the next bytes to `take`, in a thread; return how many, 0 at the end.

        Raises ClientGone, and what `take` raises.
        """
        ...

    def expected(self) -> int | None:
        """Return Content-Length, or None where it was not said (chunked)."""
        ...


class Hijack(Protocol):
    """See `Request.hijack`."""

    def __call__(self, content_type: str, head: bytes = ..., /) -> Awaitable[tuple[int, bytes]]: ...


@dataclass(slots=True)
class Request:
    """One request. `path` is decoded and without the version prefix; header names are lower case."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: Body
    hijack: Hijack
    """`fd, initial = await request.hijack(content_type)`: answers 101 or 200 (or `head`, as it is) and
    gives the raw connection away. The caller owns `fd`; `initial` was read from it already."""
    path: str = ""
    version: tuple[int, int] = (0, 0)
    """An API's version where its paths name one; whoever routes sets it."""
    parameters: Mapping[str, str] = field(default_factory=dict[str, str])
    """What the route's pattern caught."""
    _query: dict[str, list[str]] | None = None

    @property
    def query(self) -> dict[str, list[str]]:
        """The query's parameters, each with its values in order; what is no UTF-8 becomes U+FFFD."""
        if self._query is None:
            self._query = {}
            for name, value in self._pairs("replace"):
                self._query.setdefault(name, []).append(value)
        return self._query

    def _pairs(self, errors: str) -> list[tuple[str, str]]:
        text = self.target.partition("?")[2]
        try:
            return parse_qsl(text, keep_blank_values=True, errors=errors, max_num_fields=_FIELDS)
        except ValueError:
            raise Invalid(f"the query has more than {_FIELDS} parameters") from None

    def file_name(self, name: str) -> str:
        """Return a parameter that names a file, odd bytes kept as surrogates (PEP 383)."""
        return next((value for key, value in self._pairs("surrogateescape") if key == name), "")

    def text(self, name: str, default: str = "") -> str:
        """Return the first value of a query parameter."""
        return self.query.get(name, (default,))[0]

    def flag(self, name: str, default: bool = False) -> bool:
        """Return a query parameter as Docker reads a boolean: absent is `default`."""
        values = self.query.get(name)
        return default if values is None else values[0].strip().lower() not in _FALSE

    def number(self, name: str, default: int = 0) -> int:
        """Return a query parameter as an integer; Invalid where it is none."""
        text = self.text(name)
        if not text:
            return default
        try:
            return int(text)
        except ValueError:
            raise Invalid(f"invalid value for {name}: {text!r} is not a number") from None

    async def read(self, limit: int = JSON_LIMIT) -> bytes:
        """Return the whole body. Raises TooLarge beyond `limit` bytes."""
        expected = self.body.expected()
        if expected is not None and expected > limit:
            raise TooLarge(f"request body of {expected} bytes is larger than {limit}")
        pieces: list[bytes] = []
        size = 0
        while piece := await self.body.read():
            size += len(piece)
            if size > limit:
                raise TooLarge(f"request body is larger than {limit} bytes")
            pieces.append(piece)
        return b"".join(pieces)


@dataclass(slots=True)
class FileSlice:
    """`count` bytes of an open file from `offset` on, as a body. Who sends it closes the file."""

    fd: int
    offset: int
    count: int

    def close(self) -> None:
        """Close the file; a second time does nothing."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)


class LastPiece(bytes):
    """A body's last piece, not empty, known to be it: sent in one write with the body's end."""


@dataclass(slots=True)
class Response:
    """What a handler answers. A body that is an iterator is sent piece by piece, a file by sendfile(2).

    `early` sends the head before the first piece is there (`wait` must, since its clients start the
    container only then); otherwise an error before the first piece still becomes a status.
    """

    status: int = 200
    body: bytes | AsyncIterator[bytes] | FileSlice = b""
    content_type: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    early: bool = False
    close: bool = False


class Hijacked:
    """Answered by a route that gave its connection away: nothing is left to send."""


HIJACKED = Hijacked()
Answer = Response | Hijacked
Handler = Callable[[Request], Awaitable[Answer]]
AtOnce = Callable[[Request], Response | None]
"""Answers a request without a body where that needs no waiting; None has the `Handler` asked.

Its answers are bytes. It raises nothing: what fails is left to the handler too.
"""
