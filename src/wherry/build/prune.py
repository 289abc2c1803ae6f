"""What the cache holds, and taking away of it: filters, budgets, the longest unused first.

Source: docker-builder-prune(1), Engine API `/build/prune`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Protocol

from wherry.build.cache import BuildCache
from wherry.build.context.store import KeptFolder, StoredTree
from wherry.build.mountcache import MountCache
from wherry.build.service import CacheRecord, Pruned, Pruning
from wherry.images.store import ImageStore
from wherry.model.errors import Invalid, NotFound
from wherry.model.ids import Digest
from wherry.model.moments import parse_when
from wherry.model.views import Filters
from wherry.storage.collector import Collector
from wherry.storage.leases import Leases
from wherry.storage.trees import read_usage

_FILTERS = frozenset(
    "id parent type description inuse shared private mutable immutable until unused-for label".split()
)
_REGULAR = "regular"
_MOUNT = "exec.cachemount"
_FOLDER = "source.local"


class Folders(Protocol):
    """Clients' folders that are kept: `context.store`."""

    def folders(self) -> list[KeptFolder]: ...
    def forget(self, tree_id: str) -> None: ...
    def tree(self, tree_id: str) -> StoredTree: ...


class Keeper:
    """Lists and removes records."""

    def __init__(
        self,
        *,
        cache: BuildCache,
        mounts: MountCache,
        images: ImageStore,
        leases: Leases,
        collector: Collector,
        folders: Folders,
        root: Path,
    ) -> None:
        """`folders` are the clients' that are kept for their next build.

        `root` is on the file system whose free space a prune may be asked to keep.
        """
        self._cache = cache
        self._mounts = mounts
        self._images = images
        self._leases = leases
        self._collector = collector
        self._folders = folders
        self._root = root

    def records(self) -> list[CacheRecord]:
        """Return everything, the oldest first. Blocks."""
        in_images = {str(digest) for digest in self._images.live_layers()}
        found = [
            CacheRecord(
                id=row.key,
                kind=_REGULAR,
                description=row.description,
                size=row.size,
                created=row.created,
                last_used=row.used,
                uses=row.uses,
                in_use=bool(row.chain) and self._leases.held(Digest.parse(row.chain)),
                shared=row.chain in in_images,
                parents=(row.parent,) if row.parent else (),
            )
            for row in self._cache.rows()
        ]
        found += self._mounts_rows()
        found += self._folder_rows()
        return sorted(found, key=lambda record: (record.created, record.id))

    def _mounts_rows(self) -> list[CacheRecord]:
        found: list[CacheRecord] = []
        for row in self._cache.mounts():
            path = self._mounts.path(row.folder)
            size = read_usage(path) if path.is_dir() else 0
            found.append(
                CacheRecord(
                    id=f"mount:{row.id}",
                    kind=_MOUNT,
                    description=f"cached mount {row.id}",
                    size=size,
                    created=row.created,
                    last_used=row.used,
                    uses=row.uses,
                    in_use=self._mounts.in_use(row.id),
                )
            )
        return found

    def _folder_rows(self) -> list[CacheRecord]:
        found: list[CacheRecord] = []
        for kept in self._folders.folders():
            try:
                path = self._folders.tree(kept.id).path
                size, created = read_usage(path), os.stat(path).st_ctime_ns
            except (NotFound, OSError):
                continue  # Gone meanwhile.
            found.append(
                CacheRecord(
                    id=f"folder:{kept.id}",
                    kind=_FOLDER,
                    description=f"local source for {kept.key}",
                    size=size,
                    created=created,
                    last_used=int(kept.last_used * 1e9),
                    uses=kept.uses,
                    in_use=kept.in_use,
                )
            )
        return found

    def prune(self, wanted: Pruning) -> Pruned:
        """Remove what matches and nobody uses. Blocks. Raises Invalid for a filter."""
        filters, everything, keep_bytes = wanted.filters, wanted.everything, wanted.keep_bytes
        max_used, min_free = wanted.max_used, wanted.min_free
        try:
            matches = _Matcher(filters)
        except Invalid as error:
            raise Invalid(
                f"failed to prune build cache: {error.message}", hint=error.hint
            ) from None
        records = self.records()
        candidates = [
            record
            for record in records
            if not record.in_use
            and (everything or not record.shared or filters.get("shared"))
            and matches(record)
        ]
        candidates.sort(key=lambda record: record.last_used)
        bounded = max_used is not None or min_free is not None
        total = sum(record.size for record in records if not record.shared)
        free = self._free()
        gone: list[CacheRecord] = []
        for record in candidates:
            if keep_bytes is not None and total <= keep_bytes:
                break
            if bounded and (
                (max_used is None or total <= max_used) and (min_free is None or free >= min_free)
            ):
                break
            gone.append(record)
            if not record.shared:
                total -= record.size
                free += record.size
        return Pruned(tuple(record.id for record in gone), self._remove(gone))

    def _remove(self, gone: Sequence[CacheRecord]) -> int:
        keys = {record.id for record in gone if record.kind == _REGULAR}
        rows = [row for row in self._cache.rows() if row.key in keys]
        self._cache.remove(keys)
        digests = [Digest.parse(text) for row in rows for text in (row.chain, row.blob) if text]
        space = self._collector.collect(digests).space
        folders = {f"mount:{row.id}": row for row in self._cache.mounts()}
        for record in gone:
            if record.kind == _MOUNT and (row := folders.get(record.id)) is not None:
                self._mounts.remove(row.id, row.folder)
                space += record.size
            elif record.kind == _FOLDER:
                self._folders.forget(record.id.removeprefix("folder:"))
                space += record.size
        return space

    def _free(self) -> int:
        status = os.statvfs(self._root)
        return status.f_bavail * status.f_frsize


