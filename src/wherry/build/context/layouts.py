"""A received folder that is an OCI image layout, as an image of the store: `--build-context x=oci-layout://…`."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Final

from wherry.build.files import Tree
from wherry.images.archive.oci import CONTAINERD_NAME, INDEX, REF_NAME
from wherry.images.config import parse_platform
from wherry.images.manifests import (
    LARGEST_MANIFEST,
    Descriptor,
    choose,
    decode_index,
    encode_index,
)
from wherry.kernel.paths import open_file_in_root
from wherry.model.errors import Invalid, NotFound
from wherry.model.ids import Digest
from wherry.model.images import Platform
from wherry.registry.media import INDEXES
from wherry.storage.layers import Readable, TarWriter, pack

_DEEPEST: Final = 8
Load = Callable[[Readable], str]
"""Takes an archive of one image, and returns its id."""


def split_layout(value: str) -> tuple[str, str, str]:
    """Return (tree id, tag, digest) of `ID[:tag][@digest]`."""
    head, _, digest = value.partition("@")
    tree_id, _, tag = head.partition(":")
    return tree_id, tag, digest


def load_layout(tree: Tree, tag: str, digest: str, load: Load, platform: str = "") -> str:
    """Return the id of the image that the layout has by this digest, or by this tag (`latest`). Blocks.

    Of an index it is the image for `platform` ("" is the host's). Raises NotFound where it has none, Invalid
    for what is no layout, and what `load` raises.
    """
    with tree.open() as root:
        entry = _choose(decode_index(_read(root, INDEX), INDEX), tag, digest)
        entry = _for_platform(root, entry, parse_platform(platform))
        # Its names are the layout's own affair: here it is known by its id alone.
        index = encode_index([Descriptor(entry.media_type, entry.digest, entry.size)])
        reading, writing = os.pipe()
        thread = threading.Thread(target=_write, args=(root, index, writing), daemon=True)
        thread.start()
        try:
            with open(reading, "rb") as stream:
                return load(stream)
        finally:
            thread.join()


def _choose(entries: list[Descriptor], tag: str, digest: str) -> Descriptor:
    for entry in entries:
        annotations = entry.annotations or {}
        name = annotations.get(REF_NAME) or annotations.get(CONTAINERD_NAME, "")
        if digest:
            if entry.digest == digest:
                return entry
        elif name.rpartition(":")[2] == (tag or "latest"):
            return entry
    if len(entries) == 1 and not tag and not digest:
        return entries[0]
    raise NotFound("image in the OCI layout", digest or tag or "latest")


def _for_platform(root: int, entry: Descriptor, wanted: Platform) -> Descriptor:
    for _ in range(_DEEPEST):
        if entry.media_type not in INDEXES:
            return entry
        path = f"blobs/{Digest.parse(entry.digest).algorithm}/{Digest.parse(entry.digest).hex}"
        found = choose(decode_index(_read(root, path), entry.digest), wanted)
        if found is None:
            text = f"{wanted.os}/{wanted.architecture}"
            raise NotFound("image in the OCI layout", text, hint="its platforms are others")
        entry = found
    raise Invalid("the OCI layout has indexes of indexes without end")


def _read(root: int, name: str) -> bytes:
    try:
        fd = open_file_in_root(root, name)
    except OSError:
        raise Invalid(f"not an OCI layout: it has no {name}") from None
    with open(fd, "rb") as file:
        data = file.read(LARGEST_MANIFEST + 1)
    if len(data) > LARGEST_MANIFEST:
        raise Invalid(f"not an OCI layout: its {name} is too large")
    return data


def _write(root: int, index: bytes, descriptor: int) -> None:
    """Write the layout as an archive; whoever reads may stop at any time."""
    try:
        with open(descriptor, "wb") as out:
            tar = TarWriter(out.write)
            tar.add_file("oci-layout", b'{"imageLayoutVersion": "1.0.0"}')
            tar.add_file(INDEX, index)
            tar.flush()
            pack(root, out.write, path=b"blobs", prefix=b"blobs")
    except (BrokenPipeError, NotFound):
        return
