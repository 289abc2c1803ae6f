"""How a body's end is told: Content-Length or chunks. Codecs only, no I/O. Source: RFC 9112, 6 and 7."""

from __future__ import annotations

from typing import Protocol

from wherry.model.errors import Invalid

_LONGEST_SIZE_LINE = 256
_LONGEST_TRAILERS = 8 << 10
_HEX = frozenset(b"0123456789abcdefABCDEF")


class Framing(Protocol):
    """Cuts one body out of a stream of bytes."""

    def feed(self, data: bytes) -> tuple[list[bytes], bytes]:
        """Return the body's pieces in `data`, and what follows the body (b"" before its end)."""
        ...

    @property
    def complete(self) -> bool:
        """Whether the body's end was seen."""
        ...


class Sized:
    """A body of a known length."""

    def __init__(self, length: int) -> None:
        self._left = length

    @property
    def complete(self) -> bool:
        return self._left == 0

    @property
    def left(self) -> int:
        """Bytes of the body that are still to come."""
        return self._left

    def skip(self, count: int) -> None:
        """Count bytes that came by another way."""
        self._left -= count

    def feed(self, data: bytes) -> tuple[list[bytes], bytes]:
        """Return at most what is left of the body."""
        if len(data) <= self._left:
            self._left -= len(data)
            return [data] if data else [], b""
        piece, rest = data[: self._left], data[self._left :]
        self._left = 0
        return [piece] if piece else [], rest


class Chunked:
    """A chunked body. Extensions are skipped, trailers dropped; both have a limit."""

    def __init__(self) -> None:
        self._line = b""
        self._left = 0
        self._expect = self._size
        self._trailers = 0
        self.complete = False

    def feed(self, data: bytes) -> tuple[list[bytes], bytes]:
        """Raises Invalid where the coding is broken."""
        pieces: list[bytes] = []
        # Moved along, not cut off: chunks of one byte would have all that follows copied for each.
        at, size = 0, len(data)
        while at < size and not self.complete:
            if self._left:
                piece = data[at : at + self._left]
                at += len(piece)
                self._left -= len(piece)
                pieces.append(piece)
                continue
            end = data.find(b"\n", at)
            self._line += data[at : end if end >= 0 else size]
            if len(self._line) > _LONGEST_SIZE_LINE and self._expect is not self._trailer:
                raise Invalid("malformed chunked body: a size line is too long")
            if len(self._line) + self._trailers > _LONGEST_TRAILERS:
                raise Invalid("malformed chunked body: the trailers are too long")
            if end < 0:
                break
            if not self._line.endswith(b"\r"):
                raise Invalid("malformed chunked body: a line ends without CR")
            whole, self._line, at = self._line[:-1], b"", end + 1
            self._expect(whole)
        return pieces, data[at:] if self.complete else b""

    def _size(self, line: bytes) -> None:
        digits = line.partition(b";")[0].strip(b" \t")
        if not 0 < len(digits) <= 16 or not _HEX.issuperset(digits):
            raise Invalid("malformed chunked body: a size is no hexadecimal number")
        self._left = int(digits, 16)
        self._expect = self._end if self._left else self._trailer

    def _end(self, line: bytes) -> None:
        if line:
            raise Invalid("malformed chunked body: a chunk is longer than its size")
        self._expect = self._size

    def _trailer(self, line: bytes) -> None:
        self._trailers += len(line)
        self.complete = not line


def encode_chunk(data: bytes) -> bytes:
    """Return `data` as one chunk."""
    return b"%x\r\n%b\r\n" % (len(data), data)


LAST_CHUNK = b"0\r\n\r\n"
