"""Plans as JSON: frozen dataclasses of a known list, tuples, bytes and plain values.

`decode(encode(x)) == x` for every type registered here. Fields at their default are left out.
Peers are wherry's own processes on a socket of mode 0600; a type that is not listed is refused.
"""

from __future__ import annotations

import base64
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any, TypeVar, cast

from wherry.model import oci, resources, wiring
from wherry.model.errors import Internal, Invalid

_TYPES: dict[str, type] = {}
_NAMES: dict[type, str] = {}
_FIELDS: dict[type, tuple[tuple[str, Any], ...]] = {}
T = TypeVar("T", bound=type)


def registered(cls: T, name: str = "") -> T:
    """Class decorator: `cls` may travel, under its own name where none is given."""
    name = name or cls.__name__
    if _TYPES.setdefault(name, cls) is not cls:
        raise Internal(f"two types would travel as {name}")
    _NAMES[cls] = name
    return cls


for _module in (oci, resources):
    for _value in vars(_module).values():
        if isinstance(_value, type) and is_dataclass(_value):
            registered(_value)
for _type in (wiring.Wiring, wiring.Link, wiring.Way):
    # A step is called Link too.
    registered(_type, f"network.{_type.__name__}")


def _default(field: Field[Any]) -> Any:
    if field.default is not MISSING:
        return field.default
    if field.default_factory is not MISSING:
        return field.default_factory()
    return MISSING


def _fields_of(cls: type) -> tuple[tuple[str, Any], ...]:
    known = _FIELDS.get(cls)
    if known is None:
        known = tuple((field.name, _default(field)) for field in fields(cls))
        _FIELDS[cls] = known
    return known


def encode(value: Any) -> Any:
    """Return `value` as what `json.dumps` takes."""
    if value is None or isinstance(value, (str, int, bool, float)):
        return value
    if isinstance(value, bytes):
        return {"@": "b", "v": base64.b64encode(value).decode()}
    if isinstance(value, (tuple, list)):
        return [encode(item) for item in cast("tuple[Any, ...]", value)]
    cls = cast("type[object]", type(value))
    out: dict[str, Any] = {"@": _NAMES.get(cls, cls.__name__)}
    for name, default in _fields_of(cls):
        item = getattr(value, name)
        if item is not default and item != default:
            out[name] = encode(item)
    return out


def decode(value: Any) -> Any:
    """Return what `encode` was given; sequences come back as tuples. Raises Invalid."""
    if isinstance(value, list):
        return tuple(decode(item) for item in cast("list[Any]", value))
    if not isinstance(value, dict):
        return value
    mapping = cast("dict[str, Any]", value)
    name = mapping.get("@")
    if name == "b":
        return base64.b64decode(mapping["v"])
    cls = _TYPES.get(str(name))
    if cls is None:
        raise Invalid(f"a plan names the unknown type {name!r}")
    try:
        return cls(**{key: decode(item) for key, item in mapping.items() if key != "@"})
    except TypeError as error:
        raise Invalid(f"a plan's {name} is malformed: {error}") from error
