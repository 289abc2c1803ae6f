"""Manifests, indexes and descriptors: their JSON, and which of several a machine takes.

Source: OCI image specification 1.1 (manifest.md, image-index.md, descriptor.md) and Docker's image
manifest version 2, schema 2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

import msgspec

from wherry.model.errors import Invalid
from wherry.model.images import Platform
from wherry.registry.media import (
    DOCKER_CONFIG,
    OCI_CONFIG,
    OCI_INDEX,
    OCI_MANIFEST,
)

LARGEST_MANIFEST = 4 << 20
"""Bytes, as registries limit it."""
_CONFIGS = (OCI_CONFIG, DOCKER_CONFIG)

Size = Annotated[int, msgspec.Meta(ge=0, le=1 << 50)]


class PlatformWire(msgspec.Struct, omit_defaults=True):
    """A descriptor's platform."""

    architecture: str = ""
    os: str = ""
    variant: str | None = ""


class Descriptor(msgspec.Struct, rename="camel", omit_defaults=True):
    """What points at a blob."""

    media_type: str
    digest: str
    size: Size
    annotations: dict[str, str] | None = None
    platform: PlatformWire | None = None


class Manifest(msgspec.Struct, rename="camel", omit_defaults=True):
    """One image: its configuration and its layers' blobs, base first."""

    schema_version: int
    config: Descriptor
    layers: list[Descriptor]
    media_type: str | None = None
    annotations: dict[str, str] | None = None
    manifests: object = None


class Index(msgspec.Struct, rename="camel", omit_defaults=True):
    """Several manifests, or indexes of them."""

    schema_version: int
    manifests: list[Descriptor] | None
    media_type: str | None = None
    config: object = None
    layers: object = None


_manifest = msgspec.json.Decoder(Manifest)
_index = msgspec.json.Decoder(Index)


def decode_manifest(data: bytes, subject: str) -> Manifest:
    """Return the image manifest in `data`; raise Invalid, naming `subject`."""
    try:
        manifest = _manifest.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Invalid(f"invalid image manifest {subject}: {error}") from error
    if manifest.schema_version != 2:
        raise Invalid(f"invalid image manifest {subject}: version {manifest.schema_version}")
    # CVE-2021-41190: a document that is an image to one reader and an index to another.
    if manifest.manifests is not None:
        raise Invalid(f"invalid image manifest {subject}: it holds manifests")
    if manifest.config.media_type not in _CONFIGS:
        raise Invalid(
            f"unsupported media type {manifest.config.media_type}",
            hint=f"{subject} is no container image; artifacts are for other tools",
        )
    return manifest


def decode_index(data: bytes, subject: str) -> list[Descriptor]:
    """Return the entries of the index in `data`; raise Invalid, naming `subject`."""
    try:
        index = _index.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Invalid(f"invalid image index {subject}: {error}") from error
    if index.schema_version != 2:
        raise Invalid(f"invalid image index {subject}: version {index.schema_version}")
    if index.config is not None or index.layers is not None:
        raise Invalid(f"invalid image index {subject}: it holds layers or a configuration")
    return index.manifests or []


def encode_manifest(
    config: Descriptor,
    layers: Sequence[Descriptor],
    annotations: Mapping[str, str] | None = None,
    *,
    media_type: str = OCI_MANIFEST,
) -> bytes:
    """Return an image's manifest, byte for byte as `docker save` 28.5 writes it."""
    wire: dict[str, object] = {
        "schemaVersion": 2,
        "mediaType": media_type,
        "config": descriptor_json(config),
        "layers": [descriptor_json(layer) for layer in layers],
    }
    return _compact(wire | _annotated(annotations))


def encode_index(
    manifests: Sequence[Descriptor],
    annotations: Mapping[str, str] | None = None,
    *,
    media_type: str = OCI_INDEX,
) -> bytes:
    """Return an index, byte for byte as `docker save` 28.5 writes it."""
    wire: dict[str, object] = {
        "schemaVersion": 2,
        "mediaType": media_type,
        "manifests": [descriptor_json(manifest) for manifest in manifests],
    }
    return _compact(wire | _annotated(annotations))


def _annotated(annotations: Mapping[str, str] | None) -> dict[str, object]:
    return {"annotations": dict(sorted(annotations.items()))} if annotations else {}


def descriptor_json(descriptor: Descriptor) -> dict[str, object]:
    """Return a descriptor as its document has it."""
    wire: dict[str, object] = {
        "mediaType": descriptor.media_type,
        "digest": descriptor.digest,
        "size": descriptor.size,
    }
    if descriptor.annotations:
        wire["annotations"] = dict(sorted(descriptor.annotations.items()))
    if descriptor.platform is not None:
        wire["platform"] = descriptor.platform
    return wire


def _compact(wire: object) -> bytes:
    return msgspec.json.encode(wire)


def choose(entries: Sequence[Descriptor], wanted: Platform) -> Descriptor | None:
    """Return the entry for `wanted`: the same variant before none before another; None where none fits.

    An entry without a platform fits any; one for `unknown` (an attestation) fits none.
    """
    ranked: list[tuple[int, int, Descriptor]] = []
    for position, entry in enumerate(entries):
        platform = entry.platform
        if platform is None:
            ranked.append((3, position, entry))
        elif platform.os == wanted.os and platform.architecture == wanted.architecture:
            variant = platform.variant or ""
            rank = 0 if variant == wanted.variant else 1 if not variant else 2
            ranked.append((rank, position, entry))
    return min(ranked, key=lambda item: item[:2])[2] if ranked else None
