"""Reading of what no image of the store is to come of: `documents.Fetching` over a repository."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from wherry.images.transfer.resolve import fetch_blob
from wherry.model.errors import Invalid
from wherry.model.ids import Digest, Reference
from wherry.registry.client import Repository
from wherry.registry.stopping import Stop

_PIECE: Final = 256 << 10


class FetchedDocuments:
    """Satisfies `documents.Fetching`. Blocking."""

    def __init__(self, repository: Repository, reference: Reference, stop: Stop) -> None:
        self._repository = repository
        self._reference = reference
        self._stop = stop

    def manifest(self, digest: str) -> tuple[str, bytes]:
        """Return a manifest's media type and bytes; without a digest that of the name."""
        named = self._reference.digest or self._reference.tag
        found = self._repository.manifest(Digest.parse(digest) if digest else named)
        return found.media_type, found.data

    def small(self, digest: str, size: int) -> bytes:
        """Return a blob, verified."""
        return fetch_blob(self._repository, Digest.parse(digest), size, size)

    def blob(self, digest: str, size: int, write: Callable[[bytes], object]) -> None:
        """Write a blob's bytes, `size` at most."""
        body = self._repository.blob(Digest.parse(digest), stop=self._stop)
        left = size
        try:
            with self._stop.waking(body.answer.abort):
                while data := body.answer.read(_PIECE):
                    left -= len(data)
                    if left < 0:
                        raise Invalid(
                            f"blob {digest} has more than the {size} bytes it is said to have"
                        )
                    write(data)
        finally:
            body.answer.close()
