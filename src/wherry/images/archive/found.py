"""An image found in an archive: everything that registering it takes, its blobs already stored."""

from __future__ import annotations

from dataclasses import dataclass

from wherry.images.unpack import LayerBlob
from wherry.model.ids import Digest, Reference


@dataclass(frozen=True, slots=True)
class Found:
    """One image. `config` and `manifest` are the bytes as they came; no manifest: one is made."""

    config: bytes
    layers: tuple[LayerBlob, ...]
    references: tuple[Reference, ...] = ()
    parent: Digest | None = None
    manifest: bytes | None = None
