"""Wanted state, in one SQLite file.

WAL with `synchronous=NORMAL`: a killed process loses nothing that was acknowledged, and a power
failure may lose the last transactions but never their integrity (sqlite.org/wal.html, "Performance
considerations"). Each component owns its tables and brings them up to date with `migrate`.
"""

from __future__ import annotations

import contextlib
import re
import sqlite3
import threading
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from wherry.kernel.failpoints import failpoint
from wherry.kernel.space import no_room, reserve
from wherry.model.errors import Conflict, Internal

_COMPONENT = re.compile(r"[a-z_]+")
_BUSY_SECONDS = 10.0
_ROOM = 1 << 20
"""Bytes that the database may grow by on a full disk: what happened to containers, and removals."""
_RESERVE_EVERY = 256
"""Statements after which the room is looked after: 3 µs where it is all there."""
_LOG_ROOM = (1000 + 256) * 4096
"""Bytes of the log: SQLite moves its pages into the database once there are 1,000 (wal_autocheckpoint)."""


class Database:
    """One connection, shared by all threads, one at a time; outside `transaction` it autocommits."""

    def __init__(self, path: Path, *, alone: bool = False) -> None:
        """Open or make the database at `path`; its folder must exist. Raises Conflict when it is none, Full.

        `alone` keeps all others out, which lets it be read on a full disk: the index of the log is in
        memory then (sqlite.org/wal.html, "Use of WAL Without Shared-Memory").
        """
        self._lock = threading.RLock()
        self._path = path
        self._written = 0
        self._connection = sqlite3.connect(
            path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        try:
            if alone:
                self._connection.execute("PRAGMA locking_mode=EXCLUSIVE")
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute("PRAGMA synchronous=NORMAL")
            self._connection.execute("PRAGMA foreign_keys=ON")
            self._connection.execute(
                "CREATE TABLE IF NOT EXISTS migrations"
                " (component TEXT PRIMARY KEY, steps INTEGER NOT NULL) WITHOUT ROWID"
            )
        except sqlite3.DatabaseError as error:
            self._connection.close()
            if _is_full(error):
                raise no_room("the database", path) from error
            raise Conflict(
                f"{path} is not usable as a database: {error}",
                hint="move it away: images and containers are then made anew",
            ) from error
        self._reserve()

    def _reserve(self) -> None:
        """Keep room on the disk, so that what is removed can be written down when the disk is full.

        SQLite leaves the log as long as it is until the last connection is closed.
        """
        self._written = 0
        with contextlib.suppress(OSError):
            reserve(self._path, _ROOM, beyond=True)
            reserve(self._path.with_name(f"{self._path.name}-wal"), _LOG_ROOM)

    def _count(self) -> None:
        self._written += 1
        if self._written >= _RESERVE_EVERY:
            self._reserve()

    def migrate(self, component: str, steps: Sequence[str]) -> None:
        """Run the SQL scripts of `steps` that have not run yet, each in a transaction of its own.

        Steps are only ever added at the end. Raises Conflict where the database knows more steps
        than are given: a newer version wrote it.
        """
        if not _COMPONENT.fullmatch(component):
            raise Internal(f"not a component's name: {component!r}")
        with self._lock:
            rows = self.query("SELECT steps FROM migrations WHERE component = ?", component)
            done: int = rows[0][0] if rows else 0
            if done > len(steps):
                raise Conflict(
                    f"the database has {done} migrations of {component}, this version knows {len(steps)}",
                    hint="a newer version of wherry made it: use that one",
                )
            for number, step in enumerate(steps[done:], done + 1):
                try:
                    self._connection.executescript(
                        f"BEGIN IMMEDIATE;\n{step};\n"
                        f"INSERT OR REPLACE INTO migrations VALUES ('{component}', {number});\nCOMMIT;"
                    )
                except BaseException:
                    if self._connection.in_transaction:
                        self._connection.execute("ROLLBACK")
                    raise

    @contextmanager
    def transaction(self) -> Generator[sqlite3.Connection]:
        """Give the connection inside BEGIN IMMEDIATE: committed at a clean exit, else rolled back.

        Transactions do not nest (Internal). Raises Full when the disk is full.
        """
        with self._lock:
            if self._connection.in_transaction:
                raise Internal("a transaction inside a transaction")
            with _naming_full(self._path):
                self._connection.execute("BEGIN IMMEDIATE")
                try:
                    yield self._connection
                    failpoint("database.before-commit")
                    self._connection.execute("COMMIT")
                except BaseException:
                    # SQLite may have rolled back by itself already, as it does when the disk is full.
                    if self._connection.in_transaction:
                        self._connection.execute("ROLLBACK")
                    raise
            failpoint("database.after-commit")
            self._count()

    def query(self, sql: str, *args: object) -> list[tuple[Any, ...]]:
        """Return all rows of one statement; outside a transaction its effects are durable at once."""
        with self._lock, _naming_full(self._path):
            rows = self._connection.execute(sql, args).fetchall()
            self._count()
            return rows

    def close(self) -> None:
        """Close the connection; a second call does nothing."""
        with self._lock:
            self._connection.close()


@contextmanager
def _naming_full(where: Path) -> Generator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:
        if _is_full(error):
            raise no_room("the database", where) from error
        raise


def _is_full(error: sqlite3.Error) -> bool:
    # The second is what the index of the log says (unixShmMap), where nothing is left to map.
    return error.sqlite_errorcode in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE)
