"""Who may come in: an htpasswd file, read again when it changes.

Hashes are what `htpasswd -B` writes (bcrypt) or crypt(3) knows. Checking one costs 50 ms and more, by
intent; so a right password is remembered, keyed by a digest under a secret of this process, until the
file changes, and only a few are checked at a time, so that guessing does not stop pushes.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from wherry.http.threads import in_thread
from wherry.kernel.passwords import matches
from wherry.model.errors import Invalid

_AT_ONCE: Final = 2
_REMEMBERED: Final = 10_000
_KINDS: Final = (b"$2a$", b"$2b$", b"$2y$", b"$5$", b"$6$", b"$7$", b"$y$", b"$gy$")
# Checked for a user that does not exist, so that the time taken tells nobody which users do.
_NOBODY: Final = b"$2b$10$......................WkIkTaLxgf7tnz/o.CpsYWzU5yiZtVm"


@dataclass(frozen=True, slots=True)
class _Stamp:
    """What tells that the file was changed."""

    inode: int
    size: int
    changed: int


class Users:
    """The users of one htpasswd file. Raises Invalid at once where it cannot be read."""

    def __init__(self, path: Path, *, check: Callable[[bytes, bytes], bool] = matches) -> None:
        self._path = path
        self._check = check
        self._key = secrets.token_bytes(32)
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._right: set[bytes] = set()
        self._stamp: _Stamp | None = None
        self._hashes: dict[str, bytes] = {}
        self.reload()

    def reload(self) -> None:
        """Read the file where it changed. A file that became unreadable lets nobody in."""
        try:
            fact = os.stat(self._path)
            stamp = _Stamp(fact.st_ino, fact.st_size, fact.st_mtime_ns)
            if stamp == self._stamp:
                return
            data = self._path.read_bytes()
        except OSError as error:
            self._hashes, self._stamp = {}, None
            self._right.clear()
            raise Invalid(f"the users' file {self._path}: {error.strerror}") from None
        self._hashes = parse_htpasswd(data, str(self._path))
        self._stamp = stamp
        self._right.clear()

    async def verify(self, user: str, password: str) -> bool:
        """Whether that is the user's password. Raises Invalid where the file cannot be read."""
        self.reload()
        known = self._hashes.get(user)
        proof = hmac.digest(self._key, f"{user}\0{password}".encode(), "sha256")
        if known is not None and proof in self._right:
            return True
        word, hashed = password.encode(), known or _NOBODY
        async with self._slots:
            right = await in_thread(lambda: self._check(word, hashed))
        if not right or known is None or self._hashes.get(user) != known:
            return False
        if len(self._right) >= _REMEMBERED:
            self._right.clear()
        self._right.add(proof)
        return True

    def fingerprint(self, user: str) -> str | None:
        """Return something that changes with the user's password, None where there is no such user."""
        self.reload()
        known = self._hashes.get(user)
        return None if known is None else hashlib.sha256(known).hexdigest()[:16]


def parse_htpasswd(data: bytes, subject: str) -> dict[str, bytes]:
    """Return the hash of each user. Raises Invalid, naming the line."""
    found: dict[str, bytes] = {}
    for number, raw in enumerate(data.splitlines(), 1):
        line = raw.strip()
        if not line or line.startswith(b"#"):
            continue
        user, colon, hashed = line.partition(b":")
        if not colon or not user:
            raise Invalid(f"{subject}, line {number}: not USER:HASH")
        if not hashed.startswith(_KINDS):
            raise Invalid(
                f"{subject}, line {number}: the hash of {user.decode(errors='replace')} is of a kind"
                " that is not accepted",
                hint="make it with htpasswd -B",
            )
        try:
            found[user.decode()] = hashed
        except UnicodeDecodeError:
            raise Invalid(f"{subject}, line {number}: the user's name is no UTF-8") from None
    return found
