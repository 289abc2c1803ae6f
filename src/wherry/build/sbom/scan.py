"""Walks a tree for packages. Links are not followed; what is too large or cannot be read is passed over."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator

from wherry.build.sbom.golang import MAGIC, read_go
from wherry.build.sbom.packages import (
    Package,
    read_apk,
    read_dpkg,
    read_node,
    read_os_release,
    read_python,
)
from wherry.kernel.paths import open_file_in_root, open_in_root

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_LARGEST = 64 << 20
_LARGEST_METADATA = 1 << 20
_PIECE = 1 << 20
_INFO = 1 << 20
"""Bytes after Go's magic that are read."""
_LARGEST_PROGRAM = 1 << 30
_APK = ("lib/apk/db/installed", "usr/lib/apk/db/installed")
_METADATA = re.compile(r"(.+)\.(dist-info|egg-info)")


def scan(root: int) -> list[Package]:
    """Return the packages in the tree whose root is the descriptor, sorted, each once. Blocks."""
    found: dict[tuple[str, str], Package] = {}
    for package in _all(root):
        found.setdefault((package.url, package.found_in), package)
    return sorted(found.values(), key=lambda one: (one.kind, one.name, one.version, one.found_in))


def _all(root: int) -> Iterator[Package]:
    system: dict[str, str] = {}
    for name in ("etc/os-release", "usr/lib/os-release"):
        if (data := _read(root, name, _LARGEST_METADATA)) is not None:
            system = read_os_release(data)
            break
    if (data := _read(root, "var/lib/dpkg/status", _LARGEST)) is not None:
        yield from read_dpkg(data, "var/lib/dpkg/status", system)
    # Images of the distroless kind have a file a package.
    for name in _names(root, "var/lib/dpkg/status.d"):
        path = f"var/lib/dpkg/status.d/{name}"
        if not name.endswith(".md5sums") and (data := _read(root, path, _LARGEST_METADATA)):
            yield from read_dpkg(data, path, system)
    for path in _APK:
        if (data := _read(root, path, _LARGEST)) is not None:
            yield from read_apk(data, path, system)
    yield from _walked(root)


def _walked(root: int) -> Iterator[Package]:
    for folder, directories, files, fd in os.fwalk(".", dir_fd=root, follow_symlinks=False):
        directories.sort()
        place = os.path.normpath(folder)
        for name in sorted(files):
            path = os.path.normpath(f"{place}/{name}")
            parent = os.path.basename(place)
            if name in ("METADATA", "PKG-INFO") and _METADATA.fullmatch(parent):
                kind = read_python
            elif name.endswith(".egg-info"):
                kind = read_python
            elif name == "package.json" and _is_node_package(place):
                kind = read_node
            else:
                yield from _program(fd, name, path)
                continue
            data = _read(fd, name, _LARGEST_METADATA)
            if data is not None:
                yield from kind(data, _shown(path))


def _is_node_package(place: str) -> bool:
    parts = place.split("/")
    scoped = len(parts) > 2 and parts[-2].startswith("@") and parts[-3] == "node_modules"
    return scoped or (len(parts) > 1 and parts[-2] == "node_modules")


def _program(fd: int, name: str, path: str) -> Iterator[Package]:
    """Yield what an executable tells of the Go modules that it was made from."""
    try:
        status = os.stat(name, dir_fd=fd, follow_symlinks=False)
        executable = stat.S_ISREG(status.st_mode) and status.st_mode & 0o111
        if not executable or not 4096 < status.st_size < _LARGEST_PROGRAM:
            return
        with open(os.open(name, _READ, dir_fd=fd), "rb") as file:
            if file.read(4) != b"\x7fELF":
                return
            # Aligned to 16 bytes, in a section near the beginning of the data: looked for piece by piece.
            offset = 4
            tail = b""
            while piece := file.read(_PIECE):
                at = (tail + piece).find(MAGIC)
                if at >= 0:
                    file.seek(offset - len(tail) + at)
                    yield from read_go(file.read(_INFO), _shown(path))
                    return
                offset += len(piece)
                tail = piece[-len(MAGIC) :]
    except OSError:
        return


def _names(root: int, path: str) -> list[str]:
    try:
        fd = open_in_root(root, path.encode(), os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return []
    try:
        return sorted(os.listdir(fd))
    finally:
        os.close(fd)


def _read(root: int, path: str, limit: int) -> bytes | None:
    """Return a regular file of at most `limit` bytes; a link in the way is followed inside the root alone."""
    try:
        with open(open_file_in_root(root, os.fsencode(path)), "rb") as file:
            if os.fstat(file.fileno()).st_size > limit:
                return None
            return file.read(limit)
    except OSError:
        return None


def _shown(path: str) -> str:
    return os.fsencode(path).decode("utf-8", "replace")
