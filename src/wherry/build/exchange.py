"""The cache given away and taken in: within an image (inline), as a folder (local), in a registry.

Everywhere it is an image whose configuration has the records beside what Docker knows, so that any registry
and any tool carries it. Unlike BuildKit's it can hold cache mounts too (`mounts=true`), each a layer.

    {"version": 1, "steps": [{"key", "title", "parent", "layer", "size", "tar_size"}], "mounts": [{"id", "layer"}]}

`layer` counts the image's layers, -1 where a step changed nothing; `parent` is the chain id below the step.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

from wherry.build.cache import BuildCache, StepResult
from wherry.build.mountcache import MountCache
from wherry.images.config import Configuration, decode_config, encode_config, host_platform
from wherry.images.intake import Intake
from wherry.images.manifests import (
    LARGEST_MANIFEST,
    Descriptor,
    decode_index,
    decode_manifest,
    encode_index,
    encode_manifest,
)
from wherry.images.store import StoredLayer
from wherry.model.errors import Invalid, NotFound
from wherry.model.ids import Digest
from wherry.model.images import ImageConfig, Layer
from wherry.registry.media import OCI_CONFIG, OCI_LAYER, OCI_MANIFEST
from wherry.storage.layers import pack

RECORDS = "wherry.build.cache.v0"
_KEY = re.compile(r"[0-9a-f]{64}")
_LARGEST = 16 << 20
_CHUNK = 1 << 20
_PLACEHOLDER = Digest("sha256", "0" * 64)


@dataclass(frozen=True, slots=True)
class Record:
    """One step's result."""

    key: str
    title: str
    parent: str
    layer: StoredLayer | None


def with_records(config: bytes, records: Sequence[Record], layers: Sequence[StoredLayer]) -> bytes:
    """Return an image's configuration with what its steps came to in it (`--cache-to type=inline`)."""
    document = cast("dict[str, Any]", json.loads(config))
    document[RECORDS] = _wire(records, layers, ())
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def _wire(
    records: Iterable[Record], layers: Sequence[StoredLayer], mounts: Iterable[tuple[str, int]]
) -> dict[str, Any]:
    places = {str(stored.layer.diff_id): number for number, stored in enumerate(layers)}
    steps: list[dict[str, Any]] = []
    for record in records:
        entry: dict[str, Any] = {"key": record.key, "title": record.title, "parent": record.parent}
        if record.layer is None:
            entry["layer"] = -1
        else:
            layer = record.layer.layer
            entry |= {
                "layer": places[str(layer.diff_id)],
                "size": layer.size,
                "tar_size": record.layer.tar_size,
            }
        steps.append(entry)
    return {
        "version": 1,
        "steps": steps,
        "mounts": [{"id": identifier, "layer": place} for identifier, place in mounts],
    }


def cache_image(
    records: Sequence[Record], intake: Intake, mounts: MountCache | None
) -> tuple[bytes, list[StoredLayer]]:
    """Return the configuration and the layers of an image that is nothing but a cache. Blocks."""
    layers: dict[str, StoredLayer] = {}
    for record in records:
        if record.layer is not None:
            layers.setdefault(str(record.layer.layer.diff_id), record.layer)
    kept: list[tuple[str, int]] = []
    for identifier, path in mounts.directories() if mounts is not None else ():

        def write(out: Callable[[bytes], object], path: Path = path) -> None:
            pack(path, out, prefix=b".", root_entry=True)

        digest, size = intake.write(write)
        stored = StoredLayer(Layer(digest, _PLACEHOLDER, digest, OCI_LAYER, size, size), size)
        layers.setdefault(str(digest), stored)
        kept.append((identifier, list(layers).index(str(digest))))
    ordered = list(layers.values())
    config = encode_config(
        Configuration(
            ImageConfig(), tuple(stored.layer.diff_id for stored in ordered), host_platform()
        )
    )
    document = cast("dict[str, Any]", json.loads(config))
    document[RECORDS] = _wire(records, ordered, kept)
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode(), ordered


# -- a folder -----------------------------------------------------------------------------------


