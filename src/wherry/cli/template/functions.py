"""The functions of templates: Go's own, and those that Docker's client adds.

Each takes the values of its arguments and returns a value, or raises ValueError with Go's words.
"""

from __future__ import annotations

from wherry.cli.gojson import dumps
from wherry.cli.template.printing import sprint, sprintf
from wherry.cli.template.values import MISSING, Map, Row, show, true, type_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Function = Callable[..., Any]


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected string; found {show(value, False)}")
    return value


def _json(value: Any) -> str:
    if isinstance(value, Row) or (isinstance(value, list) and any(map(_is_row, value))):  # pyright: ignore
        return dumps(_plain(value), html=True)
    return dumps(None if value is MISSING else value)


def _is_row(value: object) -> bool:
    return isinstance(value, Row)


def _plain(value: Any) -> Any:
    """Rows as JSON knows them, and what they hold."""
    if isinstance(value, Row):
        return {name: _plain(item) for name, item in value.values().items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]  # pyright: ignore
    return value


def _join(items: Any, separator: Any) -> str:
    if not isinstance(items, (list, tuple)):
        raise TypeError(f"wrong type for value; expected []string; got {type_name(items)}")
    return _text(separator).join(show(item, False) for item in items)  # pyright: ignore


def _split(text: Any, separator: Any) -> list[str]:
    return _text(text).split(_text(separator)) if separator else list(_text(text))


def _title(text: Any) -> str:
    out, before = "", " "
    for c in _text(text):
        out += c.upper() if not (before.isalnum() or before == "_") else c
        before = c
    return out


def _pad(text: Any, before: Any, after: Any) -> str:
    body = _text(text)
    return " " * before + body + " " * after if body else body


def _truncate(text: Any, length: Any) -> str:
    # Docker's client counts bytes.
    return (
        _text(text).encode("utf-8", "surrogateescape")[: max(length, 0)].decode("utf-8", "replace")
    )


def _index(item: Any, *keys: Any) -> Any:
    for key in keys:
        if isinstance(item, (list, tuple, str)):
            if not isinstance(key, int) or isinstance(key, bool):
                raise ValueError(f"cannot index slice/array with type {type_name(key)}")
            if key == len(item):  # pyright: ignore
                # One past the end gets by text/template's own check, and as far as reflect.
                kind = "string" if isinstance(item, str) else "slice"
                raise ValueError(f"reflect: {kind} index out of range")
            if not 0 <= key < len(item):  # pyright: ignore
                raise ValueError(f"index out of range: {key}")
            item = ord(item[key]) if isinstance(item, str) else item[key]  # pyright: ignore
        elif isinstance(item, dict):
            if not isinstance(key, str):
                raise ValueError(f"value has type {type_name(key)}; should be string")
            item = item.get(key, "" if _holds_text(item) else MISSING)  # pyright: ignore
        elif item is None:
            raise ValueError("index of untyped nil")
        else:
            raise ValueError(f"can't index item of type {type_name(item)}")
    return item  # pyright: ignore


def _holds_text(item: dict[str, Any]) -> bool:
    """Whether the map is one of text to text: what is missing there is the empty text."""
    return isinstance(item, Map) and all(isinstance(value, str) for value in item.values())


def _len(item: Any) -> int:
    if isinstance(item, str):
        return len(item.encode("utf-8", "surrogateescape"))
    if isinstance(item, (list, tuple, dict)):
        return len(item)  # pyright: ignore
    if item is None:
        raise ValueError("len of nil pointer")
    raise ValueError(f"len of type {type_name(item)}")


def _slice(item: Any, *ends: Any) -> Any:
    if not isinstance(item, (str, list)):
        raise ValueError(f"can't slice item of type {type_name(item)}")
    bounds = [0, len(item)]  # pyright: ignore
    for place, end in enumerate(ends[:2]):
        if not isinstance(end, int) or not 0 <= end <= len(item):  # pyright: ignore
            raise ValueError(f"index out of range: {show(end)}")
        bounds[place] = end
    if bounds[0] > bounds[1]:
        raise ValueError(f"invalid slice index: {bounds[0]} > {bounds[1]}")
    return item[bounds[0] : bounds[1]]  # pyright: ignore


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, (int, float, str)):
        return type(value).__name__
    if value is None or value is MISSING:
        return "nil"
    raise ValueError("incompatible types for comparison")


