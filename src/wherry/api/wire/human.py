"""Durations and commands in the words that `docker ps` shows; Docker's server renders them, not its client."""

from __future__ import annotations

from collections.abc import Sequence

_MINUTE, _HOUR, _DAY = 60, 3600, 86400


def render_duration(seconds: float) -> str:
    """Return `About a minute`, `3 hours`, …, rounded as Docker rounds them."""
    whole = int(seconds)
    if whole < 1:
        return "Less than a second"
    if whole == 1:
        return "1 second"
    if whole < _MINUTE:
        return f"{whole} seconds"
    minutes = whole // _MINUTE
    if minutes == 1:
        return "About a minute"
    if minutes < 60:
        return f"{minutes} minutes"
    hours = int(seconds / _HOUR + 0.5)
    if hours == 1:
        return "About an hour"
    if hours < 48:
        return f"{hours} hours"
    for limit, unit, name in ((14, 24, "days"), (60, 24 * 7, "weeks"), (730, 24 * 30, "months")):
        if hours < 24 * limit:
            return f"{hours // unit} {name}"
    return f"{hours // (24 * 365)} years"


def render_command(argv: Sequence[str]) -> str:
    """Return a command on one line; words with spaces are quoted."""
    return " ".join(f"'{word}'" if " " in word else word for word in argv)
