"""Mark and sweep while serving: what no manifest needs is taken from its repository, then from the disk.

    for each repository: mark what its manifests name > take away the other links
    then: remove the blobs that no repository has

A push has blobs that no manifest names yet. They are safe by age, by what clients were told lately
(`retention`), and by being looked at once more under the lock under which a manifest or a link comes
into being. Nothing is collected in the first `grace` seconds of a process, whose promises are those of
its predecessor too.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass

from wherry.kernel.failpoints import failpoint
from wherry.model.ids import Digest
from wherry.registry.server.documents import Document, parse_document
from wherry.registry.server.faults import Fault
from wherry.registry.server.repositories import Repositories

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Swept:
    """What one sweep removed."""

    manifests: int = 0
    links: int = 0
    blobs: int = 0
    space: int = 0
    """Bytes of those blobs."""


class Sweeper:
    """The collector of one registry."""

    def __init__(self, repositories: Repositories, *, untagged_age: float | None = None) -> None:
        self._repositories = repositories
        self._retention = repositories.retention
        self._untagged_age = untagged_age
        """Seconds after which a manifest that no tag leads to is removed; None keeps it."""
        self._manifests = self._links = 0

    async def sweep(self) -> Swept:
        """Remove what is dead. One at a time."""
        self._manifests = self._links = 0
        self._retention.begin_sweep()
        try:
            live: set[Digest] = set()
            async for repository in self._repositories.walk():
                live |= await self._sweep_repository(repository)
            blobs, space = await self._sweep_blobs(live)
        finally:
            self._retention.end_sweep()
        return Swept(self._manifests, self._links, blobs, space)

    async def _sweep_repository(self, repository: str) -> set[Digest]:
        """Return the blobs that the repository goes on to have."""
        linked = await self._repositories.linked(repository)
        documents = await self._read(repository)
        if documents is None:
            return set(linked)
        if self._untagged_age is not None:
            await self._remove_untagged(repository, documents, self._untagged_age)
        marked = {
            needed.digest
            for document in documents.values()
            for needed in (*document.blobs, *document.manifests)
        }
        kept: set[Digest] = set()
        for digest in linked:
            if digest in marked or not await self._old(repository, digest):
                kept.add(digest)
            elif await self._repositories.drop_unused(repository, digest):
                self._links += 1
            else:
                kept.add(digest)
        return kept

    async def _old(self, repository: str, digest: Digest) -> bool:
        written = await self._repositories.linked_at(repository, digest)
        return written is None or time.time() - written >= self._retention.grace

    async def _read(self, repository: str) -> dict[Digest, Document] | None:
        """Return every manifest; None where one cannot be read, so that all it may need is kept."""
        documents: dict[Digest, Document] = {}
        for digest in await self._repositories.manifests(repository):
            await asyncio.sleep(0)
            try:
                manifest = await self._repositories.manifest(repository, digest)
                documents[digest] = parse_document(manifest.data, manifest.media_type)
            except Fault as fault:
                if fault.status == 404:
                    continue
                log.warning("%s@%s: %s: nothing of it is collected", repository, digest, fault)
                return None
        return documents

    async def _remove_untagged(
        self, repository: str, documents: dict[Digest, Document], age: float
    ) -> None:
        roots: set[Digest] = set()
        for tag in await self._repositories.tags(repository):
            try:
                roots.add((await self._repositories.manifest(repository, tag)).digest)
            except Fault:
                continue
        kept = reachable(roots, documents)
        before = time.time() - age
        for digest in tuple(documents):
            pushed = await self._repositories.pushed_at(repository, digest)
            if digest in kept or pushed is None or pushed > before:
                continue
            if await self._repositories.delete_manifest(repository, digest):
                self._manifests += 1
                del documents[digest]

    async def _sweep_blobs(self, live: set[Digest]) -> tuple[int, int]:
        count = space = 0
        before = time.time() - self._retention.grace
        async for stored in self._repositories.blobs.stored():
            if stored.digest in live or stored.written > before:
                continue
            async with self._repositories.locks.hold(stored.digest):
                if self._retention.used_since(stored.digest):
                    continue
                failpoint("registry.before-collect")
                await self._repositories.blobs.remove(stored.digest)
            count += 1
            space += stored.size
        return count, space


def reachable(roots: set[Digest], documents: dict[Digest, Document]) -> set[Digest]:
    """Return the manifests that tags lead to: by an index's entries, and by subjects backwards."""
    kept: set[Digest] = set()
    pending = list(roots)
    about: dict[Digest, list[Digest]] = {}
    for digest, document in documents.items():
        if document.subject is not None:
            about.setdefault(document.subject, []).append(digest)
    while pending:
        digest = pending.pop()
        if digest in kept or digest not in documents:
            continue
        kept.add(digest)
        pending += [needed.digest for needed in documents[digest].manifests]
        pending += about.get(digest, [])
    return kept
