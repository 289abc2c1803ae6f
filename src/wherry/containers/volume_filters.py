"""The filters of `volume ls` and `volume prune`, as predicates. Messages are those of Docker Engine 28.5."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from wherry.containers.filters import matches
from wherry.model.errors import Invalid
from wherry.model.literals import parse_bool
from wherry.model.views import Filters
from wherry.model.volumes import Volume

Test = Callable[[Volume], bool]


def compile_list_filters(filters: Filters, is_used: Callable[[str], bool]) -> Test:
    """Return whether a volume is listed. Raises Invalid."""
    tests: list[Test] = []
    for name, values in filters.items():
        match name:
            case "dangling":
                wanted = _dangling(values)
                tests.append(lambda volume, wanted=wanted: is_used(volume.name) is not wanted)
            case "name":
                patterns = tuple(values)
                tests.append(lambda volume, p=patterns: any(matches(x, volume.name) for x in p))
            case "driver":
                drivers = frozenset(values)
                tests.append(lambda volume, drivers=drivers: volume.driver in drivers)
            case "label":
                labels = tuple(values)
                tests.append(lambda volume, labels=labels: _has_all(volume, labels))
            case _:
                raise Invalid(f"invalid filter '{name}'")
    return lambda volume: all(test(volume) for test in tests)


def compile_prune_filters(filters: Filters, *, everything: bool) -> Test:
    """Return whether a volume may be pruned. Raises Invalid."""
    tests: list[Test] = []
    for name, values in filters.items():
        match name:
            case "all":
                everything = _all(values)
            case "label":
                labels = tuple(values)
                tests.append(lambda volume, labels=labels: _has_all(volume, labels))
            case "label!":
                labels = tuple(values)
                tests.append(lambda volume, labels=labels: not _has_any(volume, labels))
            case _:
                raise Invalid(f"invalid filter '{name}'")
    if not everything:
        tests.append(lambda volume: volume.anonymous)
    return lambda volume: all(test(volume) for test in tests)


def _dangling(values: Sequence[str]) -> bool:
    if len(values) == 1 and values[0] in ("1", "true"):
        return True
    if len(values) == 1 and values[0] in ("0", "false"):
        return False
    raise Invalid(f"invalid filter 'dangling=[{' '.join(values)}]'")


def _all(values: Sequence[str]) -> bool:
    if len(values) != 1:
        raise Invalid("invalid filter 'all': only one value is expected")
    try:
        return parse_bool(values[0])
    except Invalid as error:
        raise Invalid(f"invalid filter 'all': {error.message}") from None


def _has(volume: Volume, text: str) -> bool:
    key, equals, value = text.partition("=")
    labels = dict(volume.labels or ())
    return key in labels and (not equals or labels[key] == value)


def _has_all(volume: Volume, texts: Sequence[str]) -> bool:
    return all(_has(volume, text) for text in texts)


def _has_any(volume: Volume, texts: Sequence[str]) -> bool:
    return any(_has(volume, text) for text in texts)
