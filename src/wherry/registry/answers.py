"""What a registry's answers say: manifests that are what their digest says, places, ranges, lists.

Source: OCI distribution specification 1.1.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast
from urllib.parse import urlsplit, urlunsplit

import msgspec

from wherry.model.errors import Invalid
from wherry.model.ids import Digest
from wherry.registry.endpoints import Origin, join_url
from wherry.registry.media import ACCEPTED, essence
from wherry.registry.messages import Answer

_RANGE = re.compile(r"(?:bytes[= ])?([0-9]{1,18})-([0-9]{1,18})(?:/(?:[0-9]{1,18}|\*))?")
# Neither part runs into the next link: what a registry sends is read in time linear in its length, since
# the interpreter does nothing else meanwhile (60,000 `<` took half a minute).
_LINK = re.compile(r"<([^<>]*)>([^<>,]*)")


@dataclass(frozen=True, slots=True)
class Fetched:
    """A manifest as it came; `data` hashes to `digest`."""

    media_type: str
    digest: Digest
    data: bytes


class WrongContent(Invalid):
    """What a registry sent is not what its digest says."""


def checked_manifest(
    answer: Answer, data: bytes, reference: Digest | str, origin: Origin
) -> Fetched:
    """Return the manifest `data` that was asked for as `reference`. Raises WrongContent."""
    named = named_digest(answer) if isinstance(reference, str) else reference
    if named is None:
        digest = Digest.of(data)
    else:
        digest = Digest.of(data, named.algorithm)
        if digest != named:
            raise WrongContent(
                f"{origin} sent a manifest whose digest is {digest}, not {named} as it should be"
            )
    return Fetched(_media_type(answer, data), digest, data)


class _TypeOnly(msgspec.Struct, rename="camel"):
    media_type: str = ""


def _media_type(answer: Answer, data: bytes) -> str:
    """Return what the manifest is: as it says itself (some registries answer text/plain), or the header.

    Raises WrongContent where both name a kind of manifest, and not the same (CVE-2021-41190).
    """
    try:
        named = msgspec.json.decode(data, type=_TypeOnly).media_type
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        named = ""
    said = essence(answer.headers.get("content-type", ""))
    if named and said in ACCEPTED and named != said:
        raise WrongContent(f"a manifest of type {named[:100]!r} was sent as {said!r}")
    return named or said


def is_document(data: bytes) -> bool:
    """Whether `data` is a JSON object, as every manifest is."""
    try:
        msgspec.json.decode(data, type=_TypeOnly)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True


def named_digest(answer: Answer) -> Digest | None:
    """Return the digest that the answer names, None where it names none."""
    text = answer.headers.get("docker-content-digest", "")
    try:
        return Digest.parse(text)
    except Invalid:
        return None


def start_of(answer: Answer, offset: int) -> int | None:
    """Return the byte that the answer's body begins at; None where it is no use."""
    if answer.status == 416:
        return None
    if answer.status == 200:
        return 0
    match = _RANGE.fullmatch(answer.headers.get("content-range", "").strip())
    return offset if match is not None and int(match[1]) == offset else None


def received(answer: Answer) -> int:
    """Return how many bytes an upload has, as the answer says it."""
    match = _RANGE.fullmatch(answer.headers.get("range", "").strip())
    # 0-0 is one byte by the specification and none by what docker/distribution sends.
    return int(match[2]) + 1 if match and int(match[1]) == 0 and int(match[2]) else 0


def next_location(answer: Answer, url: str) -> str:
    """Return the URL to go on with after the answer at `url`. Raises Invalid."""
    location = answer.headers.get("location", "")
    if not location:
        return url
    found = join_url(url, location)
    before, after = Origin.parse(url), Origin.parse(found)
    if before.scheme == "https" and after.scheme == "http":
        # Behind a proxy that ends TLS, a registry may not know what it is called.
        if after.host != before.host:
            raise Invalid(f"refused an upload to {after}: it leaves TLS")
        parts = urlsplit(found)
        return urlunsplit((before.scheme, before.authority, parts.path, parts.query, ""))
    return found


def next_page(header: str) -> str | None:
    """Return where a list goes on by its Link header, None where it ends. Source: RFC 8288."""
    for url, parameters in _LINK.findall(header):
        if 'rel="next"' in parameters or "rel=next" in parameters:
            return url
    return None


def list_of(data: bytes, key: str, origin: Origin) -> list[str]:
    """Return the texts in the list `key` of an answer. Raises Invalid."""
    try:
        answer = cast(object, msgspec.json.decode(data))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        answer = None
    names = cast(Mapping[str, object], answer).get(key) if isinstance(answer, dict) else None
    if names is None and isinstance(answer, dict):
        return []
    if not isinstance(names, list):
        raise Invalid(f"{origin} sent no list of {key}")
    return [name for name in cast(list[object], names) if isinstance(name, str)]
