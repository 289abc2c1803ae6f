"""`docker import`: an archive of a root file system becomes an image of one layer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from wherry.images.archive.load import layer_progress
from wherry.images.changes import apply_changes
from wherry.images.config import parse_platform
from wherry.images.making import ImageMaker, NewImage
from wherry.images.store import check_taggable
from wherry.model.images import Image, ImageConfig
from wherry.model.views import Progress
from wherry.storage.layers import Readable
from wherry.storage.layers.compression import ReadAhead, decompressed

_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """What `docker import` is given beside the archive."""

    repository: str = ""
    tag: str = ""
    message: str = ""
    changes: tuple[str, ...] = ()
    platform: str = ""
    source: str = "-"
    """Where the archive is: a URL, or `-` for the request's body."""


def plan_import(options: ImportOptions) -> NewImage:
    """Return the image that is wanted. Raises Invalid, with Docker's words."""
    reference = check_taggable(options.repository, options.tag) if options.repository else None
    return NewImage(
        config=apply_changes(ImageConfig(), options.changes),
        comment=options.message or f"Imported from {options.source}",
        platform=parse_platform(options.platform),
        reference=reference,
    )


def perform_import(
    maker: ImageMaker, stream: Readable, new: NewImage, report: Callable[[Progress], None]
) -> Image:
    """Read `stream` (plain or compressed) to its end and return the image. Raises Invalid, Full."""

    def copy(out: Callable[[bytes], object]) -> None:
        empty = True
        with ReadAhead(decompressed(stream)[1]) as plain:
            while data := plain.read(_CHUNK):
                empty = False
                out(data)
        if empty:
            # Docker takes it for an archive of nothing.
            out(bytes(1024))

    return maker.make(None, copy, new, layer_progress("Importing", report))
