"""Detach keys: how they are written, and that nothing else is swallowed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry.model.errors import Invalid
from wherry.supervisor.detach import DetachScanner, parse_keys


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("ctrl-p,ctrl-q", b"\x10\x11"),
        ("ctrl-a", b"\x01"),
        ("a,b", b"ab"),
        ("ctrl-@,ctrl-[,ctrl-\\,ctrl-],ctrl-^,ctrl-_", b"\x00\x1b\x1c\x1d\x1e\x1f"),
        ("DEL", b"\x7f"),
        ("", b""),
    ],
)
def test_keys_are_parsed(text: str, keys: bytes) -> None:
    assert parse_keys(text) == keys


@pytest.mark.parametrize("text", ["ctrl-1", "ab", "ctrl-", "é", "a,,b", "ctrl-p;ctrl-q"])
def test_bad_keys_are_refused(text: str) -> None:
    with pytest.raises(Invalid, match="Invalid escape keys"):
        parse_keys(text)


pieces = st.lists(st.text("abx", max_size=5).map(str.encode), max_size=8)


@given(pieces, st.sampled_from([b"a", b"ab", b"ax", b"abx"]))
def test_everything_before_the_keys_is_passed_on(typed: list[bytes], keys: bytes) -> None:
    scanner = DetachScanner(keys)
    whole = b"".join(typed)
    out, detached = b"", False
    for piece in typed:
        passed, detached = scanner.feed(piece)
        out += passed
        if detached:
            break
    at = whole.find(keys)
    assert detached == (at >= 0)
    if detached:
        assert out == whole[:at]
    else:
        # What may be the beginning of the keys is held back.
        assert whole.startswith(out) and keys.startswith(whole[len(out) :])
