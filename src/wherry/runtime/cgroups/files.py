"""Reading, writing and removing in a cgroup file system.

Plain `os` calls on joined strings: this is on the path of every start. The names joined are the
engine's own; nothing inside a container chooses them.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Iterator

from wherry.model.errors import Conflict

_BUFFER = 1 << 16


def read_text(path: str) -> str:
    """Return the file's text. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        parts: list[bytes] = []
        while part := os.read(fd, _BUFFER):
            parts.append(part)
    finally:
        os.close(fd)
    return b"".join(parts).decode("utf-8", "replace")


def read_number(path: str) -> int:
    """Return the number in the file, -1 for `max`. Raises OSError."""
    text = read_text(path).strip()
    return -1 if text == "max" else int(text)


def read_table(path: str) -> dict[str, int]:
    """Return a flat keyed file (`name number` lines) as a mapping. Raises OSError."""
    table: dict[str, int] = {}
    for line in read_text(path).splitlines():
        name, _, value = line.partition(" ")
        with contextlib.suppress(ValueError):
            table[name] = int(value)
    return table


def write_text(path: str, text: str) -> None:
    """Write `text` in one write(2), as cgroup files want it. Raises OSError."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def subdirectories(directory: str) -> list[str]:
    """Return the paths of the cgroups right below `directory`. Raises OSError."""
    # kernfs counts subdirectories in st_nlink; 2 is a leaf, 1 a file system that does not count.
    if os.stat(directory).st_nlink == 2:
        return []
    with os.scandir(directory) as entries:
        return [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]


def walk(directory: str) -> Iterator[str]:
    """Yield `directory` and all cgroups below it, parents first; what vanishes meanwhile is skipped."""
    yield directory
    with contextlib.suppress(FileNotFoundError):
        for below in subdirectories(directory):
            yield from walk(below)


def remove_tree(directory: str, patience: float) -> None:
    """Remove `directory` and the cgroups below it; a missing one is fine.

    Blocks for `patience` seconds while the kernel says EBUSY (a process is leaving), then raises
    Conflict that names the processes. Raises OSError for anything else.
    """
    deadline = time.monotonic() + patience
    pause = 0.0005
    while True:
        try:
            os.rmdir(directory)
            return
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno not in (errno.EBUSY, errno.ENOTEMPTY):
                raise
        with contextlib.suppress(FileNotFoundError):
            for below in subdirectories(directory):
                remove_tree(below, patience)
            if time.monotonic() >= deadline:
                raise Conflict(
                    f"cgroup {directory} is still in use",
                    hint=f"by processes {read_pids(directory) or 'that are exiting'}",
                )
        time.sleep(pause)
        pause = min(pause * 2, 0.05)


def read_pids(directory: str) -> list[int]:
    """Return the processes in `directory` itself, ascending. Raises OSError."""
    return sorted({int(line) for line in read_text(f"{directory}/cgroup.procs").split()})
