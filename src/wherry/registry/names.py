"""Repositories, tags and references within one registry: their grammar, checked at the edge.

Source: OCI distribution specification 1.1, "Pulling manifests". Digests are `wherry.model.ids.Digest`.
"""

from __future__ import annotations

import re
from typing import Final

from wherry.model.errors import Invalid
from wherry.model.ids import Digest

_COMPONENT: Final = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY: Final = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG: Final = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")
_OUTSIDE_TAG: Final = re.compile(r"[^a-zA-Z0-9._-]")

LONGEST_REPOSITORY: Final = 255
"""Characters; many clients count host and repository together up to this."""


def is_repository(text: str) -> bool:
    """Whether `text` is a repository's name: `library/debian`."""
    return len(text) <= LONGEST_REPOSITORY and _REPOSITORY.fullmatch(text) is not None


def is_tag(text: str) -> bool:
    """Whether `text` is a tag: `bookworm-slim`."""
    return _TAG.fullmatch(text) is not None


def check_repository(text: str) -> str:
    """Return `text`, a repository's name; raise Invalid where it is none."""
    if not is_repository(text):
        raise Invalid(
            f"invalid repository name: {text!r}",
            hint="lower-case letters and digits, joined by one of . _ __ - and split by /",
        )
    return text


def check_tag(text: str) -> str:
    """Return `text`, a tag; raise Invalid where it is none."""
    if not is_tag(text):
        raise Invalid(
            f"invalid tag: {text!r}", hint="at most 128 letters, digits and _ . -, not . or - first"
        )
    return text


def parse_reference(text: str) -> Digest | str:
    """Return the digest or the tag that `text` writes; raise Invalid where it is neither."""
    return Digest.parse(text) if ":" in text else check_tag(text)


def referrers_tag(subject: Digest) -> str:
    """Return the tag under which clients keep the referrers of `subject` where a registry has no list.

    Source: distribution specification 1.1, "Referrers Tag Schema".
    """
    algorithm = _OUTSIDE_TAG.sub("-", subject.algorithm[:32])
    return f"{algorithm}-{_OUTSIDE_TAG.sub('-', subject.hex[:64])}"
