"""Docker's archive: `manifest.json`, a list of images, their configurations and layers by file name.

Source: Docker image specification 1.2, "Combined Image JSON + Filesystem Changeset Format".
"""

from __future__ import annotations

import re

import msgspec

from wherry.images.archive.found import Found
from wherry.images.archive.spool import Spool
from wherry.images.config import LARGEST_CONFIG, decode_config
from wherry.images.intake import Intake
from wherry.images.manifests import LARGEST_MANIFEST
from wherry.images.unpack import LayerBlob
from wherry.model.errors import Invalid
from wherry.model.ids import Digest, Reference
from wherry.registry.media import OCI_LAYER
from wherry.storage.layers.compression import Compression, decompressed, sniff

MANIFEST = "manifest.json"
_CONFIG_NAME = re.compile(r"(?:.*/)?(?:sha256:)?([0-9a-f]{64})(?:\.json)?")
_HEAD = 6


class _Item(msgspec.Struct, rename="pascal"):
    config: str
    layers: list[str] | None = None
    repo_tags: list[str] | None = None
    parent: str | None = None


_decoder = msgspec.json.Decoder(list[_Item])


def find_images(spool: Spool, intake: Intake) -> list[Found]:
    """Return the images that `manifest.json` lists. Raises Invalid."""
    try:
        items = _decoder.decode(spool.read(MANIFEST, LARGEST_MANIFEST))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Invalid(f"invalid manifest.json: {error}") from error
    return [_find(item, spool, intake) for item in items]


def _find(item: _Item, spool: Spool, intake: Intake) -> Found:
    config = spool.read(item.config, LARGEST_CONFIG)
    named = _CONFIG_NAME.fullmatch(item.config)
    if named and Digest.of(config).hex != named[1]:
        raise Invalid(f"{item.config}: wrong digest: its content is {Digest.of(config)}")
    diff_ids = decode_config(config, item.config).diff_ids
    names = item.layers or []
    if len(names) != len(diff_ids):
        raise Invalid(
            f"manifest.json lists {len(names)} layers of {item.config},"
            f" which itself has {len(diff_ids)}"
        )
    references = [Reference.parse(text) for text in item.repo_tags or ()]
    if any(reference.digest or not reference.tag for reference in references):
        raise Invalid(f"invalid RepoTags in manifest.json: {item.repo_tags}")
    return Found(
        config=config,
        layers=tuple(
            stored_layer(spool, name, diff, intake)
            for name, diff in zip(names, diff_ids, strict=True)
        ),
        references=tuple(references),
        parent=Digest.parse(item.parent) if item.parent else None,
    )


def stored_layer(spool: Spool, name: str, diff_id: Digest | None, intake: Intake) -> LayerBlob:
    """Return the layer in the file `name`, in the content store as plain, gzip or zstd.

    Without `diff_id` it is what the archive hashes to.
    """
    part = spool.stored(name)
    with intake.content.open(part.digest) as blob:
        kind = sniff(blob.read(_HEAD))
        if kind is Compression.NONE:
            return LayerBlob(part.digest, part.size, OCI_LAYER, diff_id or part.digest)
        if kind in (Compression.GZIP, Compression.ZSTD) and diff_id is not None:
            return LayerBlob(part.digest, part.size, f"{OCI_LAYER}+{kind}", diff_id)
        # There is no media type for the others: such a layer is kept uncompressed.
        blob.seek(0)
        digest, size = intake.spool(decompressed(blob)[1])
    return LayerBlob(digest, size, OCI_LAYER, diff_id or digest)
