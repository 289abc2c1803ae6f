"""JSON in and out, without importing the `json` package where CPython's C half can be had.

`json` pulls in `re` (5 ms of a command that takes 12); `_json` is the same code's C part.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    Object = dict[str, Any]

try:
    import _json  # pyright: ignore
except ImportError:
    _json = None


class _Context:
    """What CPython's scanner and encoder ask of a `json.JSONDecoder`."""

    strict = False
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_string: object = getattr(_json, "scanstring", None)  # pyright: ignore
    memo: dict[str, str] = {}

    @staticmethod
    def parse_constant(name: str) -> float:
        raise ValueError(f"{name} is not JSON")


def _refuse(value: object) -> object:
    raise TypeError(f"not JSON: {type(value).__name__}")


def _c_codec() -> tuple[Callable[[str], Any], Callable[[object], str]]:
    native: Any = _json  # pyright: ignore
    scan: Callable[[str, int], tuple[Any, int]] = native.make_scanner(_Context)
    encode: Callable[[object, int], Iterable[str]] = native.make_encoder(
        None, _refuse, native.encode_basestring, None, ":", ",", False, False, False
    )

    def loads(text: str) -> Any:
        body = text.strip(" \t\r\n")
        try:
            value, end = scan(body, 0)
        except StopIteration as stop:
            raise ValueError(f"not JSON at character {stop.value}") from None
        except SystemError:
            # Before CPython 3.12 the scanner looks for its exception among the imported modules only.
            import json

            return json.loads(body)
        if end != len(body):
            raise ValueError(f"more than one JSON value: character {end}")
        return value

    def dumps(value: object) -> str:
        return "".join(encode(value, 0))

    # A different interpreter version may change the private signatures: ask once, at import.
    if (
        loads('{"a":[1,2.5,"é",null]}') != {"a": [1, 2.5, "é", None]}
        or dumps([True, "a"]) != '[true,"a"]'
    ):
        raise RuntimeError("_json has changed")
    return loads, dumps


def _json_codec() -> tuple[Callable[[str], Any], Callable[[object], str]]:
    import json

    def dumps(value: object) -> str:
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False)

    def loads(text: str) -> Any:
        return json.loads(text)

    return loads, dumps


def _codec() -> tuple[Callable[[str], Any], Callable[[object], str]]:
    if _json is not None:  # pyright: ignore
        try:
            return _c_codec()
        except (TypeError, ValueError, RuntimeError, AttributeError):
            pass
    return _json_codec()


_loads, _dumps = _codec()


def decode(data: bytes | str) -> Any:
    """Return the one JSON value in `data`. Raises ValueError."""
    return _loads(data if isinstance(data, str) else data.decode("utf-8", "replace"))


def encode(value: object) -> str:
    """Return `value` as compact JSON text, dictionaries in their own order."""
    return _dumps(value)


def one(facts: Object, name: str) -> Object:
    """Return the object that `facts` has as `name`; an empty one for null and for nothing."""
    return facts.get(name) or {}


def many(facts: Object, name: str) -> list[Any]:
    """Return the list that `facts` has as `name`; an empty one for null and for nothing."""
    return facts.get(name) or []
