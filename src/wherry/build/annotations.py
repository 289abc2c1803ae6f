"""Annotations of what is exported: on an image's manifest, the index, or a descriptor of either. Pure.

NAME                        the manifests
manifest[linux/arm64]:NAME  the manifest of one platform
index,manifest:NAME         several levels at once
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from wherry.images.config import parse_platform
from wherry.model.errors import Invalid
from wherry.model.images import Platform

MANIFEST, INDEX = "manifest", "index"
MANIFEST_DESCRIPTOR, INDEX_DESCRIPTOR = "manifest-descriptor", "index-descriptor"
_LEVELS = (MANIFEST, INDEX, MANIFEST_DESCRIPTOR, INDEX_DESCRIPTOR)
_LEVEL = r"[a-z-]+(?:\[[A-Za-z0-9_/-]+\])?"
_KEY = re.compile(rf"(?:({_LEVEL}(?:,{_LEVEL})*):)?(.+)", re.DOTALL)
_ONE = re.compile(r"([a-z-]+)(?:\[([^]]+)\])?")
_ATTRIBUTE = re.compile(rf"annotation(?:-({_LEVEL}))?\.(.+)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Annotation:
    """One annotation; without a platform it is for all."""

    level: str
    name: str
    value: str
    platform: Platform | None = None


def parse_annotations(
    pairs: Iterable[tuple[str, str]], attributes: Iterable[tuple[str, str]] = ()
) -> tuple[Annotation, ...]:
    """Return what `--annotation` and an output's `annotation….NAME=` ask for. Raises Invalid."""
    found: list[Annotation] = []
    for key, value in pairs:
        match = _KEY.fullmatch(key)
        if match is None:
            raise Invalid(f'invalid annotation "{key}", expected key=value')
        for level in (match[1] or MANIFEST).split(","):
            found.append(_annotation(level, match[2], value))
    for key, value in attributes:
        match = _ATTRIBUTE.fullmatch(key)
        if match is not None:
            found.append(_annotation(match[1] or MANIFEST, match[2], value))
    return tuple(found)


def _annotation(level: str, name: str, value: str) -> Annotation:
    match = _ONE.fullmatch(level)
    if match is None or match[1] not in _LEVELS:
        raise Invalid(
            f'unknown annotation type "{match[1] if match else level}"', hint=", ".join(_LEVELS)
        )
    return Annotation(match[1], name, value, parse_platform(match[2]) if match[2] else None)


def of_level(
    annotations: Iterable[Annotation], level: str, platform: Platform | None = None
) -> dict[str, str]:
    """Return the annotations of one level, for one platform."""
    return {
        one.name: one.value
        for one in annotations
        if one.level == level and (one.platform is None or one.platform == platform)
    }


def check_single(annotations: Iterable[Annotation]) -> None:
    """Raise Invalid for annotations of an index where there is to be none."""
    if any(one.level in (INDEX, INDEX_DESCRIPTOR) for one in annotations):
        raise Invalid(
            "index annotations not supported for single platform export",
            hint="build for several platforms, or with --provenance=true",
        )
