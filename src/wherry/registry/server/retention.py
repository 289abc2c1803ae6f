"""What clients were lately told is there, kept from the collector.

A push asks for each blob, is told that it need not send it, and names it in a manifest minutes later.
So an answer is a promise: for `grace` seconds. Promises live in memory; after a start the collector
waits for as long before it takes anything (see `sweep`).
"""

from __future__ import annotations

import time

from wherry.model.ids import Digest

_PRUNE_AT = 100_000


class Retention:
    """Promises, and what was used since a sweep began."""

    def __init__(self, grace: float) -> None:
        self.grace = grace
        self._promised: dict[tuple[str, Digest], float] = {}
        self._since: set[tuple[str, Digest]] | None = None
        self._digests: set[Digest] = set()

    def touch(self, repository: str, *digests: Digest) -> None:
        """Keep blobs of a repository for `grace` seconds from now."""
        now = time.monotonic()
        for digest in digests:
            key = repository, digest
            # Put at the end, so that the oldest promises come first.
            self._promised.pop(key, None)
            self._promised[key] = now
            if self._since is not None:
                self._since.add(key)
                self._digests.add(digest)
        if len(self._promised) > _PRUNE_AT:
            self._prune(now)

    def kept(self, repository: str, digest: Digest) -> bool:
        """Whether the collector must leave this blob in this repository."""
        key = repository, digest
        if self._since is not None and key in self._since:
            return True
        promised = self._promised.get(key)
        return promised is not None and time.monotonic() - promised < self.grace

    def begin_sweep(self) -> None:
        """From here on everything touched is kept until `end_sweep`, however short `grace` is."""
        self._since = set()
        self._prune(time.monotonic())

    def used_since(self, digest: Digest) -> bool:
        """Whether any repository touched `digest` since the sweep began."""
        return digest in self._digests

    def end_sweep(self) -> None:
        """The sweep is over."""
        self._since = None
        self._digests.clear()

    def _prune(self, now: float) -> None:
        for key, promised in tuple(self._promised.items()):
            if now - promised < self.grace:
                break
            del self._promised[key]
