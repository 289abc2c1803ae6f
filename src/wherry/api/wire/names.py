"""Field names as Go takes them: `image` is `Image`. Clients written by hand rely on it.

Source: encoding/json, Unmarshal: "preferring an exact match but also accepting a case-insensitive match".
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any, cast

import msgspec

# A name that begins with a small letter: none of the API's own bodies has one. Labels and drivers' options do,
# and few of them are called like a field.
_SMALL = re.compile(rb'"([a-z][^"\\]*)"\s*:')


def may_be_other(body: bytes, kind: type) -> bool:
    """Return whether some name in `body` may be that of a field of `kind` in other letters."""
    return any(found[1].lower() in _lowered(kind) for found in _SMALL.finditer(body))


@cache
def _lowered(_: type) -> frozenset[bytes]:
    # Of all structures that are loaded, what a `kind` is made of is among them: to ask msgspec takes 20 ms.
    known: set[bytes] = set()
    left: list[type[msgspec.Struct]] = [msgspec.Struct]
    while left:
        one = left.pop()
        left += one.__subclasses__()
        known.update(name.lower().encode() for name in one.__struct_encode_fields__)
    return frozenset(known)


def with_exact_names(raw: object, kind: object) -> object:
    """Return decoded JSON with the names of `kind`'s fields where they are written in other letters."""
    return _renamed(raw, _info(kind))


def _renamed(raw: object, kind: msgspec.inspect.Type) -> object:
    match kind, raw:
        case msgspec.inspect.UnionType(), _:
            for one in kind.types:
                raw = _renamed(raw, one)
            return raw
        case msgspec.inspect.StructType(), dict():
            fields = _fields(kind.cls)
            given = cast(dict[str, object], raw)
            answer: dict[str, object] = {}
            for name, value in given.items():
                exact = name if name in fields else _folded(kind.cls).get(name.casefold(), name)
                if exact != name and exact in given:
                    continue
                inner = fields.get(exact)
                answer[exact] = value if inner is None else _renamed(value, inner)
            return answer
        case msgspec.inspect.ListType(), list():
            return [_renamed(item, kind.item_type) for item in cast(list[object], raw)]
        case msgspec.inspect.DictType(), dict():
            pairs = cast(dict[str, object], raw)
            return {name: _renamed(item, kind.value_type) for name, item in pairs.items()}
        case _:
            return raw


@cache
def _info(kind: Any) -> msgspec.inspect.Type:
    # Some 20 ms for the body of a create: once.
    return msgspec.inspect.type_info(kind)


@cache
def _fields(kind: Any) -> dict[str, msgspec.inspect.Type]:
    info = _info(kind)
    assert isinstance(info, msgspec.inspect.StructType)
    return {field.encode_name: field.type for field in info.fields}


@cache
def _folded(kind: Any) -> dict[str, str]:
    return {name.casefold(): name for name in _fields(kind)}
