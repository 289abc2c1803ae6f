"""Moments in time: what `--since` accepts, and how listings show them."""

from __future__ import annotations

import time

from wherry.cli.failure import Failure
from wherry.cli.units import human_span
from wherry.cli.values import duration

_BILLION = 10**9


def ago(unix: float) -> str:
    """Return how long ago a moment is: `About a minute ago`."""
    return f"{human_span(time.time() - unix)} ago"


def go_string(unix: float) -> str:
    """Return a moment as Go prints a time: `2026-11-21 04:12:27 +0000 UTC`."""
    return time.strftime("%Y-%m-%d %H:%M:%S %z %Z", time.localtime(unix))


def rfc3339(unix: float) -> str:
    """Return a moment in RFC 3339 with the local offset: `2026-11-21T03:40:23Z`."""
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.localtime(unix))}{_offset(unix)}"


def rfc3339_nano(nanoseconds: int) -> str:
    """Return a moment with nine digits of fraction: `2026-11-21T04:12:27.135440563Z`."""
    seconds, fraction = divmod(nanoseconds, _BILLION)
    text = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(seconds))
    return f"{text}.{fraction:09d}{_offset(seconds)}"


def _offset(unix: float) -> str:
    text = time.strftime("%z", time.localtime(unix))
    return "Z" if text == "+0000" else f"{text[:3]}:{text[3:]}"


def parse_rfc3339(text: str) -> float:
    """Return the Unix time of an RFC 3339 moment as the API writes it; 0 for what is none."""
    try:
        return int(_absolute(text)) / _BILLION
    except ValueError:
        return 0.0


def query_time(text: str, name: str) -> str:
    """Return the flag `name`, since or until, as the API takes it: Unix seconds with a fraction.

    Accepts Unix time, a span back from now (`10m`), and RFC 3339 or its beginning. Raises Failure.
    """
    if not text:
        return ""
    whole, _, fraction = text.partition(".")
    if whole.isdecimal() and (not fraction or (fraction.isdecimal() and len(fraction) <= 9)):
        return text
    try:
        return str((time.time_ns() - duration(text)) // _BILLION)
    except ValueError:
        pass
    try:
        seconds, nanoseconds = divmod(_absolute(text), _BILLION)
    except ValueError:
        raise Failure(
            f'invalid value for "{name}": failed to parse value as time or duration: "{text}"'
        ) from None
    return f"{seconds}.{nanoseconds:09d}"


def _absolute(text: str) -> int:
    """Nanoseconds since 1970 of a date, with as much of the time of day as is given."""
    date, zone_offset = text, None
    if date.endswith(("Z", "z")):
        date, zone_offset = date[:-1], 0
    elif len(date) > 16 and date[-6] in "+-" and date[-3] == ":":
        sign = 1 if date[-6] == "+" else -1
        zone_offset = sign * (int(date[-5:-3]) * 3600 + int(date[-2:]) * 60)
        date = date[:-6]
    day, _, clock = date.partition("T")
    parts = [int(part) for part in day.split("-")]
    if len(parts) != 3 or len(day) != 10:
        raise ValueError(text)
    clock, _, fraction = clock.partition(".")
    hours = [int(part) for part in clock.split(":")] if clock else []
    if len(hours) > 3 or (fraction and not fraction.isdecimal()):
        raise ValueError(text)
    hours += [0] * (3 - len(hours))
    if not (1 <= parts[1] <= 12 and 1 <= parts[2] <= 31 and hours[0] < 24 and max(hours[1:]) < 60):
        raise ValueError(text)
    nanoseconds = int(fraction[:9].ljust(9, "0")) if fraction else 0
    if zone_offset is None:
        year, month, day_of_month = parts
        hour, minute, second = hours
        seconds = int(time.mktime((year, month, day_of_month, hour, minute, second, 0, 0, -1)))
    else:
        seconds = _days(parts) * 86400 + hours[0] * 3600 + hours[1] * 60 + hours[2] - zone_offset
    return seconds * _BILLION + nanoseconds


def _days(parts: list[int]) -> int:
    """Days from 1970-01-01 in the Gregorian calendar (years from March, eras of 400 years)."""
    year, month, day = parts
    year -= month <= 2
    era, of_era = divmod(year, 400)
    of_year = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + day - 1
    return era * 146097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719468
