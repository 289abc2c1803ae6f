"""Calls about processes that the standard library does not have."""

from __future__ import annotations

import select

from wherry.kernel.abi import PR_SET_CHILD_SUBREAPER
from wherry.kernel.linux import Linux


def wait_readable(fd: int, seconds: float) -> bool:
    """Whether `fd` becomes readable, or comes to its end, within `seconds`.

    By poll(2): a descriptor above 1023 does not fit select(2), and a supervisor of 200 containers has those.
    """
    waiting = select.poll()
    waiting.register(fd, select.POLLIN)
    return bool(waiting.poll(max(0, round(seconds * 1000))))


def set_subreaper() -> None:
    """Make this process the one that orphaned descendants fall to; kept across execve, prctl(2)."""
    Linux().prctl(PR_SET_CHILD_SUBREAPER, 1)
