"""Source patterns of COPY and ADD: Go's path/filepath.Match, one component at a time."""

from __future__ import annotations

import re
from functools import lru_cache

from wherry.model.errors import Invalid
from wherry.model.ignore import read_class


def has_wildcards(text: str) -> bool:
    """Whether `text` has a character that means something to `compiled`."""
    return any(char in text for char in "*?[\\")


@lru_cache(maxsize=512)
def compiled(pattern: str) -> re.Pattern[str]:
    """Return what matches one path component. Raises Invalid for a malformed pattern."""
    out: list[str] = []
    at = 0
    while at < len(pattern):
        char = pattern[at]
        at += 1
        if char == "*":
            out.append("[^/]*")
        elif char == "?":
            out.append("[^/]")
        elif char == "[":
            text, at = read_class(pattern, at)
            out.append(text)
        elif char == "\\":
            if at >= len(pattern):
                raise Invalid(f"syntax error in pattern: {pattern!r}")
            out.append(re.escape(pattern[at]))
            at += 1
        else:
            out.append(re.escape(char))
    return re.compile("".join(out), re.DOTALL)
