"""What is to be in a repository without an image of the store standing for it: manifests, indexes, their blobs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

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


class Fetching(Protocol):
    """One name of a repository, being read. Everything blocks, and raises NotFound, Unavailable, Invalid."""

    def manifest(self, digest: str) -> tuple[str, bytes]:
        """Return a manifest's media type and bytes; without a digest that of the name."""
        ...

    def small(self, digest: str, size: int) -> bytes:
        """Return a blob, verified."""
        ...

    def blob(self, digest: str, size: int, write: Callable[[bytes], object]) -> None:
        """Write a blob's bytes; whoever asks verifies them."""
        ...
