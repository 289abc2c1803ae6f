"""Trees as values: read one from disk with everything that matters, or write one from a value."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

from wherry.storage.layers import Entry, Kind, TarWriter


@dataclass(frozen=True)
class Node:
    """One file of a tree. `content` is a file's bytes, a link's target or a device's number."""

    kind: str
    mode: int
    uid: int = 0
    gid: int = 0
    mtime_ns: int = 0
    content: bytes | int | None = None
    xattrs: dict[str, bytes] = field(default_factory=dict)
    first_name: bytes = b""  # of a hard-linked file


def read_tree(root: Path, *, times: bool = True, top: bool = True) -> dict[bytes, Node]:
    """Return every node below `root` by its path; the root is b""."""
    found: dict[bytes, Node] = {}
    links: dict[tuple[int, int], bytes] = {}
    base = os.fsencode(root)
    pending = [b""]
    while pending:
        path = pending.pop()
        full = base + b"/" + path if path else base
        status = os.lstat(full)
        form = stat.S_IFMT(status.st_mode)
        content: bytes | int | None = None
        first = b""
        if form == stat.S_IFDIR:
            for name in sorted(os.listdir(full), reverse=True):
                pending.append(path + b"/" + name if path else name)
        elif form == stat.S_IFREG:
            with open(full, "rb") as file:
                content = file.read()
        elif form == stat.S_IFLNK:
            content = os.readlink(full)
        elif form in (stat.S_IFCHR, stat.S_IFBLK):
            content = status.st_rdev
        if form != stat.S_IFDIR and status.st_nlink > 1:
            first = links.setdefault((status.st_dev, status.st_ino), path)
        xattrs = {
            name: os.getxattr(full, name, follow_symlinks=False)
            for name in os.listxattr(full, follow_symlinks=False)
        }
        if path or top:
            found[path] = Node(
                stat.filemode(status.st_mode)[0],
                stat.S_IMODE(status.st_mode),
                status.st_uid,
                status.st_gid,
                status.st_mtime_ns if times else 0,
                content,
                xattrs,
                first,
            )
    return found


def archive(*items: tuple[Entry, bytes]) -> BytesIO:
    """Return an archive of the entries with their content."""
    out = BytesIO()
    writer = TarWriter(out.write)
    for entry, content in items:
        writer.add(entry, content)
    writer.finish()
    out.seek(0)
    return out


def file(name: str | bytes, content: bytes = b"", **fields: object) -> tuple[Entry, bytes]:
    """Return a regular file's entry and content."""
    entry = Entry(os.fsencode(name), Kind.FILE, size=len(content))
    return entry._replace(**fields), content  # pyright: ignore[reportArgumentType]


def directory(name: str | bytes, mode: int = 0o755, **fields: object) -> tuple[Entry, bytes]:
    """Return a directory's entry."""
    return Entry(os.fsencode(name), Kind.DIRECTORY, mode)._replace(**fields), b""


def link(name: str | bytes, target: str | bytes, kind: Kind = Kind.SYMLINK) -> tuple[Entry, bytes]:
    """Return a symbolic (or hard) link's entry."""
    return Entry(os.fsencode(name), kind, 0o777, link=os.fsencode(target)), b""


@contextmanager
def mounted(target: Path, lowers: list[Path], upper: Path | None = None) -> Iterator[Path]:
    """Mount an overlay of `lowers` (top first) at `target` for the length of the block."""
    options = "lowerdir=" + ":".join(map(str, lowers))
    options += ",redirect_dir=off,metacopy=off,index=off"
    if upper is not None:
        work = upper.with_name(upper.name + "-work")
        work.mkdir(exist_ok=True)
        options += f",upperdir={upper},workdir={work}"
    target.mkdir(exist_ok=True)
    command = ["mount", "-t", "overlay", "overlay", "-o", options, str(target)]
    subprocess.run(command, check=True, timeout=20)
    try:
        yield target
    finally:
        subprocess.run(["umount", str(target)], check=True, timeout=20)
