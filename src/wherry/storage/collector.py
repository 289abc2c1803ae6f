"""Mark and sweep: blobs and layers that nothing refers to any more are removed.

What is referred to is known by the roots (images, containers: in the database) and by leases
(operations going on). An operation leases first and registers before it lets go, so a digest that is
neither leased nor live under the lease lock is dead:

    operation: lease.add > has? > write > commit in the database > lease released
    collector: mark > lease lock { leased? live? > remove }
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from wherry.kernel.failpoints import failpoint
from wherry.kernel.paths import remove_path
from wherry.model.ids import Digest
from wherry.storage.leases import Leases


class LayerRoots(Protocol):
    """Something durable that refers to layers: images, containers."""

    def live_layers(self) -> Iterable[Digest]:
        """Return the chain id of every layer in use. Called under the lease lock: must not lease."""
        ...


class BlobRoots(Protocol):
    """Something durable that refers to blobs: images."""

    def live_blobs(self) -> Iterable[Digest]:
        """Return every blob in use. Called under the lease lock: must not lease."""
        ...


class Contents(Protocol):
    """What the collector needs of the content store."""

    def digests(self) -> Iterator[Digest]: ...
    def has(self, digest: Digest) -> bool: ...
    def size(self, digest: Digest) -> int: ...
    def remove(self, digest: Digest) -> None: ...


class LayerShelf(Protocol):
    """What the collector needs of the snapshotter."""

    def layers(self) -> Iterator[Digest]: ...
    def has_layer(self, chain: Digest) -> bool: ...
    def retire_layer(self, chain: Digest) -> tuple[Path, ...]: ...
    def usage(self, path: Path) -> int: ...


@dataclass(frozen=True, slots=True)
class Collected:
    """What was removed, and the bytes that it took."""

    blobs: tuple[Digest, ...] = ()
    layers: tuple[Digest, ...] = ()
    space: int = 0


class Collector:
    """Removes what is dead; safe beside any operation that leases as drawn above."""

    def __init__(
        self,
        content: Contents,
        snapshots: LayerShelf,
        leases: Leases,
        *,
        layer_roots: Sequence[LayerRoots],
        blob_roots: Sequence[BlobRoots],
    ) -> None:
        self._content = content
        self._snapshots = snapshots
        self._leases = leases
        self._layer_roots = tuple(layer_roots)
        self._blob_roots = tuple(blob_roots)

    def collect(self, candidates: Iterable[Digest]) -> Collected:
        """Remove those of `candidates` that are dead, in the order given; missing ones are passed over.

        An uncompressed base layer's digest names both its blob and its layer: each is looked at.
        """
        wanted = tuple(dict.fromkeys(candidates))
        layers, layer_space = self._collect_layers(wanted)
        blobs, blob_space = self._collect_blobs(wanted)
        return Collected(blobs, layers, layer_space + blob_space)

    def sweep(self) -> Collected:
        """Remove everything dead in both stores."""
        layers, layer_space = self._collect_layers(tuple(self._snapshots.layers()))
        blobs, blob_space = self._collect_blobs(tuple(self._content.digests()))
        return Collected(blobs, layers, layer_space + blob_space)

    def _collect_layers(self, candidates: tuple[Digest, ...]) -> tuple[tuple[Digest, ...], int]:
        live = self._live_layers()
        removed: list[Digest] = []
        graves: list[Path] = []
        for chain in candidates:
            if chain in live or not self._snapshots.has_layer(chain):
                continue
            before = len(graves)
            self._unless_live(
                chain,
                self._live_layers,
                lambda chain: graves.extend(self._snapshots.retire_layer(chain)),
            )
            if len(graves) > before:
                removed.append(chain)
        # Counted and removed when nobody waits for the lease lock any more: it can take a second.
        space = 0
        for grave in graves:
            space += self._snapshots.usage(grave)
            remove_path(grave)
        return tuple(removed), space

    def _collect_blobs(self, candidates: tuple[Digest, ...]) -> tuple[tuple[Digest, ...], int]:
        live = self._live_blobs()
        removed: dict[Digest, int] = {}

        def remove(digest: Digest) -> None:
            if self._content.has(digest):
                removed[digest] = self._content.size(digest)
                self._content.remove(digest)

        for digest in candidates:
            if digest not in live and self._content.has(digest):
                self._unless_live(digest, self._live_blobs, remove)
        return tuple(removed), sum(removed.values())

    def _live_layers(self) -> set[Digest]:
        return {digest for root in self._layer_roots for digest in root.live_layers()}

    def _live_blobs(self) -> set[Digest]:
        return {digest for root in self._blob_roots for digest in root.live_blobs()}

    def _unless_live(
        self,
        digest: Digest,
        live: Callable[[], set[Digest]],
        take_away: Callable[[Digest], object],
    ) -> None:
        def look_again() -> None:
            if digest not in live():
                failpoint("collector.before-remove")
                take_away(digest)

        self._leases.sweep(digest, look_again)
