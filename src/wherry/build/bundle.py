"""What was built as documents by digest: manifests, attestations, an index over them. For archives and registries.

    layers, compressed as asked > one manifest a platform > statements about it, in a manifest of their own
    > an index, where there are several of anything

Laid out as BuildKit does (asked: 0.26 in Docker 28.5 with the containerd image store).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from wherry.build.annotations import (
    INDEX,
    INDEX_DESCRIPTOR,
    MANIFEST,
    MANIFEST_DESCRIPTOR,
    Annotation,
    check_single,
    of_level,
)
from wherry.build.arguments import platform_text
from wherry.build.files import BuiltImage
from wherry.build.statements import statement
from wherry.images.manifests import Descriptor, PlatformWire, encode_index, encode_manifest
from wherry.images.store import StoredLayer
from wherry.model.ids import Digest, Reference
from wherry.model.images import Platform
from wherry.registry.media import (
    DOCKER_CONFIG,
    DOCKER_INDEX,
    DOCKER_LAYER,
    DOCKER_LAYER_GZIP,
    DOCKER_MANIFEST,
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER,
    OCI_LAYER_GZIP,
    OCI_LAYER_ZSTD,
    OCI_MANIFEST,
)

IN_TOTO = "application/vnd.in-toto+json"
_DOCKER_TYPES = {
    OCI_MANIFEST: DOCKER_MANIFEST,
    OCI_INDEX: DOCKER_INDEX,
    OCI_CONFIG: DOCKER_CONFIG,
    OCI_LAYER: DOCKER_LAYER,
    OCI_LAYER_GZIP: DOCKER_LAYER_GZIP,
    OCI_LAYER_ZSTD: f"{DOCKER_LAYER}.zstd",
}
_OCI_TYPES = {docker: oci for oci, docker in _DOCKER_TYPES.items()}

Form = Callable[[StoredLayer], Descriptor]
"""Gives the blob, in the content store, that a layer is exported as."""


@dataclass(frozen=True, slots=True)
class Document:
    """A small blob."""

    descriptor: Descriptor
    data: bytes


@dataclass(frozen=True, slots=True)
class Bundle:
    """All that one export consists of."""

    layers: tuple[Descriptor, ...]
    """Blobs in the content store."""
    blobs: tuple[Document, ...]
    """Configurations, statements."""
    manifests: tuple[Document, ...]
    """Each after those that it names; the last one is what a name points at."""

    @property
    def root(self) -> Descriptor:
        """What a name points at; with a platform, where it is an image."""
        return self.manifests[-1].descriptor


def assemble(
    images: Sequence[BuiltImage],
    form: Form,
    *,
    names: Sequence[Reference] = (),
    annotations: Sequence[Annotation] = (),
    oci_types: bool = True,
) -> Bundle:
    """Return the bundle: an image alone is its manifest, anything more an index. Raises Invalid."""
    attested = any(one.attestations for one in images)
    single = len(images) == 1 and not attested
    if single:
        check_single(annotations)
    # Statements have media types of OCI alone, and so has what lists them.
    making = _Making(annotations, names, {} if oci_types or attested else _DOCKER_TYPES)
    for one in images:
        making.image(one, form)
    if not single:
        making.index()
    return making.bundle()


class _Making:
    def __init__(
        self,
        annotations: Sequence[Annotation],
        names: Sequence[Reference],
        types: Mapping[str, str],
    ) -> None:
        self._annotations = annotations
        self._names = names
        self._types = types
        self._layers: dict[str, Descriptor] = {}
        self._blobs: dict[str, Document] = {}
        self._images: list[Document] = []
        self._attested: list[Document] = []
        self._index: list[Document] = []

    def image(self, built: BuiltImage, form: Form) -> None:
        """Add an image, and what is attested of it."""
        platform = built.image.platform
        layers = [self._layer(form(stored)) for stored in built.layers]
        config = self._blob(OCI_CONFIG, built.config)
        data = encode_manifest(
            config,
            layers,
            of_level(self._annotations, MANIFEST, platform),
            media_type=self._type(OCI_MANIFEST),
        )
        manifest = _document(
            self._type(OCI_MANIFEST),
            data,
            of_level(self._annotations, MANIFEST_DESCRIPTOR, platform),
            platform,
        )
        self._images.append(manifest)
        if built.attestations:
            self._attest(built, platform, manifest.descriptor)

    def _attest(self, built: BuiltImage, platform: Platform, image: Descriptor) -> None:
        digest = Digest.parse(image.digest)
        subjects = [(package_url(name, platform), digest) for name in self._names]
        layers: list[Descriptor] = []
        for one in built.attestations:
            blob = self._blob(IN_TOTO, statement(one, subjects))
            about = {"in-toto.io/predicate-type": one.predicate_type}
            layers.append(replace_annotations(blob, about))
        config = self._blob(
            OCI_CONFIG,
            msgspec.json.encode(
                {
                    "architecture": "unknown",
                    "os": "unknown",
                    "config": {},
                    "rootfs": {"type": "layers", "diff_ids": [layer.digest for layer in layers]},
                }
            ),
        )
        about = {
            "vnd.docker.reference.digest": image.digest,
            "vnd.docker.reference.type": "attestation-manifest",
        }
        data = encode_manifest(config, layers)
        self._attested.append(_document(OCI_MANIFEST, data, about, Platform("unknown", "unknown")))

    def index(self) -> None:
        """Put an index over all."""
        data = encode_index(
            [one.descriptor for one in (*self._images, *self._attested)],
            of_level(self._annotations, INDEX),
            media_type=self._type(OCI_INDEX),
        )
        about = of_level(self._annotations, INDEX_DESCRIPTOR)
        self._index.append(_document(self._type(OCI_INDEX), data, about))

    def bundle(self) -> Bundle:
        """Return what was made."""
        documents = {
            one.descriptor.digest: one for one in (*self._images, *self._attested, *self._index)
        }
        return Bundle(
            tuple(self._layers.values()), tuple(self._blobs.values()), tuple(documents.values())
        )

    def _type(self, media_type: str) -> str:
        known = _OCI_TYPES.get(media_type, media_type)
        return self._types.get(known, known)

    def _layer(self, layer: Descriptor) -> Descriptor:
        typed = Descriptor(self._type(layer.media_type), layer.digest, layer.size)
        self._layers[layer.digest] = typed
        return typed

    def _blob(self, media_type: str, data: bytes) -> Descriptor:
        made = _document(self._type(media_type), data)
        self._blobs[made.descriptor.digest] = made
        return made.descriptor


def _document(
    media_type: str,
    data: bytes,
    annotations: Mapping[str, str] | None = None,
    platform: Platform | None = None,
) -> Document:
    wire = platform and PlatformWire(platform.architecture, platform.os, platform.variant)
    descriptor = Descriptor(
        media_type, str(Digest.of(data)), len(data), dict(annotations or {}) or None, wire
    )
    return Document(descriptor, data)


def replace_annotations(descriptor: Descriptor, annotations: Mapping[str, str]) -> Descriptor:
    """Return a descriptor of the same blob with these annotations."""
    return Descriptor(
        descriptor.media_type,
        descriptor.digest,
        descriptor.size,
        dict(annotations) or None,
        descriptor.platform,
    )


def package_url(name: Reference, platform: Platform) -> str:
    """Return what statements call an image: `pkg:docker/app@1.0?platform=linux%2Famd64`."""
    text = platform_text(platform).replace("/", "%2F")
    pinned = f"digest={name.digest}&" if name.digest else ""
    tag = f"@{name.tag}" if name.tag else ""
    return f"pkg:docker/{name.familiar_repository}{tag}?{pinned}platform={text}"


def blobs_of(bundle: Bundle) -> Iterable[Document]:
    """Return every blob that is no layer."""
    return (*bundle.blobs, *bundle.manifests)
