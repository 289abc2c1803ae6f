"""Pseudo-terminals of a container's own devpts."""

from __future__ import annotations

import fcntl
import os
import struct

from wherry.kernel import abi, paths
from wherry.kernel.calls import Kernel
from wherry.model.errors import StartFailed


def open_pty(k: Kernel, folder: str) -> tuple[int, int]:
    """Return (master, slave) of a new terminal of the devpts below `folder`. Raises OSError, StartFailed."""
    root = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    flags = os.O_RDWR | os.O_NOCTTY
    resolve = paths.RESOLVE_IN_ROOT | paths.RESOLVE_NO_SYMLINKS
    try:
        master = paths.open_in_root(root, b"dev/pts/ptmx", flags, resolve=resolve)
    finally:
        os.close(root)
    try:
        # CVE-2025-52565: what the container mounted there in our stead is refused.
        if k.statfs_magic(master) != abi.DEVPTS_SUPER_MAGIC:
            raise StartFailed("the container's /dev/pts/ptmx is not a terminal multiplexer")
        fcntl.ioctl(master, abi.TIOCSPTLCK, struct.pack("i", 0))
        slave = fcntl.ioctl(master, abi.TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    except BaseException:
        os.close(master)
        raise
    return master, slave
