"""Wanted state, in one SQLite file.

WAL with `synchronous=NORMAL`: a killed process loses nothing that was acknowledged, and a power
failure may lose the last transactions but never their integrity (sqlite.org/wal.html, "Performance
considerations"). Each component owns its tables and brings them up to date with `migrate`.
"""

from __future__ import annotations

import re
import sqlite3
import threading
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from wherry.kernel.failpoints import failpoint
from wherry.model.errors import Conflict, Full, Internal

_COMPONENT = re.compile(r"[a-z_]+")
_BUSY_SECONDS = 10.0


class Database:
    """One connection, shared by all threads, one at a time; outside `transaction` it autocommits."""

    def __init__(self, path: Path) -> None:
        """Open or make the database at `path`; its folder must exist. Raises Conflict when it is none."""
        self._lock = threading.RLock()
        self._connection = sqlite3.connect(
            path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        try:
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute("PRAGMA synchronous=NORMAL")
            self._connection.execute("PRAGMA foreign_keys=ON")
            self._connection.execute(
                "CREATE TABLE IF NOT EXISTS migrations"
                " (component TEXT PRIMARY KEY, steps INTEGER NOT NULL) WITHOUT ROWID"
            )
        except sqlite3.DatabaseError as error:
            self._connection.close()
            raise Conflict(
                f"{path} is not usable as a database: {error}",
                hint="move it away: images and containers are then made anew",
            ) from error

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
            with _naming_full():
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

    def query(self, sql: str, *args: object) -> list[tuple[Any, ...]]:
        """Return all rows of one statement; outside a transaction its effects are durable at once."""
        with self._lock, _naming_full():
            return self._connection.execute(sql, args).fetchall()

    def close(self) -> None:
        """Close the connection; a second call does nothing."""
        with self._lock:
            self._connection.close()


@contextmanager
def _naming_full() -> Generator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_FULL:
            raise Full("no space left on the disk of the database") from error
        raise
