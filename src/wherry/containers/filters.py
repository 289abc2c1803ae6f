"""The `filters` of container listings and prunes, with Docker's semantics. Pure.

Source: Engine API v1.51, `GET /containers/json` and `POST /containers/prune`; messages of Docker Engine 28.5.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable
from typing import Protocol

from wherry.model.containers import Container, MountKind, Status
from wherry.model.errors import Invalid
from wherry.model.ids import Digest
from wherry.model.moments import parse_when
from wherry.model.networks import parse_port
from wherry.model.views import Filters

Test = Callable[[Container], bool]
_KNOWN = frozenset(
    "ancestor before exited expose health id is-task isolation label label! name network publish since "
    "status volume".split()
)
_PRUNE = frozenset({"until", "label", "label!"})
_HEALTH = ("none", "starting", "healthy", "unhealthy")
_STATUSES = "created, running, paused, restarting, removing, exited, dead"


class Lookup(Protocol):
    """Where references to other containers are resolved."""

    def resolve(self, ref: str) -> Container: ...


class Ancestry(Protocol):
    """What is asked of the images: which ids `ref` names, itself and every image made from it."""

    def descendants(self, ref: str) -> frozenset[Digest]: ...


def compile_filters(filters: Filters, lookup: Lookup, images: Ancestry) -> Test:
    """Return a predicate over containers. Raises Invalid, or NotFound for `before` and `since`."""
    _check_known(filters, _KNOWN)
    tests = [
        _test(name, tuple(values), lookup, images) for name, values in filters.items() if values
    ]
    return lambda container: all(test(container) for test in tests)


def compile_prune_filters(filters: Filters, now_ns: int | None = None) -> Test:
    """Return which containers a prune may take. Raises Invalid."""
    _check_known(filters, _PRUNE)
    tests: list[Test] = []
    for name, values in filters.items():
        if name == "until" and values:
            if len(values) > 1:
                raise Invalid("more than one until filter specified")
            tests.append(_before(parse_when(values[0], now_ns or time.time_ns())))
        elif values:
            tests.append(_labels(tuple(values), wanted=name == "label"))
    return lambda container: all(test(container) for test in tests)


def _before(limit: int) -> Test:
    return lambda container: container.created < limit


def names_status(filters: Filters) -> bool:
    """Return whether a filter asks for containers that do not run (a plain `ps` shows them then)."""
    return any(filters.get(name) for name in ("status", "exited"))


def _check_known(filters: Filters, known: frozenset[str]) -> None:
    for name in filters:
        if name not in known:
            raise Invalid(f"invalid filter '{name}'")


def _test(name: str, values: tuple[str, ...], lookup: Lookup, images: Ancestry) -> Test:
    match name:
        case "id":
            return lambda c: any(matches(value, c.id, prefix=True) for value in values)
        case "name":
            return _names(values)
        case "label":
            return _labels(values, wanted=True)
        case "label!":
            return _labels(values, wanted=False)
        case "status":
            return _statuses(values)
        case "exited":
            codes = frozenset(_number(value) for value in values)
            return lambda c: c.state.status is Status.EXITED and c.state.exit_code in codes
        case "ancestor":
            ids: set[Digest] = set()
            for value in values:
                ids |= images.descendants(value)
            return lambda c: c.image_id in ids
        case "before":
            others = tuple(lookup.resolve(value).created for value in values)
            return lambda c: c.created < min(others)
        case "since":
            others = tuple(lookup.resolve(value).created for value in values)
            return lambda c: c.created > max(others)
        case "health":
            return _health(values)
        case "network":
            return lambda c: any(value in _networks(c) for value in values)
        case "volume":
            return lambda c: any(value in _mounts(c) for value in values)
        case "is-task":
            return _is_task(values)
        case "isolation":
            return lambda c: any(value in ("", "default") for value in values)
        case _:
            # publish and expose.
            return _ports(name, values)


def matches(pattern: str, text: str, *, prefix: bool = False) -> bool:
    """Docker's filters match as regular expressions; one that is none matches as plain text."""
    if pattern == text or (prefix and text.startswith(pattern)):
        return True
    try:
        return re.search(pattern, text) is not None
    except re.error:
        return pattern in text


def _names(values: tuple[str, ...]) -> Test:
    # A name has a slash before it for patterns such as ^/web$, and none for ^web$.
    return lambda c: any(matches(value, c.name) or matches(value, f"/{c.name}") for value in values)


def _labels(values: tuple[str, ...], *, wanted: bool) -> Test:
    def has(container: Container, text: str) -> bool:
        key, equals, value = text.partition("=")
        labels = dict(container.labels)
        return key in labels and (not equals or labels[key] == value)

    if wanted:
        return lambda c: all(has(c, text) for text in values)
    return lambda c: not any(has(c, text) for text in values)


def _statuses(values: tuple[str, ...]) -> Test:
    for value in values:
        if value not in tuple(Status):
            raise Invalid(
                f"invalid filter 'status={value}': invalid value for state ({value}): must be one of "
                f"{_STATUSES}"
            )
    return lambda c: c.state.status in values


def _number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise Invalid(
            f"invalid filter 'exited={text}': strconv.Atoi: parsing \"{text}\": invalid syntax"
        ) from None


def _health(values: tuple[str, ...]) -> Test:
    for value in values:
        if value not in _HEALTH:
            raise Invalid(
                f"invalid filter 'health={value}': invalid value for health ({value}): must be one of "
                f"{', '.join(_HEALTH)}"
            )

    def health(container: Container) -> str:
        found = container.state.health
        return found.status if found is not None else "none"

    return lambda c: health(c) in values


def _networks(container: Container) -> Iterable[str]:
    """Names and ids of the networks that a container is, or is to be, in."""
    for wish in container.spec.endpoints:
        yield wish.network
        if wish.network_id:
            yield wish.network_id


def _mounts(container: Container) -> Iterable[str]:
    for mount in container.mounts:
        if mount.kind is not MountKind.TMPFS:
            yield mount.volume or mount.source
        yield mount.target


def _is_task(values: tuple[str, ...]) -> Test:
    if any(value not in ("true", "false", "1", "0") for value in values):
        raise Invalid(f"invalid filter 'is-task=[{' '.join(values)}]'")
    shown = any(value in ("false", "0") for value in values)
    return lambda c: shown


def _ports(name: str, values: tuple[str, ...]) -> Test:
    wanted: set[str] = set()
    for value in values:
        numbers, _, protocol = value.partition("/")
        first, _, last = numbers.partition("-")
        if not first.isdecimal() or (last and not last.isdecimal()):
            wrong = numbers if not first.isdecimal() else last
            raise Invalid(
                f"error while looking up for {name} {value}: strconv.ParseUint: parsing "
                f'"{wrong}": invalid syntax'
            )
        # What is beyond all ports is none, and no mistake either: so with Docker 28.5.
        start, end = parse_port(first), parse_port(last or first)
        for port in range(65536 if start is None else start, (65535 if end is None else end) + 1):
            wanted.add(f"{port}/{protocol or 'tcp'}")
    if name == "publish":
        return lambda c: any(
            f"{port.host_port}/{port.proto}" in wanted for port in c.state.attachments.ports
        )
    return lambda c: any(port in wanted for port in c.spec.exposed_ports)
