"""The Engine API's multiplexed stream: frames of `stream, 0, 0, 0, length (32 bits, big-endian), bytes`.

Source: API `POST /containers/{id}/attach`. A codec without I/O.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

STDIN, STDOUT, STDERR, SYSTEM = range(4)
HEADER = 8


class Demultiplexer:
    """Splits what arrives into (stream, bytes), holding no more than a header of it back."""

    __slots__ = ("_head", "_left", "_stream")

    def __init__(self) -> None:
        self._head = b""
        self._left = 0
        self._stream = STDOUT

    def feed(self, data: bytes | memoryview) -> Iterator[tuple[int, memoryview]]:
        """Yield the pieces of payload in `data`; they are views of it. Raises ValueError."""
        view = memoryview(data)
        offset, end = 0, len(view)
        while offset < end:
            if self._left:
                piece = view[offset : offset + self._left]
                self._left -= len(piece)
                offset += len(piece)
                yield self._stream, piece
                continue
            need = HEADER - len(self._head)
            head = self._head + bytes(view[offset : offset + need])
            offset += need
            if len(head) < HEADER:
                self._head = head
                return
            self._head = b""
            if head[0] > SYSTEM or head[1:4] != b"\0\0\0":
                raise ValueError(f"not a frame header: {head.hex(' ')}")
            self._stream = head[0]
            self._left = int.from_bytes(head[4:8], "big")

    @property
    def clean(self) -> bool:
        """Whether the stream may end here: no frame is incomplete."""
        return not self._head and not self._left


def header(stream: int, length: int) -> bytes:
    """Return the eight bytes before `length` bytes of `stream`."""
    return (stream << 56 | length).to_bytes(HEADER, "big")


def encode(stream: int, data: bytes) -> bytes:
    """Return `data` as one frame of `stream`."""
    return header(stream, len(data)) + data
