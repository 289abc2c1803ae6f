"""The execs that exist, in rows beside their containers: an exit code outlives the daemon that asked for it."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace

import msgspec

from wherry.containers.store import Rows
from wherry.model.containers import ExecSpec
from wherry.model.errors import Full, NotFound

log = logging.getLogger(__name__)
_STEPS = (
    """
    CREATE TABLE execs (
        id TEXT PRIMARY KEY,
        container TEXT NOT NULL REFERENCES containers (id) ON DELETE CASCADE,
        body BLOB NOT NULL,
        code INTEGER
    ) WITHOUT ROWID;
    CREATE INDEX execs_container ON execs (container)
    """,
)
KEPT = 64
"""Finished execs kept for each container; the oldest go first."""


@dataclass(frozen=True, slots=True)
class Exec:
    """One exec: `code` is None until it has ended."""

    id: str
    container_id: str
    spec: ExecSpec
    started: bool = False
    pid: int = 0
    code: int | None = None

    @property
    def running(self) -> bool:
        """Whether its process runs."""
        return self.started and self.code is None


class ExecStore:
    """All execs, in memory and in the database."""

    def __init__(self, database: Rows) -> None:
        """Read what an earlier daemon left."""
        database.migrate("execs", _STEPS)
        self._database = database
        self._execs: dict[str, Exec] = {}
        self._orders: dict[str, list[str]] = {}
        specs = msgspec.json.Decoder(ExecSpec)
        for key, container, body, code in database.query(
            "SELECT id, container, body, code FROM execs"
        ):
            done = code is not None
            self._put(Exec(key, container, specs.decode(body), started=done, code=code))

    def __iter__(self) -> Iterator[Exec]:
        return iter(tuple(self._execs.values()))

    def knows(self, exec_id: str) -> bool:
        """Return whether there is such an exec."""
        return exec_id in self._execs

    def get(self, exec_id: str) -> Exec:
        """Return an exec. Raises NotFound."""
        try:
            return self._execs[exec_id]
        except KeyError:
            raise NotFound("exec instance", exec_id) from None

    def of(self, container_id: str) -> tuple[Exec, ...]:
        """Return the execs of a container, oldest first."""
        return tuple(self._execs[key] for key in self._orders.get(container_id, ()))

    def add(self, entry: Exec) -> None:
        """Keep a new exec; of the finished ones the oldest go when there are many."""
        finished = [old.id for old in self.of(entry.container_id) if old.code is not None]
        for old in finished[: max(0, len(finished) - KEPT + 1)]:
            self.remove(old)
        self._database.query(
            "INSERT INTO execs VALUES (?, ?, ?, NULL)",
            entry.id,
            entry.container_id,
            msgspec.json.encode(entry.spec),
        )
        self._put(entry)

    def update(self, entry: Exec) -> None:
        """Keep a change in memory; one that has ended is kept in the database too."""
        self._execs[entry.id] = entry
        if entry.code is None:
            return
        try:
            self._database.query("UPDATE execs SET code = ? WHERE id = ?", entry.code, entry.id)
        except Full as error:
            # It has ended all the same; the next daemon knows no more of it.
            log.warning("the end of exec %s is not written down: %s", entry.id, error)

    def remove(self, exec_id: str) -> None:
        """Forget an exec; one that is not there is fine."""
        entry = self._execs.pop(exec_id, None)
        if entry is not None:
            self._orders[entry.container_id].remove(exec_id)
            # Without room the row goes with its container's.
            with contextlib.suppress(Full):
                self._database.query("DELETE FROM execs WHERE id = ?", exec_id)

    def drop(self, container_id: str) -> None:
        """Forget all execs of a container whose row is gone (and took theirs with it)."""
        for key in self._orders.pop(container_id, ()):
            del self._execs[key]

    def drop_lost(self, running: dict[str, int]) -> None:
        """After a start of the daemon: `running` (id to pid) run, of the others only ended ones stay."""
        for entry in self:
            if entry.id in running:
                self.update(replace(entry, started=True, pid=running[entry.id]))
            elif entry.code is None:
                self.remove(entry.id)

    def _put(self, entry: Exec) -> None:
        self._execs[entry.id] = entry
        self._orders.setdefault(entry.container_id, []).append(entry.id)
