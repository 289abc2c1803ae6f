"""The text of a flag as a number: counts, sizes, durations, CPUs, and the word of a switch.

Every parser takes the text and returns the value, or raises ValueError with the words of Docker's
client. Sizes are bytes, durations nanoseconds, CPUs billionths of one.
"""

from __future__ import annotations

from wherry.model import literals
from wherry.model.errors import Invalid
from wherry.model.literals import quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    T = TypeVar("T")

_MOST = (1 << 63) - 1
_LEAST = -(1 << 63)


def _read(parser: Callable[[str], T], text: str) -> T:
    try:
        return parser(text)
    except Invalid as error:
        raise ValueError(error.message) from None


def boolean(text: str) -> bool:
    """Return a bool as Go's ParseBool reads it."""
    return _read(literals.parse_bool, text)


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
    return _read(literals.parse_size, text)


def swap_size(text: str) -> int:
    """Return bytes, or -1 for no limit."""
    return -1 if text == "-1" else size(text)


def duration(text: str) -> int:
    """Return nanoseconds from `1h2m3.5s`, as Go's ParseDuration reads it."""
    return _read(literals.parse_duration, text)


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
