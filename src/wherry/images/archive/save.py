"""`docker save`: images to one archive that is both Docker's and an OCI layout, or the latter alone.

The Docker form has what Docker Engine 28.5 puts in, byte for byte in its JSON: every layer
uncompressed under its diff id, shared ones once. It leaves out the JSON of image specification 1.0,
which nothing in the archive refers to. The OCI form has each image's manifest and blobs as they came. The same images
and names always give the same archive.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import msgspec

from wherry.images.archive.oci import CONTAINERD_NAME, REF_NAME
from wherry.images.manifests import (
    LARGEST_MANIFEST,
    Descriptor,
    decode_manifest,
    encode_index,
    encode_manifest,
)
from wherry.images.store import ImageStore, StoredLayer
from wherry.model.errors import Internal, Invalid, NotFound
from wherry.model.ids import Digest, Reference
from wherry.model.images import Image
from wherry.model.moments import parse_or_zero
from wherry.registry.media import OCI_CONFIG, OCI_LAYER, OCI_MANIFEST
from wherry.storage.content import ContentStore
from wherry.storage.layers import Entry, Kind, TarWriter
from wherry.storage.layers.compression import Compression, HashingReader, compressor, decompressed
from wherry.storage.leases import Leases

FORMS = ("docker", "oci")
_COMPRESSIONS = {
    "": Compression.NONE,
    "none": Compression.NONE,
    "gzip": Compression.GZIP,
    "zstd": Compression.ZSTD,
}
_LAYOUT = b'{"imageLayoutVersion": "1.0.0"}'
_SECOND = 10**9


def check_form(form: str, compression: str) -> None:
    """Raise Invalid unless images can be saved so."""
    if form not in FORMS or compression not in _COMPRESSIONS:
        raise Invalid(
            f"cannot save as {form!r} with compression {compression!r}",
            hint="docker or oci; none, gzip or zstd",
        )


@dataclass(frozen=True, slots=True)
class Chosen:
    """An image to save, and the names that it is to have in the archive."""

    image: Image
    layers: tuple[StoredLayer, ...]
    references: tuple[Reference, ...] = ()
    config: bytes | None = None
    """Its configuration, of one that is in no store; whoever saves it sees to its blobs staying."""


@dataclass(frozen=True, slots=True)
class _Blob:
    """One file of an archive."""

    digest: Digest
    size: int
    mtime_ns: int = 0
    data: bytes | None = None
    source: Digest | None = None
    """The blob that it is decompressed from, where it is not stored itself."""


class Saver:
    """Writes archives. Blocking."""

    def __init__(self, store: ImageStore, content: ContentStore, leases: Leases) -> None:
        self._store = store
        self._content = content
        self._leases = leases

    def choose(self, refs: Sequence[str]) -> list[Chosen]:
        """Return the images that `refs` name, each once; a name without a tag is all its tags.

        An id brings its image without a name. Raises NotFound, Invalid.
        """
        chosen: dict[Digest, Chosen] = {}
        for ref in refs:
            for image, references in self._named(ref):
                known = chosen.get(image.id)
                if known is None:
                    known = Chosen(image, self._store.layers(image.id))
                names = dict.fromkeys((*known.references, *references))
                chosen[image.id] = replace(known, references=tuple(names))
        if not chosen:
            raise Invalid("no images given to save")
        return list(chosen.values())

    def save(
        self,
        chosen: Sequence[Chosen],
        out: Callable[[bytes], object],
        *,
        form: str,
        compression: str,
    ) -> None:
        """Write the archive to `out`. Raises NotFound where an image was removed meanwhile."""
        check_form(form, compression)
        with self._leases.lease() as lease:
            for item in chosen:
                lease.add(item.image.id, item.image.manifest)
                lease.add(*(stored.layer.blob for stored in item.layers))
                if item.config is None:
                    self._store.get(item.image.id)
            if form == "docker":
                blobs, files = self._docker(chosen)
            else:
                blobs, files = self._oci(chosen)
            encoder = compressor(_COMPRESSIONS[compression], out)
            self._write(TarWriter(encoder.write), blobs, files)
            encoder.finish()

    def _named(self, ref: str) -> list[tuple[Image, tuple[Reference, ...]]]:
        try:
            image = self._store.resolve(ref)
        except NotFound:
            image = None
        if image is not None and self._store.is_id(ref, image.id):
            return [(image, ())]
        reference = Reference.parse(ref)
        if not reference.tag and not reference.digest:
            tags = self._store.in_repository(reference)
            if tags:
                return [(self._store.get(identifier), (name,)) for name, identifier in tags]
        if image is None:
            raise NotFound("image", ref)
        return [(image, () if reference.digest else (reference,))]

    def _docker(self, chosen: Sequence[Chosen]) -> tuple[list[_Blob], dict[str, bytes]]:
        blobs: list[_Blob] = []
        manifests: list[Descriptor] = []
        items: list[dict[str, object]] = []
        repositories: dict[str, dict[str, str]] = {}
        together = {item.image.id for item in chosen}
        for item in chosen:
            image, created = item.image, _whole_seconds(item.image)
            config = item.config or self._store.config_json(image.id)
            layers = [_plain(stored) for stored in item.layers]
            manifest = encode_manifest(Descriptor(OCI_CONFIG, str(image.id), len(config)), layers)
            blobs.append(_Blob(image.id, len(config), created, config))
            blobs.append(_Blob(Digest.of(manifest), len(manifest), 0, manifest))
            for stored in item.layers:
                layer = stored.layer
                source = layer.blob if layer.blob != layer.diff_id else None
                blobs.append(_Blob(layer.diff_id, stored.tar_size, created, source=source))
            manifests += _listed(Digest.of(manifest), len(manifest), item.references)
            wire: dict[str, object] = {
                "Config": f"blobs/sha256/{image.id.hex}",
                "RepoTags": [name.familiar for name in item.references] or None,
                "Layers": [_place(stored.layer.diff_id) for stored in item.layers],
            }
            if image.parent in together:
                wire["Parent"] = str(image.parent)
            wire["LayerSources"] = {
                layer.digest: _source(layer) for layer in sorted(layers, key=lambda d: d.digest)
            }
            items.append(wire)
            if item.layers:
                for name in item.references:
                    tags = repositories.setdefault(name.familiar_repository, {})
                    tags[name.tag] = item.layers[-1].layer.diff_id.hex
        files = {
            "index.json": encode_index(manifests),
            "manifest.json": msgspec.json.encode(items) + b"\n",
            "oci-layout": _LAYOUT,
        }
        if repositories:
            files["repositories"] = msgspec.json.encode(repositories, order="deterministic") + b"\n"
        return blobs, files

    def _oci(self, chosen: Sequence[Chosen]) -> tuple[list[_Blob], dict[str, bytes]]:
        blobs: list[_Blob] = []
        manifests: list[Descriptor] = []
        for item in chosen:
            image, created = item.image, _whole_seconds(item.image)
            config = item.config or self._store.config_json(image.id)
            manifest = self._manifest(item, len(config))
            parsed = decode_manifest(manifest, str(image.manifest))
            # A manifest may name its parts by sha512.
            blobs.append(_Blob(Digest.parse(parsed.config.digest), len(config), created, config))
            blobs.append(_Blob(Digest.of(manifest), len(manifest), 0, manifest))
            blobs += [
                _Blob(stored.layer.blob, stored.layer.blob_size, created) for stored in item.layers
            ]
            media_type = parsed.media_type or OCI_MANIFEST
            manifests += _listed(Digest.of(manifest), len(manifest), item.references, media_type)
        return blobs, {"index.json": encode_index(manifests), "oci-layout": _LAYOUT}

    def _manifest(self, item: Chosen, size: int) -> bytes:
        """Return the image's own manifest, or one of what is here where a layer came as another blob."""
        image = item.image
        data = self._content.read(image.manifest, limit=LARGEST_MANIFEST)
        parsed = decode_manifest(data, str(image.manifest))
        layers = [stored.layer for stored in item.layers]
        if [layer.digest for layer in parsed.layers] == [str(layer.blob) for layer in layers]:
            return data
        return encode_manifest(
            Descriptor(OCI_CONFIG, str(image.id), size),
            [Descriptor(layer.media_type, str(layer.blob), layer.blob_size) for layer in layers],
            parsed.annotations,
        )

    def _write(self, tar: TarWriter, blobs: Sequence[_Blob], files: dict[str, bytes]) -> None:
        tar.add_directory("blobs")
        unique = {blob.digest: blob for blob in reversed(blobs)}
        for algorithm in sorted({"sha256", *(digest.algorithm for digest in unique)}):
            tar.add_directory(f"blobs/{algorithm}")
        for digest in sorted(unique):
            self._write_blob(tar, unique[digest])
        for name, data in files.items():
            tar.add_file(name, data)
        tar.finish()

    def _write_blob(self, tar: TarWriter, blob: _Blob) -> None:
        name = _place(blob.digest).encode()
        entry = Entry(name, Kind.FILE, 0o644, size=blob.size, mtime_ns=blob.mtime_ns)
        if blob.data is not None:
            tar.add(entry, blob.data)
            return
        with self._content.open(blob.source or blob.digest) as file:
            if blob.source is None:
                tar.add(entry, file)
                return
            with HashingReader(decompressed(file)[1], blob.digest.algorithm) as plain:
                tar.add(entry, plain)
                if plain.digest() != blob.digest:
                    raise Internal(f"blob {blob.source} holds {plain.digest()}, not {blob.digest}")


def _plain(stored: StoredLayer) -> Descriptor:
    return Descriptor(OCI_LAYER, str(stored.layer.diff_id), stored.tar_size)


def _source(layer: Descriptor) -> dict[str, object]:
    return {"mediaType": layer.media_type, "size": layer.size, "digest": layer.digest}


def _place(digest: Digest) -> str:
    return f"blobs/{digest.algorithm}/{digest.hex}"


def _listed(
    digest: Digest,
    size: int,
    references: Sequence[Reference],
    media_type: str = OCI_MANIFEST,
) -> list[Descriptor]:
    if not references:
        return [Descriptor(media_type, str(digest), size)]
    return [
        Descriptor(media_type, str(digest), size, {CONTAINERD_NAME: str(name), REF_NAME: name.tag})
        for name in references
    ]


def _whole_seconds(image: Image) -> int:
    return max(0, parse_or_zero(image.created) // _SECOND * _SECOND)
