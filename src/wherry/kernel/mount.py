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

_PLACE = b"/tmp"
# mount(2) takes one page of options; the kernel counts the terminating NUL.
_PAGE = 4096


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


# Some kernels are built with these on: an upper layer then holds what no other engine can read
# (overlayfs.rst, redirect_dir and metacopy), and commit would lose it.
_PLAIN = (b"redirect_dir", b"metacopy", b"index")


@dataclass(frozen=True, slots=True)
class Overlay:
    """An overlay to be mounted; paths are bytes, `lowers` top first; no upper: read-only."""

    lowers: tuple[bytes, ...]
    upper: bytes = b""
    work: bytes = b""
    volatile: bool = False


def overlay(k: Kernel, wanted: Overlay, *, owner: int = 0) -> int:
    """Return a detached overlay mount.

    `owner` is the host id that the layers' root is shown as. The kernel records the mounter's
    fsuid: where it is not mapped in the layers' idmap the overlay is read-only without a word,
    so it is set around the creation; SECBIT_NO_SETUID_FIXUP keeps the capabilities meanwhile.
    """
    context = k.fsopen(b"overlay")
    try:
        k.fsconfig(context, abi.FSCONFIG_SET_STRING, b"source", b"overlay")
        try:
            for lower in wanted.lowers:
                k.fsconfig(context, abi.FSCONFIG_SET_STRING, b"lowerdir+", lower)
        except OSError as error:
            # Linux before 6.5 has no lowerdir+; fsconfig strings end at 256 bytes.
            if error.errno != errno.EINVAL:
                raise
            return _overlay_by_page(k, wanted, owner)
        if wanted.upper:
            k.fsconfig(context, abi.FSCONFIG_SET_STRING, b"upperdir", wanted.upper)
            k.fsconfig(context, abi.FSCONFIG_SET_STRING, b"workdir", wanted.work)
            for key in _PLAIN:
                k.fsconfig(context, abi.FSCONFIG_SET_STRING, key, b"off")
            if wanted.volatile:
                k.fsconfig(context, abi.FSCONFIG_SET_FLAG, b"volatile", None)
        with _acting_as(k, owner):
            k.fsconfig(context, abi.FSCONFIG_CMD_CREATE, None, None)
        # In a user namespace nobody can make a device, so one in a layer is somebody's trap.
        return k.fsmount(context, abi.MOUNT_ATTR_NODEV if owner else 0)
    finally:
        os.close(context)


class _acting_as:
    def __init__(self, k: Kernel, owner: int) -> None:
        self._k = k
        self._owner = owner

    def __enter__(self) -> None:
        if self._owner:
            self._k.prctl(abi.PR_SET_SECUREBITS, abi.SECBIT_NO_SETUID_FIXUP)
            self._k.setfsgid(self._owner)
            self._k.setfsuid(self._owner)

    def __exit__(self, *_: object) -> None:
        if self._owner:
            self._k.setfsuid(0)
            self._k.setfsgid(0)
            self._k.prctl(abi.PR_SET_SECUREBITS, 0)


def _overlay_by_page(k: Kernel, wanted: Overlay, owner: int) -> int:
    """The way of kernels before 6.5: mount(2) with one page of options, kept short by descriptors.

    mount(2) needs a place, so the caller visits a mount namespace of its own for the moment; what it
    takes back is a detached copy, and nobody else ever sees the place.
    """
    held: list[int] = []

    def short(path: bytes) -> bytes:
        held.append(os.open(path, os.O_PATH | os.O_CLOEXEC))
        return b"/proc/self/fd/%d" % held[-1]

    home = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    try:
        k.unshare(abi.CLONE_NEWNS)
        try:
            k.mount(None, b"/", None, abi.MS_REC | abi.MS_PRIVATE, None)
            # Opened here: the kernel takes layers of the present mount namespace only.
            options = b"lowerdir=" + b":".join(short(lower) for lower in wanted.lowers)
            if wanted.upper:
                # upper and work must be seen through one mount, so they are not shortened.
                options += b",upperdir=" + wanted.upper + b",workdir=" + wanted.work
                options += b"".join(b",%s=off" % key for key in _PLAIN)
                options += b",volatile" if wanted.volatile else b""
            if len(options) >= _PAGE:
                raise OSError(errno.E2BIG, f"{len(wanted.lowers)} layers need Linux 6.5 or newer")
            with _acting_as(k, owner):
                flags = abi.MS_NODEV if owner else 0
                k.mount(b"overlay", _PLACE, b"overlay", flags, options)
            return clone_tree(k, _PLACE)
        finally:
            k.setns(home, abi.CLONE_NEWNS)
    finally:
        for fd in (*held, home):
            os.close(fd)
