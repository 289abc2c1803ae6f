"""The images there are: their names, layers and parents, in the database; their bytes, by digest.

An image is registered in one transaction after everything that it refers to is durable, so what
`resolve` finds is whole. Blocking, and safe for several threads.
"""

from __future__ import annotations

import re
import sqlite3
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from wherry.images.config import LARGEST_CONFIG, decode_config
from wherry.kernel.failpoints import failpoint
from wherry.model.errors import Invalid, NotFound
from wherry.model.ids import Digest, Reference
from wherry.model.images import Image, Layer
from wherry.storage.content import ContentStore
from wherry.storage.database import Database

_ID_PREFIX = re.compile(r"(?:sha256:)?([0-9a-f]{1,64})")
_CACHED = 512
_STEPS = (
    """
    CREATE TABLE images (
        id TEXT PRIMARY KEY, manifest TEXT NOT NULL, parent TEXT, last_tagged INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE image_layers (
        image TEXT NOT NULL REFERENCES images (id) ON DELETE CASCADE, position INTEGER NOT NULL,
        diff_id TEXT NOT NULL, chain_id TEXT NOT NULL, blob TEXT NOT NULL,
        media_type TEXT NOT NULL, blob_size INTEGER NOT NULL, size INTEGER NOT NULL,
        tar_size INTEGER NOT NULL, PRIMARY KEY (image, position)
    ) WITHOUT ROWID;
    CREATE INDEX image_layers_by_chain ON image_layers (chain_id);
    CREATE TABLE image_names (
        repository TEXT NOT NULL, tag TEXT NOT NULL,
        image TEXT NOT NULL REFERENCES images (id) ON DELETE CASCADE,
        PRIMARY KEY (repository, tag)
    ) WITHOUT ROWID;
    CREATE INDEX image_names_by_image ON image_names (image);
    CREATE TABLE image_digests (
        repository TEXT NOT NULL, digest TEXT NOT NULL,
        image TEXT NOT NULL REFERENCES images (id) ON DELETE CASCADE,
        PRIMARY KEY (repository, digest)
    ) WITHOUT ROWID
    """,
)


@dataclass(frozen=True, slots=True)
class StoredLayer:
    """A layer, and the bytes of its uncompressed archive."""

    layer: Layer
    tar_size: int


