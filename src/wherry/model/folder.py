"""A folder's manifest, as client and engine exchange it: what is in it, without the files' content.

client: manifest > engine: numbers of the files whose content it lacks > client: those, each with its length

Between two entries that are equal in everything the file did not change: `mark` comes of its inode and its
change time, which no program sets. Integers are little-endian. The client's half: it imports no `typing`,
which takes as long as its work; `build.context.manifest` reads.
"""

from __future__ import annotations

import struct

MAGIC = b"wherry folder 1\n"
"""What a manifest begins with."""
FIXED = struct.Struct("<HHBHQqQQ")
"""Lengths of path and link, kind, mode, size, mtime, mark, device; path and link follow."""
LENGTH = struct.Struct("<Q")
"""Before each content."""
UNSETTLED = 0
"""The mark of a file that changed so lately that another change would not show: never equal to another."""

FILE, DIRECTORY, SYMLINK, HARDLINK, FIFO, CHAR, BLOCK = range(7)


def encoded(
    path: bytes,
    kind: int,
    mode: int,
    size: int = 0,
    mtime_ns: int = 0,
    mark: int = 1,
    device: int = 0,
    link: bytes = b"",
) -> bytes:
    """Return one entry as the manifest has it; the parameters are those of `build.context.manifest.FolderEntry`."""
    fixed = FIXED.pack(len(path), len(link), kind, mode, size, mtime_ns, mark, device)
    return fixed + path + link
