"""Extended attributes on their way in and out of archives: which ones travel, and as what."""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Mapping
from typing import Final

from wherry.storage.layers.entries import NO_XATTRS, bad_entry

OPAQUE: Final = "trusted.overlay.opaque"
"""What overlay reads on a directory that hides the lower layers' one: value `y`."""

ACLS: Final = frozenset({"system.posix_acl_access", "system.posix_acl_default"})

# An overlay's own notes: an image that brings them could redirect a path to any lower file.
_OVERLAY: Final = ("trusted.overlay.", "user.overlay.")
# They say something about the machine an archive was made on, and mean nothing on another.
_OF_ONE_MACHINE: Final = frozenset({"security.selinux", "security.evm"})
_CAPABILITY: Final = "security.capability"
# include/uapi/linux/capability.h: revision in the top byte, v3 has a root id behind v2's fields.
_REVISION_2: Final = 0x02000000
_REVISION_3: Final = 0x03000000
_REVISION_MASK: Final = 0xFF000000
_MUST_WORK: Final = ACLS | {_CAPABILITY}


def to_set(name: bytes, xattrs: Mapping[str, bytes]) -> list[tuple[str, bytes]]:
    """Return the attributes of the entry `name` that are set on disk, in the order to set them.

    Raises Invalid for an overlay's private ones.
    """
    wanted: list[tuple[str, bytes]] = []
    for key, value in xattrs.items():
        if key.startswith(_OVERLAY):
            raise bad_entry(name, f"the attribute {key} is reserved for the engine")
        if key in _OF_ONE_MACHINE or (key.startswith("system.") and key not in ACLS):
            continue
        wanted.append((key, value))
    return wanted


def is_optional(key: str, problem: OSError) -> bool:
    """Whether an attribute may be left out since the file system or kind of file has none such.

    File capabilities and ACLs are never left out: they decide who may do what.
    """
    if key in _MUST_WORK:
        return False
    if problem.errno == errno.ENOTSUP:
        return True
    return problem.errno == errno.EPERM and key.startswith("user.")  # xattr(7): not on links


def read_xattrs(path: int | bytes) -> dict[str, bytes]:
    """Return all extended attributes of a descriptor, or of a path without following it.

    A file system without any gives none. Raises OSError otherwise.
    """
    return _read(path, isinstance(path, int))


def read_xattrs_at(fd: int) -> dict[str, bytes]:
    """Return all extended attributes of what an O_PATH descriptor stands for."""
    return _read(b"/proc/self/fd/%d" % fd, True)


def _read(path: int | bytes, follow: bool) -> dict[str, bytes]:
    try:
        names = os.listxattr(path, follow_symlinks=follow)
    except OSError as problem:
        if problem.errno in (errno.ENOTSUP, errno.EPERM):
            return {}
        raise
    found: dict[str, bytes] = {}
    for name in names:
        try:
            found[name] = os.getxattr(path, name, follow_symlinks=follow)
        except OSError as problem:
            if problem.errno not in (errno.ENODATA, errno.ENOTSUP):
                raise
    return found


def to_archive(found: Mapping[str, bytes]) -> Mapping[str, bytes]:
    """Return those of a file's attributes that an archive carries, as it carries them."""
    if not found:
        return NO_XATTRS
    carried: dict[str, bytes] = {}
    for key, value in found.items():
        if key.startswith(_OVERLAY) or key in _OF_ONE_MACHINE:
            continue
        if key.startswith("system.") and key not in ACLS:
            continue
        carried[key] = _portable_capability(value) if key == _CAPABILITY else value
    return carried


def _portable_capability(value: bytes) -> bytes:
    """Return v3 capabilities of root id 0 as v2, which means the same and every tool reads."""
    if len(value) != 24:
        return value
    magic, *fields, root_id = struct.unpack("<IIIIII", value)
    if magic & _REVISION_MASK != _REVISION_3 or root_id != 0:
        return value
    return struct.pack("<IIIII", magic & ~_REVISION_MASK | _REVISION_2, *fields)
