"""Manifest lists made by hand, on their way to a registry."""

from __future__ import annotations

from dataclasses import dataclass

from wherry.model.ids import Reference


@dataclass(frozen=True, slots=True)
class ListEntry:
    """A manifest that a list names: where its blobs are, and its bytes."""

    source: Reference
    media_type: str
    data: bytes


@dataclass(frozen=True, slots=True)
class ManifestList:
    """A list's bytes, and what they name."""

    media_type: str
    data: bytes
    entries: tuple[ListEntry, ...]
