"""What can be asked of a registry without bringing anything in: what a name stands for, and searching."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import msgspec

from wherry.images.config import LARGEST_CONFIG, decode_config
from wherry.images.manifests import decode_index, decode_manifest
from wherry.images.transfer.resolve import fetch_blob
from wherry.model.errors import Invalid, Unavailable
from wherry.model.ids import DEFAULT_DOMAIN, Digest, Reference
from wherry.model.views import DistributionView, Filters, SearchResult
from wherry.registry.client import Repository
from wherry.registry.endpoints import Endpoint, Origin, RegistrySettings
from wherry.registry.faults import Refused
from wherry.registry.hosts import find_endpoints
from wherry.registry.media import INDEXES, MANIFESTS
from wherry.registry.session import Session

_INDEX_SERVER = "https://index.docker.io"
_FILTERS = ("is-official", "is-automated", "stars")


def read_distribution(repository: Repository, reference: Reference) -> DistributionView:
    """Return the descriptor and platforms of what `reference` stands for. Raises Refused, Invalid."""
    found = repository.manifest(reference.digest or reference.tag)
    subject = str(found.digest)
    platforms: list[tuple[str, str, str, str]] = []
    if found.media_type in INDEXES:
        for entry in decode_index(found.data, subject):
            if entry.platform is not None:
                platform = entry.platform
                platforms.append((platform.os, platform.architecture, platform.variant or "", ""))
    elif found.media_type in MANIFESTS:
        try:
            config = decode_manifest(found.data, subject).config
            data = fetch_blob(repository, Digest.parse(config.digest), config.size, LARGEST_CONFIG)
            own = decode_config(data, config.digest).platform
            platforms.append((own.os, own.architecture, own.variant, ""))
        except Invalid:
            pass  # an artifact: no platform
    return DistributionView(found.media_type, found.digest, len(found.data), tuple(platforms))


def search_in(
    session: Session, settings: RegistrySettings, term: str, limit: int, filters: Filters
) -> Sequence[SearchResult]:
    """Return the repositories that match: of Docker Hub, or of the host that `term` begins with.

    A registry without the search of version 1 is asked for its catalog instead.
    """
    if not 1 <= limit <= 100:
        raise Invalid(f"limit {limit} is outside the range of [1, 100]")
    for name in filters:
        if name not in _FILTERS:
            raise Invalid(f"invalid filter '{name}'")
    if term.startswith(("http://", "https://")):
        raise Invalid(f'invalid repository name: repository name "{term}" must not have a scheme')
    domain, words = _split(term)
    if domain == DEFAULT_DOMAIN:
        endpoints = [Endpoint(Origin.parse(_INDEX_SERVER))]
    else:
        endpoints = find_endpoints(domain, settings)
    repository = Repository(session, endpoints, "")
    try:
        found = _parsed(repository.search(words, limit))
        if domain != DEFAULT_DOMAIN:
            found = [_under(domain, result) for result in found]
    except Refused as error:
        if domain == DEFAULT_DOMAIN or error.denied:
            raise Unavailable(f"Unexpected status code {error.status}") from error
        try:
            names = repository.catalog()
        except Refused:
            raise Unavailable(f"Unexpected status code {error.status}") from error
        found = [SearchResult(f"{domain}/{name}") for name in names if words in name]
    return [result for result in found if _passes(result, filters)][:limit]


def _split(term: str) -> tuple[str, str]:
    head, slash, rest = term.partition("/")
    if slash and ("." in head or ":" in head or head == "localhost"):
        if head in ("docker.io", "index.docker.io"):
            return DEFAULT_DOMAIN, rest
        return head, rest
    return DEFAULT_DOMAIN, term.removeprefix("library/")


def _under(domain: str, result: SearchResult) -> SearchResult:
    return SearchResult(
        f"{domain}/{result.name}",
        result.description,
        result.stars,
        result.official,
        result.automated,
    )


def _parsed(data: bytes) -> list[SearchResult]:
    try:
        answer = cast(object, msgspec.json.decode(data))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        answer = None
    results = cast(dict[str, object], answer).get("results") if isinstance(answer, dict) else None
    found: list[SearchResult] = []
    for item in cast(list[object], results) if isinstance(results, list) else []:
        if not isinstance(item, dict):
            continue
        fields = cast(dict[str, object], item)
        name, text, stars = fields.get("name"), fields.get("description"), fields.get("star_count")
        if isinstance(name, str):
            found.append(
                SearchResult(
                    name,
                    text if isinstance(text, str) else "",
                    stars if isinstance(stars, int) else 0,
                    fields.get("is_official") is True,
                    fields.get("is_automated") is True,
                )
            )
    return sorted(found, key=lambda result: -result.stars)


def _passes(result: SearchResult, filters: Filters) -> bool:
    for value in filters.get("is-official", ()):
        if (value.lower() in ("1", "t", "true")) != result.official:
            return False
    for value in filters.get("is-automated", ()):
        if (value.lower() in ("1", "t", "true")) != result.automated:
            return False
    for value in filters.get("stars", ()):
        if not value.isdecimal():
            raise Invalid(f"invalid filter 'stars={value}'")
        if result.stars < int(value):
            return False
    return True
