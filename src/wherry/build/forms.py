"""The blobs that layers leave the engine as: compressed as asked, once where that can be remembered."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from wherry.images.intake import Intake
from wherry.images.manifests import Descriptor
from wherry.images.places import LayerForm
from wherry.images.store import StoredLayer
from wherry.model.errors import Invalid
from wherry.model.ids import Digest
from wherry.model.literals import parse_number
from wherry.registry.media import DOCKER_LAYER, OCI_LAYER
from wherry.storage.layers.compression import Compression, compressor, decompressed

_PIECE = 1 << 20
_PLAIN = (OCI_LAYER, DOCKER_LAYER)
_KINDS = {
    "": Compression.GZIP,
    "gzip": Compression.GZIP,
    "zstd": Compression.ZSTD,
    "uncompressed": Compression.NONE,
}
_TYPES = {
    Compression.GZIP: f"{OCI_LAYER}+gzip",
    Compression.ZSTD: f"{OCI_LAYER}+zstd",
    Compression.NONE: OCI_LAYER,
}


class Forms(Protocol):
    """Where it is remembered: `images.places`."""

    def form(self, diff_id: Digest) -> LayerForm | None: ...
    def keep_form(self, diff_id: Digest, form: LayerForm) -> None: ...


@dataclass(frozen=True, slots=True)
class Wanted:
    """How layers are to be compressed. One that is compressed already stays so, unless `force` is said."""

    kind: Compression = Compression.GZIP
    level: int | None = None
    force: bool = False


def parse_compression(attributes: Mapping[str, str]) -> Wanted:
    """Return what an output's `compression`, `compression-level`, `force-compression` ask for. Raises Invalid."""
    name = attributes.get("compression", "")
    if name not in _KINDS:
        raise Invalid(
            f"cannot write an archive with compression {name!r}",
            hint="uncompressed, gzip or zstd",
        )
    text = attributes.get("compression-level", "")
    level = parse_number(text, 22)
    if text and level is None:
        raise Invalid(f"invalid compression level {text!r}", hint="0 to 22")
    force = attributes.get("force-compression", "") in ("1", "true")
    return Wanted(_KINDS[name], level, force)


class LayerForms:
    """Makes blobs in the content store. Blocks."""

    def __init__(self, intake: Intake, forms: Forms, wanted: Wanted) -> None:
        self._intake = intake
        self._forms = forms
        self._wanted = wanted

    def form(self, stored: StoredLayer) -> Descriptor:
        """Return the blob of a layer. Raises Full."""
        layer, wanted = stored.layer, self._wanted
        plain = layer.media_type in _PLAIN
        own = Descriptor(layer.media_type, str(layer.blob), layer.blob_size)
        if plain and wanted.kind is Compression.NONE or not plain and not wanted.force:
            return own
        usual = wanted == Wanted() and plain
        if usual and (known := self._forms.form(layer.diff_id)) is not None:
            self._intake.hold(known.blob)
            if self._intake.content.has(known.blob):
                return Descriptor(known.media_type, str(known.blob), known.size)

        def produce(out: Callable[[bytes], object]) -> None:
            encoder = compressor(wanted.kind, out, level=wanted.level)
            with self._intake.content.open(layer.blob) as file:
                data = decompressed(file)[1]
                while piece := data.read(_PIECE):
                    encoder.write(piece)
            encoder.finish()

        blob, size = self._intake.write(produce)
        made = LayerForm(blob, _TYPES[wanted.kind], size)
        if usual:
            self._forms.keep_form(layer.diff_id, made)
        return Descriptor(made.media_type, str(made.blob), made.size)
