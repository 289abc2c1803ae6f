"""Repositories over records: which blobs, manifests, tags and referrers each has.

    <repository>/_blobs/<algorithm>/<hex>                          the repository has this blob
    <repository>/_manifests/<algorithm>/<hex>                      media type, newline, the manifest
    <repository>/_tags/<tag>                                       a manifest's digest
    <repository>/_referrers/<algorithm>/<hex>/<algorithm>-<hex>    a descriptor, by its subject

A component of a repository's name never begins with `_`, so these collide with none. What must be seen
together is written in this order: referrer, manifest, tag; a reader takes a referrer for real only where
its manifest is.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from typing import Final, Protocol

import msgspec

from wherry.kernel.failpoints import failpoint
from wherry.model.ids import Digest
from wherry.registry.server.documents import Document, Needed, parse_document
from wherry.registry.server.faults import Code, Fault, Faults
from wherry.registry.server.locks import KeyedLocks
from wherry.registry.server.retention import Retention
from wherry.registry.server.storage import Blobs, Records

_MISSING_NAMED: Final = 50
"""How many missing blobs an answer lists."""
_BREATH: Final = 256
"""After so many look-ups other requests get their turn."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest as it was pushed."""

    digest: Digest
    media_type: str
    data: bytes


class TagCondition(Protocol):
    """What a push asks of the tag before it moves: If-Match, If-None-Match."""

    def __call__(self, present: Digest | None) -> bool: ...


