"""Kernels of the past, as far as mounts go: this one, refusing what they refuse, where they refuse it."""

from __future__ import annotations

import errno
import os
import re

from wherry.kernel import abi
from wherry.kernel.linux import Linux


class Before615(Linux):
    """Linux before 6.15: what is attached nowhere is no layer, cannot be copied and takes no mount."""

    def __init__(self) -> None:
        self._layers: dict[int, list[bytes]] = {}

    def open_tree(self, dir_fd: int, path: bytes, flags: int) -> int:
        if flags & abi.OPEN_TREE_CLONE:
            if path:
                _want_path_attached(path, dir_fd if dir_fd >= 0 else None)
            else:
                _want_attached(dir_fd)
        return super().open_tree(dir_fd, path, flags)

    def move_mount(
        self, from_fd: int, from_path: bytes, to_fd: int, to_path: bytes, flags: int
    ) -> None:
        if to_fd >= 0 and not to_path:
            _want_attached(to_fd)
        super().move_mount(from_fd, from_path, to_fd, to_path, flags)

    def fsconfig(self, fd: int, command: int, key: bytes | None, value: bytes | None) -> None:
        if command == abi.FSCONFIG_SET_STRING and key in (b"lowerdir+", b"upperdir", b"workdir"):
            path = (value or b"") if key == b"lowerdir+" else _plain(value or b"")
            self._layers.setdefault(fd, []).append(path)
        if command == abi.FSCONFIG_CMD_CREATE:
            for path in self._layers.pop(fd, []):
                _want_path_attached(path)
        super().fsconfig(fd, command, key, value)

    def mount(
        self,
        source: bytes | None,
        target: bytes,
        kind: bytes | None,
        flags: int,
        data: bytes | None,
    ) -> None:
        if kind == b"overlay" and data is not None:
            for word in re.split(rb"(?<!\\),", data):
                key, _, value = word.partition(b"=")
                paths = value.split(b":") if key == b"lowerdir" else [value]
                for path in paths if key in (b"lowerdir", b"upperdir", b"workdir") else ():
                    _want_path_attached(_plain(path))
        super().mount(source, target, kind, flags, data)


class Before65(Before615):
    """Linux 5.12 to 6.4: besides, fsconfig collects overlay's options and refuses `lowerdir+` at the end."""

    def __init__(self) -> None:
        super().__init__()
        self._refused: set[int] = set()

    def fsconfig(self, fd: int, command: int, key: bytes | None, value: bytes | None) -> None:
        if key == b"lowerdir+":
            self._refused.add(fd)
            return
        if command == abi.FSCONFIG_CMD_CREATE and fd in self._refused:
            self._refused.discard(fd)
            self._layers.pop(fd, None)
            raise OSError(errno.EINVAL, "Invalid argument")
        super().fsconfig(fd, command, key, value)


def _plain(path: bytes) -> bytes:
    return re.sub(rb"\\(.)", rb"\1", path)


def _want_path_attached(path: bytes, dir_fd: int | None = None) -> None:
    seen = os.open(path, os.O_PATH | os.O_CLOEXEC, dir_fd=dir_fd)
    try:
        _want_attached(seen)
    finally:
        os.close(seen)


def _want_attached(fd: int) -> None:
    """Raise EINVAL for a descriptor whose mount is not of the caller's mount namespace."""
    if not os.path.exists("/proc/self"):
        return  # the namespace of something held: its one mount is attached
    with open(f"/proc/self/fdinfo/{fd}", encoding="ascii") as file:
        number = next(line.split()[1] for line in file if line.startswith("mnt_id:"))
    with open("/proc/thread-self/mountinfo", encoding="utf-8", errors="replace") as file:
        if all(line.split()[0] != number for line in file):
            raise OSError(errno.EINVAL, "Invalid argument")
