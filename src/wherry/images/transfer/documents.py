"""What is to be in a repository without an image of the store standing for it: manifests, indexes, their blobs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from wherry.images.manifests import Descriptor


@dataclass(frozen=True, slots=True)
class Documents:
    """What is to be in the repository at the end."""

    layers: Sequence[Descriptor]
    """Blobs in the content store, which whoever asks holds there."""
    blobs: Sequence[tuple[str, bytes]]
    """Small ones, by digest."""
    manifests: Sequence[tuple[Descriptor, bytes]]
    """Each after those that it names; the last one gets the name."""
