"""The text of a flag as a value: numbers, sizes, durations, and the rest by name.

Every parser takes the text and returns the value, or raises ValueError with the words of Docker's
client. Sizes are bytes, durations nanoseconds, CPUs billionths of one.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_MOST = (1 << 63) - 1
_LEAST = -(1 << 63)
_TRUE = ("1", "t", "T", "TRUE", "true", "True")
_FALSE = ("0", "f", "F", "FALSE", "false", "False")
_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}
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


def parse(kind: str, text: str) -> Any:
    """Return `text` as a value of `kind`. Raises ValueError."""
    parser = _HERE.get(kind)
    if parser is None:
        from wherry.cli import entries

        parser = entries.PARSERS[kind]
    return parser(text)


def boolean(text: str) -> bool:
    """Return a bool as Go's ParseBool reads it."""
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise ValueError(f"strconv.ParseBool: parsing {quote(text)}: invalid syntax")


def _digits(text: str, call: str) -> int:
    """Go's base-0 integers: 0x, 0o, 0b and leading-zero octal, with underscores."""
    sign = -1 if text.startswith("-") else 1
    body = text[1:] if text[:1] in ("-", "+") else text
    try:
        if not body[:1].isdigit() or not body.isascii() or body != body.strip():
            raise ValueError
        octal = len(body) > 1 and body[0] == "0" and body[1].isdigit()
        return sign * (int(body, 8) if octal else int(body, 0))
    except ValueError:
        raise ValueError(f"strconv.{call}: parsing {quote(text)}: invalid syntax") from None


def integer(text: str) -> int:
    """Return a 64-bit integer."""
    value = _digits(text, "ParseInt")
    if not _LEAST <= value <= _MOST:
        raise ValueError(f"strconv.ParseInt: parsing {quote(text)}: value out of range")
    return value


def _unsigned(text: str, bits: int) -> int:
    if text[:1] in ("-", "+"):
        raise ValueError(f"strconv.ParseUint: parsing {quote(text)}: invalid syntax")
    value = _digits(text, "ParseUint")
    if value >> bits:
        raise ValueError(f"strconv.ParseUint: parsing {quote(text)}: value out of range")
    return value


def unsigned16(text: str) -> int:
    """Return a 16-bit unsigned integer."""
    return _unsigned(text, 16)


def unsigned64(text: str) -> int:
    """Return a 64-bit unsigned integer."""
    return _unsigned(text, 64)


def size(text: str) -> int:
    """Return bytes from `512`, `1.5g`, `100KiB`: every unit is a power of 1024, as for memory."""
    end = len(text)
    while end and text[end - 1] not in "0123456789. ":
        end -= 1
    number, suffix = text[:end], text[end:]
    if end == 0:
        raise ValueError(f"invalid size: '{text}'")
    if number.endswith(" "):
        number = number[:-1]
    plain = number.replace("e", "").replace("E", "")
    try:
        if plain.strip("+-.0123456789") or "_" in number:
            raise ValueError
        value = float(number)
    except ValueError:
        raise ValueError(f"strconv.ParseFloat: parsing {quote(number)}: invalid syntax") from None
    if value < 0:
        raise ValueError(f"invalid size: '{text}'")
    unit = suffix.lower()
    if unit in ("", "b"):
        return int(value)
    power = "kmgtp".find(unit[0]) + 1
    if not power or unit[1:] not in ("", "b", "ib"):
        raise ValueError(f"invalid suffix: '{unit}'")
    return int(value * (1 << (10 * power)))


def swap_size(text: str) -> int:
    """Return bytes, or -1 for no limit."""
    return -1 if text == "-1" else size(text)


def duration(text: str) -> int:
    """Return nanoseconds from `1h2m3.5s`, as Go's ParseDuration reads it."""
    body = text
    sign = 1
    if body[:1] in ("-", "+"):
        sign = -1 if body[0] == "-" else 1
        body = body[1:]
    if body == "0":
        return 0
    if not body:
        raise ValueError(f"time: invalid duration {quote(text)}")
    total = 0
    while body:
        end = 0
        while end < len(body) and (
            body[end] in "0123456789" or (body[end] == "." and "." not in body[:end])
        ):
            end += 1
        number, body = body[:end], body[end:]
        if number in ("", "."):
            raise ValueError(f"time: invalid duration {quote(text)}")
        end = 0
        while end < len(body) and body[end] not in "0123456789.":
            end += 1
        unit, body = body[:end], body[end:]
        if not unit:
            raise ValueError(f"time: missing unit in duration {quote(text)}")
        if unit not in _UNITS:
            raise ValueError(f"time: unknown unit {quote(unit)} in duration {quote(text)}")
        whole, _, fraction = number.partition(".")
        total += int(whole or "0") * _UNITS[unit]
        if fraction:
            total += int(fraction) * _UNITS[unit] // 10 ** len(fraction)
    if total > _MOST:
        raise ValueError(f"time: invalid duration {quote(text)}")
    return sign * total


def cpus(text: str) -> int:
    """Return billionths of a CPU from a decimal number."""
    from fractions import Fraction

    try:
        value = Fraction(int(text, 16) if text.lower().startswith("0x") else text) * 10**9
    except (ValueError, ZeroDivisionError):
        raise ValueError(f"failed to parse {text} as a rational number") from None
    if value.denominator != 1:
        raise ValueError("value is too precise")
    return value.numerator


_HERE: dict[str, Callable[[str], Any]] = {
    "bool": boolean,
    "int": integer,
    "uint16": unsigned16,
    "uint": unsigned64,
    "bytes": size,
    "swap": swap_size,
    "duration": duration,
    "decimal": cpus,
}
