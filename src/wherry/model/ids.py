"""Names of things: digests, container ids and names, image references. Parsed once, at the edge."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from wherry.model.errors import Invalid

_HEX = {"sha256": 64, "sha512": 128}
_HEX_TEXT = re.compile(r"[0-9a-f]+")
_CONTAINER_ID = re.compile(r"[0-9a-f]{64}")
_CONTAINER_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")
# The reference grammar of the OCI distribution specification, with Docker's domain rule.
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_DOMAIN = re.compile(
    r"(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)*"
    r"(?::[0-9]+)?|\[[0-9a-fA-F:.]+\](?::[0-9]+)?"
)
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_LONGEST_REPOSITORY = 255

DEFAULT_DOMAIN = "docker.io"
DEFAULT_TAG = "latest"


@dataclass(frozen=True, slots=True, order=True)
class Digest:
    """A content address, `sha256:…`."""

    algorithm: str
    hex: str

    @classmethod
    def parse(cls, text: str) -> Digest:
        """Return the digest that `text` writes, or raise Invalid."""
        algorithm, colon, rest = text.partition(":")
        if not colon or len(rest) != _HEX.get(algorithm, -1) or not _HEX_TEXT.fullmatch(rest):
            raise Invalid(f"invalid digest: {text!r}", hint="sha256: and 64 lower-case hex digits")
        return cls(algorithm, rest)

    @classmethod
    def of(cls, data: bytes, algorithm: str = "sha256") -> Digest:
        """Return the digest of `data` by `algorithm`, sha256 or sha512."""
        # Imported here: hashlib brings OpenSSL, 4 MB that the supervisor has no use for.
        from hashlib import sha256, sha512

        by = sha512 if algorithm == "sha512" else sha256
        return cls(algorithm, by(data).hexdigest())

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.hex}"

    @property
    def short(self) -> str:
        """The first 12 hex digits, as listings show."""
        return self.hex[:12]


def new_id() -> str:
    """Return a fresh 64-digit id whose first 12 digits are not all decimal.

    Docker avoids all-decimal short ids since they would be taken for numbers as a host name.
    """
    while True:
        identifier = os.urandom(32).hex()
        if not identifier[:12].isdecimal():
            return identifier


def is_container_id(text: str) -> bool:
    """Whether `text` is a full container id."""
    return _CONTAINER_ID.fullmatch(text) is not None


def check_container_name(name: str) -> str:
    """Return `name` without a leading slash, or raise Invalid with Docker's words."""
    bare = name.removeprefix("/")
    if not _CONTAINER_NAME.fullmatch(bare):
        raise Invalid(
            f"Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
        )
    return bare


@dataclass(frozen=True, slots=True, order=True)
class Reference:
    """An image's name: `domain/path:tag@digest`, with Docker's defaults filled in."""

    domain: str
    path: str
    tag: str = ""
    digest: Digest | None = None

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Return the reference that `text` writes, normalised; the tag stays empty where none is given.

        `debian` is `docker.io/library/debian`. Raises Invalid.
        """
        if _CONTAINER_ID.fullmatch(text):
            raise Invalid(
                f"invalid reference format: {text}", hint="64 hex digits are an id, not a name"
            )
        rest, at, digest_text = text.partition("@")
        digest = Digest.parse(digest_text) if at else None
        head, slash, tail = rest.partition("/")
        if slash and ("." in head or ":" in head or head == "localhost" or head != head.lower()):
            domain, remainder = head, tail
        else:
            domain, remainder = DEFAULT_DOMAIN, rest
        if domain == "index.docker.io":
            domain = DEFAULT_DOMAIN
        path, colon, tag = remainder.partition(":")
        if domain == DEFAULT_DOMAIN and path and "/" not in path:
            path = f"library/{path}"
        if path != path.lower():
            raise Invalid(f"invalid reference format: repository name ({path}) must be lowercase")
        if (
            len(f"{domain}/{path}") > _LONGEST_REPOSITORY
            or not _DOMAIN.fullmatch(domain)
            or not _REPOSITORY.fullmatch(path)
            or (colon and not _TAG.fullmatch(tag))
        ):
            raise Invalid(f"invalid reference format: {text!r}")
        return cls(domain, path, tag, digest)

    def with_default_tag(self) -> Reference:
        """Return this reference with the tag `latest` where neither tag nor digest is given."""
        if self.tag or self.digest:
            return self
        return Reference(self.domain, self.path, DEFAULT_TAG)

    @property
    def repository(self) -> str:
        """The canonical repository: `docker.io/library/debian`."""
        return f"{self.domain}/{self.path}"

    @property
    def familiar_repository(self) -> str:
        """The repository as people write it: `debian`."""
        if self.domain != DEFAULT_DOMAIN:
            return self.repository
        return self.path.removeprefix("library/")

    @property
    def familiar(self) -> str:
        """The whole reference as people write it: `debian:bookworm-slim`."""
        text = self.familiar_repository
        if self.tag:
            text += f":{self.tag}"
        if self.digest:
            text += f"@{self.digest}"
        return text

    def __str__(self) -> str:
        text = self.repository
        if self.tag:
            text += f":{self.tag}"
        if self.digest:
            text += f"@{self.digest}"
        return text