class Repositories:
    """All repositories of one registry. Only the collector removes blobs beside it."""

    def __init__(self, blobs: Blobs, records: Records, retention: Retention) -> None:
        self.blobs = blobs
        self.records = records
        self.retention = retention
        self.locks = KeyedLocks()
        """By repository's name for its manifests, by digest for a blob that comes or goes."""

    async def names(self) -> list[str]:
        """Return the name of every repository that has a manifest, sorted."""
        return sorted([name async for name in self.walk() if await self._has_manifests(name)])

    async def _has_manifests(self, repository: str) -> bool:
        return bool(await self.records.names(f"{repository}/_manifests"))

    async def walk(self, prefix: str = "") -> AsyncIterator[str]:
        """Yield the name of every repository that has anything, in no order."""
        children = await self.records.names(prefix)
        if prefix and any(child.startswith("_") for child in children):
            yield prefix
        await asyncio.sleep(0)
        for child in children:
            if not child.startswith("_"):
                async for name in self.walk(f"{prefix}/{child}" if prefix else child):
                    yield name

    async def exists(self, repository: str) -> bool:
        """Whether the repository has, or had, anything."""
        children = await self.records.names(repository)
        return any(child.startswith("_") for child in children)

    # Blobs.

    async def blob_size(self, repository: str, digest: Digest) -> int | None:
        """Return the bytes of a blob that the repository has, None where it has not.

        The client may rely on the answer for a while: see `retention`.
        """
        self.retention.touch(repository, digest)
        if await self.records.written(_blob_key(repository, digest)) is None:
            return None
        return await self.blobs.size(digest)

    async def link_blob(self, repository: str, digest: Digest) -> None:
        """Give the repository a blob that is in the store; call under the digest's lock."""
        await self.records.put(_blob_key(repository, digest), b"")
        # After it: a sweep that began meanwhile has read the links without this one.
        self.retention.touch(repository, digest)

    async def mount_blob(self, repository: str, digest: Digest, sources: Iterable[str]) -> bool:
        """Give the repository a blob that one of `sources` has; return whether one had it."""
        for source in sources:
            async with self.locks.hold(digest):
                if await self.blob_size(source, digest) is not None:
                    await self.link_blob(repository, digest)
                    return True
        return False

    async def adopt_blob(self, repository: str, digest: Digest) -> bool:
        """Give the repository a blob of a neighbouring store; return whether that had it."""
        async with self.locks.hold(digest):
            if not await self.blobs.adopt(digest):
                return False
            await self.link_blob(repository, digest)
            return True

    async def drop_unused(self, repository: str, digest: Digest) -> bool:
        """Take away a blob that no manifest of the repository needs; return whether it is gone.

        For the collector, which looked at the manifests before: what came meanwhile is seen here.
        """
        key = _blob_key(repository, digest)
        async with self.locks.hold(repository):
            if self.retention.kept(repository, digest):
                return False
            await self.records.remove(key)
            # Someone may have asked while it was removed, and been told that it is there.
            if self.retention.kept(repository, digest):
                await self.records.put(key, b"")
                return False
            return True

    async def linked_at(self, repository: str, digest: Digest) -> float | None:
        """Return when the repository got the blob (seconds since the epoch)."""
        return await self.records.written(_blob_key(repository, digest))

    async def pushed_at(self, repository: str, digest: Digest) -> float | None:
        """Return when the manifest was pushed (seconds since the epoch)."""
        return await self.records.written(_manifest_key(repository, digest))

    async def unlink_blob(self, repository: str, digest: Digest) -> bool:
        """Take a blob away from the repository; the collector frees it later."""
        return await self.records.remove(_blob_key(repository, digest))

    # Manifests and tags.

    async def manifest(self, repository: str, reference: Digest | str) -> Manifest:
        """Return what a digest or a tag names. Raises Fault MANIFEST_UNKNOWN, NAME_UNKNOWN."""
        digest = reference
        if isinstance(digest, str):
            digest = await self._tagged(repository, digest)
        value = None
        if digest is not None:
            value = await self.records.get(_manifest_key(repository, digest))
        if value is None or digest is None:
            if not await self.exists(repository):
                raise unknown_name(repository)
            raise Fault(
                Code.MANIFEST_UNKNOWN,
                f"manifest unknown: {repository} has no {reference}",
                detail={"name": repository, "reference": str(reference)},
            )
        media_type, _, data = value.partition(b"\n")
        return Manifest(digest, media_type.decode(), data)

    async def _tagged(self, repository: str, tag: str) -> Digest | None:
        value = await self.records.get(_tag_key(repository, tag))
        return None if value is None else Digest.parse(value.decode())

    async def put_manifest(
        self,
        repository: str,
        reference: Digest | str,
        data: bytes,
        document: Document,
        condition: TagCondition | None = None,
    ) -> Digest:
        """Store a manifest, under a tag where `reference` is one; return its digest.

        Raises Fault: DIGEST_INVALID, MANIFEST_BLOB_UNKNOWN (Faults: one for each missing),
        SIZE_INVALID, or 412 where `condition` does not hold.
        """
        tag = reference if isinstance(reference, str) else ""
        algorithm = reference.algorithm if isinstance(reference, Digest) else "sha256"
        digest = Digest.of(data, algorithm)
        if isinstance(reference, Digest) and digest != reference:
            raise Fault(
                Code.DIGEST_INVALID,
                f"the manifest's digest is {digest}, not {reference}",
                detail={"digest": str(reference)},
            )
        async with self.locks.hold(repository):
            present = await self._tagged(repository, tag) if tag else None
            if condition is not None and not condition(present):
                raise Fault(Code.DENIED, "the tag is not what the request expects", status=412)
            await self._check_needs(repository, document)
            if document.subject is not None:
                key = _referrer_key(repository, document.subject, digest)
                await self.records.put(key, _render_referrer(digest, len(data), document))
            failpoint("registry.before-manifest")
            key = _manifest_key(repository, digest)
            value = document.media_type.encode() + b"\n" + data
            if await self.records.get(key) != value:
                await self.records.put(key, value)
            failpoint("registry.before-tag")
            if tag and present != digest:
                await self.records.put(_tag_key(repository, tag), str(digest).encode())
            # A sweep that began meanwhile may have read the manifests without this one.
            needs = (*document.blobs, *document.manifests)
            self.retention.touch(repository, *(needed.digest for needed in needs))
        return digest

    async def _check_needs(self, repository: str, document: Document) -> None:
        faults: list[Fault] = []
        for number, needed in enumerate((*document.blobs, *document.manifests)):
            if number % _BREATH == _BREATH - 1:
                await asyncio.sleep(0)
            fault = await self._objection(repository, needed)
            if fault is not None:
                faults.append(fault)
                if len(faults) == _MISSING_NAMED:
                    break
        if faults:
            raise faults[0] if len(faults) == 1 else Faults(tuple(faults))

    async def _objection(self, repository: str, needed: Needed) -> Fault | None:
        size = await self.blob_size(repository, needed.digest)
        if size is None:
            value = await self.records.get(_manifest_key(repository, needed.digest))
            size = None if value is None else len(value) - value.index(b"\n") - 1
        if size is None:
            return Fault(
                Code.MANIFEST_BLOB_UNKNOWN,
                f"the manifest refers to {needed.digest}, which {repository} has not",
                detail={"digest": str(needed.digest)},
            )
        if size != needed.size:
            return Fault(
                Code.SIZE_INVALID,
                f"the manifest says that {needed.digest} has {needed.size} bytes; it has {size}",
                detail={"digest": str(needed.digest)},
            )
        return None

    async def delete_tag(self, repository: str, tag: str) -> bool:
        """Remove a tag, not what it names; return whether it was there."""
        async with self.locks.hold(repository):
            return await self.records.remove(_tag_key(repository, tag))

    async def delete_manifest(self, repository: str, digest: Digest) -> bool:
        """Remove a manifest and the tags that name it; return whether it was there."""
        async with self.locks.hold(repository):
            value = await self.records.get(_manifest_key(repository, digest))
            if value is None:
                return False
            for tag in await self.records.names(f"{repository}/_tags"):
                if await self._tagged(repository, tag) == digest:
                    await self.records.remove(_tag_key(repository, tag))
            failpoint("registry.before-delete")
            await self.records.remove(_manifest_key(repository, digest))
            media_type, _, data = value.partition(b"\n")
            subject = parse_document(data, media_type.decode()).subject
            if subject is not None:
                await self.records.remove(_referrer_key(repository, subject, digest))
            return True

    async def tags(self, repository: str) -> list[str]:
        """Return the tags in the specification's order, letter case aside. Raises Fault NAME_UNKNOWN."""
        found = await self.records.names(f"{repository}/_tags")
        if not found and not await self.exists(repository):
            raise unknown_name(repository)
        return sorted(found, key=tag_order)

    async def manifests(self, repository: str) -> list[Digest]:
        """Return the digest of every manifest, in no order."""
        found: list[Digest] = []
        for algorithm in await self.records.names(f"{repository}/_manifests"):
            prefix = f"{repository}/_manifests/{algorithm}"
            found += [Digest(algorithm, name) for name in await self.records.names(prefix)]
        return found

    async def linked(self, repository: str) -> list[Digest]:
        """Return the digest of every blob that the repository has, in no order."""
        found: list[Digest] = []
        for algorithm in await self.records.names(f"{repository}/_blobs"):
            prefix = f"{repository}/_blobs/{algorithm}"
            found += [Digest(algorithm, name) for name in await self.records.names(prefix)]
        return found

    async def referrers(self, repository: str, subject: Digest) -> list[dict[str, object]]:
        """Return the descriptors of the manifests whose subject this is, by digest."""
        prefix = f"{repository}/_referrers/{subject.algorithm}/{subject.hex}"
        found: list[dict[str, object]] = []
        for name in sorted(await self.records.names(prefix)):
            algorithm, _, digits = name.partition("-")
            key = _manifest_key(repository, Digest(algorithm, digits))
            if await self.records.written(key) is None:
                continue
            value = await self.records.get(f"{prefix}/{name}")
            if value is not None:
                found.append(msgspec.json.decode(value, type=dict[str, object]))
        return found


