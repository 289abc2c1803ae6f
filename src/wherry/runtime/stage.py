"""Where the steps of a plan are performed: what the performing process holds, and places on it."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from wherry.kernel import abi, mount, paths
from wherry.kernel.calls import Kernel
from wherry.model.errors import StartFailed


@dataclass(frozen=True, slots=True)
class CgroupMount:
    """One hierarchy as a container sees it: `name` below /sys/fs/cgroup, "" for a pure v2 host."""

    name: str
    kind: str
    options: tuple[str, ...] = ()


@dataclass(slots=True)
class Stage:
    """Where steps are performed: descriptors that the performing process holds."""

    k: Kernel
    home: int
    """The slot's tmpfs."""
    root: int
    """What paths are resolved below: `home` first, the container's root later."""
    trees: tuple[int, ...] = ()
    """Detached mounts handed over by the supervisor, by index."""
    sysctls: int = -1
    """/proc/sys as it was before it became read-only."""
    hierarchies: tuple[CgroupMount, ...] = ()
    """The host's cgroup hierarchies."""


_MISMATCH = (
    "Are you trying to mount a directory onto a file (or vice-versa)? Check if the specified host path "
    "exists and is the expected type"
)


class Step(Protocol):
    """One thing to do."""

    def describe(self) -> str:
        """Return one line for people: what a failure prints and a test asserts."""
        ...

    def perform(self, stage: Stage) -> None:
        """Do it. Raises OSError."""
        ...


def place(stage: Stage, target: str, *, directory: bool, resolve: int = paths.CONTAINED) -> int:
    """Return an O_PATH descriptor of `target`, made where missing: a directory or an empty file.

    Where a link leads to nothing, what it leads to is made.
    """
    wanted = os.fsencode(target)
    try:
        return paths.open_in_root(stage.root, wanted, os.O_PATH, resolve=resolve)
    except FileNotFoundError:
        if not resolve & paths.RESOLVE_NO_SYMLINKS:
            wanted = paths.follow_in_root(stage.root, wanted)
    if directory:
        os.close(paths.make_dirs_in_root(stage.root, wanted))
        return paths.open_in_root(stage.root, wanted, os.O_PATH, resolve=resolve)
    parent, _, name = wanted.rstrip(b"/").rpartition(b"/")
    holder = paths.make_dirs_in_root(stage.root, parent)
    try:
        os.close(os.open(name, os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644, dir_fd=holder))
    except OSError as error:
        if error.errno not in (errno.EEXIST, errno.ELOOP):
            raise
    finally:
        os.close(holder)
    return paths.open_in_root(stage.root, wanted, os.O_PATH)


def is_directory(fd: int) -> bool:
    """Whether the descriptor holds a directory."""
    return stat.S_ISDIR(os.fstat(fd).st_mode)


@contextmanager
def telling_mount(source: str, target: str) -> Generator[None]:
    """Tell what could not be mounted in the words of Docker's runtime, which its users search for."""
    try:
        yield
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        if error.errno == errno.ENOTDIR:
            reason = f"{reason}: {_MISMATCH}"
        raise StartFailed(
            f'error mounting "{source}" to rootfs at "{target}": {reason}', errno=error.errno or 0
        ) from error


def settle(k: Kernel, tree: int, wanted: mount.MountOptions) -> None:
    """Give a cloned tree the attributes and the propagation wanted."""
    if wanted.set_ or wanted.clear:
        mount.change(k, tree, set_=wanted.set_, clear=wanted.clear)
    if wanted.recursive_set or wanted.recursive_clear:
        mount.change(
            k, tree, set_=wanted.recursive_set, clear=wanted.recursive_clear, recursive=True
        )
    if wanted.propagation:
        recursive = bool(wanted.propagation & abi.MS_REC)
        if wanted.propagation == abi.MS_SLAVE:
            # What is mounted below would stay the host's peer, and give it what the container mounts.
            mount.change(k, tree, propagation=abi.MS_SLAVE, recursive=True)
        mount.change(k, tree, propagation=wanted.propagation & ~abi.MS_REC, recursive=recursive)
