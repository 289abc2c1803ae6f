"""Compressed streams, both ways: gzip, zstd; bzip2 and xz to read and write archives of others.

Decoders give out bounded pieces whatever the input expands to; what follows a member is another
member, zeros, or Invalid. Encoders put no time or name into the stream: same in, same out.
"""

from __future__ import annotations

import bz2
import enum
import lzma
from collections.abc import Callable
from typing import Final, Protocol, cast

import zstandard
from isal import igzip_lib, isal_zlib

from wherry.model.errors import Invalid
from wherry.storage.layers.entries import Readable
from wherry.storage.layers.streams import HashingReader, HashingWriter, ReadAhead

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
_MEMORY: Final = (
    1 << 27
)  # bytes of window a decoder may take: zstd --long's default, xz -9 and more
# A block of 4 bytes may stand for 128 KiB: 64 MiB is the most that comes of one step.
_ZSTD_STEP: Final = 2048
_GZIP_LEVEL: Final = 1
_GZIP_WINDOW: Final = 31  # 15 bits, with gzip's header and trailer
_ZSTD_LEVEL: Final = 3


# isal's stub declares the class as an instance.
_IsalError: Final = cast("type[Exception]", igzip_lib.IsalError)
_PROBLEMS: Final = (
    _IsalError,
    zstandard.ZstdError,
    lzma.LZMAError,
    OSError,
    ValueError,
    EOFError,
)


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


class _Decoder(Protocol):
    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


class _Encoder(Protocol):
    def compress(self, data: bytes, /) -> bytes: ...
    def flush(self) -> bytes: ...


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
    match kind:
        case Compression.NONE:
            return kind, rest
        case Compression.GZIP:
            return kind, _Decoded(rest, kind, _gzip_decoder)
        case Compression.ZSTD:
            return kind, _Decoded(rest, kind, _ZstdDecoder)
        case Compression.BZIP2:
            return kind, _Decoded(rest, kind, bz2.BZ2Decompressor)
        case Compression.XZ:
            return kind, _Decoded(rest, kind, _xz_decoder)


def compressor(
    kind: Compression, out: Callable[[bytes], object], *, level: int | None = None
) -> Compressor:
    """Return a Compressor of `kind` that writes to `out`; `level` is that format's own."""
    match kind:
        case Compression.NONE:
            return _Encoded(_Plain(), out)
        case Compression.GZIP:
            # isal knows levels 0 to 3; its header has neither time nor name.
            wanted = _GZIP_LEVEL if level is None else min(level, 3)
            return _Encoded(_gzip_encoder(wanted), out)
        case Compression.ZSTD:
            wanted = _ZSTD_LEVEL if level is None else level
            encoder = zstandard.ZstdCompressor(wanted, write_checksum=True)
            return _Encoded(encoder.compressobj(), out)
        case Compression.BZIP2:
            return _Encoded(bz2.BZ2Compressor(9 if level is None else level), out)
        case Compression.XZ:
            return _Encoded(lzma.LZMACompressor(preset=6 if level is None else level), out)


def _gzip_encoder(level: int) -> _Encoder:
    # isal's stub leaves the type of a dictionary open, which is not used here.
    make = isal_zlib.compressobj  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    return make(level, isal_zlib.DEFLATED, _GZIP_WINDOW)


def _gzip_decoder() -> _Decoder:
    return igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)


def _xz_decoder() -> _Decoder:
    return lzma.LZMADecompressor(format=lzma.FORMAT_XZ, memlimit=2 * _MEMORY)


class _ZstdDecoder:
    """zstandard's decompressor, which bounds no output by itself, in steps that do."""

    def __init__(self) -> None:
        self._decoder = zstandard.ZstdDecompressor(max_window_size=_MEMORY).decompressobj()
        self._input = memoryview(b"")
        self._output = b""

    @property
    def eof(self) -> bool:
        return self._decoder.eof and not self._output

    @property
    def needs_input(self) -> bool:
        return not self._input and not self._output and not self._decoder.eof

    @property
    def unused_data(self) -> bytes:
        return self._decoder.unused_data + bytes(self._input)

    def decompress(self, data: bytes, max_length: int, /) -> bytes:
        if data:
            self._input = memoryview(bytes(self._input) + data if self._input else data)
        parts = [self._output]
        size = len(self._output)
        while size < max_length and self._input and not self._decoder.eof:
            part = self._decoder.decompress(self._input[:_ZSTD_STEP])
            self._input = self._input[_ZSTD_STEP:]
            parts.append(part)
            size += len(part)
        result = b"".join(parts)
        self._output = result[max_length:]
        return result[:max_length]


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

    def __init__(self, stream: Readable, kind: Compression, make: Callable[[], _Decoder]) -> None:
        self._stream = stream
        self._kind = kind
        self._make = make
        self._decoder: _Decoder | None = make()
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
            except _PROBLEMS as problem:
                raise Invalid(f"the {self._kind} stream is corrupt: {problem}") from problem
            if result:
                return result
        return b""

    def _next_member(self, rest: bytes) -> _Decoder | None:
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
    def __init__(self, encoder: _Encoder, out: Callable[[bytes], object]) -> None:
        self._encoder = encoder
        self._out = out

    def write(self, data: bytes, /) -> int:
        if result := self._encoder.compress(data):
            self._out(result)
        return len(data)

    def finish(self) -> None:
        if result := self._encoder.flush():
            self._out(result)
