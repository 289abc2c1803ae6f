"""Manifests as the registry sees them: what they need, what they belong to. A codec, no I/O.

The bytes are kept as they came; only what other things hang on is read. Source: OCI image
specification 1.1 (manifest.md, image-index.md) and Docker's image manifest version 2, schema 2.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Final

import msgspec

from wherry.model.errors import Invalid
from wherry.model.ids import Digest
from wherry.registry.media import (
    ACCEPTED,
    INDEXES,
    OCI_ARTIFACT,
    OCI_MANIFEST,
    essence,
    is_foreign,
    is_media_type,
)
from wherry.registry.server.faults import Code, Fault

LARGEST: Final = 4 << 20
"""Bytes of a manifest; the specification asks registries for at least this."""
_KINDS: Final = (*ACCEPTED, OCI_ARTIFACT)

_Size = Annotated[int, msgspec.Meta(ge=0, le=1 << 60)]


class _Descriptor(msgspec.Struct, rename="camel"):
    media_type: str
    digest: str
    size: _Size


class _Document(msgspec.Struct, rename="camel"):
    """Any kind of manifest: what is absent is UNSET, so that `layers: null` is told from none."""

    schema_version: int | msgspec.UnsetType = msgspec.UNSET
    media_type: str | None = None
    artifact_type: str | None = None
    config: _Descriptor | None | msgspec.UnsetType = msgspec.UNSET
    layers: list[_Descriptor] | None | msgspec.UnsetType = msgspec.UNSET
    manifests: list[_Descriptor] | None | msgspec.UnsetType = msgspec.UNSET
    blobs: list[_Descriptor] | None | msgspec.UnsetType = msgspec.UNSET
    subject: _Descriptor | None = None
    annotations: dict[str, str] | None = None


_decoder: Final = msgspec.json.Decoder(_Document)


@dataclass(frozen=True, slots=True)
class Needed:
    """Something that a manifest refers to; `size` is what it says of it."""

    digest: Digest
    size: int


@dataclass(frozen=True, slots=True)
class Document:
    """What the registry has to know of one manifest."""

    media_type: str
    blobs: tuple[Needed, ...]
    """Configuration and layers, each once, that must be in the repository."""
    manifests: tuple[Needed, ...]
    """An index's entries, each once, that must be in the repository."""
    subject: Digest | None
    """What this is a signature, an attestation or whatever of; may be missing."""
    artifact_type: str
    annotations: dict[str, str]


def parse_document(data: bytes, content_type: str) -> Document:
    """Return what the manifest `data` says, pushed as `content_type` (may be empty).

    Raises Fault MANIFEST_INVALID; DIGEST_INVALID for a descriptor's digest.
    """
    try:
        document = _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _invalid(str(error)) from None
    media_type = _media_type(document, content_type)
    if media_type == OCI_ARTIFACT:
        return _document(media_type, document, _list(document.blobs), ())
    if document.schema_version != 2:
        raise _invalid(f"its schemaVersion is {_shown(document.schema_version)}, not 2")
    # CVE-2021-41190: a document that is an image to one reader and an index to another.
    if media_type in INDEXES:
        _refuse_both(document.layers, document.config, "an index holds layers or a configuration")
        return _document(media_type, document, (), _list(document.manifests, "manifests"))
    _refuse_both(document.manifests, None, "an image manifest holds manifests")
    if isinstance(document.config, msgspec.UnsetType) or document.config is None:
        raise _invalid("it has no config")
    layers = _list(document.layers, "layers")
    return _document(media_type, document, (document.config, *layers), ())


def _media_type(document: _Document, content_type: str) -> str:
    said, inside = essence(content_type), document.media_type or ""
    if said in ("", "application/json", "application/octet-stream", "text/plain"):
        said = inside
    if not said:
        # Before OCI 1.1 the field was optional, and some clients send no Content-Type.
        raise _invalid("neither Content-Type nor mediaType says what it is")
    if inside and inside != said:
        raise _invalid(f"it was sent as {said!r} and says it is {inside!r}")
    if said not in _KINDS:
        raise _invalid(f"{said[:200]!r} is no manifest's media type here")
    return said


def _document(
    media_type: str,
    document: _Document,
    blobs: tuple[_Descriptor, ...],
    manifests: tuple[_Descriptor, ...],
) -> Document:
    artifact_type = document.artifact_type or ""
    if (
        not artifact_type
        and media_type == OCI_MANIFEST
        and isinstance(document.config, _Descriptor)
    ):
        # distribution-spec 1.1, "Listing Referrers": the configuration's type stands in.
        artifact_type = document.config.media_type
    if artifact_type and not is_media_type(essence(artifact_type)):
        raise _invalid(f"its artifactType is {artifact_type[:200]!r}")
    subject = document.subject
    return Document(
        media_type=media_type,
        blobs=_needed(item for item in blobs if not is_foreign(item.media_type)),
        manifests=_needed(manifests),
        subject=_digest(subject.digest) if subject is not None else None,
        artifact_type=artifact_type,
        annotations=document.annotations or {},
    )


def _needed(descriptors: Iterable[_Descriptor]) -> tuple[Needed, ...]:
    found: dict[str, Needed] = {}
    for item in descriptors:
        # With parameters, too: podman calls a text file `text/plain; charset=utf-8`.
        if not is_media_type(essence(item.media_type)):
            raise _invalid(f"{item.media_type[:200]!r} is no media type")
        known = found.get(item.digest)
        if known is None:
            found[item.digest] = Needed(_digest(item.digest), item.size)
        elif known.size != item.size:
            raise _invalid(f"it gives {item.digest} two sizes")
    return tuple(found.values())


def _digest(text: str) -> Digest:
    try:
        return Digest.parse(text)
    except Invalid:
        raise Fault(
            Code.DIGEST_INVALID, f"invalid digest in the manifest: {text[:200]!r}"
        ) from None


def _refuse_both(first: object, second: object, reason: str) -> None:
    for value in (first, second):
        if value is not None and not isinstance(value, msgspec.UnsetType):
            raise _invalid(reason)


def _shown(version: int | msgspec.UnsetType) -> str:
    return "missing" if isinstance(version, msgspec.UnsetType) else str(version)


def _list(
    value: list[_Descriptor] | None | msgspec.UnsetType, name: str = ""
) -> tuple[_Descriptor, ...]:
    if isinstance(value, list):
        return tuple(value)
    if name and isinstance(value, msgspec.UnsetType):
        raise _invalid(f"it has no {name}")
    return ()


def _invalid(reason: str) -> Fault:
    return Fault(Code.MANIFEST_INVALID, f"invalid manifest: {reason}", detail=reason)
