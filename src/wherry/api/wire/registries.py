"""Credentials as requests carry them, and what registries answered as the API shows it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import msgspec

from wherry.model.errors import Invalid
from wherry.model.ids import Reference
from wherry.model.manifest_lists import ListEntry, ManifestList
from wherry.model.views import DistributionView, SearchResult
from wherry.registry.credentials import Credentials, decode_header, parse_credentials

parse_credentials_header = decode_header


def parse_auth(body: bytes) -> Credentials:
    """Return the credentials that POST /auth asks about. Raises Invalid."""
    try:
        return parse_credentials(msgspec.json.decode(body))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Invalid(f"invalid JSON: {error}") from None


class _Entry(msgspec.Struct, rename="pascal"):
    name: str
    media_type: str
    data: bytes


class _List(msgspec.Struct, rename="pascal"):
    media_type: str
    data: bytes
    manifests: list[_Entry]


def parse_manifest_list(body: bytes) -> ManifestList:
    """Return the list in the body of POST /wherry/registries/manifest; bytes are in base64."""
    try:
        found = msgspec.json.decode(body, type=_List)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Invalid(f"invalid JSON: {error}") from None
    entries = tuple(
        ListEntry(Reference.parse(entry.name), entry.media_type, entry.data)
        for entry in found.manifests
    )
    return ManifestList(found.media_type, found.data, entries)


def parse_push_platform(text: str) -> str:
    """Return `os/architecture/variant` of push's `platform`, a JSON object. Raises Invalid."""
    if not text:
        return ""
    try:
        raw = cast(object, msgspec.json.decode(text.encode()))
    except msgspec.DecodeError:
        raise Invalid(f"invalid platform: {text!r}") from None
    if not isinstance(raw, dict):
        raise Invalid(f"invalid platform: {text!r}")
    fields = cast(dict[str, object], raw)
    parts = [fields.get(name) or "" for name in ("os", "architecture", "variant")]
    return "/".join(str(part) for part in parts if part)


def render_distribution(view: DistributionView) -> dict[str, object]:
    """Return the answer of GET /distribution/{name}/json."""
    platforms: list[dict[str, str]] = []
    for system, architecture, variant, _ in view.platforms:
        platform = {"architecture": architecture, "os": system}
        if variant:
            platform["variant"] = variant
        platforms.append(platform)
    return {
        "Descriptor": {
            "mediaType": view.media_type,
            "digest": str(view.digest),
            "size": view.size,
        },
        "Platforms": platforms or None,
    }


def render_search(found: Sequence[SearchResult]) -> list[dict[str, object]]:
    """Return the answer of GET /images/search."""
    return [
        {
            "star_count": result.stars,
            "is_official": result.official,
            "name": result.name,
            "is_automated": result.automated,
            "description": result.description,
        }
        for result in found
    ]
