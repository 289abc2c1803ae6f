"""What steps came to, by key: in the database, so that it outlives the daemon.

A result's layer lies in the image store's own places, and is kept there by `live_layers` and `live_blobs`.
Rows are written before the layer is synced to disk, marked with the machine's boot: a crash of the
machine makes them void, a crash of the daemon does not.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from wherry.images.store import StoredLayer
from wherry.model.ids import Digest
from wherry.model.images import Layer
from wherry.storage.database import Database

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_STEPS = (
    """
    CREATE TABLE build_steps (
        key TEXT PRIMARY KEY, parent TEXT NOT NULL, description TEXT NOT NULL,
        diff_id TEXT NOT NULL, chain_id TEXT NOT NULL, blob TEXT NOT NULL, media_type TEXT NOT NULL,
        blob_size INTEGER NOT NULL, size INTEGER NOT NULL, tar_size INTEGER NOT NULL,
        created INTEGER NOT NULL, used INTEGER NOT NULL, uses INTEGER NOT NULL, boot TEXT NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX build_steps_by_chain ON build_steps (chain_id);
    CREATE TABLE build_mounts (
        id TEXT PRIMARY KEY, folder TEXT NOT NULL,
        created INTEGER NOT NULL, used INTEGER NOT NULL, uses INTEGER NOT NULL
    ) WITHOUT ROWID
    """,
)


@dataclass(frozen=True, slots=True)
class StepResult:
    """What a step came to: a layer, or None where it changed nothing."""

    layer: StoredLayer | None


@dataclass(frozen=True, slots=True)
class StepRow:
    """One row; times are nanoseconds since the epoch."""

    key: str
    parent: str
    description: str
    chain: str
    blob: str
    size: int
    created: int
    used: int
    uses: int


@dataclass(frozen=True, slots=True)
class MountRow:
    """One cache mount and the folder it lies in."""

    id: str
    folder: str
    created: int
    used: int
    uses: int


class BuildCache:
    """The tables. Safe for several threads."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._boot = _BOOT_ID.read_text().strip()
        database.migrate("build", _STEPS)
        database.query("DELETE FROM build_steps WHERE boot NOT IN ('', ?)", self._boot)

    def find(self, key: str) -> StepResult | None:
        """Return the result of a step, None where there is none."""
        rows = self._database.query(
            "SELECT diff_id, chain_id, blob, media_type, blob_size, size, tar_size"
            " FROM build_steps WHERE key = ?",
            key,
        )
        if not rows:
            return None
        diff, chain, blob, kind, length, size, tar_size = rows[0]
        if not diff:
            return StepResult(None)
        layer = Layer(
            Digest.parse(diff), Digest.parse(chain), Digest.parse(blob), kind, length, size
        )
        return StepResult(StoredLayer(layer, tar_size))

    def put(self, key: str, result: StepResult, parent: Sequence[Digest], description: str) -> None:
        """Keep a result, in place of an older one. Raises Full."""
        now = time.time_ns()
        if result.layer is None:
            columns: tuple[object, ...] = ("", "", "", "", 0, 0, 0)
        else:
            layer = result.layer.layer
            columns = (
                str(layer.diff_id),
                str(layer.chain_id),
                str(layer.blob),
                layer.media_type,
                layer.blob_size,
                layer.size,
                result.layer.tar_size,
            )
        self._database.query(
            "INSERT OR REPLACE INTO build_steps VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
            key,
            str(parent[-1]) if parent else "",
            description,
            *columns,
            now,
            now,
            0,
            self._boot,
        )

    def touch(self, keys: Iterable[str]) -> None:
        """Note that results were used just now."""
        now = time.time_ns()
        with self._database.transaction() as connection:
            connection.executemany(
                "UPDATE build_steps SET used = ?, uses = uses + 1 WHERE key = ?",
                [(now, key) for key in keys],
            )

    def settled(self, keys: Iterable[str]) -> None:
        """Note that the layers of results are synced to disk."""
        with self._database.transaction() as connection:
            connection.executemany(
                "UPDATE build_steps SET boot = '' WHERE key = ?", [(key,) for key in keys]
            )

    def rows(self) -> list[StepRow]:
        """Return all results."""
        rows = self._database.query(
            "SELECT key, parent, description, chain_id, blob, size, created, used, uses FROM build_steps"
        )
        return [StepRow(*row) for row in rows]

    def empty(self) -> bool:
        """Whether there are neither results nor cache mounts."""
        rows = self._database.query(
            "SELECT 1 FROM build_steps UNION ALL SELECT 1 FROM build_mounts LIMIT 1"
        )
        return not rows

    def remove(self, keys: Iterable[str]) -> None:
        """Forget results; what only they kept is the collector's then."""
        with self._database.transaction() as connection:
            connection.executemany(
                "DELETE FROM build_steps WHERE key = ?", [(key,) for key in keys]
            )

    def live_layers(self) -> Iterable[Digest]:
        """Return the chain ids of all results."""
        rows = self._database.query(
            "SELECT DISTINCT chain_id FROM build_steps WHERE chain_id != ''"
        )
        return [Digest.parse(row[0]) for row in rows]

    def live_blobs(self) -> Iterable[Digest]:
        """Return the blobs of all results."""
        rows = self._database.query("SELECT DISTINCT blob FROM build_steps WHERE blob != ''")
        return [Digest.parse(row[0]) for row in rows]

    # -- cache mounts ------------------------------------------------------------------------

    def mounts(self) -> list[MountRow]:
        """Return all cache mounts."""
        rows = self._database.query("SELECT id, folder, created, used, uses FROM build_mounts")
        return [MountRow(*row) for row in rows]

    def use_mount(self, identifier: str, folder: str) -> None:
        """Note that a cache mount was used just now; it is made known where it is new."""
        now = time.time_ns()
        self._database.query(
            "INSERT INTO build_mounts VALUES (?, ?, ?, ?, 1)"
            " ON CONFLICT (id) DO UPDATE SET used = excluded.used, uses = uses + 1",
            identifier,
            folder,
            now,
            now,
        )

    def remove_mount(self, identifier: str) -> None:
        """Forget a cache mount."""
        self._database.query("DELETE FROM build_mounts WHERE id = ?", identifier)
