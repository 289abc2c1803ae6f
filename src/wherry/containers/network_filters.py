"""The `filters` of network listings and prunes, with Docker's semantics. Pure.

Source: Engine API v1.51, `GET /networks` and `POST /networks/prune`; messages of Docker Engine 28.5.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from wherry.containers.endpoints import BUILT_IN
from wherry.containers.filters import matches
from wherry.model.errors import Invalid
from wherry.model.moments import parse_when
from wherry.model.networks import Network
from wherry.model.views import Filters

Test = Callable[[Network], bool]
_LIST = frozenset("dangling driver id label name scope type".split())
_PRUNE = frozenset(("until", "label", "label!"))
_TRUE, _FALSE = ("true", "1"), ("false", "0")


def compile_list_filters(filters: Filters, in_use: Test) -> Test:
    """Return a predicate over networks; `in_use` says whether something runs in one. Raises Invalid."""
    _check_known(filters, _LIST)
    tests = [_test(name, tuple(values), in_use) for name, values in filters.items() if values]
    return lambda network: all(test(network) for test in tests)


def compile_prune_filters(filters: Filters) -> Test:
    """Return which networks a prune may take. Raises Invalid."""
    _check_known(filters, _PRUNE)
    tests: list[Test] = []
    for name, values in filters.items():
        if not values:
            continue
        if name == "until":
            if len(values) > 1:
                raise Invalid("more than one until filter specified")
            tests.append(_older(parse_when(values[0], time.time_ns())))
        else:
            tests.append(_labels(tuple(values), wanted=name == "label"))
    return lambda network: all(test(network) for test in tests)


def _older(limit: int) -> Test:
    return lambda network: network.created < limit


def _check_known(filters: Filters, known: frozenset[str]) -> None:
    for name in filters:
        if name not in known:
            raise Invalid(f"invalid filter '{name}'")


def _test(name: str, values: tuple[str, ...], in_use: Test) -> Test:
    match name:
        case "driver":
            return lambda n: str(n.spec.driver) in values
        case "id":
            return lambda n: any(matches(value, n.id, prefix=True) for value in values)
        case "name":
            return lambda n: any(matches(value, n.name) for value in values)
        case "label":
            return _labels(values, wanted=True)
        case "scope":
            return lambda n: n.spec.scope in values
        case "type":
            return _types(values)
        case _:
            return _dangling(values, in_use)


def _types(values: tuple[str, ...]) -> Test:
    for value in values:
        if value not in ("custom", "builtin"):
            raise Invalid(f"invalid filter: 'type'='{value}'")
    return lambda n: ("builtin" if n.name in BUILT_IN else "custom") in values


def _dangling(values: tuple[str, ...], in_use: Test) -> Test:
    if len(values) > 1:
        raise Invalid('got more than one value for filter key "dangling"')
    value = next(iter(values))
    if value not in _TRUE + _FALSE:
        raise Invalid(
            'invalid value for filter \'dangling\', must be "true" (or "1"), or "false" (or "0")'
        )
    wanted = value in _TRUE
    return lambda n: n.name not in BUILT_IN and in_use(n) is not wanted


def _labels(values: tuple[str, ...], *, wanted: bool) -> Test:
    def has(labels: Mapping[str, str], text: str) -> bool:
        key, equals, value = text.partition("=")
        return key in labels and (not equals or labels[key] == value)

    if wanted:
        return lambda n: all(has(dict(n.spec.labels), text) for text in values)
    return lambda n: not any(has(dict(n.spec.labels), text) for text in values)
