"""Reading one value out of decoded JSON, with the place named when it has the wrong shape."""

from __future__ import annotations

from typing import cast

from wherry.model.errors import Invalid

_U64 = (1 << 64) - 1


def wrong(where: str, expected: str, found: object) -> Invalid:
    """Return the error for a value of the wrong shape."""
    return Invalid(f"seccomp profile: {where}: expected {expected}, found {type(found).__name__}")


def as_object(value: object, where: str) -> dict[str, object]:
    """Return `value` as an object; null is an empty one. Raises Invalid."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise wrong(where, "an object", value)
    return cast("dict[str, object]", value)


def as_list(value: object, where: str) -> list[object]:
    """Return `value` as a list; null is an empty one. Raises Invalid."""
    if value is None:
        return []
    if not isinstance(value, list):
        raise wrong(where, "a list", value)
    return cast("list[object]", value)


def as_text(value: object, where: str) -> str:
    """Return `value` as text; null is empty. Raises Invalid."""
    if value is None:
        return ""
    if not isinstance(value, str):
        raise wrong(where, "a string", value)
    return value


def as_texts(value: object, where: str) -> tuple[str, ...]:
    """Return `value` as texts; null is none. Raises Invalid."""
    return tuple(as_text(item, f"{where}[{i}]") for i, item in enumerate(as_list(value, where)))


def as_number(value: object, where: str) -> int | None:
    """Return `value` as an unsigned 64-bit number, None for null. Raises Invalid."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise wrong(where, "a whole number", value)
    if not 0 <= value <= _U64:
        raise Invalid(f"seccomp profile: {where}: {value} does not fit 64 unsigned bits")
    return value
