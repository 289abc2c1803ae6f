"""The engine's half of `model.folder`: a manifest that anyone may have sent, read."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from wherry.model.errors import Invalid
from wherry.model.folder import (
    BLOCK,
    DIRECTORY,
    FIXED,
    HARDLINK,
    MAGIC,
    SYMLINK,
    encoded,
)


class FolderEntry(NamedTuple):
    """One file. `size` is in bytes and counts for FILE alone; times are nanoseconds."""

    path: bytes
    """Below the folder; b"" is the folder itself."""
    kind: int
    mode: int
    size: int = 0
    mtime_ns: int = 0
    mark: int = 1
    device: int = 0
    """CHAR and BLOCK."""
    link: bytes = b""
    """Where a SYMLINK leads; the path of an earlier entry for HARDLINK."""


def encode(entries: list[FolderEntry]) -> bytes:
    """Return the manifest. Parents come before what is in them."""
    return MAGIC + b"".join(encoded(*entry) for entry in entries)


def decode(data: bytes) -> list[FolderEntry]:
    """Return the entries of a manifest that anyone may have sent. Raises Invalid.

    Paths are clean and stay inside, each is there once, and its parent is an earlier DIRECTORY.
    """
    entries = list(_read(data))
    directories = {b""}
    seen = {b""}
    for position, entry in enumerate(entries):
        if not entry.path:
            if position or entry.kind != DIRECTORY:
                raise Invalid("folder manifest: the folder itself comes first, once")
            continue
        parent, _, name = entry.path.rpartition(b"/")
        outside = entry.path.startswith(b"/") or name in (b"", b".", b"..")
        if outside or b"\0" in name or parent not in directories:
            raise Invalid(f"folder manifest: bad path {entry.path!r}")
        if entry.path in seen:
            raise Invalid(f"folder manifest: {entry.path!r} is there twice")
        if entry.kind == HARDLINK and (entry.link not in seen or entry.link in directories):
            raise Invalid(f"folder manifest: {entry.path!r} is a link to nothing")
        seen.add(entry.path)
        if entry.kind == DIRECTORY:
            directories.add(entry.path)
    return entries


def _read(data: bytes) -> Iterator[FolderEntry]:
    if not data.startswith(MAGIC):
        raise Invalid("folder manifest: of another version, or none")
    at = len(MAGIC)
    while at < len(data):
        try:
            path_length, link_length, kind, mode, size, mtime_ns, mark, device = FIXED.unpack_from(
                data, at
            )
        except struct.error:
            raise Invalid("folder manifest: truncated") from None
        at += FIXED.size
        path = data[at : at + path_length]
        link = data[at + path_length : at + path_length + link_length]
        at += path_length + link_length
        if at > len(data):
            raise Invalid("folder manifest: truncated")
        if kind > BLOCK or mode > 0o7777 or size >= 1 << 62:
            raise Invalid(f"folder manifest: {path!r} is of an unknown kind")
        if (kind in (SYMLINK, HARDLINK)) != bool(link) or b"\0" in link:
            raise Invalid(f"folder manifest: {path!r} has a bad link")
        yield FolderEntry(path, kind, mode, size, mtime_ns, mark, device, link)
