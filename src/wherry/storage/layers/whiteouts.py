"""What a layer removes from those below: names in archives, device files and marks on disk.

Sources: OCI image-spec layer.md (Whiteouts, Opaque Whiteout), Documentation/filesystems/overlayfs.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from typing import Final

from wherry.storage.layers.entries import bad_entry

PREFIX: Final = b".wh."
OPAQUE_NAME: Final = b".wh..wh..opq"
_AUFS_PREFIX: Final = b".wh..wh."
DEVICE: Final = os.makedev(0, 0)
MODE: Final = stat.S_IFCHR


@dataclass(frozen=True, slots=True)
class Whiteout:
    """The lower layers' `name` in the same directory is gone."""

    name: bytes


@dataclass(frozen=True, slots=True)
class Opaque:
    """All that the lower layers have in the same directory is gone."""


@dataclass(frozen=True, slots=True)
class Bookkeeping:
    """A file of aufs's own, which means nothing here."""


Mark = Whiteout | Opaque | Bookkeeping


def parse_mark(entry_name: bytes, base: bytes) -> Mark | None:
    """Return what the last component `base` of an entry's name marks; None for a plain name.

    Raises Invalid for a mark that would name the directory itself or the one above it.
    """
    if not base.startswith(PREFIX):
        return None
    if base == OPAQUE_NAME:
        return Opaque()
    if base.startswith(_AUFS_PREFIX):
        return Bookkeeping()
    name = base[len(PREFIX) :]
    if name in (b"", b".", b".."):
        raise bad_entry(entry_name, "a whiteout of no name")
    return Whiteout(name)


def is_whiteout(status: os.stat_result) -> bool:
    """Whether a file on disk is overlay's whiteout: a character device 0:0."""
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == DEVICE