def unknown_name(repository: str) -> Fault:
    """Return the fault of a repository that is not there."""
    return Fault(
        Code.NAME_UNKNOWN,
        f"repository name not known to registry: {repository}",
        detail={"name": repository},
    )


def tag_order(tag: str) -> tuple[str, str]:
    """Return what tags are sorted by (distribution-spec 1.1: case-insensitive alphanumeric order)."""
    return tag.lower(), tag


def _render_referrer(digest: Digest, size: int, document: Document) -> bytes:
    descriptor: dict[str, object] = {
        "mediaType": document.media_type,
        "digest": str(digest),
        "size": size,
    }
    if document.artifact_type:
        descriptor["artifactType"] = document.artifact_type
    if document.annotations:
        descriptor["annotations"] = document.annotations
    return msgspec.json.encode(descriptor)


def _blob_key(repository: str, digest: Digest) -> str:
    return f"{repository}/_blobs/{digest.algorithm}/{digest.hex}"


def _manifest_key(repository: str, digest: Digest) -> str:
    return f"{repository}/_manifests/{digest.algorithm}/{digest.hex}"


def _tag_key(repository: str, tag: str) -> str:
    return f"{repository}/_tags/{tag}"


def _referrer_key(repository: str, subject: Digest, digest: Digest) -> str:
    return (
        f"{repository}/_referrers/{subject.algorithm}/{subject.hex}/{digest.algorithm}-{digest.hex}"
    )
