"""What every wire module uses: decoding with Docker's errors, encoding, times, empty values."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar, cast

import msgspec

from wherry.api.wire.names import may_be_other, with_exact_names
from wherry.model.containers import Pairs
from wherry.model.errors import Invalid
from wherry.model.moments import parse_instant, render_rfc3339

T = TypeVar("T")
ZERO_TIME = "0001-01-01T00:00:00Z"
_PATH = re.compile(r" - at `\$\.?(.*)`$")


def check_content_type(content_type: str, body: bytes) -> None:
    """Raise Invalid, with Docker's words, unless a body that is there is declared to be JSON."""
    kind = content_type.partition(";")[0].strip().lower()
    if kind != "application/json" and (body or kind):
        raise Invalid(
            f"unsupported Content-Type header ({content_type}): must be 'application/json'"
        )


def decode(kind: type[T], body: bytes) -> T:
    """Return `body` as a `kind`, its fields' names in any letters. Raises Invalid naming the wrong one."""
    if not body.strip():
        raise Invalid("invalid JSON: got EOF while reading request body")
    try:
        if may_be_other(body, kind):
            return msgspec.convert(with_exact_names(msgspec.json.decode(body), kind), kind)
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        text = str(error)
        found = _PATH.search(text)
        where = f" in field {found[1]}" if found and found[1] else ""
        raise Invalid(f"invalid JSON: {_PATH.sub('', text).replace('`', '')}{where}") from None
    except msgspec.DecodeError as error:
        raise Invalid(f"invalid JSON: {error}") from None
    except RecursionError:
        raise Invalid("invalid JSON: nested too deeply") from None
    except UnicodeDecodeError:
        raise Invalid("invalid JSON: not UTF-8") from None


def encode(value: object) -> bytes:
    """Return `value` as a line of JSON, as Docker ends its answers.

    Odd bytes in names (surrogates) become U+FFFD, as Go's encoder makes them.
    """
    try:
        return msgspec.json.encode(value) + b"\n"
    except UnicodeEncodeError:
        return msgspec.json.encode(_clean(value)) + b"\n"


def _clean(value: object) -> object:
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    if isinstance(value, Mapping):
        pairs = cast(Mapping[str, object], value)
        return {str(_clean(name)): _clean(item) for name, item in pairs.items()}
    if isinstance(value, list | tuple):
        return [_clean(item) for item in cast(Sequence[object], value)]
    return value


def render_time(nanoseconds: int) -> str:
    """Return RFC 3339 with as many fractional digits as there are, in UTC; 0 is Go's zero time."""
    return render_rfc3339(nanoseconds) if nanoseconds else ZERO_TIME


def parse_time(text: str, name: str = "timestamp") -> int:
    """Return nanoseconds since the epoch of what clients send: seconds with a fraction, or RFC 3339.

    "" and "0" are 0. Raises Invalid naming the parameter.
    """
    try:
        return parse_instant(text) if text else 0
    except Invalid:
        raise Invalid(
            f"invalid value for {name}: {text!r}", hint="seconds since the epoch, or RFC 3339"
        ) from None


def pairs_of(mapping: Mapping[str, str | None] | None) -> Pairs:
    """Return a JSON object of strings as sorted pairs."""
    return tuple(sorted((name, value or "") for name, value in (mapping or {}).items()))


def optional_pairs(mapping: Mapping[str, str | None] | None) -> Pairs | None:
    """Do the same, and keep a missing object apart from an empty one."""
    return None if mapping is None else pairs_of(mapping)


def texts(values: Iterable[str | None] | None) -> tuple[str, ...]:
    """Return a JSON list of strings, null as an empty one."""
    return tuple(value or "" for value in values or ())


def listed(values: Iterable[str]) -> list[str] | None:
    """Return a list, None where it is empty, as Go renders a nil slice."""
    return list(values) or None


def mapped(pairs: Pairs) -> dict[str, str] | None:
    """Return an object, None where it is empty, as Go renders a nil map."""
    return dict(pairs) or None
