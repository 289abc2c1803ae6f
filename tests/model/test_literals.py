"""What users write and read: sizes, durations, switches, as Go reads and prints them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry.model.errors import Invalid
from wherry.model.literals import (
    human_span,
    parse_bool,
    parse_duration,
    parse_number,
    parse_size,
    quote,
    render_duration,
)

SECOND = 10**9


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("5", 5),
        ("5b", 5),
        ("1k", 1 << 10),
        ("2MB", 2 << 20),
        ("3GiB", 3 << 30),
        ("64 M", 64 << 20),
        ("1.5g", 3 << 29),
        ("1e3", 1000),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "invalid size: ''"),
        ("m", "invalid size: 'm'"),
        ("-1", "invalid size: '-1'"),
        ("1e400", "invalid size: '1e400'"),
        ("9e9p", "invalid size: '9e9p'"),
        ("5x", "invalid suffix: 'x'"),
        ("5kx", "invalid suffix: 'kx'"),
        ("1..5", 'strconv.ParseFloat: parsing "1..5": invalid syntax'),
        ("1_0", 'strconv.ParseFloat: parsing "1_0": invalid syntax'),
        ("٣", "invalid size: '٣'"),
    ],
)
def test_what_is_no_size(text: str, said: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse_size(text)
    assert caught.value.message == said


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("0", 0),
        ("1h2m3.5s", (3600 + 120) * SECOND + 3_500_000_000),
        ("10µs", 10_000),
        ("10μs", 10_000),
        ("-1.5m", -90 * SECOND),
        (".5s", SECOND // 2),
        ("00000000000000000000000001s", SECOND),
        ("0.1234567891234567891234s", 123456789),
    ],
)
def test_durations(text: str, nanoseconds: int) -> None:
    assert parse_duration(text) == nanoseconds


@pytest.mark.parametrize("text", ["", "5", "s", "1x", "1s ", "-", "1.s.", "1 s", "9" * 5000 + "s"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(Invalid, match="^time: "):
        parse_duration(text)


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (0, "0s"),
        (1, "1ns"),
        (1500, "1.5µs"),
        (200_000_000, "200ms"),
        (90 * SECOND, "1m30s"),
        (3600 * SECOND, "1h0m0s"),
        (1_500_000_000, "1.5s"),
        (-SECOND, "-1s"),
    ],
)
def test_durations_as_go_prints_them(nanoseconds: int, text: str) -> None:
    assert render_duration(nanoseconds) == text


@given(st.integers(min_value=-(2**63) + 1, max_value=2**63 - 1))
def test_printed_durations_are_read_again(nanoseconds: int) -> None:
    assert parse_duration(render_duration(nanoseconds)) == nanoseconds


@given(st.text(max_size=12))
@pytest.mark.parametrize("parse", [parse_bool, parse_size, parse_duration])
def test_any_text_is_a_value_or_invalid(parse: Callable[[str], object], text: str) -> None:
    try:
        parse(text)
    except Invalid as error:
        assert error.message


def test_quotes_are_go_s() -> None:
    assert quote('a"\\\n\x07é') == '"a\\"\\\\\\n\\x07é"'


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.5, "Less than a second"),
        (1.9, "1 second"),
        (59.9, "59 seconds"),
        (60, "About a minute"),
        (119.9, "About a minute"),
        (120, "2 minutes"),
        (3599, "59 minutes"),
        (3600, "About an hour"),
        (5399, "About an hour"),
        (5400, "2 hours"),
        (47.4 * 3600, "47 hours"),
        (48 * 3600, "2 days"),
        (13.9 * 86400, "13 days"),
        (14 * 86400, "2 weeks"),
        (59 * 86400, "8 weeks"),
        (60 * 86400, "2 months"),
        (700 * 86400, "23 months"),
        (730 * 86400, "2 years"),
    ],
)
def test_human_span(seconds: float, text: str) -> None:
    assert human_span(seconds) == text


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0", 0),
        ("007", 7),
        ("65535", 65535),
        ("0" * 9000 + "9", 9),
        ("65536", None),
        ("9" * 9000, None),
        ("", None),
        ("-1", None),
        ("+1", None),
        (" 1", None),
        ("1_0", None),
        ("²", None),
        ("٣", None),
        ("0x10", None),
    ],
)
def test_numbers_of_strangers(text: str, number: int | None) -> None:
    assert parse_number(text, 65535) == number


@given(st.integers(0, 1 << 70), st.integers(0, 1 << 70))
def test_a_number_is_itself_up_to_the_most(number: int, most: int) -> None:
    assert parse_number(str(number), most) == (number if number <= most else None)
