"""The OCI image layout: `index.json` leads to manifests, they lead to blobs, all by digest.

Source: OCI image specification 1.1, image-layout.md and annotations.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from wherry.images.archive.found import Found, no_image_for
from wherry.images.archive.spool import Spool
from wherry.images.config import LARGEST_CONFIG, decode_config, host_platform
from wherry.images.intake import Intake
from wherry.images.manifests import (
    LARGEST_MANIFEST,
    Descriptor,
    choose,
    decode_index,
    decode_manifest,
)
from wherry.images.unpack import LayerBlob
from wherry.model.errors import Invalid
from wherry.model.ids import Digest, Reference
from wherry.model.images import Platform
from wherry.registry.media import INDEXES, MANIFESTS, OCI_MANIFEST, is_layer

INDEX = "index.json"
CONTAINERD_NAME = "io.containerd.image.name"
REF_NAME = "org.opencontainers.image.ref.name"
_DEEPEST = 4
_MOST_IMAGES = 1000


def find_images(spool: Spool, intake: Intake, wanted: Platform | None = None) -> list[Found]:
    """Return the images of the layout: of those that share a name or differ in platform, the one `wanted`.

    None stands for this machine's platform.
    """
    platform = wanted or host_platform()
    entries = decode_index(spool.read(INDEX, LARGEST_MANIFEST), INDEX)
    found: list[Found] = []
    for references, candidates in _groups(entries):
        descriptor, manifest = _descend(spool, candidates, platform, (), [0])
        found.append(_find(spool, intake, descriptor, manifest, references))
    return _merged(found)


def _groups(
    entries: Sequence[Descriptor],
) -> Iterator[tuple[tuple[Reference, ...], list[Descriptor]]]:
    """Yield what is one image: entries of one name, or nameless ones for different platforms."""
    groups: dict[object, list[Descriptor]] = {}
    for position, entry in enumerate(entries):
        names = _references(entry)
        key: object = names or ("platforms" if entry.platform else position)
        groups.setdefault(key, []).append(entry)
    for group in groups.values():
        yield _references(group[0]), group


def _references(entry: Descriptor) -> tuple[Reference, ...]:
    annotations = entry.annotations or {}
    name = annotations.get(CONTAINERD_NAME, "")
    if not name:
        # By the specification a tag or a whole name; a tag alone names nothing.
        name = annotations.get(REF_NAME, "")
        if ":" not in name and "/" not in name:
            return ()
    reference = Reference.parse(name)
    if reference.digest:
        return ()
    return (reference.with_default_tag(),)


def _descend(
    spool: Spool,
    entries: Sequence[Descriptor],
    platform: Platform,
    above: tuple[str, ...],
    seen: list[int],
) -> tuple[Descriptor, bytes]:
    """Return the manifest for `platform` among `entries`, through indexes inside indexes."""
    rest = list(entries)
    while rest:
        entry = choose(rest, platform)
        if entry is None:
            break
        rest.remove(entry)
        seen[0] += 1
        if seen[0] > _MOST_IMAGES or len(above) >= _DEEPEST or entry.digest in above:
            raise Invalid(f"image index {entry.digest}: indexes that lead in circles or too deep")
        if entry.media_type in MANIFESTS:
            return entry, _read(spool, entry)
        if entry.media_type not in INDEXES:
            raise Invalid(f"{entry.digest} in {INDEX} is {entry.media_type!r}, not an image")
        data = _read(spool, entry)
        inner = decode_index(data, entry.digest)
        if choose(inner, platform) is not None:
            return _descend(spool, inner, platform, (*above, entry.digest), seen)
    raise no_image_for(platform)


def _read(spool: Spool, entry: Descriptor) -> bytes:
    name = _blob_name(entry.digest)
    data = spool.read(name, LARGEST_MANIFEST)
    if len(data) != entry.size:
        raise Invalid(f"{name} has {len(data)} bytes, its descriptor says {entry.size}")
    return data


def _blob_name(text: str) -> str:
    digest = Digest.parse(text)
    return f"blobs/{digest.algorithm}/{digest.hex}"


def _find(
    spool: Spool,
    intake: Intake,
    descriptor: Descriptor,
    data: bytes,
    references: tuple[Reference, ...],
) -> Found:
    manifest = decode_manifest(data, descriptor.digest)
    config = spool.read(_blob_name(manifest.config.digest), LARGEST_CONFIG)
    diff_ids = decode_config(config, manifest.config.digest).diff_ids
    if len(diff_ids) != len(manifest.layers):
        raise Invalid(
            f"manifest {descriptor.digest} lists {len(manifest.layers)} layers,"
            f" its configuration {len(diff_ids)}"
        )
    layers: list[LayerBlob] = []
    for layer, diff in zip(manifest.layers, diff_ids, strict=True):
        if not is_layer(layer.media_type):
            raise Invalid(f"layer {layer.digest} is {layer.media_type!r}, not a layer archive")
        part = spool.stored(_blob_name(layer.digest))
        if part.size != layer.size:
            raise Invalid(
                f"layer {layer.digest} has {part.size} bytes, its descriptor says {layer.size}"
            )
        layers.append(LayerBlob(part.digest, part.size, layer.media_type, diff))
    # Only a manifest of this type is given out again as it came: Docker's own type is rewritten.
    kept = data if descriptor.media_type == OCI_MANIFEST else None
    return Found(config, tuple(layers), references, manifest=kept)


def _merged(found: Sequence[Found]) -> list[Found]:
    """Return `found` with the names of one manifest, listed once a name, brought together."""
    merged: dict[tuple[bytes, bytes | None], Found] = {}
    for image in found:
        key = (image.config, image.manifest)
        before = merged.get(key)
        names = dict.fromkeys((before.references if before else ()) + image.references)
        merged[key] = Found(image.config, image.layers, tuple(names), None, image.manifest)
    return list(merged.values())
