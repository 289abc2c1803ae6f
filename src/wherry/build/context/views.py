"""A part of a tree as a tree of its own: hard links to what a .dockerignore leaves, no copies."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from wherry.build.context.listing import Wanted, walk
from wherry.model.ignore import Matcher

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def ignoring(matcher: Matcher) -> Wanted:
    """Return what `walk` asks: a folder left out is still there where `!` brings back something in it."""

    def wanted(path: bytes, is_directory: bool) -> tuple[bool, bool]:
        name = os.fsdecode(path)
        if not matcher.ignored(name):
            return True, True
        return False, is_directory and matcher.descend(name)

    return wanted


def link_tree(
    root: int,
    path: Path,
    wanted: Wanted,
    contents: Mapping[bytes, bytes],
    digests: dict[tuple[int, int], bytes],
) -> None:
    """Make `path` a tree of hard links to what is wanted of the tree `root`."""
    target = os.open(path, _DIRECTORY)
    made: dict[bytes, os.stat_result] = {b"": os.fstat(root)}
    try:
        for found in walk(root, wanted=wanted):
            _make_parents(root, target, found.path, made)
            if found.is_directory:
                _make_directory(target, found.path, found.status, made)
                continue
            os.link(
                found.name,
                found.path,
                src_dir_fd=found.parent,
                dst_dir_fd=target,
                follow_symlinks=False,
            )
            if found.path in contents:
                digests[(found.status.st_dev, found.status.st_ino)] = contents[found.path]
        for directory in sorted(made, reverse=True):
            status = made[directory]
            os.utime(directory or b".", ns=(status.st_mtime_ns, status.st_mtime_ns), dir_fd=target)
    finally:
        os.close(target)


def _make_parents(root: int, target: int, path: bytes, made: dict[bytes, os.stat_result]) -> None:
    parts = path.split(b"/")
    for depth in range(1, len(parts)):
        directory = b"/".join(parts[:depth])
        if directory not in made:
            status = os.stat(directory, dir_fd=root, follow_symlinks=False)
            _make_directory(target, directory, status, made)


def _make_directory(
    target: int, path: bytes, status: os.stat_result, made: dict[bytes, os.stat_result]
) -> None:
    os.mkdir(path, dir_fd=target)
    os.chown(path, status.st_uid, status.st_gid, dir_fd=target)
    os.chmod(path, stat.S_IMODE(status.st_mode), dir_fd=target)
    made[path] = status
