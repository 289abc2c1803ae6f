"""The database: migrations, transactions, threads, and kill -9 in the middle."""

from __future__ import annotations

import os
import signal
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from wherry.kernel import failpoints
from wherry.model.errors import Conflict, Full, Internal
from wherry.storage.database import Database

NUMBERS = ["CREATE TABLE numbers (n INTEGER PRIMARY KEY)"]


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """An empty database with one table."""
    database = Database(tmp_path / "state.db")
    database.migrate("numbers", NUMBERS)
    yield database
    database.close()


def numbers(database: Database) -> list[int]:
    """The numbers in the table."""
    return [row[0] for row in database.query("SELECT n FROM numbers ORDER BY n")]


def test_a_transaction_is_all_or_nothing(database: Database) -> None:
    with database.transaction() as connection:
        connection.execute("INSERT INTO numbers VALUES (1)")
    with pytest.raises(ZeroDivisionError), database.transaction() as connection:
        connection.execute("INSERT INTO numbers VALUES (2)")
        _ = 1 // 0
    assert numbers(database) == [1]
    with database.transaction() as connection:
        connection.execute("INSERT INTO numbers VALUES (3)")
    assert numbers(database) == [1, 3]


def test_transactions_do_not_nest(database: Database) -> None:
    with pytest.raises(Internal), database.transaction(), database.transaction():
        pass
    with database.transaction():
        pass


def test_migrations_run_once_and_in_order(tmp_path: Path) -> None:
    steps = ["CREATE TABLE t (a TEXT); INSERT INTO t VALUES ('one')", "ALTER TABLE t ADD b TEXT"]
    for known in (steps[:1], steps, steps):
        database = Database(tmp_path / "state.db")
        database.migrate("things", known)
        database.close()
    database = Database(tmp_path / "state.db")
    assert database.query("SELECT a, b FROM t") == [("one", None)]
    with pytest.raises(Conflict, match="newer version"):
        database.migrate("things", steps[:1])
    database.close()


def test_a_failed_migration_leaves_nothing(database: Database) -> None:
    with pytest.raises(sqlite3.OperationalError):
        database.migrate("broken", ["CREATE TABLE half (a); CREATE TABLE half (a)"])
    assert database.query("SELECT name FROM sqlite_master WHERE name = 'half'") == []
    database.migrate("broken", ["CREATE TABLE half (a)"])


def test_threads_take_turns(database: Database) -> None:
    def insert(first: int) -> None:
        for n in range(first, first + 50):
            with database.transaction() as connection:
                connection.execute("INSERT INTO numbers VALUES (?)", (n,))

    threads = [threading.Thread(target=insert, args=(start,)) for start in (0, 50, 100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert numbers(database) == list(range(150))


def test_not_a_database(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    path.write_bytes(b"no database at all" * 100)
    with pytest.raises(Conflict, match=r"state\.db is not usable"):
        Database(path)


def test_a_full_disk_is_named(database: Database) -> None:
    database.query("PRAGMA max_page_count = 5")
    with pytest.raises(Full), database.transaction() as connection:
        connection.execute("CREATE TABLE large (b)")
        for _ in range(100):
            connection.execute("INSERT INTO large VALUES (zeroblob(4000))")
    assert numbers(database) == []


def killed_at(point: str, path: Path) -> None:
    """Insert 1, 2, 3 in one transaction each, in a child killed at the third passing of `point`."""
    child = os.fork()
    if child == 0:
        try:
            database = Database(path)
            database.migrate("numbers", NUMBERS)
            for n in (1, 2, 3):
                with database.transaction() as connection:
                    connection.execute("INSERT INTO numbers VALUES (?)", (n,))
                    if n == 3 and point == "in the transaction":
                        os.kill(os.getpid(), signal.SIGKILL)
                    if n == 3:
                        failpoints.configure(f"{point}=kill")
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL


@pytest.mark.parametrize(
    ("point", "expected"),
    [
        ("in the transaction", [1, 2]),
        ("database.before-commit", [1, 2]),
        ("database.after-commit", [1, 2, 3]),
    ],
)
def test_a_killed_process_loses_nothing_acknowledged(
    tmp_path: Path, point: str, expected: list[int]
) -> None:
    killed_at(point, tmp_path / "state.db")
    database = Database(tmp_path / "state.db")
    assert numbers(database) == expected
    with database.transaction() as connection:
        connection.execute("INSERT INTO numbers VALUES (9)")
    database.close()
