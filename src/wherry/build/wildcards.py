"""Source patterns of COPY and ADD: Go's path/filepath.Match, one component at a time."""

from __future__ import annotations

import re
from functools import lru_cache

from wherry.model.ignore import translated


def has_wildcards(text: str) -> bool:
    """Whether `text` has a character that means something to `compiled`."""
    return any(char in text for char in "*?[\\")


@lru_cache(maxsize=512)
def compiled(pattern: str) -> re.Pattern[str]:
    """Return what matches one path component. Raises Invalid for a malformed pattern."""
    return re.compile(translated(pattern, across=False), re.DOTALL)
