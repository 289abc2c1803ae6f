"""Shell patterns (`*`, `?`, a backslash takes literally) against the values of variables.

Matched one character after the other by the set of places in the pattern that can have been reached, in
time linear in the value: a Dockerfile may be anybody's, and an expression for `*a*a*a*a*b` tries as many ways
as there are, while the whole engine waits (40 letters took 20 seconds).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

_ANY = ""
"""What `?` is among a pattern's pieces; the others are characters."""
_MOST_STEPS = 1 << 23
"""Characters looked at for one word, times what 64 places of the pattern take: two seconds."""


class TooLong(ValueError):
    """A value and a pattern that would take too long."""


class Pattern:
    """One pattern, read from its beginning or, `backwards`, from its end."""

    def __init__(self, text: str, *, backwards: bool = False) -> None:
        pieces: list[str] = []
        stars: set[int] = set()
        for piece in _pieces(text, backwards=backwards):
            if piece is None:
                stars.add(len(pieces))
            else:
                pieces.append(piece)
        self.literal = None if stars or _ANY in pieces else "".join(pieces)
        """The text that it is, where it has no `*` and no `?`."""
        self._stars = sum(1 << place for place in stars)
        self._end = 1 << len(pieces)
        self._size = len(pieces)
        self._any = sum(1 << place for place, piece in enumerate(pieces) if piece == _ANY)
        self._places: dict[str, int] = {}
        for place, piece in enumerate(pieces):
            if piece != _ANY:
                self._places[piece] = self._places.get(piece, 0) | 1 << place

    def sizes(self, value: Iterable[str]) -> Iterator[int]:
        """Yield the size of each beginning of `value` that matches, the shortest first."""
        stars, end, places, anything = self._stars, self._end, self._places, self._any
        # Bit n: the first n pieces have been matched.
        reached = 1
        if reached & end:
            yield 0
        for size, letter in enumerate(value, 1):
            reached = (reached & (places.get(letter, 0) | anything)) << 1 | reached & stars
            if not reached:
                return
            if reached & end:
                yield size

    def check(self, value: Sequence[str], *, every_start: bool = False) -> None:
        """Raise TooLong where matching `value`, from each place in it, would take too long."""
        steps = len(value)
        if every_start:
            steps *= len(value) if self._stars else min(self._size, len(value))
        if steps * (1 + self._size // 64) > _MOST_STEPS:
            raise TooLong(f"a value of {len(value)} characters is too long for its pattern")


def trim_front(pattern: str, value: str, *, longest: bool) -> str:
    """Return `value` without the beginning that matches. Raises TooLong."""
    compiled = _compiled(pattern)
    if compiled.literal is not None:
        return value.removeprefix(compiled.literal)
    compiled.check(value)
    size = _chosen(compiled.sizes(value), longest=longest)
    return value if size is None else value[size:]


def trim_back(pattern: str, value: str, *, longest: bool) -> str:
    """Return `value` without the end that matches. Raises TooLong."""
    compiled = _compiled(pattern, backwards=True)
    compiled.check(value)
    size = _chosen(compiled.sizes(reversed(value)), longest=longest)
    return value if size is None else value[: len(value) - size]


def replace(pattern: str, value: str, replacement: str, *, every: bool, most: int) -> str:
    """Return `value` with the longest match from the left replaced, or every one. Raises TooLong.

    An empty pattern is before every character and at the end. The result has about `most` characters at most.
    """
    compiled = _compiled(pattern)
    if compiled.literal is not None:
        count = value.count(compiled.literal) if every else 1
        _check_growth(len(value) + count * len(replacement), most)
        return value.replace(compiled.literal, replacement, -1 if every else 1)
    compiled.check(value, every_start=True)
    out: list[str] = []
    at = made = 0
    while at < len(value) or not (value or made):
        size = _chosen(compiled.sizes(value[at:]), longest=True)
        if size is None:
            out.append(value[at])
            at += 1
            continue
        out.append(replacement)
        made += 1
        at += size
        _check_growth(made * len(replacement), most)
        if not every or not size:
            break
    return "".join(out) + value[at:]


def _chosen(sizes: Iterator[int], *, longest: bool) -> int | None:
    return max(sizes, default=None) if longest else next(sizes, None)


def _check_growth(size: int, most: int) -> None:
    if size > most:
        raise TooLong(f"a value would become longer than {most} characters")


@lru_cache(maxsize=256)
def _compiled(text: str, *, backwards: bool = False) -> Pattern:
    return Pattern(text, backwards=backwards)


def _pieces(text: str, *, backwards: bool) -> list[str | None]:
    """Return the characters of a pattern, `_ANY` for any one and None for a star."""
    found: list[str | None] = []
    letters = iter(text)
    for letter in letters:
        if letter == "*":
            found.append(None)
        elif letter == "?":
            found.append(_ANY)
        else:
            found.append(next(letters, letter) if letter == "\\" else letter)
    return found[::-1] if backwards else found
