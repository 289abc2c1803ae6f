"""The compression libraries behind `compression`, which imports this at the first compressed stream: 1 MB.

Encoders put no time or name into the stream.
"""

from __future__ import annotations

import bz2
import lzma
from typing import Final, Protocol, cast

import zstandard
from isal import igzip_lib, isal_zlib

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
PROBLEMS: Final = (
    _IsalError,
    zstandard.ZstdError,
    lzma.LZMAError,
    OSError,
    ValueError,
    EOFError,
)
"""What decoders raise for a stream that is not whole."""


class Decoder(Protocol):
    """Decompresses one member, in pieces of bounded size."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


class Encoder(Protocol):
    """Compresses one member."""

    def compress(self, data: bytes, /) -> bytes: ...
    def flush(self) -> bytes: ...


def gzip_decoder() -> Decoder:
    """Return a decoder of one gzip member."""
    return igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)


def bzip2_decoder() -> Decoder:
    """Return a decoder of one bzip2 stream."""
    return bz2.BZ2Decompressor()


def xz_decoder() -> Decoder:
    """Return a decoder of one xz stream."""
    return lzma.LZMADecompressor(format=lzma.FORMAT_XZ, memlimit=2 * _MEMORY)


def gzip_encoder(level: int | None) -> Encoder:
    """Return an encoder; isal knows levels 0 to 3, and its header has neither time nor name."""
    wanted = _GZIP_LEVEL if level is None else min(level, 3)
    # isal's stub leaves the type of a dictionary open, which is not used here.
    make = isal_zlib.compressobj  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    return make(wanted, isal_zlib.DEFLATED, _GZIP_WINDOW)


def zstd_encoder(level: int | None) -> Encoder:
    """Return an encoder with a checksum at the end."""
    wanted = _ZSTD_LEVEL if level is None else level
    return zstandard.ZstdCompressor(wanted, write_checksum=True).compressobj()


def bzip2_encoder(level: int | None) -> Encoder:
    """Return an encoder of bzip2."""
    return bz2.BZ2Compressor(9 if level is None else level)


def xz_encoder(level: int | None) -> Encoder:
    """Return an encoder of xz."""
    return lzma.LZMACompressor(preset=6 if level is None else level)


def zstd_decoder() -> Decoder:
    """Return a decoder of one zstd frame."""
    return _ZstdDecoder()


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
