"""`docker images` and `image prune`: which images a set of filters means.

Source: Engine API v1.51, `filters` of /images/json and /images/prune.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace

from wherry.images.store import ImageStore
from wherry.model.errors import Invalid
from wherry.model.ids import Reference
from wherry.model.images import Image
from wherry.model.literals import parse_bool
from wherry.model.moments import parse_or_zero, parse_when
from wherry.model.views import Filters

_LIST = frozenset({"dangling", "label", "label!", "before", "since", "reference", "until"})
_PRUNE = frozenset({"dangling", "label", "label!", "until"})


def list_images(store: ImageStore, *, everything: bool, filters: Filters) -> list[Image]:
    """Return the images that match, newest first; intermediate ones only with `everything`.

    With a `reference` filter an image shows only the names that match. Raises Invalid, NotFound.
    """
    _check_names(filters, _LIST)
    images = store.images()
    parents = {image.parent for image in images if image.parent}
    dangling = _truth(filters, "dangling")
    matches = [*_by_time(store, filters), *_by_label(filters)]
    patterns = [_pattern(text) for text in filters.get("reference", ())]
    found: list[Image] = []
    for image in images:
        bare = not image.names and not image.repo_digests
        intermediate = bare and image.id in parents
        if intermediate and (not everything or dangling):
            continue
        if dangling is not None and dangling != bare:
            continue
        if not all(match(image) for match in matches):
            continue
        if patterns:
            image = _only_named(image, patterns)
            if not image.names and not image.repo_digests:
                continue
        found.append(image)
    return sorted(found, key=lambda image: (-parse_or_zero(image.created), str(image.id)))


def prune_candidates(store: ImageStore, filters: Filters) -> list[Image]:
    """Return the images that a prune means: nameless ones, with dangling=false all; newest first."""
    _check_names(filters, _PRUNE)
    dangling = _truth(filters, "dangling") is not False
    matches = [*_by_time(store, filters), *_by_label(filters)]
    return [
        image
        for image in sorted(store.images(), key=lambda image: -parse_or_zero(image.created))
        if not (dangling and (image.names or image.repo_digests))
        and all(match(image) for match in matches)
    ]


def _check_names(filters: Filters, known: Collection[str]) -> None:
    for name in filters:
        if name not in known:
            raise Invalid(f"invalid filter '{name}'", hint="known: " + ", ".join(sorted(known)))


def _truth(filters: Filters, name: str) -> bool | None:
    values = filters.get(name, ())
    if not values:
        return None
    try:
        (found,) = {parse_bool(value) for value in values}
    except (Invalid, ValueError):
        raise Invalid(f"invalid filter '{name}=[{' '.join(values)}]'") from None
    return found


Match = Callable[[Image], bool]


def _by_time(store: ImageStore, filters: Filters) -> Iterable[Match]:
    def created(ref: str) -> int:
        return parse_or_zero(store.resolve(ref).created)

    earliest = [created(ref) for ref in filters.get("since", ())]
    latest = [created(ref) for ref in filters.get("before", ())]
    latest += [parse_when(text, time.time_ns()) for text in filters.get("until", ())]
    if earliest:
        yield lambda image: parse_or_zero(image.created) > max(earliest)
    if latest:
        yield lambda image: parse_or_zero(image.created) < min(latest)


def _by_label(filters: Filters) -> Iterable[Match]:
    wanted = filters.get("label", ())
    refused = filters.get("label!", ())
    if wanted:
        yield lambda image: all(_has_label(image, text) for text in wanted)
    if refused:
        yield lambda image: not any(_has_label(image, text) for text in refused)


def _has_label(image: Image, text: str) -> bool:
    name, equals, value = text.partition("=")
    labels = dict(image.config.labels)
    return name in labels and (not equals or labels[name] == value)


def _only_named(image: Image, patterns: Sequence[re.Pattern[str]]) -> Image:
    def kept(name: str) -> bool:
        repository = Reference.parse(name).familiar_repository
        return any(pattern.fullmatch(name) or pattern.fullmatch(repository) for pattern in patterns)

    return replace(
        image,
        names=tuple(filter(kept, image.names)),
        repo_digests=tuple(filter(kept, image.repo_digests)),
    )


def _pattern(text: str) -> re.Pattern[str]:
    """Return what Go's path.Match means by `text`: `*` and `?` stop at a slash."""
    result = ""
    position = 0
    while position < len(text):
        char = text[position]
        position += 1
        if char == "*":
            result += "[^/]*"
        elif char == "?":
            result += "[^/]"
        elif char == "[":
            end = text.find("]", position + 1)
            if end < 0:
                raise Invalid(f"invalid filter 'reference={text}': an open bracket")
            inner = text[position:end].replace("\\", "\\\\").replace("[", "\\[")
            result += f"[{inner}]"
            position = end + 1
        else:
            if char == "\\" and position < len(text):
                char = text[position]
                position += 1
            result += re.escape(char)
    try:
        return re.compile(result)
    except re.error as error:
        raise Invalid(f"invalid filter 'reference={text}': {error}") from error
