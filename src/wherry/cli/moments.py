"""Moments in time: what `--since` accepts, and how listings show them."""

from __future__ import annotations

import time

from wherry.cli.failure import Failure
from wherry.model.errors import Invalid
from wherry.model.literals import human_span, parse_duration
from wherry.model.moments import parse_or_zero, parse_rfc3339

_BILLION = 10**9


def ago(unix: float) -> str:
    """Return how long ago a moment is: `About a minute ago`."""
    return f"{human_span(time.time() - unix)} ago"


def go_string(unix: float) -> str:
    """Return a moment as Go prints a time: `2026-11-21 04:12:27 +0000 UTC`."""
    return time.strftime("%Y-%m-%d %H:%M:%S %z %Z", time.localtime(unix))


def go_moment(text: str) -> str:
    """Return an RFC 3339 moment of the API in UTC as Go prints it, with its fraction; nothing for none."""
    unix = parse_or_zero(text) // _BILLION
    if not unix:
        return ""
    fraction = text.rpartition(".")[2].rstrip("Z").rstrip("0") if "." in text else ""
    shown = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(unix))
    return f"{shown}.{fraction} +0000 UTC" if fraction else f"{shown} +0000 UTC"


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


def query_time(text: str, name: str = "") -> str:
    """Return since or until, the flag `name`, as the API takes it: Unix seconds with a fraction.

    Accepts Unix time, a span back from now (`10m`), and RFC 3339 or its beginning. Raises Failure.
    """
    if not text:
        return ""
    whole, _, fraction = text.partition(".")
    if whole.isdecimal() and (not fraction or (fraction.isdecimal() and len(fraction) <= 9)):
        return text
    try:
        return str((time.time_ns() - parse_duration(text)) // _BILLION)
    except Invalid:
        pass
    try:
        seconds, nanoseconds = divmod(parse_rfc3339(text, local=True), _BILLION)
    except Invalid:
        where = f'invalid value for "{name}": ' if name else ""
        raise Failure(f'{where}failed to parse value as time or duration: "{text}"') from None
    return f"{seconds}.{nanoseconds:09d}"
