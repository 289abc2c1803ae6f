"""Go's fmt, as far as templates use it."""

from __future__ import annotations

from wherry.cli.template.values import show
from wherry.model.literals import quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


_WIDEST = 1_000_000


def sprint(*items: Any) -> str:
    """Return the items together, a space between two that are both no text."""
    out = ""
    for i, item in enumerate(items):
        if i and not isinstance(item, str) and not isinstance(items[i - 1], str):
            out += " "
        out += show(item, False)
    return out


def sprintf(form: str, items: tuple[Any, ...]) -> str:
    """Return `form` with its verbs filled in, as Go's Sprintf does; mistakes show as Go shows them."""
    out, at, used = "", 0, 0
    while at < len(form):
        c = form[at]
        if c != "%":
            out += c
            at += 1
            continue
        end = at + 1
        flags = ""
        while end < len(form) and form[end] in "+-# 0":
            flags += form[end]
            end += 1
        width_text, end = _digits(form, end)
        if int(width_text or 0) > _WIDEST:
            out += "%!(BADWIDTH)"
            width_text = ""
        precision_text: str | None = None
        if end < len(form) and form[end] == ".":
            precision_text, end = _digits(form, end + 1)
            if int(precision_text or 0) > _WIDEST:
                out += "%!(BADPREC)"
                precision_text = None
        if end >= len(form):
            return out + "%!(NOVERB)"
        verb = form[end]
        at = end + 1
        if verb == "%":
            out += "%"
            continue
        if used >= len(items):
            out += f"%!{verb}(MISSING)"
            continue
        text = _verb(verb, items[used], flags, precision_text)
        used += 1
        if " " in flags and verb == "d" and not text.startswith(("-", "+")):
            text = f" {text}"
        out += _padded(text, flags, int(width_text or 0), verb)
    if used < len(items):
        extra = ", ".join(f"{_type(item)}={show(item, False)}" for item in items[used:])
        out += f"%!(EXTRA {extra})"
    return out


def _digits(form: str, at: int) -> tuple[str, int]:
    end = at
    while end < len(form) and form[end].isdigit():
        end += 1
    return form[at:end], end


def _padded(text: str, flags: str, width: int, verb: str) -> str:
    if "-" in flags:
        return text.ljust(width)
    if "0" in flags and verb in "dxXobfeg":
        sign = text[:1] if text[:1] in ("-", "+") else ""
        return sign + text[len(sign) :].rjust(width - len(sign), "0")
    return text.rjust(width)


def _verb(verb: str, item: Any, flags: str, precision_text: str | None) -> str:
    whole = isinstance(item, int) and not isinstance(item, bool)
    integer: Any = item
    precision = int(precision_text or 0) if precision_text is not None else None
    if verb == "v":
        return show(item, False)
    if verb == "T":
        return _type(item)
    if verb == "t" and isinstance(item, bool):
        return "true" if item else "false"
    if verb in "sq" and not whole and not isinstance(item, (float, bool)):
        text = show(item, False)
        text = text if precision is None else text[:precision]
        return quote(text) if verb == "q" and isinstance(item, str) else text
    if verb in "xX" and isinstance(item, str):
        digits = item.encode("utf-8", "surrogateescape").hex()
        return digits.upper() if verb == "X" else digits
    if verb in "dxXobcqU" and whole:
        return _integer(verb, integer, flags)
    if verb in "feEgG" and isinstance(item, float):
        default = 6 if verb in "feE" else 17
        body = f"{item:.{precision if precision is not None else default}{verb}}"
        if verb in "gG" and precision is None:
            body = show(item, False)
        return f"+{body}" if "+" in flags and item >= 0 else body
    return f"%!{verb}({_type(item)}={show(item, False)})"


def _integer(verb: str, item: int, flags: str) -> str:
    if verb == "c":
        return chr(item) if 0 <= item < 0x110000 else "\ufffd"
    if verb == "q":
        return f"'{chr(item)}'"
    if verb == "U":
        return f"U+{item:04X}"
    body = format(item, verb)
    if "#" in flags and verb in "xX":
        body = f"0{verb}{body}"
    return f"+{body}" if "+" in flags and item >= 0 else body


def _type(item: Any) -> str:
    if item is None:
        return "<nil>"
    names = {"str": "string", "bool": "bool", "int": "int", "float": "float64"}
    other = "map[string]interface {}" if isinstance(item, dict) else "[]string"
    return names.get(type(item).__name__, other)  # pyright: ignore[reportUnknownArgumentType]