def export_folder(
    folder: Path, config: bytes, layers: Sequence[StoredLayer], intake: Intake
) -> None:
    """Write the cache as an OCI layout. Blocks. Raises Invalid for a folder that cannot be, Full."""
    blobs = folder / "blobs" / "sha256"
    try:
        blobs.mkdir(parents=True, exist_ok=True)
        for stored in layers:
            _copy_blob(stored.layer.blob, blobs, intake)
        manifest = encode_manifest(
            Descriptor(OCI_CONFIG, str(_write(blobs, config)), len(config)),
            [
                Descriptor(stored.layer.media_type, str(stored.layer.blob), stored.layer.blob_size)
                for stored in layers
            ],
        )
        digest = _write(blobs, manifest)
        index = encode_index([Descriptor(OCI_MANIFEST, str(digest), len(manifest))])
        _replace(folder / "oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
        _replace(folder / "index.json", index)
        wanted = {digest.hex, Digest.of(config).hex, *(s.layer.blob.hex for s in layers)}
        for entry in blobs.iterdir():
            if entry.name not in wanted:
                entry.unlink()
    except OSError as error:
        raise Invalid(f"the cache cannot be written to {folder}: {error.strerror}") from error


def _write(blobs: Path, data: bytes) -> Digest:
    digest = Digest.of(data)
    _replace(blobs / digest.hex, data)
    return digest


def _replace(path: Path, data: bytes) -> None:
    temporary = path.with_name(path.name + ".new")
    temporary.write_bytes(data)
    temporary.rename(path)


def _copy_blob(digest: Digest, blobs: Path, intake: Intake) -> None:
    final = blobs / digest.hex
    if final.exists():
        return
    temporary = final.with_name(final.name + ".new")
    with intake.content.open(digest) as source, temporary.open("wb") as out:
        while data := source.read(_CHUNK):
            out.write(data)
    temporary.rename(final)


def import_folder(folder: Path, cache: BuildCache, intake: Intake, mounts: MountCache) -> int:
    """Take in a cache that `export_folder` wrote; return how many results are new. Blocks.

    Every blob is hashed as it comes in. Raises NotFound for a folder that is not there, Invalid.
    """
    blobs = folder / "blobs"
    try:
        index = decode_index(_read(folder / "index.json", LARGEST_MANIFEST), str(folder))
        if not index:
            raise Invalid(f"the cache {folder} is empty")
        manifest_data = _read(_blob(blobs, index[-1].digest), LARGEST_MANIFEST)
        manifest = decode_manifest(manifest_data, str(folder))
        config = _read(_blob(blobs, manifest.config.digest), _LARGEST)
    except FileNotFoundError as error:
        raise NotFound("build cache", str(folder)) from error
    layers = layers_of(config, manifest.layers, str(folder))

    def bring(layer: Layer) -> None:
        if intake.content.has(layer.blob):
            return
        with (
            _blob(blobs, str(layer.blob)).open("rb") as source,
            intake.content.writer(layer.blob.algorithm) as writer,
        ):
            while data := source.read(_CHUNK):
                writer.write(data)
            writer.commit(layer.blob, size=layer.blob_size)

    return import_records(config, layers, cache, intake, mounts, bring)


def layers_of(config: bytes, blobs: Sequence[Descriptor], subject: str) -> list[Layer]:
    """Return the layers that a cache's configuration and its manifest tell of. Raises Invalid."""
    diff_ids = decode_config(config, subject).diff_ids
    if len(diff_ids) != len(blobs):
        raise Invalid(f"the cache {subject} is malformed: its layers are not those it tells of")
    return [
        Layer(diff, _PLACEHOLDER, Digest.parse(d.digest), d.media_type, d.size, d.size)
        for diff, d in zip(diff_ids, blobs, strict=True)
    ]


def _blob(blobs: Path, text: str) -> Path:
    digest = Digest.parse(text)
    return blobs / digest.algorithm / digest.hex


def _read(path: Path, limit: int) -> bytes:
    with path.open("rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise Invalid(f"{path} has more than {limit} bytes")
    return data


# -- records ------------------------------------------------------------------------------------


def import_records(
    config: bytes,
    layers: Sequence[Layer],
    cache: BuildCache,
    intake: Intake,
    mounts: MountCache,
    bring: Callable[[Layer], None],
) -> int:
    """Take in the records of an image's configuration; return how many results are new. Blocks.

    `bring` sees to a layer's blob being in the content store. Raises Invalid.
    """
    try:
        document: Any = json.loads(config)
        found = cast("dict[str, Any]", document.get(RECORDS) or {})
        steps = cast("list[dict[str, Any]]", found.get("steps") or [])
        new = 0
        for step in steps:
            new += _import_step(step, layers, cache, intake, bring)
        for mount in cast("list[dict[str, Any]]", found.get("mounts") or []):
            layer = layers[_place(mount, layers)]
            intake.hold(layer.blob)
            bring(layer)
            mounts.restore(str(mount["id"]), partial(intake.content.open, layer.blob))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Invalid(f"the cache's records are malformed: {error}") from error
    return new


def _place(entry: dict[str, Any], layers: Sequence[Layer]) -> int:
    place = entry["layer"]
    if not isinstance(place, int) or not 0 <= place < len(layers):
        raise Invalid(f"the cache tells of a layer {place!r} that it does not have")
    return place


def _import_step(
    step: dict[str, Any],
    layers: Sequence[Layer],
    cache: BuildCache,
    intake: Intake,
    bring: Callable[[Layer], None],
) -> int:
    key, parent = str(step["key"]), str(step.get("parent", ""))
    if not _KEY.fullmatch(key):
        raise Invalid(f"the cache has a key that is none: {key[:80]!r}")
    below = (Digest.parse(parent),) if parent else ()
    known = cache.find(key)
    if known is not None and (known.layer is None or intake.content.has(known.layer.layer.blob)):
        return 0
    title = str(step.get("title", ""))[:1000]
    if step["layer"] == -1:
        cache.put(key, StepResult(None), below, title)
        return 1
    layer = layers[_place(step, layers)]
    intake.hold(layer.blob)
    bring(layer)
    chain = Digest.of(f"{parent} {layer.diff_id}".encode()) if parent else layer.diff_id
    size, tar_size = int(step.get("size", 0)), int(step.get("tar_size", 0))
    stored = StoredLayer(replace(layer, chain_id=chain, size=size), tar_size)
    cache.put(key, StepResult(stored), below, title)
    return 1


def records_of(cache: BuildCache, keys: Iterable[str]) -> list[Record]:
    """Return the records of results that are in the cache, by key."""
    rows = {row.key: row for row in cache.rows()}
    found: list[Record] = []
    for key in sorted(keys):
        result, row = cache.find(key), rows.get(key)
        if result is not None and row is not None:
            found.append(Record(key, row.description, row.parent, result.layer))
    return found


def absolute(folder: str) -> Path:
    """Return a folder that a client named. Raises Invalid for one that is relative."""
    if not os.path.isabs(folder):
        raise Invalid(f"the cache's folder {folder!r} is not absolute")
    return Path(folder)
