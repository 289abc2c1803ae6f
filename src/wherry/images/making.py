"""New images made here: by import, commit and bootstrap, each a base's layers and at most one more."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from wherry.images.config import Configuration, encode_config, host_platform
from wherry.images.intake import Intake, Intakes
from wherry.images.manifests import Descriptor, encode_manifest
from wherry.images.store import ImageStore, StoredLayer
from wherry.images.unpack import LayerBlob, LayerProgress, Unpacker
from wherry.model.ids import Digest, Reference
from wherry.model.images import HistoryEntry, Image, ImageConfig, Layer, Platform
from wherry.model.moments import render_rfc3339
from wherry.registry.media import OCI_CONFIG, OCI_LAYER

WriteLayer = Callable[[Callable[[bytes], object]], object]
"""Writes an uncompressed layer archive to the function that it is given."""


@dataclass(frozen=True, slots=True)
class NewImage:
    """What a new image is to say of itself; `created` empty is now."""

    config: ImageConfig
    created_by: str = ""
    author: str = ""
    comment: str = ""
    created: str = ""
    platform: Platform = field(default_factory=host_platform)
    reference: Reference | None = None
    """The name it is given."""
    container: str = ""
    """The container that it is committed from."""


class ImageMaker:
    """Stores a layer, unpacks it, writes the configuration, registers the image."""

    def __init__(self, store: ImageStore, unpacker: Unpacker, intakes: Intakes) -> None:
        self._store = store
        self._unpacker = unpacker
        self._intakes = intakes

    def make(
        self,
        base: Image | None,
        write_layer: WriteLayer | None,
        new: NewImage,
        progress: LayerProgress | None = None,
    ) -> Image:
        """Return the new image, durable: `base` and the layer that `write_layer` writes. Blocks.

        Without `write_layer` it is the base with another configuration. Raises Full, Invalid for a
        malformed layer, and whatever `write_layer` raises; then nothing is left.
        """
        with self._intakes() as intake:
            base_layers = self._hold_base(base, intake)
            layers = base_layers
            if write_layer is not None:
                blob, size = intake.write(write_layer)
                blobs = [_as_blob(stored.layer) for stored in base_layers]
                blobs.append(LayerBlob(blob, size, OCI_LAYER, blob))
                layers = self._unpacker.unpack(blobs, intake, progress)
            created = new.created or render_rfc3339(time.time_ns())
            entry = HistoryEntry(
                created, new.created_by, new.author, new.comment, write_layer is None
            )
            config = encode_config(
                Configuration(
                    config=new.config,
                    diff_ids=tuple(stored.layer.diff_id for stored in layers),
                    platform=new.platform,
                    created=created,
                    author=new.author,
                    comment=new.comment,
                    history=(*(base.history if base else ()), entry),
                    container=new.container,
                )
            )
            identifier = intake.put(config)
            manifest = put_manifest(intake, identifier, len(config), [s.layer for s in layers])
            image, _ = self._store.register(
                identifier,
                manifest,
                layers,
                references=(new.reference,) if new.reference else (),
                parent=base.id if base else None,
            )
        return image

    def _hold_base(self, base: Image | None, intake: Intake) -> tuple[StoredLayer, ...]:
        if base is None:
            return ()
        intake.hold(*(layer.blob for layer in base.layers), *base.chain)
        # A base that was removed a moment ago is not found here any more, and NotFound is raised.
        return self._store.layers(self._store.get(base.id).id)


def put_manifest(
    intake: Intake,
    config: Digest,
    size: int,
    layers: list[Layer],
    annotations: Mapping[str, str] | None = None,
) -> Digest:
    """Store an OCI manifest of the configuration and `layers`, and return its digest."""
    return intake.put(
        encode_manifest(
            Descriptor(OCI_CONFIG, str(config), size),
            [Descriptor(layer.media_type, str(layer.blob), layer.blob_size) for layer in layers],
            annotations,
        )
    )


def _as_blob(layer: Layer) -> LayerBlob:
    return LayerBlob(layer.blob, layer.blob_size, layer.media_type, layer.diff_id)
