"""What refers to a manifest: the lists of registries, and the one that clients keep where there is none.

A codec, no I/O. Source: OCI distribution specification 1.1, "Pushing Manifests with Subject", "Listing
Referrers", "Unavailable Referrers API".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import msgspec

from wherry.model.errors import Invalid
from wherry.model.ids import Digest
from wherry.registry.media import OCI_INDEX, OCI_MANIFEST

Entry = dict[str, object]


class _Typed(msgspec.Struct, rename="camel"):
    media_type: str = ""
    digest: str = ""


class _Document(msgspec.Struct, rename="camel"):
    artifact_type: str | None = None
    config: _Typed | None = None
    subject: _Typed | None = None
    annotations: dict[str, str] | None = None


class _List(msgspec.Struct, rename="camel"):
    manifests: list[Entry] | None
    media_type: str | None = None


def subject_of(data: bytes) -> Digest | None:
    """Return the subject of the manifest or index `data`; None where it has none, or is neither."""
    if b'"subject"' not in data:
        return None
    try:
        subject = msgspec.json.decode(data, type=_Document).subject
        return Digest.parse(subject.digest) if subject is not None else None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, Invalid):
        return None


def entry_of(media_type: str, digest: Digest, data: bytes) -> Entry:
    """Return what a list of referrers says of the manifest or index `data`, which has a subject."""
    document = msgspec.json.decode(data, type=_Document)
    entry: Entry = {"mediaType": media_type, "digest": str(digest), "size": len(data)}
    kind = document.artifact_type or ""
    if not kind and media_type == OCI_MANIFEST and document.config is not None:
        kind = document.config.media_type
    if kind:
        entry["artifactType"] = kind
    if document.annotations:
        entry["annotations"] = document.annotations
    return entry


def entries_in(data: bytes) -> list[Entry]:
    """Return the entries of a list of referrers. Raises Invalid for what is no index."""
    try:
        found = msgspec.json.decode(data, type=_List)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Invalid(f"a list of referrers is no image index: {error}") from None
    if found.media_type not in (None, "", OCI_INDEX):
        raise Invalid(f"a list of referrers is no image index: {found.media_type[:100]!r}")
    return found.manifests or []


def render_list(entries: Sequence[Entry]) -> bytes:
    """Return the index of `entries`, each digest once."""
    unique: dict[object, Entry] = {}
    for entry in entries:
        unique.setdefault(entry.get("digest"), entry)
    index = {
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": cast(list[object], list(unique.values())),
    }
    return msgspec.json.encode(index)


__all__ = ["Entry", "entries_in", "entry_of", "render_list", "subject_of"]
