"""Archives of images, made by hand: Docker's of three ages, and OCI's."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tests.images.house import tar
from wherry.images.config import host_platform
from wherry.model.ids import Digest

LAYER = "application/vnd.oci.image.layer.v1.tar"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"


@dataclass
class Sample:
    """An image: uncompressed layers and the configuration that they make."""

    layers: Sequence[bytes]
    cmd: str = "run"
    architecture: str = host_platform().architecture

    @property
    def config(self) -> bytes:
        return json.dumps(
            {
                "architecture": self.architecture,
                "os": "linux",
                "config": {"Cmd": [self.cmd]},
                "rootfs": {"type": "layers", "diff_ids": [str(Digest.of(x)) for x in self.layers]},
            }
        ).encode()

    @property
    def id(self) -> Digest:
        return Digest.of(self.config)


def sample(*names: str, cmd: str = "run") -> Sample:
    """An image with a layer for each name, which holds a file of that name."""
    return Sample([tar({name: name.encode()}) for name in names], cmd)


def docker_files(image: Sample, *tags: str) -> dict[str, bytes]:
    """The files of a Docker archive as skopeo and podman write them."""
    files = {f"{Digest.of(layer).hex}.tar": layer for layer in image.layers}
    manifest = [
        {"Config": f"{image.id.hex}.json", "RepoTags": list(tags) or None, "Layers": list(files)}
    ]
    return {
        **files,
        f"{image.id.hex}.json": image.config,
        "manifest.json": json.dumps(manifest).encode(),
    }


def blob(data: bytes) -> str:
    return f"blobs/sha256/{Digest.of(data).hex}"


def descriptor(kind: str, data: bytes, **more: object) -> dict[str, object]:
    return {"mediaType": kind, "digest": str(Digest.of(data)), "size": len(data), **more}


def index(*manifests: Mapping[str, object]) -> bytes:
    return json.dumps(
        {"schemaVersion": 2, "mediaType": INDEX, "manifests": list(manifests)}
    ).encode()


def oci_image(image: Sample, *, compressed: bool = True) -> tuple[bytes, dict[str, bytes]]:
    """An image's manifest, and its blobs by name."""
    blobs = [gzip.compress(layer, mtime=0) if compressed else layer for layer in image.layers]
    kind = LAYER + "+gzip" * compressed
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": descriptor(CONFIG, image.config),
            "layers": [descriptor(kind, data) for data in blobs],
        }
    ).encode()
    return manifest, {blob(data): data for data in (*blobs, image.config, manifest)}


def oci_files(image: Sample, name: str = "") -> dict[str, bytes]:
    """The files of an OCI layout with one image."""
    manifest, blobs = oci_image(image)
    notes = {"annotations": {"org.opencontainers.image.ref.name": name}} if name else {}
    return {
        "oci-layout": b'{"imageLayoutVersion": "1.0.0"}',
        "index.json": index(descriptor(MANIFEST, manifest, **notes)),
        **blobs,
    }
