"""JSON as Go writes it: numbers, escapes, and the indenting of `inspect`."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_ESCAPES = {
    **{chr(c): f"\\u{c:04x}" for c in range(32)},
    '"': '\\"',
    "\\": "\\\\",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    "\b": "\\b",
    "\f": "\\f",
    "\u2028": "\\u2028",
    "\u2029": "\\u2029",
}
_TABLE = str.maketrans(_ESCAPES)
_HTML = str.maketrans({**_ESCAPES, "<": "\\u003c", ">": "\\u003e", "&": "\\u0026"})


class NoList(list["Any"]):
    """A list that the API gave as null: it prints as an empty list, and is null in JSON."""


class Map(dict[str, "Any"]):
    """A JSON object whose keys are a user's, not the API's: a missing one is no error."""


class NoMap(Map):
    """A map that the API gave as null: it prints as an empty map, and is null in JSON."""


def number(value: int | float) -> str:
    """Return a number as Go's JSON writes it: no exponent between 1e-6 and 1e21."""
    if isinstance(value, int):
        return str(value)
    special = {"nan": "NaN", "inf": "+Inf", "-inf": "-Inf"}.get(str(value))
    if special:
        return special
    if value.is_integer() and abs(value) < 1e21:
        return str(int(value))
    if 1e-6 <= abs(value) < 1e21:
        mantissa, _, exponent = repr(value).partition("e-")
        if not exponent:
            return mantissa
        sign = "-" if value < 0 else ""
        digits = mantissa.lstrip("-").replace(".", "")
        return f"{sign}0.{'0' * (int(exponent) - 1)}{digits}"
    mantissa, _, exponent = repr(value).partition("e")
    sign = exponent[:1] if exponent[:1] in "+-" else "+"
    return f"{mantissa.removesuffix('.0')}e{sign}{exponent.lstrip('+-').lstrip('0').rjust(2, '0')}"


def quoted(text: str, html: bool = False) -> str:
    """Return `text` as a JSON string; with `html`, angle brackets and ampersands escaped."""
    return '"' + text.translate(_HTML if html else _TABLE) + '"'


def dumps(value: Any, *, indent: str = "", html: bool = False) -> str:
    """Return `value` as JSON. `indent` is what a level adds; without it all is on one line."""
    out: list[str] = []
    _write(value, out, indent, "\n", html)
    return "".join(out)


def _write(value: Any, out: list[str], indent: str, newline: str, html: bool) -> None:
    if isinstance(value, str):
        out.append(quoted(value, html))
    elif value is None or value is True or value is False:
        out.append("null" if value is None else "true" if value else "false")
    elif isinstance(value, (int, float)):
        out.append(number(value))
    elif isinstance(value, (NoList, NoMap)):
        out.append("null")
    elif isinstance(value, dict):
        entries: dict[str, Any] = value  # pyright: ignore[reportUnknownVariableType]
        items = [(quoted(key, html), item) for key, item in entries.items()]
        _write_all(items, "{", "}", out, indent, newline, html)
    elif isinstance(value, (list, tuple)):
        members: list[Any] = value  # pyright: ignore
        _write_all([("", item) for item in members], "[", "]", out, indent, newline, html)
    else:
        raise TypeError(f"not JSON: {value!r}")


def _write_all(
    items: list[tuple[str, Any]],
    opening: str,
    closing: str,
    out: list[str],
    indent: str,
    newline: str,
    html: bool,
) -> None:
    out.append(opening)
    inner = newline + indent
    for i, (key, item) in enumerate(items):
        if i:
            out.append(",")
        if indent:
            out.append(inner)
        if key:
            out.append(key + (": " if indent else ":"))
        _write(item, out, indent, inner, html)
    if items and indent:
        out.append(newline)
    out.append(closing)
