"""An image found in an archive: everything that registering it takes, its blobs already stored."""

from __future__ import annotations

from dataclasses import dataclass

from wherry.images.unpack import LayerBlob
from wherry.model.errors import Invalid
from wherry.model.ids import Digest, Reference
from wherry.model.images import Platform


@dataclass(frozen=True, slots=True)
class Found:
    """One image. `config` and `manifest` are the bytes as they came; no manifest: one is made."""

    config: bytes
    layers: tuple[LayerBlob, ...]
    references: tuple[Reference, ...] = ()
    parent: Digest | None = None
    manifest: bytes | None = None


def no_image_for(platform: Platform) -> Invalid:
    """Return what to raise where an archive's images are all for other platforms."""
    return Invalid(
        f"the archive has no image for {platform.os}/{platform.architecture}",
        hint="its platforms are others",
    )
