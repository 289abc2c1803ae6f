"""`--chown user[:group]`: numbers as they are, names looked up in the stage's own /etc/passwd and /etc/group.

A number without a group is its own group; a name without one has the group of its entry;
`user:` has root's: Docker's rules.
"""

from __future__ import annotations

from typing import Final

from wherry.model.errors import Invalid, NotFound, StartFailed
from wherry.model.oci import User
from wherry.runtime.user import identify_in, read_table

_HIGHEST: Final = 0xFFFFFFFE


def look_up(text: str, root: int) -> tuple[int, int] | None:
    """Return (uid, gid) of `text` in the tree `root`; None for "". Raises NotFound for a name without an entry."""
    if not text:
        return None
    user, colon, group = text.partition(":")
    uid, gid = (0, 0) if not user else _user(user, root)
    if group:
        return uid, _group(group, root)
    return uid, 0 if colon else gid


def look_up_process(user: str, root: int) -> tuple[int, int]:
    """Return (uid, gid) of a process of USER `user` in the tree `root`. Raises Invalid in Docker's words."""
    try:
        who = identify_in(root, User(name=user))
    except StartFailed as error:
        raise Invalid(error.message) from None
    return who.uid, who.gid


def _user(name: str, root: int) -> tuple[int, int]:
    number = _number(name)
    if number is not None:
        return number, number
    for row in _rows(root, "etc/passwd"):
        if len(row) >= 4 and row[0] == name:
            uid, gid = _number(row[2]), _number(row[3])
            if uid is not None and gid is not None:
                return uid, gid
    raise NotFound("user", name, hint="--chown: it is not in the stage's /etc/passwd")


def _group(name: str, root: int) -> int:
    number = _number(name)
    if number is not None:
        return number
    for row in _rows(root, "etc/group"):
        if len(row) >= 3 and row[0] == name:
            gid = _number(row[2])
            if gid is not None:
                return gid
    raise NotFound("group", name, hint="--chown: it is not in the stage's /etc/group")


def _number(text: str) -> int | None:
    if len(text) < 20 and text.isascii() and text.isdecimal() and int(text) <= _HIGHEST:
        return int(text)
    return None


def _rows(root: int, path: str) -> list[list[str]]:
    return [line.split(":") for line in read_table(root, path).splitlines()]
