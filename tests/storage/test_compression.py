"""Compressed streams and the threads beside them."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import lzma
import subprocess
import threading
from io import BytesIO

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from wherry.model.errors import Invalid
from wherry.storage.layers.compression import (
    Compression,
    HashingReader,
    HashingWriter,
    ReadAhead,
    compressor,
    decompressed,
    sniff,
)

MEMBERS = {
    Compression.GZIP: lambda data: gzip.compress(data, 6),
    Compression.ZSTD: lambda data: zstandard.ZstdCompressor(3, write_checksum=True).compress(data),
    Compression.BZIP2: bz2.compress,
    Compression.XZ: lzma.compress,
}
PACKED = list(MEMBERS)
TEXT = b"".join(b"line %d of some text\n" % n for n in range(60_000))


def inflate(data: bytes, n: int = 1 << 16) -> bytes:
    _, stream = decompressed(BytesIO(data))
    return b"".join(iter(lambda: stream.read(n), b""))


@pytest.mark.parametrize("kind", PACKED)
def test_each_kind_is_recognised_and_read(kind: Compression) -> None:
    data = MEMBERS[kind](TEXT)
    found, stream = decompressed(BytesIO(data))
    assert found is kind
    assert b"".join(iter(lambda: stream.read(10_007), b"")) == TEXT
    assert stream.read(1) == b""
    assert inflate(MEMBERS[kind](b"")) == b""


@pytest.mark.parametrize("kind", PACKED)
def test_members_follow_each_other_and_zeros_may_follow(kind: Compression) -> None:
    make = MEMBERS[kind]
    assert inflate(make(TEXT) + make(b"second") + make(b"") + make(b"last")) == TEXT + b"secondlast"
    assert inflate(make(TEXT) + bytes(512)) == TEXT
    with pytest.raises(Invalid, match="followed by something else"):
        inflate(make(TEXT) + b"garbage")


@pytest.mark.parametrize("kind", PACKED)
def test_truncated_and_corrupt_streams_are_refused(kind: Compression) -> None:
    data = MEMBERS[kind](TEXT)
    for cut in (8, len(data) // 2, len(data) - 1):
        with pytest.raises(Invalid, match="truncated|corrupt"):
            inflate(data[:cut])
    broken = bytearray(data)
    broken[len(data) // 2] ^= 0x55
    with pytest.raises(Invalid):
        inflate(bytes(broken))
    if kind in (Compression.GZIP, Compression.ZSTD):
        broken = bytearray(data)
        broken[-2 if kind is Compression.ZSTD else -6] ^= 1  # the checksum
        with pytest.raises(Invalid):
            inflate(bytes(broken))


def test_anything_else_passes_unchanged() -> None:
    for data in (b"", b"a", b"\x1f\x8b", TEXT):
        assert decompressed(BytesIO(data))[0] is Compression.NONE
        assert inflate(data) == data


def test_a_skippable_frame_may_come_first() -> None:
    skippable = b"\x5a\x2a\x4d\x18" + (5).to_bytes(4, "little") + b"hello"
    assert sniff(skippable) is Compression.ZSTD
    assert inflate(skippable + MEMBERS[Compression.ZSTD](TEXT)) == TEXT


@pytest.mark.parametrize("kind", PACKED)
def test_a_bomb_comes_out_in_bounded_pieces(kind: Compression) -> None:
    _, stream = decompressed(BytesIO(MEMBERS[kind](bytes(200 << 20))))
    pieces = [len(stream.read(1 << 20)) for _ in range(20)]
    assert max(pieces) <= 1 << 20
    assert min(pieces) > 0


@pytest.mark.parametrize("kind", list(Compression))
def test_what_is_compressed_is_read_and_always_the_same(kind: Compression) -> None:
    results: list[bytes] = []
    for _ in range(2):
        out = BytesIO()
        encoder = compressor(kind, out.write)
        for start in range(0, len(TEXT), 100_000):
            assert encoder.write(TEXT[start : start + 100_000]) > 0
        encoder.finish()
        results.append(out.getvalue())
    assert results[0] == results[1]
    assert sniff(results[0]) is kind
    assert inflate(results[0]) == TEXT
    if kind is Compression.GZIP:
        assert gzip.decompress(results[0]) == TEXT
        assert subprocess.run(["gzip", "-t"], input=results[0], timeout=20).returncode == 0


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(PACKED), st.binary(max_size=400))
def test_random_bytes_raise_only_invalid(kind: Compression, data: bytes) -> None:
    good = MEMBERS[kind](b"content")
    for candidate in (data, good[:7] + data, good + data):
        try:
            inflate(candidate)
        except Invalid:
            pass


def test_digests_are_those_of_the_bytes() -> None:
    expected = "sha256:" + hashlib.sha256(TEXT * 3).hexdigest()
    for step in (1000, 1 << 20):
        with HashingReader(BytesIO(TEXT * 3)) as reader:
            while reader.read(step):
                pass
            assert (str(reader.digest()), reader.size) == (expected, 3 * len(TEXT))
        sink = BytesIO()
        with HashingWriter(sink.write) as writer:
            for start in range(0, 3 * len(TEXT), step):
                writer.write((TEXT * 3)[start : start + step])
            assert (str(writer.digest()), writer.size) == (expected, 3 * len(TEXT))
        assert sink.getvalue() == TEXT * 3
    assert str(HashingReader(BytesIO()).digest()).startswith("sha256:e3b0c442")


def test_reading_ahead_changes_nothing_and_leaves_no_thread() -> None:
    before = threading.active_count()
    with ReadAhead(BytesIO(TEXT * 5), chunk=10_000, depth=2) as stream:
        assert b"".join(iter(lambda: stream.read(3333), b"")) == TEXT * 5
        assert stream.read(1) == b""
    with ReadAhead(BytesIO(TEXT * 5), chunk=1000, depth=2) as stream:
        assert stream.read(10) == TEXT[:10]
    with HashingReader(BytesIO(TEXT)) as reader:
        reader.read(1 << 20)
    assert threading.active_count() == before


def test_a_failure_ahead_is_raised_where_it_is_read() -> None:
    class Failing:
        def __init__(self) -> None:
            self.left = 3

        def read(self, n: int, /) -> bytes:
            self.left -= 1
            if not self.left:
                raise Invalid("broken here")
            return b"x" * n

    with ReadAhead(Failing(), chunk=10) as stream:
        assert len(stream.read(10) + stream.read(10)) == 20
        with pytest.raises(Invalid, match="broken here"):
            stream.read(10)
        assert stream.read(10) == b""
