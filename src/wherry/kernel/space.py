"""Room on a disk: kept for what must be written even when it is full, and named when there is none."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

from wherry.model.errors import Full

WAY_OUT = (
    "`docker system df` tells what uses the space, `docker system prune` frees what nothing uses"
)
_KEEP_SIZE = 1  # FALLOC_FL_KEEP_SIZE, linux/falloc.h

_fallocate = ctypes.CDLL(None, use_errno=True).fallocate
_fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_longlong, ctypes.c_longlong)
_fallocate.restype = ctypes.c_int


def reserve(path: Path, size: int, *, beyond: bool = False) -> bool:
    """Keep blocks for the first `size` bytes of the file at `path`, or `beyond` its end; its length stays.

    Return whether they are there: a full disk has none, and some file systems cannot promise any.
    A file that is truncated loses them. Raises OSError where there is no such file.
    """
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        start = os.fstat(fd).st_size if beyond else 0
        return _fallocate(fd, _KEEP_SIZE, start, size) == 0
    finally:
        os.close(fd)


def no_room(what: str, where: Path | None = None) -> Full:
    """Return the error that says that `what` found no space, on which file system, and the way out."""
    disk = f", on the file system at {mount_point(where)}" if where is not None else ""
    return Full(f"no space left on the device: {what}{disk}", hint=WAY_OUT)


def mount_point(path: Path) -> Path:
    """Return the highest folder above `path` that is on the same file system; `path` need not exist."""
    here = path.absolute()
    while not here.exists():
        here = here.parent
    device = here.stat().st_dev
    while here != here.parent and here.parent.stat().st_dev == device:
        here = here.parent
    return here
