"""The multiplexed stream: however it arrives, the same bytes come out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry.model.frames import Demultiplexer, encode

FRAMES = st.lists(st.tuples(st.sampled_from([1, 2]), st.binary(max_size=40)), max_size=8)


def collect(pieces: list[bytes]) -> tuple[dict[int, bytes], bool]:
    """Feed the pieces and return what each stream got, and whether the end was clean."""
    demultiplexer = Demultiplexer()
    out = {1: b"", 2: b""}
    for piece in pieces:
        for stream, data in demultiplexer.feed(piece):
            out[stream] += bytes(data)
    return out, demultiplexer.clean


@given(FRAMES, st.lists(st.integers(min_value=1, max_value=30), max_size=30))
def test_any_division_gives_the_same(frames: list[tuple[int, bytes]], cuts: list[int]) -> None:
    data = b"".join(encode(stream, payload) for stream, payload in frames)
    pieces: list[bytes] = []
    rest = data
    for cut in cuts:
        pieces.append(rest[:cut])
        rest = rest[cut:]
    pieces.append(rest)
    expected = {n: b"".join(p for s, p in frames if s == n) for n in (1, 2)}
    assert collect(pieces) == (expected, True)


def test_truncated_is_not_clean() -> None:
    assert collect([encode(1, b"hello")[:-1]])[1] is False
    assert collect([b"\1\0\0"])[1] is False


@pytest.mark.parametrize("head", [b"\7\0\0\0\0\0\0\1x", b"\1\1\0\0\0\0\0\1x", b"HTTP/1.1"])
def test_what_is_no_frame_is_refused(head: bytes) -> None:
    with pytest.raises(ValueError, match="not a frame header"):
        collect([head])
