"""Ranges of 65,536 ids for user namespaces, disjoint among all engines of a host.

A range is taken by a lock on one byte of a file that all engines share. The lock belongs to an open
file description (fcntl(2), F_OFD_SETLK) that the keeper holds, so it outlives a supervisor and ends
with its engine. Ids begin at 0x70000000, above what login.defs and systemd hand out; on disk they
never appear, since layers and bind mounts are idmapped.
"""

from __future__ import annotations

import fcntl
import os
import struct

from wherry.kernel import abi
from wherry.model.errors import Full
from wherry.model.oci import IdMap

SIZE = 65_536
FIRST = 0x70000000
COUNT = (1 << 32) // SIZE - FIRST // SIZE - 1
# systemd's foreign range 0x7FFE0000–0x7FFFFFFF may stand on disk; the last range holds (uid_t) -1.
_SKIPPED = frozenset({(0x7FFE0000 - FIRST) // SIZE, (0x7FFF0000 - FIRST) // SIZE})
LOCK_PATH = "/run/wherry-ids.lock"


class IdRanges:
    """The ranges that this engine holds."""

    def __init__(self, lock_fd: int = -1, path: str = LOCK_PATH) -> None:
        """`lock_fd`, where given, is the keeper's descriptor; otherwise `path` is opened here."""
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        self._fd = lock_fd if lock_fd >= 0 else os.open(path, flags, 0o600)
        self._held: set[int] = set()
        self._next = 0

    def take(self) -> int:
        """Return the index of a free range, now held. Raises Full."""
        for offset in range(COUNT):
            index = (self._next + offset) % COUNT
            if index not in self._held and index not in _SKIPPED and self._lock(index):
                self._next = index + 1
                self._held.add(index)
                return index
        raise Full(
            "no range of user ids is left on this host",
            hint=f"{COUNT} containers hold one each; remove some, or use --userns=host",
        )

    def adopt(self, index: int) -> None:
        """Hold a range that a container took before this supervisor started."""
        self._lock(index)
        self._held.add(index)

    def release(self, index: int) -> None:
        """Give a range back; one that is not held is fine."""
        if index in self._held:
            self._held.discard(index)
            self._set(fcntl.F_UNLCK, index, 1)

    def drop_others(self) -> None:
        """After adopting: give back what a dead supervisor held and no container uses."""
        start = 0
        for index in (*sorted(self._held), COUNT):
            if index > start:
                self._set(fcntl.F_UNLCK, start, index - start)
            start = index + 1

    def _lock(self, index: int) -> bool:
        try:
            self._set(fcntl.F_WRLCK, index, 1)
        except (BlockingIOError, PermissionError):
            return False
        return True

    def _set(self, kind: int, start: int, length: int) -> None:
        # struct flock of 64-bit Linux: l_type, l_whence, l_start, l_len, l_pid.
        fcntl.fcntl(self._fd, abi.F_OFD_SETLK, struct.pack("hhqqi4x", kind, 0, start, length, 0))


def maps(index: int) -> tuple[IdMap, ...]:
    """Return the map of range `index`: inside 0 is outside its first id."""
    return (IdMap(0, FIRST + index * SIZE, SIZE),)
