"""Overlays as detached mounts, on every kernel that can make one.

    since 6.15   by fsconfig's lowerdir+, layers in attached and detached mounts
    since 6.7    the same; a detached mount with layers has to be attached for the moment
    before       mount(2) with one page of options: fsconfig strings end at 256 bytes

Which of them a kernel takes is learnt by trying: distributions carry changes back.
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass

from wherry.kernel import abi, mount
from wherry.kernel.calls import Kernel
from wherry.kernel.workshop import PLACE, attached, workshop

# mount(2) takes one page of options; the kernel counts the terminating NUL.
_PAGE = 4096
_MOST = 500  # OVL_MAX_STACK
# Some kernels are built with these on: an upper layer then holds what no other engine can read
# (overlayfs.rst, redirect_dir and metacopy), and commit would lose it.
_PLAIN = (b"redirect_dir", b"metacopy", b"index")


@dataclass(frozen=True, slots=True)
class Overlay:
    """An overlay to be mounted; paths are bytes, `lowers` top first; no upper: read-only.

    With `base`, the descriptor of a detached mount, all paths are below its root.
    """

    lowers: tuple[bytes, ...]
    upper: bytes = b""
    work: bytes = b""
    volatile: bool = False
    base: int = -1

    def path(self, path: bytes) -> bytes:
        """Return a path to the layer at `path`."""
        return b"/proc/self/fd/%d/%s" % (self.base, path) if self.base >= 0 else path


def open_overlay(k: Kernel, wanted: Overlay, *, owner: int = 0) -> int:
    """Return a detached overlay mount. Raises OSError.

    `owner` is the host id that the layers' root is shown as. The kernel records the mounter's
    fsuid: where it is not mapped in the layers' idmap the overlay is read-only without a word,
    so it is set around the creation; SECBIT_NO_SETUID_FIXUP keeps the capabilities meanwhile.
    The descriptor `wanted.base` may hold another copy of its mount afterwards.
    """
    known = (type(k), wanted.base >= 0)
    for number in range(_first_way.get(known, 0), len(_WAYS)):
        try:
            made = _WAYS[number](k, wanted, owner)
        except OSError as error:
            if error.errno != errno.EINVAL or number == len(_WAYS) - 1:
                raise
        else:
            _first_way[known] = number
            return made
    raise AssertionError("the last way returns or raises")


def _by_descriptors(k: Kernel, wanted: Overlay, owner: int) -> int:
    context = k.fsopen(b"overlay")
    try:
        # Before Linux 6.5 what is unknown is refused at the creation, after that at once.
        k.fsconfig(context, abi.FSCONFIG_SET_STRING, b"source", b"overlay")
        for lower in wanted.lowers:
            k.fsconfig(context, abi.FSCONFIG_SET_STRING, b"lowerdir+", wanted.path(lower))
        if wanted.upper:
            # Unlike lowerdir+, the kernel takes backslashes out of these two.
            for key, path in ((b"upperdir", wanted.upper), (b"workdir", wanted.work)):
                value = wanted.path(path).replace(b"\\", b"\\\\")
                k.fsconfig(context, abi.FSCONFIG_SET_STRING, key, value)
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


def _by_descriptors_attached(k: Kernel, wanted: Overlay, owner: int) -> int:
    if wanted.base < 0:
        return _by_page(k, wanted, owner)
    with attached(k, wanted.base):
        return _by_descriptors(k, wanted, owner)


def _by_page(k: Kernel, wanted: Overlay, owner: int) -> int:
    with workshop(k) if wanted.base < 0 else attached(k, wanted.base):
        return _mount_page(k, wanted, owner)


def _mount_page(k: Kernel, wanted: Overlay, owner: int) -> int:
    """Mount it in the workshop and return a detached copy; lowers by number, to have room for many."""
    if len(wanted.lowers) > _MOST:
        raise OSError(errno.E2BIG, f"{len(wanted.lowers)} layers are more than overlayfs takes")
    held: list[int] = []

    def short(path: bytes) -> bytes:
        held.append(os.open(wanted.path(path), os.O_PATH | os.O_CLOEXEC))
        return b"%d" % held[-1]

    try:
        options = b"lowerdir=" + b":".join(short(lower) for lower in wanted.lowers)
        if wanted.upper:
            # upper and work must be seen through one mount, so they are not shortened.
            options += b",upperdir=" + _escaped(wanted.path(wanted.upper))
            options += b",workdir=" + _escaped(wanted.path(wanted.work))
            options += b"".join(b",%s=off" % key for key in _PLAIN)
            options += b",volatile" if wanted.volatile else b""
        if len(options) >= _PAGE:
            raise OSError(errno.E2BIG, f"{len(wanted.lowers)} layers need Linux 6.7 or newer")
        os.chdir("/proc/self/fd")
        with _acting_as(k, owner):
            k.mount(b"overlay", PLACE, b"overlay", abi.MS_NODEV if owner else 0, options)
        made = mount.clone_tree(k, PLACE)
        k.umount2(PLACE, abi.MNT_DETACH)
        return made
    finally:
        for fd in held:
            os.close(fd)


def _escaped(path: bytes) -> bytes:
    """Return a path as mount(2)'s options have it: a comma ends one, overlayfs.rst."""
    return path.replace(b"\\", b"\\\\").replace(b",", b"\\,").replace(b":", b"\\:")


_WAYS = (_by_descriptors, _by_descriptors_attached, _by_page)
_first_way: dict[tuple[type[Kernel], bool], int] = {}
"""By the kind of kernel, and whether there was a base: the way that it took last."""


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
