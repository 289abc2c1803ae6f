"""How a new process gets into its cgroups without waiting: it is born in v2's, and walks into v1's.

Moving another process takes the kernel's threadgroup lock for writing, which costs an RCU grace
period when nobody has taken it lately: 7.5 ms after 100 ms of idleness, on Linux 6.18. A thread that
writes 0 into `tasks` moves itself alone and does not take it (0.2 ms for nine hierarchies), and
clone3 with CLONE_INTO_CGROUP does not move anyone. v2 has no such file across domains.

    # parent: entrances, clone3(CLONE_INTO_CGROUP, unified) > child: enter, … exec > parent: close
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from dataclasses import dataclass

from wherry.runtime.cgroups.files import read_pids, read_text, walk


@dataclass(frozen=True, slots=True)
class Entrances:
    """Descriptors, close-on-exec, that the parent opens and owns.

    `tasks` are v1's files for `enter`; `unified` is v2's directory for clone3, -1 where there is
    none. The kernel asks whether the opener may move processes, so that a child in a user namespace
    of its own may use them.
    """

    tasks: tuple[int, ...]
    unified: int

    def enter(self) -> None:
        """Move the calling process, which must have one thread, into v1's cgroups. Raises OSError."""
        for fd in self.tasks:
            os.write(fd, b"0")

    def close(self) -> None:
        """Close the descriptors."""
        for fd in self.tasks:
            os.close(fd)
        if self.unified >= 0:
            os.close(self.unified)


def open_entrances(v1: Iterable[str], unified: str | None) -> Entrances:
    """Open the entrances of the v1 directories and the v2 one. Raises OSError; leaves none open."""
    opened: list[int] = []
    try:
        opened += (os.open(f"{path}/tasks", os.O_WRONLY | os.O_CLOEXEC) for path in v1)
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        directory = os.open(_room(unified), flags) if unified is not None else -1
        return Entrances(tuple(opened), directory)
    except OSError:
        for fd in opened:
            os.close(fd)
        raise


def _room(unified: str) -> str:
    """Return the v2 cgroup that takes a process: `unified`, or that of the oldest process below it.

    What runs in a container may have given controllers to cgroups of its own below (systemd, an engine): its
    own cgroup then takes none (EBUSY).
    """
    try:
        if not read_text(f"{unified}/cgroup.subtree_control").strip():
            return unified
    except FileNotFoundError:
        return unified
    found: list[tuple[int, str]] = []
    for directory in walk(unified):
        with contextlib.suppress(OSError):  # it went meanwhile, or is a threaded one
            found += ((pid, directory) for pid in read_pids(directory)[:1] if pid)
    return min(found)[1] if found else unified
