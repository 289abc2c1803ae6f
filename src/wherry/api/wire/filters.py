"""Docker's `filters` parameter, in both of its forms."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from typing import cast

import msgspec

from wherry.model.errors import Invalid

CONTAINERS = frozenset(
    "ancestor before since exited id isolation label name network publish expose status health "
    "volume is-task".split()
)
CONTAINERS_PRUNE = frozenset(("label", "label!", "until"))
IMAGES = frozenset("dangling label label! before since reference until".split())
SEARCH = frozenset(("is-official", "is-automated", "stars"))
IMAGES_PRUNE = frozenset(("dangling", "label", "label!", "until"))
BUILD_PRUNE = frozenset(
    "until id parent type description inuse shared private label label! unused-for".split()
)
NETWORKS = frozenset("dangling driver id label name scope type".split())
NETWORKS_PRUNE = frozenset(("until", "label", "label!"))
VOLUMES = frozenset(("dangling", "driver", "label", "name"))
VOLUMES_PRUNE = frozenset(("all", "label", "label!"))
EVENTS = frozenset(
    "config container daemon event image label network node plugin scope secret service type volume".split()
)
_STATES = "created running paused restarting removing exited dead".split()


def parse_filters(text: str, known: Set[str]) -> Mapping[str, tuple[str, ...]]:
    """Return name to values of `{"label": ["a"]}` or `{"label": {"a": true}}`.

    Raises Invalid, with Docker's words, for what is neither and for a name that is not `known`.
    """
    if not text:
        return {}
    try:
        raw = cast(object, msgspec.json.decode(text.encode("utf-8", "replace")))
    except (msgspec.DecodeError, RecursionError):
        raise Invalid("invalid filter") from None
    if raw is None:
        return {}
    if not isinstance(raw, dict):
        raise Invalid("invalid filter")
    found: dict[str, tuple[str, ...]] = {}
    for name, values in cast(dict[str, object], raw).items():
        if not isinstance(values, list | dict):
            raise Invalid("invalid filter")
        # Of an object the keys count, whatever their values: so does Docker.
        items = tuple(cast(Iterable[object], values))
        if not all(isinstance(item, str) for item in items):
            raise Invalid("invalid filter")
        if name not in known:
            if known is EVENTS:
                # Docker passes over what it cannot filter events by.
                continue
            raise Invalid(f"invalid filter '{name}'")
        found[name] = cast(tuple[str, ...], items)
    if known is not VOLUMES:
        _check_values(found, known)
    return found


def _check_values(found: Mapping[str, tuple[str, ...]], known: Set[str]) -> None:
    for state in found.get("status", ()):
        if state not in _STATES:
            raise Invalid(
                f"invalid filter 'status={state}': invalid value for state ({state}):"
                f" must be one of {', '.join(_STATES)}"
            )
    for name in ("dangling", "is-task"):
        for value in found.get(name, ()):
            if known is not NETWORKS and value.lower() not in ("1", "0", "true", "false", "t", "f"):
                raise Invalid(f"invalid filter '{name}=[{' '.join(found[name])}]'")
