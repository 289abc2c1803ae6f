"""What is recorded of an engine is the same on every day of the year, at every hour, on every machine."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.engine import mistakes
from tests.engine.plain import plain
from tests.engine.scenes import OURS, RECORD, read
from wherry.model.literals import human_span

MOMENTS = st.datetimes(datetime(1990, 1, 1), datetime(2099, 12, 31), timezones=st.just(UTC))
FORMATS = {
    "ls": "-rw-r--r-- 1 root root 0 %b %e %H:%M z",
    "ls of an old file": "-rw-r--r-- 1 root root 0 %b %e  %Y z",
    "ls --full-time": "root 0 %Y-%m-%d %H:%M:%S.%f000 +0000 z",
    "tar": "-rw-r--r-- 0/0 2 %Y-%m-%d %H:%M w/x",
    "date": "%a %b %e %H:%M:%S UTC %Y",
    "syslog": "<30>%b %e %H:%M:%S host tag",
    "HTTP": "Date: %a, %d %b %Y %H:%M:%S GMT",
    "RFC 3339": "%Y-%m-%dT%H:%M:%S.%fZ container start",
    "RFC 3339 elsewhere": "%Y-%m-%dT%H:%M:%S+02:00 container start",
    "Go": "%Y-%m-%d %H:%M:%S.%f +0000 UTC m=+0.1",
    "day": "until %Y-%m-%d",
    "clock": "up %H:%M:%S, load",
    "uptime": "sh %H:%M pts/0",
}


@pytest.mark.parametrize("form", FORMATS.values(), ids=FORMATS)
@given(moment=MOMENTS)
@example(datetime(2026, 1, 1, tzinfo=UTC))
@example(datetime(2026, 12, 31, 23, 59, 59, 999999, tzinfo=UTC))
@example(datetime(2028, 2, 29, tzinfo=UTC))
@example(datetime(2026, 5, 9, 0, 0, 0, tzinfo=UTC))
def test_every_moment_reads_the_same(form: str, moment: datetime) -> None:
    other = datetime(2026, 11, 21, 12, 34, 56, 789, tzinfo=UTC)
    assert plain(moment.strftime(form)) == plain(other.strftime(form))


@given(span=st.integers(0, 10**10))
@example(0)
@example(59)
@example(60)
@example(3600)
def test_every_age_reads_the_same(span: int) -> None:
    assert plain(f"Up {human_span(span)} (healthy)") == "Up AGE (healthy)"
    assert plain(f"Exited (4) {human_span(span)} ago") == "Exited (4) AGE ago"


def test_what_is_no_time_stays() -> None:
    for text in (
        "www-data:x:33:33::/var/www", "02:00:00:00:00:01", "0.0.0.0:8080->80/tcp", "N-i:12",
        "1.98MB", "Exited (137)", "::1 b", "[::1]:80", "127.0.0.1:12201", "4 containers",
        "10.1.2.0/24", "2a02:1200:34:56::1", "May be", "March 10.0",
    ):  # fmt: skip
        assert plain(text) == text


def test_every_machine_reads_the_same() -> None:
    cpus = "range of CPUs is from 0.01 to {0}.00, as there are only {0} CPUs available"
    assert plain(cpus.format(2)) == plain(cpus.format(128))
    some = "Requested CPUs are not available - requested 7777, available: "
    assert plain(some + "0-1") == plain(some + "0") == plain(some + "0,2-17")


def test_the_values_of_a_filter_have_no_order() -> None:
    told = "Error response from daemon: invalid filter 'dangling=[{}]'"
    assert plain(told.format("true false")) == plain(told.format("false true"))
    assert plain(told.format("x")) == told.format("x")


def test_the_record_is_plain() -> None:
    """Or it would be of the day on which it was made."""
    said = [
        text
        for record in (RECORD, OURS)
        for entries in read(record).values()
        for entry in entries
        for text in entry[1:4]
    ]
    for record in (mistakes.RECORD, mistakes.OURS):
        said += [text for _, text in json.loads(record.read_text()).values()]
    assert [text for text in said if plain(text) != text] == []


def test_an_offset_is_part_of_the_time() -> None:
    at = datetime(2026, 11, 21, tzinfo=timezone(timedelta(hours=-5)))
    assert plain(f"{at.isoformat()} x") == "TIME x"
