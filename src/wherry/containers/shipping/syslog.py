"""Entries as syslog messages. Source: RFC 3164, RFC 5424, RFC 5425; docker-run(1), syslog driver."""

from __future__ import annotations

import time
from dataclasses import dataclass

from wherry.containers.shipping.entries import STDERR, Entry, Origin
from wherry.model.literals import parse_number

FACILITIES = (
    *("kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron"),
    *("authpriv", "ftp", "ntp", "security", "console", "solaris-cron"),
    *(f"local{n}" for n in range(8)),
)
FORMATS = ("", "rfc3164", "rfc5424", "rfc5424micro")
_ERROR, _INFO = 3, 6


@dataclass(frozen=True, slots=True)
class Style:
    """How messages look. `counted` puts the length before each (RFC 5425, over TLS)."""

    facility: int
    form: str
    hostname: str
    pid: int
    counted: bool = False


def render(entry: Entry, origin: Origin, style: Style) -> bytes:
    """Return one message."""
    priority = style.facility * 8 + (_ERROR if entry.stream == STDERR else _INFO)
    tag = origin.tag
    seconds = entry.time // 1_000_000_000
    match style.form:
        case "rfc5424" | "rfc5424micro":
            stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
            if style.form == "rfc5424micro":
                stamp += f".{entry.time // 1000 % 1_000_000:06d}"
            head = f"<{priority}>1 {stamp}Z {style.hostname} {tag} {style.pid} {tag} - "
        case "rfc3164":
            stamp = _short(seconds)
            head = f"<{priority}>{stamp} {style.hostname} {tag}[{style.pid}]: "
        case _:
            head = f"<{priority}>{_short(seconds)} {tag}[{style.pid}]: "
    # A newline inside would be the next message's beginning; entries have none.
    message = head.encode() + entry.data
    if style.counted:
        return b"%d %s" % (len(message), message)
    return message + b"\n"


def _short(seconds: int) -> str:
    """Return `Nov  1 05:06:07`, local time."""
    moment = time.localtime(seconds)
    return f"{time.strftime('%b', moment)} {moment.tm_mday:2d} {time.strftime('%H:%M:%S', moment)}"


def facility_number(text: str) -> int | None:
    """Return a facility's number by name or number, None for what is none."""
    if text in FACILITIES:
        return FACILITIES.index(text)
    return parse_number(text, len(FACILITIES) - 1)
