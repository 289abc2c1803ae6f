"""Mounts as descriptors: made detached, changed while nobody sees them, attached last.

The new mount API (fsopen, open_tree, mount_setattr, move_mount; Linux 5.2–5.12) never resolves a
path twice, so there is no moment at which a half-made mount can be raced. Every function returns a
descriptor that the caller owns. Source: mount_setattr(2), fsopen(2), open_tree(2), move_mount(2).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from dataclasses import dataclass

from wherry.kernel import abi
from wherry.kernel.calls import Kernel

Option = tuple[str, str | None]
"""(key, value), or (key, None) for a flag."""


@dataclass(frozen=True, slots=True)
class MountOptions:
    """mount(8) option words sorted by what they act on."""

    set_: int = 0
    clear: int = 0
    recursive_set: int = 0
    recursive_clear: int = 0
    propagation: int = 0
    recursive: bool = False
    bind: bool = False
    data: tuple[Option, ...] = ()


_ATTRIBUTES: dict[str, tuple[int, bool]] = {
    "ro": (abi.MOUNT_ATTR_RDONLY, True),
    "rw": (abi.MOUNT_ATTR_RDONLY, False),
    "nosuid": (abi.MOUNT_ATTR_NOSUID, True),
    "suid": (abi.MOUNT_ATTR_NOSUID, False),
    "nodev": (abi.MOUNT_ATTR_NODEV, True),
    "dev": (abi.MOUNT_ATTR_NODEV, False),
    "noexec": (abi.MOUNT_ATTR_NOEXEC, True),
    "exec": (abi.MOUNT_ATTR_NOEXEC, False),
    "nodiratime": (abi.MOUNT_ATTR_NODIRATIME, True),
    "diratime": (abi.MOUNT_ATTR_NODIRATIME, False),
    "nosymfollow": (abi.MOUNT_ATTR_NOSYMFOLLOW, True),
    "symfollow": (abi.MOUNT_ATTR_NOSYMFOLLOW, False),
}
_TIMES = {
    "noatime": abi.MOUNT_ATTR_NOATIME,
    "strictatime": abi.MOUNT_ATTR_STRICTATIME,
    "relatime": 0,
    "norelatime": 0,
    "atime": 0,
}
_PROPAGATION = {
    "private": abi.MS_PRIVATE,
    "slave": abi.MS_SLAVE,
    "shared": abi.MS_SHARED,
    "unbindable": abi.MS_UNBINDABLE,
}
_IGNORED = frozenset({"defaults", "async", "nouser", "auto", "noauto", "nofail"})


def parse_options(words: Iterable[str]) -> MountOptions:
    """Return mount(8) words sorted; `rro` and the like are the recursive attributes of the OCI specification."""
    set_ = clear = rset = rclear = propagation = 0
    recursive = bind = False
    data: list[Option] = []
    for word in words:
        if word in _ATTRIBUTES:
            bit, on = _ATTRIBUTES[word]
            set_, clear = (set_ | bit, clear & ~bit) if on else (set_ & ~bit, clear | bit)
        elif word in _TIMES:
            clear |= abi.MOUNT_ATTR__ATIME
            set_ = set_ & ~abi.MOUNT_ATTR__ATIME | _TIMES[word]
        elif word in _PROPAGATION:
            propagation = _PROPAGATION[word]
        elif word.startswith("r") and word[1:] in _PROPAGATION:
            propagation = _PROPAGATION[word[1:]] | abi.MS_REC
        elif word.startswith("r") and word[1:] in _ATTRIBUTES:
            bit, on = _ATTRIBUTES[word[1:]]
            rset, rclear = (rset | bit, rclear & ~bit) if on else (rset & ~bit, rclear | bit)
        elif word in ("bind", "rbind"):
            bind, recursive = True, word == "rbind"
        elif word and word not in _IGNORED:
            key, equals, value = word.partition("=")
            data.append((key, value if equals else None))
    return MountOptions(set_, clear, rset, rclear, propagation, recursive, bind, tuple(data))


def new_filesystem(
    k: Kernel, kind: str, options: Iterable[Option] = (), attributes: int = 0, source: str = ""
) -> int:
    """Return a detached mount of a new file system of type `kind`."""
    context = k.fsopen(kind.encode())
    try:
        k.fsconfig(context, abi.FSCONFIG_SET_STRING, b"source", (source or kind).encode())
        for key, value in options:
            if value is None:
                k.fsconfig(context, abi.FSCONFIG_SET_FLAG, key.encode(), None)
            else:
                k.fsconfig(context, abi.FSCONFIG_SET_STRING, key.encode(), value.encode())
        k.fsconfig(context, abi.FSCONFIG_CMD_CREATE, None, None)
        return k.fsmount(context, attributes)
    finally:
        os.close(context)


def clone_tree(
    k: Kernel, path: bytes, *, dir_fd: int = abi.AT_FDCWD, recursive: bool = False
) -> int:
    """Return a detached copy of the mount at `path`, or of `dir_fd` itself where `path` is empty."""
    flags = abi.OPEN_TREE_CLONE | (abi.AT_RECURSIVE if recursive else 0)
    return k.open_tree(dir_fd, path, flags | (0 if path else abi.AT_EMPTY_PATH))


def idmap(k: Kernel, tree: int, userns: int, *, recursive: bool = False) -> bool:
    """Show `tree`'s owners through the maps of the user namespace `userns`.

    Return False where the file system does not know how (EINVAL: procfs, some network file
    systems; EPERM: a mount that another user namespace owns); the tree is then as it was.
    """
    flags = abi.AT_EMPTY_PATH | (abi.AT_RECURSIVE if recursive else 0)
    try:
        k.mount_setattr(tree, b"", flags, set_=abi.MOUNT_ATTR_IDMAP, userns=userns)
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.EPERM):
            return False
        raise
    return True


def change(
    k: Kernel,
    tree: int,
    *,
    set_: int = 0,
    clear: int = 0,
    propagation: int = 0,
    recursive: bool = False,
) -> None:
    """Set and clear attributes, or the propagation, of a mount held by descriptor."""
    if set_ & abi.MOUNT_ATTR_NOATIME or set_ & abi.MOUNT_ATTR_STRICTATIME:
        clear |= abi.MOUNT_ATTR__ATIME
    flags = abi.AT_EMPTY_PATH | (abi.AT_RECURSIVE if recursive else 0)
    k.mount_setattr(tree, b"", flags, set_=set_, clear=clear, propagation=propagation)


def attach(k: Kernel, tree: int, target: int) -> None:
    """Attach a detached mount onto what the descriptor `target` holds."""
    flags = abi.MOVE_MOUNT_F_EMPTY_PATH | abi.MOVE_MOUNT_T_EMPTY_PATH
    k.move_mount(tree, b"", target, b"", flags)
