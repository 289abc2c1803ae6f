"""Calls about processes that the standard library does not have."""

from __future__ import annotations

from wherry.kernel.abi import PR_SET_CHILD_SUBREAPER
from wherry.kernel.linux import Linux


def set_subreaper() -> None:
    """Make this process the one that orphaned descendants fall to; kept across execve, prctl(2)."""
    Linux().prctl(PR_SET_CHILD_SUBREAPER, 1)