def _equal(a: Any, b: Any) -> bool:
    if "nil" in (_kind(a), _kind(b)):
        return _kind(a) == _kind(b)
    if _kind(a) != _kind(b):
        raise ValueError("incompatible types for comparison")
    return a == b


def _eq(first: Any, *others: Any) -> bool:
    if not others:
        raise ValueError("missing argument for comparison")
    return any(_equal(first, other) for other in others)


def _less(a: Any, b: Any) -> bool:
    if _kind(a) != _kind(b):
        raise ValueError("incompatible types for comparison")
    if _kind(a) in ("bool", "nil"):
        raise ValueError("invalid type for comparison")
    return a < b


def _html(*items: Any) -> str:
    marks = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&#34;", "'": "&#39;"}
    return "".join(marks.get(c, c) for c in sprint(*items))


def _js(*items: Any) -> str:
    marks = {"\\": "\\\\", "'": "\\'", '"': '\\"', "<": "\\u003C", ">": "\\u003E", "&": "\\u0026"}
    marks["="] = "\\u003D"
    return "".join(marks.get(c) or (c if c >= " " else f"\\u{ord(c):04X}") for c in sprint(*items))


def _urlquery(*items: Any) -> str:
    from wherry.client.http import escape

    return escape(sprint(*items), b" ").replace(" ", "+")


def _call(*items: Any) -> Any:
    if not items or not callable(items[0]):
        kind = type_name(items[0]) if items else "nil"
        raise ValueError(f"non-function of type {kind}")
    return items[0](*items[1:])


def _pick(items: tuple[Any, ...], wanted: bool) -> Any:
    """`and` and `or`: the first value of the wanted truth, or the last."""
    for item in items:
        if true(item) is wanted:
            return item
    return items[-1]


def _lower(text: Any) -> str:
    return _text(text).lower()


def _upper(text: Any) -> str:
    return _text(text).upper()


def _not(value: Any) -> bool:
    return not true(value)


def _ne(a: Any, b: Any) -> bool:
    return not _equal(a, b)


def _le(a: Any, b: Any) -> bool:
    return _less(a, b) or _equal(a, b)


def _gt(a: Any, b: Any) -> bool:
    return not _le(a, b)


def _ge(a: Any, b: Any) -> bool:
    return not _less(a, b)


def _and(*items: Any) -> Any:
    return _pick(items, False)


def _or(*items: Any) -> Any:
    return _pick(items, True)


def _println(*items: Any) -> str:
    return " ".join(show(item, False) for item in items) + "\n"


def _printf(form: Any, *items: Any) -> str:
    return sprintf(_text(form), items)


FUNCTIONS: dict[str, Function] = {
    "json": _json,
    "split": _split,
    "join": _join,
    "title": _title,
    "lower": _lower,
    "upper": _upper,
    "pad": _pad,
    "truncate": _truncate,
    "index": _index,
    "slice": _slice,
    "len": _len,
    "not": _not,
    "and": _and,
    "or": _or,
    "eq": _eq,
    "ne": _ne,
    "lt": _less,
    "le": _le,
    "gt": _gt,
    "ge": _ge,
    "print": sprint,
    "println": _println,
    "printf": _printf,
    "html": _html,
    "js": _js,
    "urlquery": _urlquery,
    "call": _call,
}
NAMES = frozenset(FUNCTIONS)
# How many arguments each takes: (least, most), most None for any number.
_ANY = (0, None)
ARITY: dict[str, tuple[int, int | None]] = {
    **dict.fromkeys(("json", "title", "lower", "upper", "len", "not"), (1, 1)),
    **dict.fromkeys(("split", "join", "truncate", "ne", "lt", "le", "gt", "ge"), (2, 2)),
    "pad": (3, 3),
    **dict.fromkeys(("index", "slice", "and", "or", "eq", "printf", "call"), (1, None)),
    **dict.fromkeys(("print", "println", "html", "js", "urlquery"), _ANY),
}


def _first(value: Any = "", *_: Any) -> Any:
    return value


# For the header of a table: what changes a value leaves the column's title alone.
HEADER_FUNCTIONS: dict[str, Function] = {
    **FUNCTIONS,
    **dict.fromkeys(("json", "split", "join", "title", "lower", "upper", "truncate"), _first),
}