class _Matcher:
    def __init__(self, filters: Filters) -> None:
        for name in filters:
            if name.rstrip("!~") not in _FILTERS:
                raise Invalid(f"invalid filter '{name}'")
        self._filters = filters
        self._now = time.time_ns()
        self._ages = [
            self._age(name, value)
            for name in ("until", "unused-for")
            for value in filters.get(name, ())
        ]

    def _age(self, name: str, value: str) -> int:
        try:
            return parse_when(value, self._now)
        except Invalid as error:
            raise Invalid(
                f"\"{name}\" filter expects a duration (e.g., '24h') or a timestamp: {error.message}"
            ) from None

    def __call__(self, record: CacheRecord) -> bool:
        if any(record.last_used > age for age in self._ages):
            return False
        return all(
            self._one(name, values, record)
            for name, values in self._filters.items()
            if name not in ("until", "unused-for")
        )

    def _one(self, name: str, values: Sequence[str], record: CacheRecord) -> bool:
        match name:
            case "id":
                return any(_like(record.id, value) for value in values)
            case "parent":
                return any(_like(parent, value) for value in values for parent in record.parents)
            case "type":
                return record.kind in values
            case "description":
                return any(_like(record.description, value) for value in values)
            case "inuse":
                return _truth(values, name) is record.in_use
            case "shared":
                return _truth(values, name) is record.shared
            case "private":
                return _truth(values, name) is not record.shared
            case "label":
                # `docker system prune --filter label=…` asks here too; no record has labels.
                return False
            case "label!":
                return True
            case "mutable":
                return _truth(values, name) is record.mutable
            case _:
                return _truth(values, name) is not record.mutable


def _like(text: str, wanted: str) -> bool:
    wanted = wanted.removeprefix("~").removeprefix("=")
    return text.startswith(wanted) or wanted in text or fnmatchcase(text, wanted)


def _truth(values: Sequence[str], name: str) -> bool:
    value = (values[-1] if values else "true").lower()
    if value not in ("", "true", "1", "false", "0"):
        raise Invalid(f"invalid filter '{name}={value}'", hint="true or false")
    return value in ("", "true", "1")
