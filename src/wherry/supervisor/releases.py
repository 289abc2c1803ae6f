"""Containers that have ended and whose cgroups and ids are to be given back, now or as soon as it goes.

A cgroup cannot be removed while a process is in it, and one that is exiting may take its time. The loop
does not wait for it: it is tried again, later and later. A start of the same container waits here.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from wherry.kernel.reactor import Reactor
from wherry.model.errors import WherryError
from wherry.supervisor.launcher import Launcher

_FIRST = 0.001
_LONGEST = 5.0
_TELL = 1.0


class Releases:
    """What is yet to be released, by container."""

    def __init__(self, reactor: Reactor, launcher: Launcher) -> None:
        self._reactor = reactor
        self._launcher = launcher
        self._pending: dict[str, Mapping[str, Any]] = {}
        self._waiting: dict[str, list[Callable[[], None]]] = {}

    def add(self, key: str, facts: Mapping[str, Any]) -> None:
        """Release what the container held, when it can be."""
        self._pending[key] = facts
        self._try(key, facts, _FIRST)

    def is_pending(self, key: str) -> bool:
        """Whether the container still holds something."""
        return key in self._pending

    def when_done(self, key: str, callback: Callable[[], None]) -> None:
        """Call back once everything of a pending container is released."""
        self._waiting.setdefault(key, []).append(callback)

    def finish(self, seconds: float) -> None:
        """Release all that can be within `seconds`: the loop has ended. Blocks."""
        deadline = time.monotonic() + seconds
        while self._pending and time.monotonic() < deadline:
            for key, facts in list(self._pending.items()):
                if self._attempt(facts) is None:
                    del self._pending[key]
            if self._pending:
                time.sleep(0.005)

    def _attempt(self, facts: Mapping[str, Any]) -> Exception | None:
        try:
            self._launcher.release(facts)
        except (OSError, WherryError) as error:
            return error
        return None

    def _try(self, key: str, facts: Mapping[str, Any], pause: float) -> None:
        if self._pending.get(key) is not facts:
            return
        error = self._attempt(facts)
        if error is None:
            del self._pending[key]
            for callback in self._waiting.pop(key, []):
                callback()
            return
        if pause <= _TELL < pause * 2:
            print(f"supervisor: {key}: {error}", file=sys.stderr, flush=True)
        following = min(pause * 2, _LONGEST)
        self._reactor.later(pause, lambda: self._try(key, facts, following))
