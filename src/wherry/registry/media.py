"""Media types of manifests, configurations and layers, OCI's and Docker's.

Source: OCI image specification 1.1, media-types.md; Docker image manifest version 2, schema 2; the
grammar is RFC 6838, 4.2.
"""

from __future__ import annotations

import re
from typing import Final

OCI_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX: Final = "application/vnd.oci.image.index.v1+json"
OCI_ARTIFACT: Final = "application/vnd.oci.artifact.manifest.v1+json"
"""Of a draft of the specification, never released; some clients pushed it."""
OCI_CONFIG: Final = "application/vnd.oci.image.config.v1+json"
OCI_EMPTY: Final = "application/vnd.oci.empty.v1+json"
OCI_LAYER: Final = "application/vnd.oci.image.layer.v1.tar"
OCI_LAYER_GZIP: Final = "application/vnd.oci.image.layer.v1.tar+gzip"
OCI_LAYER_ZSTD: Final = "application/vnd.oci.image.layer.v1.tar+zstd"

DOCKER_MANIFEST: Final = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX: Final = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_CONFIG: Final = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER: Final = "application/vnd.docker.image.rootfs.diff.tar"
DOCKER_LAYER_GZIP: Final = "application/vnd.docker.image.rootfs.diff.tar.gzip"
DOCKER_FOREIGN: Final = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
DOCKER_SCHEMA_1: Final = (
    "application/vnd.docker.distribution.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
)

MANIFESTS: Final = (OCI_MANIFEST, DOCKER_MANIFEST)
"""One image each: a configuration and layers."""
INDEXES: Final = (OCI_INDEX, DOCKER_INDEX)
"""Lists of manifests."""
ACCEPTED: Final = MANIFESTS + INDEXES

_FOREIGN: Final = (
    "application/vnd.oci.image.layer.nondistributable.v1.tar",
    DOCKER_FOREIGN,
    "application/vnd.docker.image.rootfs.foreign.diff.tar",
)
_LAYER: Final = re.compile(
    r"application/vnd\.(?:oci\.image\.layer(?:\.nondistributable)?\.v1\.tar(?:\+(?:gzip|zstd))?"
    r"|docker\.image\.rootfs\.(?:diff|foreign\.diff)\.tar(?:\.gzip|\.zstd)?)"
)
_NAME: Final = r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}"
_TYPE: Final = re.compile(rf"{_NAME}/{_NAME}")


def essence(content_type: str) -> str:
    """Return a Content-Type's media type, without parameters and in lower case."""
    return content_type.partition(";")[0].strip().lower()


def is_media_type(text: str) -> bool:
    """Whether `text` is `type/subtype`."""
    return _TYPE.fullmatch(text) is not None


def is_layer(media_type: str) -> bool:
    """Whether this is the type of a layer's archive, in a form that can be unpacked."""
    return _LAYER.fullmatch(media_type) is not None


def is_foreign(media_type: str) -> bool:
    """Whether a layer of this type need not be in the registry: it comes from elsewhere by its URLs."""
    return media_type.startswith(_FOREIGN)
