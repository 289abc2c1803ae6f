"""What a path names. A codec: text in, a frozen target out, nothing touched.

A repository's name has slashes and may hold components called `blobs` or `tags`, so a path is read from
its end. Segments are cut before they are decoded: an encoded slash or dot is a character of its
segment, and the grammar has the last word. Source: distribution specification 1.1, "Endpoints".
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote_to_bytes

from wherry.model.errors import Invalid
from wherry.model.ids import Digest
from wherry.registry.names import is_repository, is_tag
from wherry.registry.server.faults import Code, Fault

_LONGEST_PATH: Final = 4096
_UPLOAD: Final = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class Base:
    """`/v2/`."""


@dataclass(frozen=True, slots=True)
class Catalog:
    """`/v2/_catalog`."""


@dataclass(frozen=True, slots=True)
class Tags:
    """`/v2/NAME/tags/list`."""

    repository: str


@dataclass(frozen=True, slots=True)
class ManifestAt:
    """`/v2/NAME/manifests/REFERENCE`."""

    repository: str
    reference: Digest | str


@dataclass(frozen=True, slots=True)
class BlobAt:
    """`/v2/NAME/blobs/DIGEST`."""

    repository: str
    digest: Digest


@dataclass(frozen=True, slots=True)
class Uploads:
    """`/v2/NAME/blobs/uploads/`."""

    repository: str


@dataclass(frozen=True, slots=True)
class UploadAt:
    """`/v2/NAME/blobs/uploads/ID`."""

    repository: str
    upload: str


@dataclass(frozen=True, slots=True)
class Referrers:
    """`/v2/NAME/referrers/DIGEST`."""

    repository: str
    subject: Digest


Target = Base | Catalog | Tags | ManifestAt | BlobAt | Uploads | UploadAt | Referrers


def parse_target(path: str, method: str = "GET") -> Target | None:
    """Return what `path` (raw, without query) names; None where it is no path of the API.

    Raises Fault: NAME_INVALID, DIGEST_INVALID, BLOB_UPLOAD_UNKNOWN. What is no tag has no manifest
    (MANIFEST_UNKNOWN) and can have none (MANIFEST_INVALID with `method` PUT).
    """
    if path in ("/v2", "/v2/"):
        return Base()
    if not path.startswith("/v2/"):
        return None
    if len(path) > _LONGEST_PATH:
        raise Fault(Code.NAME_INVALID, "invalid repository name: the path is too long")
    segments = [_decode(segment) for segment in path.split("/")[2:]]
    match segments:
        case ["_catalog"]:
            return Catalog()
        case [*name, "tags", "list"]:
            return Tags(_repository(name))
        case [*name, "blobs", "uploads"] | [*name, "blobs", "uploads", ""]:
            return Uploads(_repository(name))
        case [*name, "blobs", "uploads", upload]:
            return UploadAt(_repository(name), _upload(upload))
        case [*name, "blobs", digest]:
            return BlobAt(_repository(name), parse_digest(digest))
        case [*name, "manifests", reference]:
            return ManifestAt(_repository(name), _reference(reference, method))
        case [*name, "referrers", digest]:
            return Referrers(_repository(name), parse_digest(digest))
        case _:
            return None


def parse_digest(text: str) -> Digest:
    """Return the digest that `text` writes. Raises Fault DIGEST_INVALID."""
    try:
        return Digest.parse(text)
    except Invalid as error:
        raise Fault(Code.DIGEST_INVALID, error.message, detail={"digest": text}) from None


def parse_repository(text: str) -> str:
    """Return `text`, a repository's name. Raises Fault NAME_INVALID."""
    if not is_repository(text):
        raise Fault(
            Code.NAME_INVALID, f"invalid repository name: {text[:300]!r}", detail={"name": text}
        )
    return text


def _decode(segment: str) -> str:
    if "%" not in segment:
        return segment
    # What is no UTF-8 becomes a character outside every grammar.
    return unquote_to_bytes(segment).decode("utf-8", "replace")


def _repository(segments: list[str]) -> str:
    # A decoded slash would join two names that the path holds apart.
    if any("/" in segment for segment in segments):
        raise Fault(Code.NAME_INVALID, "invalid repository name: a slash is encoded in it")
    return parse_repository("/".join(segments))


def _reference(text: str, method: str) -> Digest | str:
    if ":" in text:
        return parse_digest(text)
    if not is_tag(text):
        code = Code.MANIFEST_INVALID if method == "PUT" else Code.MANIFEST_UNKNOWN
        raise Fault(code, f"invalid tag: {text[:300]!r}", detail={"tag": text})
    return text


def _upload(text: str) -> str:
    # The ids are ours: what does not look like one was never given out.
    if not _UPLOAD.fullmatch(text):
        raise Fault(Code.BLOB_UPLOAD_UNKNOWN, "unknown upload")
    return text
