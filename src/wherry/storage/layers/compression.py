"""Compressed streams, both ways: gzip, zstd; bzip2 and xz to read and write archives of others.

Decoders give out bounded pieces whatever the input expands to; what follows a member is another
member, zeros, or Invalid. Encoders put no time or name into the stream: same in, same out.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol

from wherry.model.errors import Invalid
from wherry.storage.layers.entries import Readable
from wherry.storage.layers.streams import HashingReader, HashingWriter, ReadAhead

if TYPE_CHECKING:
    from wherry.storage.layers.codecs import Decoder, Encoder

__all__ = [
    "Compression",
    "Compressor",
    "HashingReader",
    "HashingWriter",
    "ReadAhead",
    "compressor",
    "decompressed",
    "sniff",
]

_CHUNK: Final = 1 << 18
_HEAD: Final = 6


class Compression(enum.StrEnum):
    """How a stream is compressed; the value is what media types end in."""

    NONE = ""
    GZIP = "gzip"
    ZSTD = "zstd"
    BZIP2 = "bzip2"
    XZ = "xz"


_MAGICS: Final = (
    (b"\x1f\x8b\x08", Compression.GZIP),
    (b"\x28\xb5\x2f\xfd", Compression.ZSTD),
    (b"BZh", Compression.BZIP2),
    (b"\xfd7zXZ\x00", Compression.XZ),
)


class Compressor(Protocol):
    """Takes bytes; what comes of them goes to the `out` it was made with."""

    def write(self, data: bytes, /) -> int: ...
    def finish(self) -> None: ...


def sniff(head: bytes) -> Compression:
    """Return the compression that a stream's first six bytes show; NONE for any other."""
    for magic, kind in _MAGICS:
        if head.startswith(magic):
            return kind
    # A skippable frame may come first: RFC 8878, 3.1.2.
    if len(head) >= 4 and head[0] & 0xF0 == 0x50 and head[1:4] == b"\x2a\x4d\x18":
        return Compression.ZSTD
    return Compression.NONE


def decompressed(stream: Readable) -> tuple[Compression, Readable]:
    """Return how `stream` is compressed, and a stream of what it holds.

    Reading that raises Invalid for corrupt or truncated data.
    """
    head = b""
    while len(head) < _HEAD and (more := stream.read(_HEAD - len(head))):
        head += more
    kind = sniff(head)
    rest = _Prefixed(head, stream)
    if kind is Compression.NONE:
        return kind, rest
    return kind, _Decoded(rest, kind)


def _decoders(kind: Compression) -> Callable[[], Decoder]:
    from wherry.storage.layers import codecs

    match kind:
        case Compression.GZIP:
            return codecs.gzip_decoder
        case Compression.ZSTD:
            return codecs.zstd_decoder
        case Compression.BZIP2:
            return codecs.bzip2_decoder
        case Compression.XZ:
            return codecs.xz_decoder
        case Compression.NONE:
            raise AssertionError("nothing is to be decompressed")


def compressor(
    kind: Compression, out: Callable[[bytes], object], *, level: int | None = None
) -> Compressor:
    """Return a Compressor of `kind` that writes to `out`; `level` is that format's own."""
    if kind is Compression.NONE:
        return _Encoded(_Plain(), out)
    from wherry.storage.layers import codecs

    match kind:
        case Compression.GZIP:
            return _Encoded(codecs.gzip_encoder(level), out)
        case Compression.ZSTD:
            return _Encoded(codecs.zstd_encoder(level), out)
        case Compression.BZIP2:
            return _Encoded(codecs.bzip2_encoder(level), out)
        case Compression.XZ:
            return _Encoded(codecs.xz_encoder(level), out)


class _Prefixed:
    def __init__(self, head: bytes, stream: Readable) -> None:
        self._head = head
        self._stream = stream

    def read(self, n: int, /) -> bytes:
        if not self._head:
            return self._stream.read(n)
        data, self._head = self._head[:n], self._head[n:]
        return data


class _Decoded:
    """What a compressed stream holds, member after member."""

    def __init__(self, stream: Readable, kind: Compression) -> None:
        from wherry.storage.layers.codecs import PROBLEMS

        self._stream = stream
        self._kind = kind
        self._problems = PROBLEMS
        self._make = _decoders(kind)
        self._decoder: Decoder | None = self._make()
        self._input = b""

    def read(self, n: int, /) -> bytes:
        while self._decoder is not None and n:
            decoder = self._decoder
            if decoder.eof:
                self._decoder = self._next_member(decoder.unused_data)
                continue
            if decoder.needs_input and not self._input:
                self._input = self._stream.read(_CHUNK)
                if not self._input:
                    raise Invalid(f"the {self._kind} stream is truncated")
            data, self._input = self._input, b""
            try:
                result = decoder.decompress(data, n)
            except self._problems as problem:
                raise Invalid(f"the {self._kind} stream is corrupt: {problem}") from problem
            if result:
                return result
        return b""

    def _next_member(self, rest: bytes) -> Decoder | None:
        """Return a decoder for what follows a member; None at the stream's end."""
        while True:
            # Tapes and xz streams are filled up with zeros.
            rest = rest.lstrip(b"\0")
            if len(rest) >= _HEAD:
                break
            more = self._stream.read(_CHUNK)
            if not more:
                break
            rest += more
        if not rest:
            return None
        if sniff(rest[:_HEAD]) is not self._kind:
            raise Invalid(f"the {self._kind} stream is followed by something else")
        self._input = rest
        return self._make()


class _Plain:
    def compress(self, data: bytes, /) -> bytes:
        return data

    def flush(self) -> bytes:
        return b""


class _Encoded:
    def __init__(self, encoder: Encoder, out: Callable[[bytes], object]) -> None:
        self._encoder = encoder
        self._out = out

    def write(self, data: bytes, /) -> int:
        if result := self._encoder.compress(data):
            self._out(result)
        return len(data)

    def finish(self) -> None:
        if result := self._encoder.flush():
            self._out(result)