class ImageStore:
    """Names to images. The names in the tables are canonical (`docker.io/library/debian`)."""

    def __init__(self, database: Database, content: ContentStore) -> None:
        self._database = database
        self._content = content
        # By manifest too: the same image may be removed and come back in other blobs.
        self._whole: dict[tuple[Digest, str], Image] = {}
        self._lock = threading.Lock()
        database.migrate("images", _STEPS)

    def resolve(self, ref: str) -> Image:
        """Return the image that `ref` names: a name, name:tag, name@digest, an id or a unique prefix of one.

        Raises NotFound with Docker's words, Invalid where `ref` can be neither name nor id.
        """
        full = ref.removeprefix("sha256:")
        if len(full) == 64 and _ID_PREFIX.fullmatch(full):
            return self.get(Digest("sha256", full), ref)
        reference = Reference.parse(ref).with_default_tag()
        identifier = self._named(reference)
        if identifier is None:
            identifier = self._with_prefix(ref, reference)
        return self.get(identifier, ref)

    def get(self, identifier: Digest, ref: str = "") -> Image:
        """Return the image with that id, whole; raise NotFound (which says `ref`)."""
        rows = self._database.query(
            "SELECT manifest, parent, last_tagged FROM images WHERE id = ?", str(identifier)
        )
        if not rows:
            raise NotFound("image", ref or str(identifier))
        manifest, parent, last_tagged = rows[0]
        with self._lock:
            known = self._whole.get((identifier, manifest))
        if known is None:
            known = self._read(identifier, manifest)
            with self._lock:
                while len(self._whole) >= _CACHED:
                    self._whole.pop(next(iter(self._whole)))
                self._whole[identifier, manifest] = known
        names = self.references(identifier)
        return replace(
            known,
            names=tuple(name.familiar for name in names if name.tag),
            repo_digests=tuple(name.familiar for name in names if name.digest),
            parent=Digest.parse(parent) if parent else None,
            last_tagged=last_tagged,
        )

    def is_id(self, ref: str, identifier: Digest) -> bool:
        """Whether `ref`, which resolved to the image, is its id or a part of it rather than a name."""
        match = _ID_PREFIX.fullmatch(ref)
        if match is None or not identifier.hex.startswith(match[1]):
            return False
        if len(match[1]) == 64:
            return True
        return self._named(Reference.parse(ref).with_default_tag()) != identifier

    def has(self, identifier: Digest) -> bool:
        """Whether there is an image with that id."""
        return bool(self._database.query("SELECT 1 FROM images WHERE id = ?", str(identifier)))

    def ids(self) -> list[Digest]:
        """Return every image's id."""
        return [Digest.parse(row[0]) for row in self._database.query("SELECT id FROM images")]

    def images(self) -> list[Image]:
        """Return every image."""
        found: list[Image] = []
        for identifier in self.ids():
            try:
                found.append(self.get(identifier))
            except NotFound:
                continue
        return found

    def references(self, identifier: Digest) -> list[Reference]:
        """Return the image's names, those with a tag first."""
        tags = self._database.query(
            "SELECT repository, tag FROM image_names WHERE image = ? ORDER BY 1, 2", str(identifier)
        )
        digests = self._database.query(
            "SELECT repository, digest FROM image_digests WHERE image = ? ORDER BY 1, 2",
            str(identifier),
        )
        return [_reference(repository, tag) for repository, tag in tags] + [
            _reference(repository, digest=Digest.parse(digest)) for repository, digest in digests
        ]

    def in_repository(self, reference: Reference) -> list[tuple[Reference, Digest]]:
        """Return every tag of the reference's repository, with its image."""
        rows = self._database.query(
            "SELECT tag, image FROM image_names WHERE repository = ? ORDER BY tag",
            reference.repository,
        )
        return [(_reference(reference.repository, tag), Digest.parse(row)) for tag, row in rows]

    def children(self, identifier: Digest) -> list[Digest]:
        """Return the images that were made from this one here."""
        rows = self._database.query("SELECT id FROM images WHERE parent = ?", str(identifier))
        return [Digest.parse(row[0]) for row in rows]

    def layers(self, identifier: Digest) -> tuple[StoredLayer, ...]:
        """Return the image's layers, base first; none where there is no such image."""
        rows = self._database.query(
            "SELECT diff_id, chain_id, blob, media_type, blob_size, size, tar_size"
            " FROM image_layers WHERE image = ? ORDER BY position",
            str(identifier),
        )
        return tuple(
            StoredLayer(
                Layer(
                    Digest.parse(diff), Digest.parse(chain), Digest.parse(blob), kind, length, size
                ),
                tar_size,
            )
            for diff, chain, blob, kind, length, size, tar_size in rows
        )

    def layer_of(self, chain: Digest) -> StoredLayer | None:
        """Return the layer with that chain id, as some image has it."""
        rows = self._database.query(
            "SELECT image, position FROM image_layers WHERE chain_id = ? LIMIT 1", str(chain)
        )
        layers = self.layers(Digest.parse(rows[0][0])) if rows else ()
        position: int = rows[0][1] if rows else 0
        return layers[position] if layers else None

    def named(self, reference: Reference) -> Digest | None:
        """Return the id of the image that has exactly this name, tag or digest."""
        return self._named(reference)

    def layer_sizes(self, chain: Digest) -> tuple[int, int] | None:
        """Return the layer's size unpacked and as an archive, where some image has it."""
        rows = self._database.query(
            "SELECT size, tar_size FROM image_layers WHERE chain_id = ? LIMIT 1", str(chain)
        )
        return (rows[0][0], rows[0][1]) if rows else None

    def config_json(self, identifier: Digest) -> bytes:
        """Return the image's configuration as it came. Raises NotFound."""
        return self._content.read(identifier, limit=LARGEST_CONFIG)

    def disk_usage(self) -> int:
        """Return the bytes of all layers unpacked, each counted once."""
        rows = self._database.query(
            "SELECT coalesce(sum(size), 0) FROM"
            " (SELECT max(size) AS size FROM image_layers GROUP BY chain_id)"
        )
        return rows[0][0]

    def live_layers(self) -> Iterable[Digest]:
        """Return the chain ids of all images' layers."""
        rows = self._database.query("SELECT DISTINCT chain_id FROM image_layers")
        return [Digest.parse(row[0]) for row in rows]

    def live_blobs(self) -> Iterable[Digest]:
        """Return the blobs of all images: configurations, manifests, layers."""
        rows = self._database.query(
            "SELECT id FROM images UNION SELECT manifest FROM images UNION SELECT blob FROM image_layers"
        )
        return [Digest.parse(row[0]) for row in rows]

    def register(
        self,
        identifier: Digest,
        manifest: Digest,
        layers: Sequence[StoredLayer],
        *,
        references: Sequence[Reference] = (),
        parent: Digest | None = None,
    ) -> tuple[Image, dict[Reference, Digest]]:
        """Make an image known, durably; return it, and the names that it took with whom from.

        One that is known already keeps its manifest and layers and gains the names.
        """
        failpoint("images.before-register")
        with self._database.transaction() as connection:
            known = connection.execute(
                "INSERT INTO images VALUES (?, ?, ?, 0) ON CONFLICT DO NOTHING",
                (str(identifier), str(manifest), str(parent) if parent else None),
            )
            if known.rowcount:
                connection.executemany(
                    "INSERT INTO image_layers VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    [
                        (str(identifier), position, *_columns(stored))
                        for position, stored in enumerate(layers)
                    ],
                )
            taken = _tag(connection, identifier, references)
            # Read in here, since it may be removed again as soon as it is there.
            image = self.get(identifier)
        failpoint("images.after-register")
        return image, taken

    def tag(self, identifier: Digest, reference: Reference) -> Digest | None:
        """Give the image a name; return the image that had it before, if another. Raises NotFound."""
        try:
            with self._database.transaction() as connection:
                return _tag(connection, identifier, (reference,)).get(reference)
        except sqlite3.IntegrityError as error:
            raise NotFound("image", str(identifier)) from error

    def untag(self, reference: Reference) -> None:
        """Take a name away; one that is not there is fine."""
        if reference.digest:
            self._database.query(
                "DELETE FROM image_digests WHERE repository = ? AND digest = ?",
                reference.repository,
                str(reference.digest),
            )
        else:
            self._database.query(
                "DELETE FROM image_names WHERE repository = ? AND tag = ?",
                reference.repository,
                reference.tag,
            )

    def forget(self, identifier: Digest) -> None:
        """Remove the image, its names and layers from the tables; its bytes stay until collected."""
        self._database.query("DELETE FROM images WHERE id = ?", str(identifier))

    def _read(self, identifier: Digest, manifest: str) -> Image:
        made = decode_config(self.config_json(identifier), str(identifier))
        return Image(
            id=identifier,
            manifest=Digest.parse(manifest),
            config=made.config,
            layers=tuple(stored.layer for stored in self.layers(identifier)),
            created=made.created,
            platform=made.platform,
            author=made.author,
            # A commit by Docker 28 keeps its message only there.
            comment=made.comment or (made.history[-1].comment if made.history else ""),
            history=made.history,
        )

    def _named(self, reference: Reference) -> Digest | None:
        if reference.digest:
            rows = self._database.query(
                "SELECT image FROM image_digests WHERE repository = ? AND digest = ?",
                reference.repository,
                str(reference.digest),
            )
        else:
            rows = self._database.query(
                "SELECT image FROM image_names WHERE repository = ? AND tag = ?",
                reference.repository,
                reference.tag,
            )
        return Digest.parse(rows[0][0]) if rows else None

    def _with_prefix(self, ref: str, reference: Reference) -> Digest:
        match = _ID_PREFIX.fullmatch(ref)
        found: list[Digest] = []
        if match:
            # A range, not LIKE: the primary key's order answers it without a scan.
            low = f"sha256:{match[1]}"
            rows = self._database.query(
                "SELECT id FROM images WHERE id >= ? AND id < ? LIMIT 2", low, low + "g"
            )
            found = [Digest.parse(row[0]) for row in rows]
        if len(found) != 1:
            raise NotFound(
                "image",
                reference.familiar,
                hint="several images' ids begin so: give more of it" if found else "",
            )
        return found[0]


