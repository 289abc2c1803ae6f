"""Stopping all processes of a cgroup: v2's cgroup.freeze, or v1's freezer.

v2's is taken wherever it is mounted, hybrid included: it is quicker, and a frozen process can still
be killed. Source: admin-guide/cgroup-v2 (cgroup.freeze, Linux 5.2), cgroup-v1/freezer-subsystem.
"""

from __future__ import annotations

import contextlib
import time

from wherry.model.errors import Unavailable
from wherry.runtime.cgroups.files import read_table, read_text, write_text

_SECONDS = 5.0
_AGAIN = 0.05  # a task that forked meanwhile can keep v1 in FREEZING until it is asked once more


def has_v2_freezer(directory: str) -> bool:
    """Whether `directory` is a v2 cgroup that can be frozen."""
    try:
        read_text(f"{directory}/cgroup.freeze")
    except OSError:
        return False
    return True


def is_frozen(version: int, directory: str) -> bool:
    """Whether every process in `directory` is stopped. Raises OSError."""
    if version == 2:
        return read_table(f"{directory}/cgroup.events").get("frozen") == 1
    return read_text(f"{directory}/freezer.state").strip() == "FROZEN"


def set_frozen(version: int, directory: str, frozen: bool) -> None:
    """Freeze or thaw `directory` and wait until it is so.

    Raises Unavailable after 5 s, thawed again; OSError when the cgroup is gone.
    """
    deadline = time.monotonic() + _SECONDS
    pause = 0.0002
    _ask(version, directory, frozen)
    asked = time.monotonic()
    while not _reached(version, directory, frozen):
        now = time.monotonic()
        if now > deadline:
            with contextlib.suppress(OSError):
                _ask(version, directory, False)
            raise Unavailable(
                f"the processes in {directory} did not {'stop' if frozen else 'go on'} "
                f"within {_SECONDS:.0f} s",
                hint="one of them is in an uninterruptible sleep",
            )
        if now > asked + _AGAIN:
            _ask(version, directory, frozen)
            asked = now
        time.sleep(pause)
        pause = min(pause * 2, 0.02)


def _ask(version: int, directory: str, frozen: bool) -> None:
    if version == 2:
        write_text(f"{directory}/cgroup.freeze", "1" if frozen else "0")
    else:
        write_text(f"{directory}/freezer.state", "FROZEN" if frozen else "THAWED")


def _reached(version: int, directory: str, frozen: bool) -> bool:
    if version == 2:
        return is_frozen(version, directory) == frozen
    return read_text(f"{directory}/freezer.state").strip() == ("FROZEN" if frozen else "THAWED")
