"""What is known of layers beyond this machine: in which repositories their blobs are, and in which
compressed form they were pushed. It spares work and decides nothing: whoever uses it asks the registry.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from wherry.model.ids import Digest
from wherry.storage.database import Database

_MOST_PLACES = 16
_STEPS = (
    """
    CREATE TABLE blob_places (
        blob TEXT NOT NULL, repository TEXT NOT NULL, seen INTEGER NOT NULL,
        PRIMARY KEY (blob, repository)
    ) WITHOUT ROWID;
    CREATE TABLE layer_forms (
        diff_id TEXT PRIMARY KEY, blob TEXT NOT NULL, media_type TEXT NOT NULL,
        size INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE uploads (
        repository TEXT NOT NULL, blob TEXT NOT NULL, url TEXT NOT NULL,
        PRIMARY KEY (repository, blob)
    ) WITHOUT ROWID
    """,
)


@dataclass(frozen=True, slots=True)
class LayerForm:
    """A layer's compressed blob."""

    blob: Digest
    media_type: str
    size: int


class Places:
    """The tables. Repositories are canonical (`docker.io/library/debian`)."""

    def __init__(self, database: Database) -> None:
        self._database = database
        database.migrate("places", _STEPS)

    def add(self, repository: str, blobs: Iterable[Digest]) -> None:
        """Note that a repository has blobs; of each the latest few are kept."""
        with self._database.transaction() as connection:
            for blob in blobs:
                (latest,) = connection.execute("SELECT max(seen) FROM blob_places").fetchone()
                connection.execute(
                    "INSERT OR REPLACE INTO blob_places VALUES (?, ?, ?)",
                    (str(blob), repository, (latest or 0) + 1),
                )
                connection.execute(
                    "DELETE FROM blob_places WHERE blob = ?1 AND repository NOT IN (SELECT repository"
                    " FROM blob_places WHERE blob = ?1 ORDER BY seen DESC LIMIT ?2)",
                    (str(blob), _MOST_PLACES),
                )

    def remove(self, repository: str, blob: Digest) -> None:
        """Note that a repository has a blob no more."""
        self._database.query(
            "DELETE FROM blob_places WHERE blob = ? AND repository = ?", str(blob), repository
        )

    def of(self, blob: Digest) -> Sequence[str]:
        """Return the repositories that had the blob, the latest first."""
        rows = self._database.query(
            "SELECT repository FROM blob_places WHERE blob = ? ORDER BY seen DESC", str(blob)
        )
        return [row[0] for row in rows]

    def form(self, diff_id: Digest) -> LayerForm | None:
        """Return the compressed form that a layer was given."""
        rows = self._database.query(
            "SELECT blob, media_type, size FROM layer_forms WHERE diff_id = ?", str(diff_id)
        )
        return LayerForm(Digest.parse(rows[0][0]), rows[0][1], rows[0][2]) if rows else None

    def keep_form(self, diff_id: Digest, form: LayerForm) -> None:
        """Remember a layer's compressed form, whose blob is then live as long as the layer is."""
        self._database.query(
            "INSERT OR REPLACE INTO layer_forms VALUES (?, ?, ?, ?)",
            str(diff_id),
            str(form.blob),
            form.media_type,
            form.size,
        )

    def upload(self, repository: str, blob: Digest) -> str:
        """Return the URL of an upload that was begun and not finished, or ""."""
        rows = self._database.query(
            "SELECT url FROM uploads WHERE repository = ? AND blob = ?", repository, str(blob)
        )
        return rows[0][0] if rows else ""

    def keep_upload(self, repository: str, blob: Digest, url: str) -> None:
        """Remember an upload; an empty URL forgets it."""
        if not url:
            self._database.query(
                "DELETE FROM uploads WHERE repository = ? AND blob = ?", repository, str(blob)
            )
            return
        self._database.query(
            "INSERT OR REPLACE INTO uploads VALUES (?, ?, ?)", repository, str(blob), url
        )

    def live_blobs(self) -> Iterable[Digest]:
        """Return the compressed forms of layers that some image has."""
        rows = self._database.query(
            "SELECT DISTINCT f.blob FROM layer_forms f JOIN image_layers l ON l.diff_id = f.diff_id"
        )
        return [Digest.parse(row[0]) for row in rows]