def check_taggable(repository: str, tag: str) -> Reference:
    """Return the name `repository:tag` (tag latest where empty), or raise Invalid with Docker's words."""
    reference = Reference.parse(f"{repository}:{tag}" if tag else repository)
    if reference.digest:
        raise Invalid("refusing to create a tag with a digest reference")
    return reference.with_default_tag()


def _tag(
    connection: sqlite3.Connection, identifier: Digest, references: Iterable[Reference]
) -> dict[Reference, Digest]:
    taken: dict[Reference, Digest] = {}
    for reference in references:
        if reference.digest:
            connection.execute(
                "INSERT OR REPLACE INTO image_digests VALUES (?, ?, ?)",
                (reference.repository, str(reference.digest), str(identifier)),
            )
            continue
        rows = connection.execute(
            "SELECT image FROM image_names WHERE repository = ? AND tag = ?",
            (reference.repository, reference.tag),
        ).fetchall()
        if rows and rows[0][0] != str(identifier):
            taken[reference] = Digest.parse(rows[0][0])
        connection.execute(
            "INSERT OR REPLACE INTO image_names VALUES (?, ?, ?)",
            (reference.repository, reference.tag, str(identifier)),
        )
        connection.execute(
            "UPDATE images SET last_tagged = ? WHERE id = ?", (time.time_ns(), str(identifier))
        )
    return taken


def _columns(stored: StoredLayer) -> tuple[str | int, ...]:
    layer = stored.layer
    return (
        str(layer.diff_id),
        str(layer.chain_id),
        str(layer.blob),
        layer.media_type,
        layer.blob_size,
        layer.size,
        stored.tar_size,
    )


def _reference(repository: str, tag: str = "", digest: Digest | None = None) -> Reference:
    domain, _, path = repository.partition("/")
    return Reference(domain, path, tag, digest)
