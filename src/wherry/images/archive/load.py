"""`docker load`: an archive's images, unpacked and registered, or none of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from wherry.images.archive import docker, legacy, oci
from wherry.images.archive.found import Found, no_image_for
from wherry.images.archive.spool import Spool
from wherry.images.config import decode_config
from wherry.images.intake import Intake, Intakes
from wherry.images.making import put_manifest
from wherry.images.store import ImageStore, StoredLayer
from wherry.images.unpack import LayerBlob, LayerProgress, Unpacker
from wherry.model.errors import Invalid, NotFound
from wherry.model.ids import Digest, Reference
from wherry.model.images import Image, Platform
from wherry.model.views import Progress
from wherry.storage.layers import Readable

_STEP = 512 << 10


@dataclass(frozen=True, slots=True)
class Loaded:
    """An image that was loaded; `taken` tells which images lost a name to it."""

    image: Image
    references: tuple[Reference, ...]
    taken: dict[Reference, Digest]


class Loader:
    """Loads archives. Blocking; several at once may share layers."""

    def __init__(self, store: ImageStore, unpacker: Unpacker, intakes: Intakes) -> None:
        self._store = store
        self._unpacker = unpacker
        self._intakes = intakes

    def load(
        self,
        stream: Readable,
        report: Callable[[Progress], None],
        *,
        quiet: bool = False,
        platform: Platform | None = None,
    ) -> list[Loaded]:
        """Read the whole of `stream`, register its images, and return them in the archive's order.

        `platform` leaves out images for others; None takes all, and of several for one name this machine's.
        Raises Invalid, naming the part, or Full; then no image was added and nothing is left.
        """
        progress = None if quiet else layer_progress("Loading layer", report)
        with self._intakes() as intake:
            spool = Spool.read_from(stream, intake)
            prepared = [
                (found, self._unpacker.unpack(found.layers, intake, progress))
                for found in _find_images(spool, intake, platform)
            ]
            return [self._register(found, layers, intake) for found, layers in prepared]

    def _register(self, found: Found, layers: tuple[StoredLayer, ...], intake: Intake) -> Loaded:
        identifier = intake.put(found.config)
        if found.manifest is not None:
            manifest = intake.put(found.manifest)
        else:
            plain = [stored.layer for stored in layers]
            manifest = put_manifest(intake, identifier, len(found.config), plain)
        image, taken = self._store.register(
            identifier,
            manifest,
            layers,
            references=found.references,
            parent=self._known(found.parent),
        )
        return Loaded(image, found.references, taken)

    def _known(self, parent: Digest | None) -> Digest | None:
        if parent is None:
            return None
        try:
            return self._store.get(parent).id
        except NotFound:
            return None


def layer_progress(status: str, report: Callable[[Progress], None]) -> LayerProgress:
    """Return a LayerProgress that reports a line each fiftieth of a layer, not below half a MiB."""
    reported: dict[Digest, int] = {}

    def progress(blob: LayerBlob, done: int) -> None:
        step = max(_STEP, blob.size // 50)
        if done >= reported.get(blob.diff_id, 0) + step or done == blob.size:
            reported[blob.diff_id] = done
            report(Progress(status, blob.diff_id.short, done, blob.size))

    return progress


def _find_images(spool: Spool, intake: Intake, platform: Platform | None) -> list[Found]:
    if platform is not None and spool.has(oci.INDEX):
        # Only the index tells platforms apart: manifest.json has one image for each name.
        return _made_for(oci.find_images(spool, intake, platform), platform)
    for layout, name in (
        (docker, docker.MANIFEST),
        (oci, oci.INDEX),
        (legacy, legacy.REPOSITORIES),
    ):
        if spool.has(name):
            found = layout.find_images(spool, intake)
            return found if platform is None else _made_for(found, platform)
    raise Invalid(
        "not an archive of images: it has neither manifest.json nor index.json",
        hint="for a root file system use import",
    )


def _made_for(found: list[Found], wanted: Platform) -> list[Found]:
    fitting = [
        image
        for image in found
        if decode_config(image.config, "in the archive").platform.serves(wanted)
    ]
    if not fitting:
        raise no_image_for(wanted)
    return fitting
