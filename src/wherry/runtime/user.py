"""Who a process runs as: `user[:group]` looked up in the container's own /etc/passwd and /etc/group.

Both files belong to the image and may hold anything: lines that do not parse are passed over, and no
more than `LARGEST` bytes are read. Rules and words are Docker's (docker run --user).
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass

from wherry.kernel.paths import open_file_in_root
from wherry.model.errors import StartFailed
from wherry.model.oci import User

LARGEST = 16 << 20
_PAGE = 4096
_HIGHEST = (1 << 31) - 1
_OUT_OF_RANGE = f"uids and gids must be in range 0-{_HIGHEST}"
_NEGATIVE = re.compile("-[0-9]+")


@dataclass(frozen=True, slots=True)
class Identity:
    """Numbers for setuid and friends, and the home directory."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str


def _read(path: str) -> str:
    # An image may have anything here: a FIFO without a writer, a terminal, a device.
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
    try:
        fd = os.open(path, flags)
    except OSError:
        return ""
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            return ""
        # A file may tell no size and have text, in /proc for one.
        size = min(max(found.st_size, _PAGE), LARGEST)
        return os.read(fd, size).decode(errors="surrogateescape")
    except OSError:
        return ""
    finally:
        os.close(fd)


def read_table(root: int, path: str) -> str:
    """Return the text of a table in the tree below the descriptor `root`; "" where there is none."""
    try:
        fd = open_file_in_root(root, path)
    except OSError:
        return ""
    with open(fd, "rb") as file:
        return file.read(LARGEST).decode(errors="surrogateescape")


def _rows(text: str, width: int) -> Iterator[list[str]]:
    for line in text.splitlines():
        row = line.strip().split(":")
        if len(row) >= width and not line.startswith("#"):
            yield row


def _number(text: str) -> int | None:
    # Longer ones are no ids; int() raises ValueError from 4300 digits on.
    return int(text) if len(text) < 20 and text.isascii() and text.isdecimal() else None


def identify(user: User, passwd: str | None = None, group: str | None = None) -> Identity:
    """Return who `user` is. Without texts, /etc/passwd and /etc/group of the present root are read.

    Raises StartFailed with Docker's words where a name has no entry or a number is out of range.
    """
    who = _identify(user, passwd, group)
    # (uid_t) -1 means "leave it" to setresuid(2): an entry with 4294967295 would stay root.
    if not all(0 <= number <= _HIGHEST for number in (who.uid, who.gid, *who.groups)):
        raise StartFailed(_OUT_OF_RANGE, exit_code=125)
    return who


def identify_in(root: int, user: User) -> Identity:
    """Return who `user` is by the tables in the tree below the descriptor `root`. Raises as `identify`."""
    return identify(user, read_table(root, "etc/passwd"), read_table(root, "etc/group"))


def _identify(user: User, passwd: str | None, group: str | None) -> Identity:
    if not user.name and not user.additional_groups:
        if passwd is None:
            passwd = _read("/etc/passwd")
        home = _home_of(user.uid, passwd)
        return Identity(user.uid, user.gid, user.additional_gids, home)
    passwd = _read("/etc/passwd") if passwd is None else passwd
    group = _read("/etc/group") if group is None else group
    wanted, colon, wanted_group = user.name.partition(":")
    uid, gid, home, login = _look_up_user(wanted or str(user.uid), user, passwd)
    groups: set[int] = set(user.additional_gids)
    if colon and wanted_group:
        gid = _look_up_group(wanted_group, group)
    elif login:
        for row in _rows(group, 4):
            member_gid = _number(row[2])
            if member_gid is not None and login in row[3].split(","):
                groups.add(member_gid)
    for name in user.additional_groups:
        groups.add(_look_up_group(name, group))
    # Docker puts the primary group among the supplementary ones too (CVE-2022-36109).
    groups.add(gid)
    return Identity(uid, gid, tuple(sorted(groups)), home)


def _home_of(uid: int, passwd: str) -> str:
    for row in _rows(passwd, 6):
        if _number(row[2]) == uid:
            return row[5] or "/"
    return "/"


def _look_up_user(wanted: str, user: User, passwd: str) -> tuple[int, int, str, str]:
    number = _number(wanted)
    if _NEGATIVE.fullmatch(wanted):
        raise StartFailed(_OUT_OF_RANGE, exit_code=125)
    for row in _rows(passwd, 6):
        uid, gid = _number(row[2]), _number(row[3])
        if uid is None or gid is None:
            continue
        if row[0] == wanted or (number is not None and uid == number):
            return uid, gid, row[5] or "/", row[0]
    if number is None:
        raise StartFailed(
            f"unable to find user {wanted}: no matching entries in passwd file", exit_code=125
        )
    return number, user.gid, "/", ""


def _look_up_group(wanted: str, group: str) -> int:
    number = _number(wanted)
    if _NEGATIVE.fullmatch(wanted):
        raise StartFailed(_OUT_OF_RANGE, exit_code=125)
    for row in _rows(group, 3):
        gid = _number(row[2])
        if gid is not None and (row[0] == wanted or gid == number):
            return gid
    if number is None:
        raise StartFailed(
            f"unable to find group {wanted}: no matching entries in group file", exit_code=125
        )
    return number
