"""`RUN --mount=…`: text to a mount. Source: Dockerfile reference, "RUN --mount"."""

from __future__ import annotations

import csv
import posixpath
from collections.abc import Callable, Mapping
from difflib import get_close_matches

from wherry.build.steps import FromContext, MountKind, RunMount, Sharing, Source
from wherry.model.errors import Invalid
from wherry.model.literals import parse_number, parse_size

_ALIASES = {
    "src": "source",
    "dst": "target",
    "destination": "target",
    "ro": "readonly",
    "rw": "readwrite",
}
_KEYS: Mapping[MountKind, frozenset[str]] = {
    MountKind.BIND: frozenset("target source from readwrite readonly".split()),
    MountKind.CACHE: frozenset(
        "id target readonly readwrite sharing from source mode uid gid".split()
    ),
    MountKind.TMPFS: frozenset("target size".split()),
    MountKind.SECRET: frozenset("id target required mode uid gid env source".split()),
    MountKind.SSH: frozenset("id target required mode uid gid".split()),
}
_ALL = frozenset(key for keys in _KEYS.values() for key in keys)


def parse_mount(
    text: str, working_dir: str, expand: Callable[[str], str], find: Callable[[str], Source]
) -> RunMount:
    """Return the mount that one flag writes. Raises Invalid, and what `expand` and `find` (of `from=`) raise."""
    try:
        fields = next(iter(csv.reader([text], strict=True)))
    except csv.Error as error:
        raise Invalid(f"invalid mount '{text}': {error}") from error
    values: dict[str, str] = {}
    for field in fields:
        written, equals, value = field.partition("=")
        key = written.strip().lower()
        key = _ALIASES.get(key, key)
        if not equals and key not in ("readonly", "readwrite", "required"):
            raise Invalid(f"invalid field '{field}' must be a key=value pair")
        values[key] = expand(value) if equals else "true"
    try:
        kind = MountKind(values.pop("type", "bind").lower())
    except ValueError:
        raise Invalid(f"unsupported mount type {dict(_pairs(fields)).get('type', '')!r}") from None
    for key in values:
        if key not in _KEYS[kind]:
            if key in _ALL:
                raise Invalid(f"unexpected key '{key}' for mount type '{kind}'")
            near = get_close_matches(key, sorted(_KEYS[kind]), 1)
            raise Invalid(
                f"unexpected key '{key}' in '{text}'",
                hint=f"did you mean {near[0]}?" if near else "",
            )
    target = values.get("target", "")
    if target:
        target = posixpath.normpath(posixpath.join(working_dir or "/", target))
        target = "/" + target.lstrip("/")
    return _made(kind, values, target, text, find)


def _pairs(fields: list[str]) -> list[tuple[str, str]]:
    return [(key.strip().lower(), value) for key, _, value in (f.partition("=") for f in fields)]


def _made(
    kind: MountKind,
    values: dict[str, str],
    target: str,
    text: str,
    find: Callable[[str], Source],
) -> RunMount:
    if kind in (MountKind.BIND, MountKind.CACHE, MountKind.TMPFS) and not target:
        raise Invalid(f"invalid mount target: target is required for mount type {kind}: '{text}'")
    if target == "/" and kind is not MountKind.SSH:
        raise Invalid(f"invalid mount target '/': it cannot be the root: '{text}'")
    origin = find(values["from"]) if "from" in values else None
    if kind is MountKind.BIND and origin is None:
        origin = FromContext()
    try:
        sharing = Sharing(values.get("sharing", "shared").lower())
    except ValueError:
        raise Invalid(f"unsupported sharing value {values['sharing']!r}") from None
    read_only = kind is MountKind.BIND
    for key in values:  # The last one counts.
        if key in ("readonly", "readwrite"):
            read_only = _truth(values, key) is (key == "readonly")
    name = values.get("id", "")
    source = values.get("source", "")
    match kind:
        case MountKind.SECRET:
            if not name:
                name = posixpath.basename(source or target)
            if not name and values.get("env"):
                name = values["env"]
            if not name:
                raise Invalid(f"invalid secret mount: no id, source or target: '{text}'")
            if not target and not values.get("env"):
                target = f"/run/secrets/{posixpath.basename(name)}"
        case MountKind.SSH:
            name = name or "default"
        case MountKind.CACHE:
            name = name or target
        case _:
            pass
    return RunMount(
        kind=kind,
        target=target,
        source="" if kind is MountKind.SECRET else source,
        origin=origin,
        id=name,
        sharing=sharing,
        read_only=read_only,
        required=_truth(values, "required"),
        env=values.get("env", ""),
        size=_size(values.get("size", "0")),
        uid=_number(values, "uid"),
        gid=_number(values, "gid"),
        mode=_mode(values.get("mode")),
    )


def _truth(values: Mapping[str, str], key: str) -> bool:
    value = values.get(key, "false").lower()
    if value in ("1", "t", "true"):
        return True
    if value in ("0", "f", "false"):
        return False
    raise Invalid(f"invalid value for {key}: {value}")


def _number(values: Mapping[str, str], key: str) -> int:
    value = values.get(key, "0")
    number = parse_number(value, 65535)
    if number is None:
        raise Invalid(f"invalid value {value} for {key}", hint="a number up to 65535")
    return number


def _mode(text: str | None) -> int | None:
    if text is None:
        return None
    try:
        mode = int(text, 8)
    except ValueError:
        mode = -1
    if not 0 <= mode <= 0o7777:
        raise Invalid(f"invalid value {text} for mode", hint="octal, as 0755")
    return mode


def _size(text: str) -> int:
    try:
        return parse_size(text)
    except Invalid:
        raise Invalid(f"invalid value for size: {text}") from None
