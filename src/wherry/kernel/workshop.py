"""A mount namespace for a moment: what a kernel does only with mounts that are attached somewhere.

Before Linux 6.15 a detached mount is no layer of an overlay, cannot be copied and takes no other mount
(EINVAL): all three ask for a mount of the caller's own namespace. So the caller visits a namespace that
nobody else sees, has the mount attached there, and takes a new detached copy of it home.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Generator

from wherry.kernel import abi, mount
from wherry.kernel.calls import Kernel

PLACE = b"/tmp"
"""Where things are attached meanwhile; every host has it."""
_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_NSFS = 0x6E736673  # linux/magic.h


@contextlib.contextmanager
def workshop(k: Kernel) -> Generator[None]:
    """Have the calling thread live in a new mount namespace, a private copy of its own. Raises OSError."""
    with _back_home(k):
        k.unshare(abi.CLONE_NEWNS)
        k.mount(None, b"/", None, abi.MS_REC | abi.MS_PRIVATE, None)
        yield


@contextlib.contextmanager
def _back_home(k: Kernel) -> Generator[None]:
    home = _own_namespace()
    try:
        # setns(2) of a mount namespace goes to its root.
        here = os.open(".", _FOLDER)
        try:
            try:
                yield
            finally:
                k.setns(home, abi.CLONE_NEWNS)
                os.fchdir(here)
        finally:
            os.close(here)
    finally:
        os.close(home)


def _own_namespace() -> int:
    return os.open("/proc/thread-self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)


@contextlib.contextmanager
def attached(k: Kernel, tree: int) -> Generator[None]:
    """Have the detached mount `tree` attached in a workshop.

    Afterwards the descriptor holds a detached copy of it, with what was attached to it meanwhile: a mount
    that has lost its namespace can be neither attached nor copied again. Raises OSError.
    """
    with workshop(k):
        _attach(k, tree)
        try:
            yield
        finally:
            copy = mount.clone_tree(k, b"", dir_fd=tree, recursive=True)
            os.dup2(copy, tree, inheritable=False)
            os.close(copy)


def _attach(k: Kernel, tree: int) -> None:
    # A copy of a mount that is shared on the host is its peer: what is mounted on it would be there too.
    mount.change(k, tree, propagation=abi.MS_PRIVATE, recursive=True)
    place = os.open(PLACE, _FOLDER)
    try:
        mount.attach(k, tree, place)
    finally:
        os.close(place)


def copy_part(k: Kernel, whole: int, spot: int, *, recursive: bool = False) -> int:
    """Return a detached copy of what `spot`, a descriptor in the detached mount `whole`, shows. Raises OSError."""
    try:
        return mount.clone_tree(k, b"", dir_fd=spot, recursive=recursive)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
    with attached(k, whole):
        return mount.clone_tree(k, b"", dir_fd=spot, recursive=recursive)


def hold(k: Kernel, tree: int) -> int:
    """Return a descriptor that keeps the detached mount `tree`, for `holding` to copy again and again.

    It is `tree` itself where the kernel copies detached mounts; before Linux 6.15 a mount namespace that
    has nothing but this mount, and `tree` is closed. Raises OSError, `tree` is then closed.
    """
    try:
        os.close(mount.clone_tree(k, b"", dir_fd=tree))
    except OSError as error:
        with contextlib.ExitStack() as stack:
            stack.callback(os.close, tree)
            if error.errno != errno.EINVAL:
                raise
            return _namespace_of(k, tree)
    return tree


def _namespace_of(k: Kernel, tree: int) -> int:
    with workshop(k):
        made = _own_namespace()
        try:
            _attach(k, tree)
            # The new root over the old one, which is then taken off: pivot_root(2), "." twice. A copy of
            # the host's mounts that stayed would keep its disks busy.
            os.fchdir(tree)
            k.pivot_root(b".", b".")
            k.umount2(b".", abi.MNT_DETACH)
        except BaseException:
            os.close(made)
            raise
        return made


@contextlib.contextmanager
def holding(k: Kernel, held: int) -> Generator[int]:
    """Give the root of what `hold` keeps, where it can be copied meanwhile. Raises OSError."""
    if k.statfs_magic(held) != _NSFS:
        yield held
        return
    with _back_home(k):
        k.setns(held, abi.CLONE_NEWNS)
        root = os.open("/", _FOLDER)
        try:
            yield root
        finally:
            os.close(root)
