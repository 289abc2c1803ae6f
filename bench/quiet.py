"""Waiting until the machine has nothing to do, so that a sample pays for no other's aftermath.

Docker goes on for some 100 ms after it has said that a container is removed; the sample of the next engine
was 1.4 times as long beside that as on a quiet machine.
"""

from __future__ import annotations

import time
from collections.abc import Callable

_WINDOW = 0.02
_BUSY = 0.1
"""Of all processors: what one process that looks once in a while takes."""
_LONGEST = 1.0


def await_quiet(
    longest: float = _LONGEST, *, read: Callable[[], tuple[int, int]] | None = None
) -> bool:
    """Return whether the machine came to rest within `longest` seconds."""
    read = read or read_processors
    deadline = time.monotonic() + longest
    before = read()
    while time.monotonic() < deadline:
        time.sleep(_WINDOW)
        now = read()
        busy, every = now[0] - before[0], now[1] - before[1]
        # A window of two processors has four ticks: less than one of them is rest.
        if every and busy <= every * _BUSY:
            return True
        before = now
    return False


def read_processors() -> tuple[int, int]:
    """Return ticks (10 ms) of all processors: the busy ones, and all (proc(5), stat)."""
    with open("/proc/stat", encoding="ascii") as file:
        user, nice, system, idle, waiting, *rest = (
            int(word) for word in file.readline().split()[1:]
        )
    steal = sum(rest[:3])
    busy = user + nice + system + steal
    return busy, busy + idle + waiting
