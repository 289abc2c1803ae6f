"""POSIX ACLs as text (SCHILY.acl.*) to the kernel's binary form (system.posix_acl_*). No I/O.

Sources: acl(5) for the long and short text forms, star(5) for the numeric fourth field,
include/uapi/linux/posix_acl_xattr.h for the layout.
"""

from __future__ import annotations

import struct
from typing import Final

_VERSION: Final = struct.pack("<I", 2)
_ENTRY: Final = struct.Struct("<HHI")
_NO_ID: Final = 0xFFFFFFFF
_TAGS: Final = {  # tag: (for the owner, for a named id)
    b"user": (0x01, 0x02),
    b"u": (0x01, 0x02),
    b"group": (0x04, 0x08),
    b"g": (0x04, 0x08),
    b"mask": (0x10, 0x10),
    b"m": (0x10, 0x10),
    b"other": (0x20, 0x20),
    b"o": (0x20, 0x20),
}
_BITS: Final = {ord("r"): 4, ord("w"): 2, ord("x"): 1, ord("-"): 0}
_MOST_ENTRIES: Final = 8191  # what fits an xattr of 64 KiB


def parse_acl(text: bytes) -> bytes:
    """Return the xattr value of an ACL such as `user::rwx,user:502:r-x,group::r-x,mask::r-x`.

    Entries end at a comma or a new line; `#` starts a comment. A user or group that is given by
    name alone, as GNU tar does, is left out: whose name it is only the machine knew that wrote
    it, and who is left out has no more rights than others. Raises ValueError.
    """
    entries: list[tuple[int, int, int]] = []
    for line in text.replace(b",", b"\n").split(b"\n"):
        item = line.partition(b"#")[0].strip()
        entry = _parse_entry(item) if item else None
        if entry is not None:
            entries.append(entry)
    if len(entries) > _MOST_ENTRIES:
        raise ValueError("an ACL has too many entries")
    # The kernel refuses entries that are not in ascending order of tag and id (EINVAL).
    entries.sort(key=lambda entry: (entry[0], entry[2]))
    return _VERSION + b"".join(_ENTRY.pack(*entry) for entry in entries)


def _parse_entry(item: bytes) -> tuple[int, int, int] | None:
    fields = item.split(b":")
    tags = _TAGS.get(fields[0])
    if tags is not None and len(fields) == 2 and tags[0] == tags[1]:
        fields.insert(1, b"")  # mask:rwx and other:rwx, as Solaris and old stars write them
    if tags is None or len(fields) not in (3, 4):
        raise ValueError(f"not an ACL entry: {item[:60]!r}")
    permissions = 0
    for character in fields[2]:
        if character not in _BITS:
            raise ValueError(f"an ACL entry's permissions are malformed: {item[:60]!r}")
        permissions |= _BITS[character]
    if not fields[1]:
        return tags[0], permissions, _NO_ID
    number = fields[3] if len(fields) == 4 else fields[1]
    if tags[0] == tags[1] or (number.isdigit() and int(number) >= _NO_ID):
        raise ValueError(f"an ACL entry of no possible id: {item[:60]!r}")
    return (tags[1], permissions, int(number)) if number.isdigit() else None
