"""JSON without `json`: the same values, the same refusals."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry.client import wire

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(VALUES)
def test_encode_then_json_reads_it(value: object) -> None:
    assert json.loads(wire.encode(value)) == value


@given(VALUES)
def test_decode_reads_what_json_writes(value: object) -> None:
    assert wire.decode(json.dumps(value, indent=2).encode()) == value


@pytest.mark.parametrize("text", ["", "{", '{"a":}', "[1,]", "1 2", "nope", '{"a":1}x', "NaN"])
def test_bad_json_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError):
        wire.decode(text)


def test_bad_json_is_a_value_error_where_json_is_not_imported() -> None:
    """As in a command: CPython 3.11's scanner raises what it finds imported, and nothing at all otherwise."""
    source = str(Path(wire.__file__).parents[2])
    code = f"""
import sys
sys.path.insert(0, {source!r})
from wherry.client import wire
for text in ("{{bad", '{{"a" 1}}', '["a', "[1,,2]"):
    assert "json" not in sys.modules or text != "{{bad"
    try:
        wire.decode(text)
    except ValueError:
        continue
    raise SystemExit(text)
"""
    subprocess.run([sys.executable, "-I", "-S", "-c", code], check=True, timeout=20)


def test_order_is_kept() -> None:
    assert wire.encode({"b": 1, "a": [True, None, "é<"]}) == '{"b":1,"a":[true,null,"é<"]}'


def test_null_members_are_empty() -> None:
    assert wire.one({"a": None}, "a") == {}
    assert wire.one({}, "a") == {}
    assert wire.many({"a": None}, "a") == []
    assert wire.many({"a": [1]}, "a") == [1]
