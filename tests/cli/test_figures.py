"""Sizes, spans, moments, columns, numbers: digit for digit."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry.cli import figures, gojson, moments, units, values
from wherry.cli.failure import Failure
from wherry.cli.table import align


@pytest.mark.parametrize(
    ("size", "digits", "text"),
    [
        (0, 3, "0B"),
        (999, 3, "999B"),
        (1000, 3, "1kB"),
        (4432109, 3, "4.43MB"),
        (4432109, 4, "4.432MB"),
        (999_999, 3, "1e+03kB"),
        (123456789012, 3, "123GB"),
        (10**27, 3, "1e+03YB"),
    ],
)
def test_human_size(size: int, digits: int, text: str) -> None:
    assert units.human_size(size, digits) == text


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0B"), (428 * 1024, "428KiB"), (25276190720, "23.54GiB"), (1024, "1KiB")]
)
def test_binary_size(size: int, text: str) -> None:
    assert units.binary_size(size) == text


@given(st.integers(min_value=0, max_value=2**62))
def test_plain_bytes_are_themselves(size: int) -> None:
    assert figures.size(str(size)) == float(size)


@given(st.integers(min_value=-(2**63) + 1, max_value=2**63 - 1))
def test_durations_in_nanoseconds_are_themselves(nanoseconds: int) -> None:
    assert figures.duration(f"{nanoseconds}ns") == nanoseconds


@given(st.text(max_size=12))
@pytest.mark.parametrize("kind", ["bytes", "duration", "int", "uint16", "bool", "decimal", "swap"])
def test_any_text_is_a_value_or_a_value_error(kind: str, text: str) -> None:
    try:
        values.parse(kind, text)
    except ValueError as error:
        assert str(error)


@given(st.integers(min_value=-(10**9), max_value=4 * 10**9))
def test_rfc3339_round_trips(seconds: int) -> None:
    text = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
    assert moments.query_time(text, "since") == f"{seconds}.000000000"


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("1700000000", "1700000000"),
        ("1700000000.5", "1700000000.5"),
        ("2020-01-02T03:04:05Z", "1577934245.000000000"),
        ("2020-01-02T03:04:05.25Z", "1577934245.250000000"),
        ("2020-01-02T03:04:05+01:30", "1577928845.000000000"),
        ("2020-01-02T03:04Z", "1577934240.000000000"),
        ("2020-01-02Z", "1577923200.000000000"),
        ("", ""),
    ],
)
def test_query_time(text: str, query: str) -> None:
    assert moments.query_time(text, "since") == query


def test_query_time_counts_back() -> None:
    assert abs(float(moments.query_time("10m", "since")) - (time.time() - 600)) < 2


@pytest.mark.parametrize(
    "text",
    [
        "x",
        "2020-13-01",
        "2020-01-01T25",
        "2020-01-01Tx",
        "1.2.3",
        "2020-01-01T00:00:00:00Z",
    ],
)
def test_bad_times_are_named(text: str) -> None:
    with pytest.raises(Failure, match="invalid value for .until.*failed to parse"):
        moments.query_time(text, "until")


CELLS = st.text(st.characters(categories=("L", "N")), max_size=12)


@given(st.lists(st.lists(CELLS, min_size=3, max_size=3), min_size=1, max_size=6))
def test_columns_start_where_the_column_does(rows: list[list[str]]) -> None:
    lines = align("\n".join("\t".join(row) for row in rows)).split("\n")
    first = max(10, 3 + max(len(row[0]) for row in rows))
    second = first + max(10, 3 + max(len(row[1]) for row in rows))
    for line, row in zip(lines, rows, strict=True):
        assert line[:first].rstrip() == row[0]
        assert line[first:second].rstrip() == row[1]
        assert line[second:] == row[2]


def test_a_shorter_line_ends_a_column() -> None:
    text = align("a\tb\n" + "-" * 20 + "\nlonger than ten\tb")
    assert text == "a         b\n" + "-" * 20 + "\nlonger than ten   b"


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text()
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(JSON, st.sampled_from(["", "    "]), st.booleans())
def test_json_means_the_same(value: object, indent: str, html: bool) -> None:
    assert json.loads(gojson.dumps(value, indent=indent, html=html)) == value


@given(st.dictionaries(st.text(), st.lists(st.integers() | st.text()), max_size=4))
def test_json_is_indented_as_pythons(value: object) -> None:
    ours = gojson.dumps(value, indent="    ")
    assert json.loads(ours) == value
    assert ours.count("\n") == json.dumps(value, indent=4).count("\n")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.0, "1"),
        (1.5, "1.5"),
        (1e20, "100000000000000000000"),
        (1e21, "1e+21"),
        (1e-7, "1e-07"),
        (6.381362888496485e-06, "0.000006381362888496485"),
    ],
)
def test_numbers_are_gos(value: float, text: str) -> None:
    assert gojson.number(value) == text


def test_html_escapes() -> None:
    assert gojson.dumps("<a&b>\x01", html=True) == '"\\u003ca\\u0026b\\u003e\\u0001"'
    assert gojson.dumps("<a&b>") == '"<a&b>"'
