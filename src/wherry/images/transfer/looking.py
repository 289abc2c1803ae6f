"""What can be asked of a registry without bringing anything in: what a name stands for, and searching."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
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

    As the search of version 1 says it, in its order. A registry without that is asked for its catalog
    instead, whose repositories are given as they can be pulled.
    """
    if not 1 <= limit <= 100:
        raise Invalid(f"limit {limit} is outside the range of [1, 100]")
    passes = _filter(filters)
    if "://" in term:
        raise Invalid(f"invalid repository name: repository name ({term}) should not have a scheme")
    domain, words = _split(term)
    if domain == DEFAULT_DOMAIN:
        endpoints = [Endpoint(Origin.parse(_INDEX_SERVER))]
    else:
        endpoints = find_endpoints(domain, settings)
    repository = Repository(session, endpoints, "")
    try:
        found = _parsed(repository.search(words, limit))
    except Refused as error:
        if domain == DEFAULT_DOMAIN or error.denied:
            raise Unavailable(f"Unexpected status code {error.status}") from error
        try:
            names = repository.catalog()
        except Refused:
            raise Unavailable(f"Unexpected status code {error.status}") from error
        matching = (name for name in names if words in name)
        found = [SearchResult(f"{domain}/{name}") for name in islice(matching, limit)]
    return [result for result in found if passes(result)]


def _split(term: str) -> tuple[str, str]:
    head, slash, rest = term.partition("/")
    if slash and ("." in head or ":" in head or head == "localhost"):
        if head in ("docker.io", "index.docker.io"):
            return DEFAULT_DOMAIN, rest
        return head, rest
    return DEFAULT_DOMAIN, term.removeprefix("library/")


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
                )
            )
    return found


def _filter(filters: Filters) -> Callable[[SearchResult], bool]:
    """Return what tells whether a result is wanted. Raises Invalid, in Docker's words."""
    for name in filters:
        if name not in _FILTERS:
            raise Invalid(f"invalid filter '{name}'")
    # Docker Hub has no automated builds any more: Docker finds none by that filter.
    automated = _switch(filters, "is-automated")
    official = _switch(filters, "is-official")
    least = 0
    for value in filters.get("stars", ()):
        try:
            least = max(least, int(value))
        except ValueError:
            raise Invalid(
                f"invalid filter 'stars={value}': strconv.Atoi: parsing \"{value}\": invalid syntax"
            ) from None

    def passes(result: SearchResult) -> bool:
        if automated or (official is not None and official != result.official):
            return False
        return result.stars >= least

    return passes


def _switch(filters: Filters, name: str) -> bool | None:
    values = tuple(filters.get(name, ()))
    if not values:
        return None
    if len(values) == 1 and values[0] in ("true", "1"):
        return True
    if len(values) == 1 and values[0] in ("false", "0"):
        return False
    raise Invalid(f"invalid filter '{name}=[{' '.join(values)}]'")
