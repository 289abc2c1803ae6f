"""Times as text, in every form that clients and images write."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry.model.errors import Invalid
from wherry.model.moments import (
    parse_instant,
    parse_or_zero,
    parse_rfc3339,
    parse_when,
    render_nano,
    render_rfc3339,
)

SECOND = 10**9
YEARS = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30))


@given(YEARS, st.integers(0, SECOND - 1), st.integers(-23 * 60 - 59, 23 * 60 + 59))
def test_against_datetime(moment: datetime, rest: int, ahead: int) -> None:
    moment = moment.replace(microsecond=0, tzinfo=UTC)
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    seconds = (moment - epoch) // timedelta(seconds=1)
    nanoseconds = seconds * SECOND + rest
    text = moment.isoformat().removesuffix("+00:00")
    assert render_nano(nanoseconds) == f"{text}.{rest:09d}Z"
    assert parse_rfc3339(render_rfc3339(nanoseconds)) == nanoseconds
    hours, minutes = divmod(abs(ahead), 60)
    zone = f"{'-' if ahead < 0 else '+'}{hours:02d}:{minutes:02d}"
    assert parse_rfc3339(f"{text}.{rest:09d}{zone}") == nanoseconds - ahead * 60 * SECOND


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2001-09-09T01:46:40Z", 10**9),
        ("2001-09-09t01:46:40z", 10**9),
        ("2001-09-09 01:46:40", 10**9),
        ("2001-09-09T03:46:40+0200", 10**9),
        ("2001-09-09T01:46", 10**9 - 40),
        ("2001-09-09T01", 10**9 - 40 - 46 * 60),
        ("1970-01-02", 86400),
        ("1970-01-02Z", 86400),
        ("1969-12-31T23:59:59Z", -1),
        ("2024-02-29", 1709164800),
    ],
)
def test_forms(text: str, seconds: int) -> None:
    assert parse_rfc3339(text) == seconds * SECOND


@pytest.mark.parametrize(
    "text",
    [
        *("", "x", "1970", "1970-1-1", "1970-13-01", "1970-00-10", "1970-01-00", "1970-02-29"),
        *("1970-01-01T", "1970-01-01T25:00", "1970-01-01T00:60", "1970-01-01T00:00:60"),
        *(
            "1970-01-01T0:00",
            "1970-01-01T00:00:00:00",
            "1970-01-01T00:00.5",
            "1970-01-01T00:00:00.",
        ),
        *("1970-01-01T00:00:00+24:00", "1970-01-01T00:00:00+1", "١٩٧٠-01-01", "1970-01-01Z "),
    ],
)
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(Invalid, match="invalid time"):
        parse_rfc3339(text)
    assert parse_or_zero(text) == 0


@given(st.text(alphabet="0123456789-+:.TZ ", max_size=30))
def test_any_text_is_a_time_or_invalid(text: str) -> None:
    for parse in (parse_rfc3339, parse_instant, lambda text: parse_when(text, 0)):
        try:
            parse(text)
        except Invalid:
            pass


def test_seconds_and_spans_back() -> None:
    now = 10**18
    assert parse_instant("-1.25") == -1_250_000_000
    assert parse_when("1h30m", now) == now - 5400 * SECOND
    assert parse_when("10", now) == 10 * SECOND
    assert parse_when("1.5", now) == 1_500_000_000
    assert parse_when("2001-09-09T01:46:40", now) == 10**18
    with pytest.raises(Invalid, match='failed to parse value as time or duration: "abc"'):
        parse_when("abc", now)
