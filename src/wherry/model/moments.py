"""Moments: RFC 3339 and Unix time as text; inside, nanoseconds since the epoch.

Without `datetime` and `re`: the command line starts with this module, and the supervisor has it.
"""

from __future__ import annotations

import time

from wherry.model.errors import Invalid
from wherry.model.literals import parse_duration

_BILLION = 10**9
_FORM = "as 2006-01-02T15:04:05Z"


def render_rfc3339(nanoseconds: int) -> str:
    """Return RFC 3339 in UTC with as many digits of fraction as there are."""
    seconds, rest = divmod(nanoseconds, _BILLION)
    fraction = f".{rest:09d}".rstrip("0") if rest else ""
    return f"{render_second(seconds)}{fraction}Z"


def render_nano(nanoseconds: int) -> str:
    """Return RFC 3339 in UTC with nine digits of fraction."""
    seconds, rest = divmod(nanoseconds, _BILLION)
    return f"{render_second(seconds)}.{rest:09d}Z"


def render_second(seconds: int) -> str:
    """Return `2026-11-21T03:54:46` for seconds since the epoch, in UTC.

    Raises OverflowError or OSError for a year that no calendar has.
    """
    at = time.gmtime(seconds)
    return (
        f"{at.tm_year:04d}-{at.tm_mon:02d}-{at.tm_mday:02d}"
        f"T{at.tm_hour:02d}:{at.tm_min:02d}:{at.tm_sec:02d}"
    )


def parse_rfc3339(text: str, *, local: bool = False) -> int:
    """Return nanoseconds since the epoch of RFC 3339, or of the beginning of it (`2006-01-02T15:04`).

    What is missing of the time of day is 0; a missing zone is UTC, with `local` the machine's. Digits
    of the fraction after the ninth do not count. Raises Invalid.
    """
    try:
        return _parse(text, local)
    except (ValueError, OverflowError):
        raise Invalid(f"invalid time: {text!r}", hint=_FORM) from None


def parse_or_zero(text: str) -> int:
    """Return what `parse_rfc3339` does, 0 for what is no time."""
    try:
        return parse_rfc3339(text)
    except Invalid:
        return 0


def parse_instant(text: str) -> int:
    """Return nanoseconds since the epoch of seconds with a fraction (`-5`, `1.25`) or RFC 3339. Raises Invalid."""
    sign = -1 if text.startswith("-") else 1
    whole, _, fraction = text.removeprefix("-").partition(".")
    if _is_number(whole) and len(whole) < 20 and (not fraction or _is_number(fraction)):
        return sign * (int(whole) * _BILLION + _nanoseconds(fraction))
    return parse_rfc3339(text)


def parse_when(text: str, now: int) -> int:
    """Return the moment that a filter's `until` names, as `parse_instant` or as a duration back from `now`.

    In nanoseconds. Raises Invalid, with Docker's words.
    """
    try:
        return parse_instant(text)
    except Invalid:
        pass
    try:
        return now - parse_duration(text)
    except Invalid:
        raise Invalid(f'failed to parse value as time or duration: "{text}"') from None


def _parse(text: str, local: bool) -> int:
    day, rest = text[:10], text[10:]
    if len(day) != 10 or day[4::3] != "--":
        raise ValueError
    year, month, of_month = _number(day[:4]), _number(day[5:7]), _number(day[8:])
    rest, offset = _zone(rest)
    hour, minute, second, fraction = _clock(rest)
    days = _days(year, month, of_month)
    if not 1 <= month <= 12 or not days < _days(year + month // 12, month % 12 + 1, 1):
        raise ValueError
    if of_month < 1 or hour > 23 or minute > 59 or second > 59:
        raise ValueError
    if offset is None and local:
        seconds = int(time.mktime((year, month, of_month, hour, minute, second, 0, 0, -1)))
    else:
        seconds = days * 86400 + hour * 3600 + minute * 60 + second - (offset or 0)
    return seconds * _BILLION + _nanoseconds(fraction)


def _zone(rest: str) -> tuple[str, int | None]:
    """Return `rest` without the zone at its end, and how many seconds that is ahead of UTC."""
    if rest.endswith(("Z", "z")):
        return rest[:-1], 0
    at = max(rest.rfind("+"), rest.rfind("-"))
    if at < 0:
        return rest, None
    zone = rest[at + 1 :]
    hours, minutes = zone[:2], zone[2:].removeprefix(":")
    if len(hours + minutes) != 4 or _number(hours) > 23 or _number(minutes) > 59:
        raise ValueError
    seconds = int(hours) * 3600 + int(minutes) * 60
    return rest[:at], seconds if rest[at] == "+" else -seconds


def _clock(rest: str) -> tuple[int, int, int, str]:
    """Return hour, minute, second and the digits of the fraction of `T15:04:05.9`, or of its beginning."""
    if not rest:
        return 0, 0, 0, ""
    clock, point, fraction = rest[1:].partition(".")
    parts = clock.split(":")
    if rest[0] not in "Tt " or len(parts) > 3 or any(len(part) != 2 for part in parts):
        raise ValueError
    if point and not (len(parts) == 3 and _is_number(fraction)):
        raise ValueError
    hour, minute, second = (*map(_number, parts), 0, 0)[:3]
    return hour, minute, second, fraction


def _number(text: str) -> int:
    if not _is_number(text):
        raise ValueError
    return int(text)


def _is_number(text: str) -> bool:
    return text.isdecimal() and text.isascii()


def _nanoseconds(fraction: str) -> int:
    return int(fraction[:9].ljust(9, "0"))


def _days(year: int, month: int, day: int) -> int:
    """Return days from 1970-01-01 in the Gregorian calendar (years from March, eras of 400 years)."""
    year -= month <= 2
    era, of_era = divmod(year, 400)
    of_year = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + day - 1
    return era * 146097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719468
