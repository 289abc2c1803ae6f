"""WebSocket framing by the letter of RFC 6455, and against bytes that are none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry.api.websocket import (
    LARGEST_FRAME,
    Frame,
    Opcode,
    accept_key,
    check_handshake,
    decode,
    render_frame,
)
from wherry.model.errors import Invalid

GOOD = {
    "connection": "keep-alive, Upgrade",
    "upgrade": "websocket",
    "sec-websocket-version": "13",
    "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
}


def masked(opcode: int, payload: bytes, mask: bytes = b"\x01\x02\x03\x04") -> bytes:
    size = len(payload)
    if size < 126:
        head = bytes((0x80 | opcode, 0x80 | size))
    elif size < 65536:
        head = bytes((0x80 | opcode, 0x80 | 126)) + size.to_bytes(2)
    else:
        head = bytes((0x80 | opcode, 0x80 | 127)) + size.to_bytes(8)
    body = bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))
    return head + mask + body


def test_the_accept_key_is_that_of_the_rfc() -> None:
    assert accept_key("dGhlIHNhbXBsZSBub25jZQ==") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    assert check_handshake("GET", GOOD) == GOOD["sec-websocket-key"]


@pytest.mark.parametrize(
    "change",
    [
        {"connection": "close"},
        {"upgrade": "tcp"},
        {"sec-websocket-version": "8"},
        {"sec-websocket-key": "short"},
        {"sec-websocket-key": "!!!"},
    ],
)
def test_what_is_no_handshake_is_refused(change: dict[str, str]) -> None:
    with pytest.raises(Invalid):
        check_handshake("GET", GOOD | change)


@given(
    st.lists(st.tuples(st.sampled_from((1, 2)), st.binary(max_size=70_000)), max_size=4),
    st.binary(min_size=4, max_size=4),
    st.integers(0, 100),
)
def test_frames_come_out_as_they_went_in_however_they_are_cut(
    messages: list[tuple[int, bytes]], mask: bytes, cut: int
) -> None:
    data = b"".join(masked(opcode, payload, mask) for opcode, payload in messages)
    at = len(data) * cut // 100
    first, rest = decode(data[:at])
    second, rest = decode(rest + data[at:])
    assert rest == b""
    assert [*first, *second] == [Frame(Opcode(opcode), payload) for opcode, payload in messages]


@given(st.binary(max_size=300))
def test_random_bytes_are_frames_or_refused(data: bytes) -> None:
    try:
        frames, rest = decode(data)
    except Invalid:
        return
    assert len(rest) + sum(len(frame.payload) for frame in frames) <= len(data)


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (render_frame(Opcode.TEXT, b"x"), "not masked"),
        (b"\xc1\x80", "reserved bit"),
        (b"\x83\x80", "opcode 3"),
        (b"\x89\xfe\x01\x00", "control frame"),
        (b"\x82\xff" + (LARGEST_FRAME + 1).to_bytes(8), "larger than"),
    ],
)
def test_frames_that_may_not_be_are_refused(data: bytes, fault: str) -> None:
    with pytest.raises(Invalid, match=fault):
        decode(data)


@pytest.mark.parametrize("size", [0, 125, 126, 65535, 65536])
def test_a_server_s_frame_tells_its_size(size: int) -> None:
    frame = render_frame(Opcode.BINARY, b"x" * size)
    assert frame[0] == 0x82 and frame.endswith(b"x" * size)
    assert len(frame) - size == (2 if size < 126 else 4 if size < 65536 else 10)
