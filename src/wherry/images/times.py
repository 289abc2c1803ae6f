"""Times as image configurations and filters write them; inside, nanoseconds since the epoch."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime, timedelta, timezone

from wherry.images.changes import parse_duration
from wherry.model.errors import Invalid

_RFC3339 = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)(?:[Tt ](\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,9})\d*)?)?)?"
    r"([Zz]|[+-]\d\d:\d\d)?"
)
_SECOND = 10**9


def parse_rfc3339(text: str) -> int:
    """Return nanoseconds since the epoch; a missing zone is UTC, a missing time midnight. Raises Invalid."""
    match = _RFC3339.fullmatch(text)
    if match is None:
        raise Invalid(f"invalid time: {text!r}", hint="as 2006-01-02T15:04:05Z")
    year, month, day, hour, minute, second, fraction, zone = match.groups()
    offset = UTC
    if zone and zone not in "Zz":
        sign = -1 if zone[0] == "-" else 1
        minutes = int(zone[1:3]) * 60 + int(zone[4:6])
        if minutes >= 24 * 60:
            raise Invalid(f"invalid time: {text!r}")
        offset = timezone(sign * timedelta(minutes=minutes))
    try:
        moment = datetime(
            int(year),
            int(month),
            int(day),
            int(hour or 0),
            int(minute or 0),
            int(second or 0),
            tzinfo=offset,
        )
        whole = moment - datetime(1970, 1, 1, tzinfo=UTC)
    except (ValueError, OverflowError) as error:
        raise Invalid(f"invalid time: {text!r}") from error
    nanoseconds = int((fraction or "").ljust(9, "0"))
    return (whole.days * 86400 + whole.seconds) * _SECOND + nanoseconds


def created_at(text: str) -> int:
    """Return when an image was made, 0 where its configuration does not say or says nonsense."""
    try:
        return parse_rfc3339(text)
    except Invalid:
        return 0


def format_rfc3339(nanoseconds: int) -> str:
    """Return RFC 3339 with as many digits as needed, in UTC."""
    seconds, rest = divmod(nanoseconds, _SECOND)
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
    fraction = f".{rest:09d}".rstrip("0") if rest else ""
    return f"{moment:%Y-%m-%dT%H:%M:%S}{fraction}Z"


def now() -> int:
    """Return the time, nanoseconds since the epoch."""
    return time.time_ns()


def parse_when(text: str) -> int:
    """Return the moment that a filter's `until` names: RFC 3339, seconds since the epoch, or a duration ago."""
    if re.fullmatch(r"\d+(\.\d{1,9})?", text):
        seconds, _, fraction = text.partition(".")
        return int(seconds) * _SECOND + int(fraction.ljust(9, "0"))
    if _RFC3339.fullmatch(text):
        return parse_rfc3339(text)
    return now() - parse_duration(text)
