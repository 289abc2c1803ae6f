"""Blobs of layers to snapshots, each layer once, whoever asks for it and however often.

For a compressed layer four things go on at the same time: reading and inflating, hashing what was
inflated, and unpacking. An uncompressed one is known by its blob's digest and not hashed again
(but where one of that and the layer's own is a sha512, and the other not).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Protocol

from wherry.images.intake import Intake
from wherry.images.store import ImageStore, StoredLayer
from wherry.model.errors import Invalid
from wherry.model.ids import Digest
from wherry.model.images import Layer, chain_ids
from wherry.storage.content import ContentStore
from wherry.storage.layers import Readable, unpack
from wherry.storage.layers.compression import (
    Compression,
    HashingReader,
    ReadAhead,
    decompressed,
)
from wherry.storage.snapshots import Snapshotter

_CHUNK = 1 << 20
_REMEMBERED = 1024


@dataclass(frozen=True, slots=True)
class LayerBlob:
    """One layer as it came: a blob that the content store has, hashed, and what its archive must hash to."""

    blob: Digest
    size: int
    """Bytes of the blob."""
    media_type: str
    diff_id: Digest


LayerProgress = Callable[[LayerBlob, int], None]
"""Called with a layer and how many bytes of its blob are done."""


class LayerSource(Protocol):
    """Where the bytes of layers' blobs come from, which may still be on their way."""

    def open(self, blob: LayerBlob) -> AbstractContextManager[Readable]:
        """Return the blob's bytes, from its first one on."""
        ...

    def verify(self, blob: LayerBlob) -> None:
        """Wait until the whole blob is here; raise Invalid where it is not what its digest says."""
        ...

    def made(self, blob: LayerBlob) -> None:
        """Take note that the layer is on disk."""
        ...


class _Stored:
    """Blobs of the content store: verified when they came in."""

    def __init__(self, content: ContentStore) -> None:
        self._content = content

    def open(self, blob: LayerBlob) -> AbstractContextManager[Readable]:
        return self._content.open(blob.blob)

    def verify(self, blob: LayerBlob) -> None:
        pass

    def made(self, blob: LayerBlob) -> None:
        pass


class Unpacker:
    """Makes layers. One layer is made by one thread at a time; the others wait and find it made."""

    def __init__(self, store: ImageStore, content: ContentStore, snapshots: Snapshotter) -> None:
        self._store = store
        self._stored = _Stored(content)
        self._snapshots = snapshots
        self._lock = threading.Lock()
        self._making: dict[Digest, tuple[threading.Lock, int]] = {}
        # Sizes of layers that are on disk and not yet in the tables.
        self._sizes: dict[Digest, tuple[int, int]] = {}

    def unpack(
        self,
        blobs: Sequence[LayerBlob],
        intake: Intake,
        progress: LayerProgress | None = None,
        source: LayerSource | None = None,
    ) -> tuple[StoredLayer, ...]:
        """Return the layers, base first, all of them on disk; `intake` holds them.

        Blobs are read from `source`, or else from the content store.
        Raises Invalid, naming the layer, where a blob is not the layer that it should be.
        """
        source = source or self._stored
        chains = chain_ids(blob.diff_id for blob in blobs)
        intake.hold(*chains)
        made: list[StoredLayer] = []
        for position, (blob, chain) in enumerate(zip(blobs, chains, strict=True)):
            size, tar_size = self._one(blob, chain, chains[:position], progress, source)
            layer = Layer(blob.diff_id, chain, blob.blob, blob.media_type, blob.size, size)
            made.append(StoredLayer(layer, tar_size))
            if position < len(blobs) - 1:
                self._snapshots.settle_soon()
        # Also for layers that another made, and who has not come this far.
        self._snapshots.settle()
        return tuple(made)

    def _one(
        self,
        blob: LayerBlob,
        chain: Digest,
        parents: Sequence[Digest],
        progress: LayerProgress | None,
        source: LayerSource,
    ) -> tuple[int, int]:
        with self._alone(chain):
            if self._snapshots.has_layer(chain):
                sizes = self._known(blob, chain, source)
                source.made(blob)
                return sizes
            try:
                sizes = self._make(blob, chain, parents, progress, source)
            except Invalid as error:
                raise Invalid(f"layer {blob.diff_id}: {error.message}", hint=error.hint) from error
            with self._lock:
                while len(self._sizes) >= _REMEMBERED:
                    self._sizes.pop(next(iter(self._sizes)))
                self._sizes[chain] = sizes
            source.made(blob)
            return sizes

    def _make(
        self,
        blob: LayerBlob,
        chain: Digest,
        parents: Sequence[Digest],
        progress: LayerProgress | None,
        source: LayerSource,
    ) -> tuple[int, int]:
        parent_paths = self._snapshots.parent_paths(parents)
        algorithm = blob.diff_id.algorithm
        with ExitStack() as stack:
            stream = stack.enter_context(source.open(blob))
            if progress is not None:
                stream = _Counted(stream, blob, progress)
            compression, archive = decompressed(stream)
            hashing: HashingReader | None = None
            if compression is not Compression.NONE:
                archive = stack.enter_context(ReadAhead(archive))
                archive = hashing = stack.enter_context(HashingReader(archive, algorithm))
            elif blob.blob.algorithm != blob.diff_id.algorithm:
                archive = hashing = stack.enter_context(HashingReader(archive, algorithm))
            elif blob.blob != blob.diff_id:
                source.verify(blob)  # else its content is still anything
                raise Invalid(f"its content is {blob.blob}")
            target = stack.enter_context(self._snapshots.new_layer(chain, parents, later=True))
            unpacked = unpack(archive, target, parents=parent_paths)
            source.verify(blob)
            if hashing is None:
                return unpacked.size, blob.size
            if hashing.digest() != blob.diff_id:
                raise Invalid(f"its content is {hashing.digest()}")
            return unpacked.size, hashing.size

    def _known(self, blob: LayerBlob, chain: Digest, source: LayerSource) -> tuple[int, int]:
        """Return the sizes of a layer on disk, counting again where nobody remembers them."""
        with self._lock:
            sizes = self._sizes.get(chain)
        sizes = sizes or self._store.layer_sizes(chain)
        if sizes:
            return sizes
        with source.open(blob) as file:
            _, archive = decompressed(file)
            tar_size = 0
            while data := archive.read(_CHUNK):
                tar_size += len(data)
        return self._snapshots.usage(self._snapshots.layer_path(chain)), tar_size

    @contextmanager
    def _alone(self, chain: Digest) -> Generator[None]:
        with self._lock:
            lock, waiting = self._making.get(chain, (threading.Lock(), 0))
            self._making[chain] = (lock, waiting + 1)
        try:
            with lock:
                yield
        finally:
            with self._lock:
                waiting = self._making[chain][1] - 1
                if waiting:
                    self._making[chain] = (lock, waiting)
                else:
                    del self._making[chain]


class _Counted:
    """A blob being read, telling how far it is."""

    def __init__(self, stream: Readable, blob: LayerBlob, progress: LayerProgress) -> None:
        self._stream = stream
        self._blob = blob
        self._progress = progress
        self._done = 0

    def read(self, n: int, /) -> bytes:
        data = self._stream.read(n)
        if data:
            self._done += len(data)
            self._progress(self._blob, self._done)
        return data
