"""What was built, as bytes: archives of Docker's and of OCI's form, or the root's files as tar.

A folder (`-o dir`) is the tar too: whoever asked unpacks it where it is to be.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Protocol

from wherry.build.files import Tree
from wherry.images.archive.save import Chosen
from wherry.images.store import StoredLayer
from wherry.model.build import BuildRequest, OutputRef
from wherry.model.errors import Invalid
from wherry.model.ids import Digest, Reference
from wherry.model.images import Image
from wherry.storage.layers import pack

_ARCHIVES: Final = ("docker", "oci")
_TREES: Final = ("local", "tar")
_COMPRESSIONS: Final = {"": "", "uncompressed": "", "gzip": "gzip", "zstd": "zstd"}


class Saver(Protocol):
    """Writes images' archives: `images.archive.save`."""

    def save(
        self,
        chosen: Sequence[Chosen],
        out: Callable[[bytes], object],
        *,
        form: str,
        compression: str,
    ) -> None: ...


class Layers(Protocol):
    """What is used of the image store."""

    def layers(self, identifier: Digest) -> tuple[StoredLayer, ...]: ...


class Outputs:
    """Writes outputs. Everything blocks."""

    def __init__(self, saver: Saver, layers: Layers) -> None:
        self._saver = saver
        self._layers = layers

    def write(
        self,
        request: BuildRequest,
        output: OutputRef,
        image: Image,
        root: Tree,
        out: Callable[[bytes], object],
    ) -> None:
        """Write one output's bytes to `out`.

        Raises Invalid for a kind that is none of bytes, and for names and attributes that are malformed.
        """
        if output.kind in _TREES:
            # An OverlayFS mount shows no whiteouts; names that begin as theirs do are files like others.
            with root.open() as fd:
                pack(fd, out, clamp_mtime=request.source_date_epoch)
            return
        if output.kind not in _ARCHIVES:
            raise Invalid(
                f"an output of kind {output.kind!r} is not a file", hint="local, tar, docker or oci"
            )
        compression = output.get("compression")
        if compression not in _COMPRESSIONS:
            raise Invalid(
                f"cannot write an archive with compression {compression!r}",
                hint="uncompressed, gzip or zstd",
            )
        chosen = Chosen(image, self._layers.layers(image.id), names(request, output))
        self._saver.save([chosen], out, form=output.kind, compression=_COMPRESSIONS[compression])


def names(request: BuildRequest, output: OutputRef) -> tuple[Reference, ...]:
    """Return what an output is called: its own `name`, else the build's tags. Raises Invalid."""
    given = output.get("name")
    texts = [text.strip() for text in given.split(",") if text.strip()] if given else request.tags
    return tuple(Reference.parse(text).with_default_tag() for text in texts)
