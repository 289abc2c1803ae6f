"""Files with the times that they came with, laid over a step's tree where it needs them.

A layer has no time later than its epoch (`times.fold`). In a cache mount lie objects of earlier builds, with
the times at which those were made: `make` and `cargo` would take a file that was changed since for older. So a
step with a cache mount gets one more layer, for as long as it runs: copies of what was folded, unfolded.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from wherry.build.layers import epoch_of
from wherry.build.placement import copy_content
from wherry.build.times import unfold
from wherry.images.intake import Intake
from wherry.model.ids import Digest, new_id
from wherry.storage.layers.lower import LowerTree
from wherry.storage.layers.xattrs import read_xattrs, to_archive
from wherry.storage.snapshots import Snapshotter

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def unfolded(
    snapshots: Snapshotter, chain: tuple[Digest, ...], intake: Intake
) -> tuple[Digest, ...]:
    """Return `chain`, with one more layer where something in it was folded.

    That layer is gone when `intake` is left. Blocks. Raises Full, NotFound.
    """
    paths = snapshots.parent_paths(chain)
    with LowerTree(paths) as shown:
        found = list(_folded(paths, shown))
        if not found:
            return chain
        top = Digest.of(f"unfolded {new_id()}".encode())
        intake.hold(top)
        with snapshots.new_layer(top, chain, later=True) as target:
            _fill(target, found, shown)
    return (*chain, top)


def _folded(paths: Sequence[Path], shown: LowerTree) -> Iterator[tuple[Path, bytes, int]]:
    """Yield (layer, path, time) of the files that are to have another time."""
    for layer in paths:
        epoch = epoch_of(layer)
        if epoch is None:
            continue
        top = os.fsencode(layer)
        for folder, _, names, fd in os.fwalk(top, follow_symlinks=False):
            above = folder[len(top) :].strip(b"/")
            for name in names:
                status = os.stat(name, dir_fd=fd, follow_symlinks=False)
                if not stat.S_ISREG(status.st_mode):
                    continue
                mtime_ns = unfold(status.st_mtime_ns, epoch)
                if mtime_ns == status.st_mtime_ns:
                    continue
                path = above + b"/" + name if above else name
                now = shown.status(path)
                if now is not None and (now.st_dev, now.st_ino) == (status.st_dev, status.st_ino):
                    yield layer, path, mtime_ns


def _fill(target: Path, found: Sequence[tuple[Path, bytes, int]], shown: LowerTree) -> None:
    root = os.open(target, _DIRECTORY)
    made: dict[bytes, int] = {}
    links: dict[tuple[int, int], bytes] = {}
    try:
        _directory(root, b"", shown, made)
        for layer, path, mtime_ns in found:
            _directory(root, path.rpartition(b"/")[0], shown, made)
            # Names in a finished layer, which nobody writes to.
            source = os.open(os.fsencode(layer) + b"/" + path, _FILE)
            try:
                status = os.fstat(source)
                identity = (status.st_dev, status.st_ino)
                if (first := links.setdefault(identity, path)) != path:
                    os.link(first, path, src_dir_fd=root, dst_dir_fd=root)
                    continue
                copy = os.open(path, _CREATE, 0o600, dir_fd=root)
                try:
                    copy_content(source, copy, status)
                    os.fchown(copy, status.st_uid, status.st_gid)
                    os.fchmod(copy, stat.S_IMODE(status.st_mode))
                    for key, value in to_archive(read_xattrs(source)).items():
                        os.setxattr(copy, key, value)
                    os.utime(copy, ns=(mtime_ns, mtime_ns))
                finally:
                    os.close(copy)
            finally:
                os.close(source)
        for path, stamp in reversed(made.items()):
            os.utime(path or b".", ns=(stamp, stamp), dir_fd=root)
    finally:
        os.close(root)


def _directory(root: int, path: bytes, shown: LowerTree, made: dict[bytes, int]) -> None:
    """Make a directory, and those above it, as the tree shows them."""
    if path in made:
        return
    if path:
        _directory(root, path.rpartition(b"/")[0], shown, made)
        os.mkdir(path, 0o700, dir_fd=root)
    entry = shown.directory(path)
    assert entry is not None
    fd = os.open(path or b".", _DIRECTORY, dir_fd=root)
    try:
        os.fchown(fd, entry.uid, entry.gid)
        os.fchmod(fd, entry.mode)
        for key, value in entry.xattrs.items():
            os.setxattr(fd, key, value)
    finally:
        os.close(fd)
    made[path] = entry.mtime_ns
