"""Manifest lists made by hand: what they name is brought into their repository, then they are stored.

A registry takes a list only where each manifest of it is in the same repository, and a manifest only
where its blobs are: distribution-spec, "Pushing Manifests". Blobs of another repository of the same
registry are mounted, and copied where it cannot mount.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from wherry.images.config import LARGEST_CONFIG
from wherry.images.manifests import decode_index, decode_manifest
from wherry.images.transfer.resolve import fetch_blob
from wherry.model.errors import Invalid
from wherry.model.ids import Digest, Reference
from wherry.model.manifest_lists import ListEntry, ManifestList
from wherry.registry.client import Repository
from wherry.registry.media import INDEXES, MANIFESTS
from wherry.registry.stopping import Stop

_MOST_ENTRIES = 1000


def check_list(target: Reference, wanted: ManifestList) -> None:
    """Raise Invalid for a list that cannot be stored as `target`."""
    if target.digest:
        raise Invalid(f"a manifest list cannot be pushed to a digest: {target.familiar}")
    if wanted.media_type not in INDEXES:
        raise Invalid(f"{wanted.media_type!r} is no manifest list")
    named = {entry.digest for entry in decode_index(wanted.data, target.familiar)}
    if len(wanted.entries) > _MOST_ENTRIES:
        raise Invalid(f"{target.familiar}: a list of more than {_MOST_ENTRIES} manifests")
    for entry in wanted.entries:
        if entry.media_type not in MANIFESTS:
            raise Invalid(f"{entry.source.familiar}: {entry.media_type!r} is no image manifest")
        if entry.source.domain != target.domain:
            raise Invalid(
                "cannot use source images from a different registry than the target image: "
                f"{entry.source.domain} != {target.domain}"
            )
        digest = Digest.of(entry.data)
        if str(digest) not in named:
            raise Invalid(f"{entry.source.familiar}: the list does not name {digest}")


def push_list(
    repository: Repository,
    sources: Sequence[Repository],
    tag: str,
    wanted: ManifestList,
    stop: Stop,
) -> tuple[list[Digest], Digest]:
    """Store the manifests of other repositories, then the list under `tag`; return the digests of both.

    `sources` are the repositories of `wanted.entries`. Raises Refused, Invalid, Unavailable.
    """
    stored: list[Digest] = []
    for source, entry in zip(sources, wanted.entries, strict=True):
        if source.path == repository.path:
            continue  # it was found there
        _bring_blobs(repository, source, entry, stop)
        stored.append(repository.put_manifest(Digest.of(entry.data), entry.media_type, entry.data))
    return stored, repository.put_manifest(tag, wanted.media_type, wanted.data)


def _bring_blobs(repository: Repository, source: Repository, entry: ListEntry, stop: Stop) -> None:
    manifest = decode_manifest(entry.data, entry.source.familiar)
    for blob in (manifest.config, *manifest.layers):
        digest = Digest.parse(blob.digest)
        if repository.has_blob(digest):
            continue
        upload = repository.mount(digest, source.path)
        if upload:

            def pieces(digest: Digest = digest) -> Iterable[bytes]:
                return _pieces(source, digest, stop)

            upload = repository.upload(upload, pieces, 0, blob.size, stop)
            repository.finish_upload(upload, digest)


def _pieces(source: Repository, digest: Digest, stop: Stop) -> Iterator[bytes]:
    answer = source.blob(digest, stop=stop).answer
    try:
        while data := answer.read():
            yield data
    finally:
        answer.close()


def read_config(repository: Repository, reference: Reference) -> bytes:
    """Return the configuration of the image that `reference` stands for, as it is stored.

    Raises Invalid where it is a list, Refused.
    """
    found = repository.manifest(reference.digest or reference.tag)
    if found.media_type in INDEXES:
        raise Invalid(f"{reference.familiar} is a manifest list")
    config = decode_manifest(found.data, reference.familiar).config
    return fetch_blob(repository, Digest.parse(config.digest), config.size, LARGEST_CONFIG)
