"""Values as Docker's users write them, which is as Go reads and prints them: switches, sizes, durations.

Nothing here is imported but errors: the command line starts with this module.
"""

from __future__ import annotations

from wherry.model.errors import Invalid

_MOST = (1 << 63) - 1
_TRUE = ("1", "t", "T", "TRUE", "true", "True")
_FALSE = ("0", "f", "F", "FALSE", "false", "False")
_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}
_DIGITS = "0123456789"
_UNITS = {
    "ns": 1,
    "us": 10**3,
    "µs": 10**3,
    "μs": 10**3,
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3600 * 10**9,
}


def quote(text: str) -> str:
    """Return `text` in quotes as Go's %q writes it."""
    out = ""
    for c in text:
        out += _ESCAPES.get(c) or (c if c.isprintable() else f"\\x{ord(c):02x}")
    return f'"{out}"'


def parse_number(text: str, most: int = _MOST) -> int | None:
    """Return the decimal number that `text` is, None for anything else and beyond `most`.

    For text of strangers: `isdecimal` takes digits of any script, int() fails beyond 4,300 of them.
    """
    if not (text.isascii() and text.isdecimal()):
        return None
    digits = text.lstrip("0") or "0"
    number = int(digits) if len(digits) <= len(str(most)) else most + 1
    return number if number <= most else None


def parse_bool(text: str) -> bool:
    """Return a switch. Raises Invalid. Go: strconv.ParseBool."""
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise Invalid(f"strconv.ParseBool: parsing {quote(text)}: invalid syntax")


def parse_size(text: str) -> int:
    """Return bytes from `512`, `1.5g`, `100KiB`: every unit is a power of 1024, as for memory. Raises Invalid."""
    end = len(text)
    while end and text[end - 1] not in _DIGITS + ". ":
        end -= 1
    number, suffix = text[:end], text[end:]
    if end == 0:
        raise Invalid(f"invalid size: '{text}'")
    number = number.removesuffix(" ")
    plain = number.replace("e", "").replace("E", "")
    try:
        if plain.strip("+-." + _DIGITS) or "_" in number:
            raise ValueError
        value = float(number)
    except ValueError:
        raise Invalid(f"strconv.ParseFloat: parsing {quote(number)}: invalid syntax") from None
    unit = suffix.lower()
    power = "kmgtp".find(unit[0]) + 1 if unit not in ("", "b") else 0
    if value < 0 or value * 1024.0**power > _MOST:
        raise Invalid(f"invalid size: '{text}'")
    if unit in ("", "b"):
        return int(value)
    if not power or unit[1:] not in ("", "b", "ib"):
        raise Invalid(f"invalid suffix: '{unit}'")
    return int(value * (1 << (10 * power)))


def parse_duration(text: str) -> int:
    """Return nanoseconds from `1h2m3.5s`. Raises Invalid. Go: time.ParseDuration."""
    body = text
    sign = 1
    if body[:1] in ("-", "+"):
        sign = -1 if body[0] == "-" else 1
        body = body[1:]
    if body == "0":
        return 0
    if not body:
        raise Invalid(f"time: invalid duration {quote(text)}")
    total = 0
    while body:
        end = 0
        while end < len(body) and (
            body[end] in _DIGITS or (body[end] == "." and "." not in body[:end])
        ):
            end += 1
        number, body = body[:end], body[end:]
        if number in ("", "."):
            raise Invalid(f"time: invalid duration {quote(text)}")
        end = 0
        while end < len(body) and body[end] not in _DIGITS + ".":
            end += 1
        unit, body = body[:end], body[end:]
        if not unit:
            raise Invalid(f"time: missing unit in duration {quote(text)}")
        if unit not in _UNITS:
            raise Invalid(f"time: unknown unit {quote(unit)} in duration {quote(text)}")
        whole, _, fraction = number.partition(".")
        # More digits than these are refused below; int() raises ValueError for thousands of them.
        total += int(whole.lstrip("0")[:20] or "0") * _UNITS[unit]
        if fraction:
            fraction = fraction[:18]
            total += int(fraction) * _UNITS[unit] // 10 ** len(fraction)
    if total > _MOST:
        raise Invalid(f"time: invalid duration {quote(text)}")
    return sign * total


def render_duration(nanoseconds: int) -> str:
    """Return a duration as Go prints it: `1h1m30s`, `500ms`, `0s`."""
    if nanoseconds == 0:
        return "0s"
    if nanoseconds < 0:
        return f"-{render_duration(-nanoseconds)}"
    if nanoseconds < 10**9:
        for unit, size in (("ms", 10**6), ("µs", 10**3)):
            if nanoseconds >= size:
                return f"{nanoseconds / size:.9f}".rstrip("0").rstrip(".") + unit
        return f"{nanoseconds}ns"
    seconds, rest = divmod(nanoseconds, 10**9)
    fraction = f".{rest:09d}".rstrip("0") if rest else ""
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    text = f"{seconds}{fraction}s"
    if hours:
        return f"{hours}h{minutes}m{text}"
    return f"{minutes}m{text}" if minutes else text


def human_span(seconds: float) -> str:
    """Return a span of time roughly, rounded as Docker rounds: `3 seconds`, `About a minute`, `5 weeks`."""
    whole = int(seconds)
    if whole < 1:
        return "Less than a second"
    if whole == 1:
        return "1 second"
    if whole < 60:
        return f"{whole} seconds"
    minutes = whole // 60
    if minutes == 1:
        return "About a minute"
    if minutes < 60:
        return f"{minutes} minutes"
    hours = int(seconds / 3600 + 0.5)
    if hours == 1:
        return "About an hour"
    if hours < 48:
        return f"{hours} hours"
    for days, unit, name in ((14, 1, "days"), (60, 7, "weeks"), (730, 30, "months")):
        if hours < 24 * days:
            return f"{hours // 24 // unit} {name}"
    return f"{int(seconds / 3600) // 24 // 365} years"
