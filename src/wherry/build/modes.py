"""`--chmod`: octal, or symbolic as chmod(1) knows it, without a umask."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from wherry.model.errors import Invalid

_OCTAL: Final = re.compile(r"[0-7]+")
_CLAUSE: Final = re.compile(r"([ugoa]*)((?:[-+=](?:[rwxXst]*|[ugo]))+)")
_ACTION: Final = re.compile(r"([-+=])([ugo](?![rwxXst])|[rwxXst]*)")
_SHIFTS: Final = {"u": 6, "g": 3, "o": 0}
_BITS: Final = {"r": 4, "w": 2, "x": 1}
_MADE: Final = 0o755


@dataclass(frozen=True, slots=True)
class Chmod:
    """What is done to permission bits: `octal`, else `actions` of (who, operator, what), else nothing."""

    octal: int | None = None
    actions: tuple[tuple[str, str, str], ...] = ()

    @classmethod
    def parse(cls, text: str) -> Chmod:
        """Return what `text` says; "" is nothing. Raises Invalid."""
        if not text:
            return cls()
        if text[0].isdigit():
            if not _OCTAL.fullmatch(text) or int(text, 8) > 0o7777:
                raise Invalid(
                    f"invalid chmod parameter: '{text}'. "
                    "it should be octal string and between 0 and 07777"
                )
            return cls(int(text, 8))
        actions: list[tuple[str, str, str]] = []
        for clause in text.split(","):
            found = _CLAUSE.fullmatch(clause)
            if not found:
                raise Invalid(f"invalid chmod parameter: '{text}'", hint="octal, or as u=rwX,go=rX")
            who = found[1] or "a"
            actions += [(who, action[1], action[2]) for action in _ACTION.finditer(found[2])]
        return cls(None, tuple(actions))

    @property
    def made(self) -> int:
        """The mode of a directory that is made only because the destination needs it."""
        return _MADE if self.octal is None else self.octal & _MADE

    def __bool__(self) -> bool:
        return self.octal is not None or bool(self.actions)

    def of(self, mode: int, is_directory: bool) -> int:
        """Return the new permission bits, set-id and sticky ones with them, of what has `mode`."""
        if self.octal is not None:
            return self.octal
        # X asks what was executable before anything was changed, unlike chmod(1): Docker's rule.
        searched = is_directory or bool(mode & 0o111)
        for who, operator, what in self.actions:
            words = what.replace("X", "x") if searched else what
            mode = _changed(mode, who, operator, words, is_directory)
        return mode


def _changed(mode: int, who: str, operator: str, what: str, is_directory: bool) -> int:
    classes = "ugo" if "a" in who else who
    if what in _SHIFTS and what:
        bits = mode >> _SHIFTS[what] & 7
    else:
        bits = sum(_BITS[char] for char in set(what) & _BITS.keys())
    mask = value = 0
    for name in set(classes):
        mask |= 7 << _SHIFTS[name]
        value |= bits << _SHIFTS[name]
    special = 0
    if "s" in what:
        special |= (0o4000 if "u" in classes else 0) | (0o2000 if "g" in classes else 0)
    if "t" in what:
        special |= 0o1000
    match operator:
        case "+":
            return mode | value | special
        case "-":
            return mode & ~(value | special)
        case _:
            if "u" in classes and not is_directory:
                mask |= 0o4000
            if "g" in classes and not is_directory:
                mask |= 0o2000
            return mode & ~mask | value | special
