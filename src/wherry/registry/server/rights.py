"""What who may do where: a file of rules, all of those that fit add up.

    # repositories    who            may
    library/**        *              pull
    team/**           alice,bob      pull,push
    **                admin          pull,push,delete

`*` in a pattern is any text within one component, `**` any text. Who: names, `@` for everyone with a
password, `*` for everyone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from wherry.model.errors import Invalid

PULL: Final = "pull"
PUSH: Final = "push"
DELETE: Final = "delete"
ALL: Final = frozenset((PULL, PUSH, DELETE))
ANYBODY: Final = "*"
KNOWN: Final = "@"


@dataclass(frozen=True, slots=True)
class Rule:
    """One line of the file."""

    pattern: re.Pattern[str]
    who: frozenset[str]
    may: frozenset[str]


@dataclass(frozen=True, slots=True)
class Rights:
    """All rules."""

    rules: tuple[Rule, ...]

    def allowed(self, user: str, repository: str) -> frozenset[str]:
        """Return what `user` (empty: without a password) may do in `repository`."""
        names = {user, KNOWN, ANYBODY} if user else {ANYBODY}
        may: frozenset[str] = frozenset()
        for rule in self.rules:
            if rule.who & names and rule.pattern.fullmatch(repository):
                may |= rule.may
        return may


def everything_to(who: str) -> Rights:
    """Return the rights where no file gives any: all to `who`."""
    return Rights((Rule(re.compile(r"[\s\S]*"), frozenset((who,)), ALL),))


def parse_rights(text: str, subject: str) -> Rights:
    """Return the rules of a file. Raises Invalid, naming the line."""
    rules: list[Rule] = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        if len(words) != 3:
            raise Invalid(f"{subject}, line {number}: not REPOSITORIES WHO MAY")
        may = frozenset(words[2].split(","))
        if may - ALL:
            raise Invalid(
                f"{subject}, line {number}: {min(may - ALL)!r} is none of pull, push, delete"
            )
        rules.append(Rule(_pattern(words[0]), frozenset(words[1].split(",")), may))
    return Rights(tuple(rules))


def _pattern(text: str) -> re.Pattern[str]:
    parts = re.split(r"(\*\*|\*)", text)
    known = {"**": ".*", "*": "[^/]*"}
    # A possessive group would be quicker on hostile names; those are bounded at 255 characters.
    return re.compile("".join(known.get(part, re.escape(part)) for part in parts))
