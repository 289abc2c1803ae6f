"""`.dockerignore`: which paths of a folder a build does not see. Docker's rules, and those of `--exclude`.

A later line wins over an earlier one; what matches a folder matches all below it; `!` takes back.
Source: https://docs.docker.com/build/concepts/context/#dockerignore-files, and Docker 28.5 asked.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable

from wherry.model.errors import Invalid

_MARK = "\ufeff"
_ENDING = re.compile(r"\*\*[^*?\[\]\\/][^*?\[\]\\]*", re.DOTALL)
"""`**.md`: whatever ends so, at any depth. Elsewhere `**` stands for whole components."""


def parse(data: bytes) -> tuple[str, ...]:
    """Return the lines of a .dockerignore file that say something, cleaned: no `./`, no outer slashes."""
    text = data.decode(errors="surrogateescape").removeprefix(_MARK)
    return tuple(
        line for raw in text.split("\n") if not raw.startswith("#") and (line := clean(raw))
    )


def clean(line: str) -> str:
    """Return one pattern as it is compared with paths; "" for one that says nothing."""
    line = line.strip()
    back = line.startswith("!")
    pattern = line[1:].strip() if back else line
    if pattern:
        pattern = posixpath.normpath(pattern)
        if len(pattern) > 1:
            pattern = pattern.lstrip("/") or "/"
    return f"!{pattern}" if back else pattern


class Matcher:
    """Tells what the lines leave out. Paths are relative, with `/` between, without `.` and `..`."""

    def __init__(self, lines: Iterable[str]) -> None:
        """Raises Invalid for a malformed pattern."""
        self._runs: list[tuple[bool, re.Pattern[str]]] = []
        self._back: list[tuple[str, ...]] = []
        run: list[str] = []
        polarity = True
        for raw in lines:
            line = clean(raw)
            if not line:
                continue
            leaves_out = not line.startswith("!")
            pattern = line if leaves_out else line[1:]
            if not pattern:
                raise Invalid('illegal exclusion pattern: "!"', hint="it takes nothing back")
            if leaves_out != polarity and run:
                self._add(polarity, run)
                run = []
            polarity = leaves_out
            run.append(translated(pattern))
            if not leaves_out:
                self._back.append(tuple(pattern.split("/")))
        if run:
            self._add(polarity, run)

    def _add(self, polarity: bool, run: list[str]) -> None:
        # What matches a folder matches all below it.
        text = "|".join(f"(?:{item})" for item in run)
        self._runs.append((polarity, re.compile(f"(?:{text})(?:/.*)?", re.DOTALL)))

    def __bool__(self) -> bool:
        return bool(self._runs)

    def ignored(self, path: str) -> bool:
        """Whether the build does not see `path`."""
        ignored = False
        for polarity, pattern in self._runs:
            if polarity != ignored and pattern.fullmatch(path):
                ignored = polarity
        return ignored

    def descend(self, path: str) -> bool:
        """Whether a pattern with `!` may bring back something below the ignored folder `path`."""
        parts = path.split("/")
        return any(_may_lie_below(parts, pattern) for pattern in self._back)


def _may_lie_below(parts: list[str], pattern: tuple[str, ...]) -> bool:
    for part, wanted in zip(parts, pattern, strict=False):
        if "**" in wanted:
            return True
        if not re.fullmatch(translated(wanted), part):
            return False
    return True


def translated(pattern: str, *, across: bool = True) -> str:
    """Return the regular expression of a pattern; with `across`, `**` passes slashes. Raises Invalid."""
    if across and _ENDING.fullmatch(pattern):
        return ".*" + re.escape(pattern[2:])
    out: list[str] = []
    star = -1  # where the last `*` began, unless a `**` came since
    at = 0
    while at < len(pattern):
        char = pattern[at]
        at += 1
        if char == "*":
            single = not across or not pattern.startswith("*", at)
            if single and star >= 0:
                # What stands between two stars is best found where it comes first, and never looked for
                # again: a pattern of many stars would try as many ways as there are.
                out[star:] = [f"(?>[^/]*?{''.join(out[star + 1 :])})"]
            star = len(out) if single else -1
            if single:
                out.append("[^/]*")
                continue
            while pattern.startswith("*", at):
                at += 1
            if pattern.startswith("/", at):
                at += 1
            out.append(".*" if at >= len(pattern) else "(?:.*/)?")
        elif char == "?":
            out.append("[^/]")
        elif char == "[":
            text, at = _read_class(pattern, at)
            out.append(text)
        elif char == "\\":
            if at >= len(pattern):
                raise _malformed(pattern)
            out.append(re.escape(pattern[at]))
            at += 1
        else:
            out.append(re.escape(char))
    return "".join(out)


def _read_class(pattern: str, at: int) -> tuple[str, int]:
    """Return the regular expression of the class that begins behind `[`, and where it ends.

    As Go's path/filepath.Match has it: `^` denies, `\\` escapes, and it never is a slash. Raises Invalid.
    """
    denied = pattern.startswith("^", at)
    at += denied
    ranges: list[str] = []
    while not (pattern.startswith("]", at) and ranges):
        low, at = _class_char(pattern, at)
        high = low
        if pattern.startswith("-", at):
            high, at = _class_char(pattern, at + 1)
        if high >= low:
            ranges.append(f"{re.escape(low)}-{re.escape(high)}")
        else:
            ranges.append("")
    inside = "".join(ranges)
    if not inside:
        return ("[^/]" if denied else "(?!)"), at + 1
    return (f"[^/{inside}]" if denied else f"(?!/)[{inside}]"), at + 1


def _class_char(pattern: str, at: int) -> tuple[str, int]:
    if pattern.startswith("\\", at):
        at += 1
    elif pattern.startswith(("-", "]"), at):
        raise _malformed(pattern)
    if at >= len(pattern):
        raise _malformed(pattern)
    return pattern[at], at + 1


def _malformed(pattern: str) -> Invalid:
    return Invalid(f"syntax error in pattern: {pattern!r}")
