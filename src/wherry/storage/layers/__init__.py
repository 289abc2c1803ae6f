"""Layers: archives in, archives out, and what they remove from the layers below.

Owns the archive format (`header`, `pax`, `acl`, `reader`, `writer`: bytes and entries, no files)
and its meeting with the disk (`unpack` a layer, `extract` into a container, `pack` a tree).
Refuses to know of images, digests of blobs and containers. Read `entries` first, then `reader`
and `unpack`. Archives are hostile: each limit and refusal names the entry it is about.
"""

from wherry.storage.layers.entries import (
    DEFAULT_LIMITS,
    Entry,
    Kind,
    Limits,
    OwnerMap,
    Readable,
)
from wherry.storage.layers.extract import extract
from wherry.storage.layers.pack import Packed, pack
from wherry.storage.layers.reader import TarReader
from wherry.storage.layers.unpack import Unpacked, unpack
from wherry.storage.layers.writer import TarWriter

__all__ = [
    "DEFAULT_LIMITS",
    "Entry",
    "Kind",
    "Limits",
    "OwnerMap",
    "Packed",
    "Readable",
    "TarReader",
    "TarWriter",
    "Unpacked",
    "extract",
    "pack",
    "unpack",
]
