"""What front ends ask of building. The one implementation is `solve.Solver`; fakes stand in for it in tests."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Protocol

from wherry.build.files import Exporter
from wherry.model.build import BuildRequest, Progress, SecretSource
from wherry.model.errors import Invalid
from wherry.model.views import Filters


class BuildFailed(Invalid):
    """A step failed: a command's exit code, or an error of another kind (`__cause__`).

    `message` is Docker's: `The command '/bin/sh -c exit 3' returned a non-zero code: 3`.
    """

    def __init__(
        self, message: str, *, exit_code: int = 0, tail: bytes = b"", hint: str = ""
    ) -> None:
        super().__init__(message, hint=hint)
        self.exit_code = exit_code
        self.tail = tail
        """The last lines that the command wrote."""


@dataclass(frozen=True, slots=True)
class CacheRecord:
    """One result in the cache, or one cache mount, as `builder du` lists it. Times are nanoseconds."""

    id: str
    kind: str
    """`regular`, `exec.cachemount`, `source.local`, as BuildKit calls them."""
    description: str
    size: int
    """Bytes on disk."""
    created: int
    last_used: int
    uses: int = 0
    in_use: bool = False
    shared: bool = False
    """Its layer is an image's, so that removing the record gives nothing back."""
    parents: tuple[str, ...] = ()

    @property
    def mutable(self) -> bool:
        """It changes as it is used: a cache mount, a client's folder."""
        return self.kind in ("exec.cachemount", "source.local")


@dataclass(frozen=True, slots=True)
class Pruning:
    """What a prune may take away. Bytes."""

    filters: Filters
    everything: bool = False
    """Records that an image shares as well."""
    keep_bytes: int | None = None
    """These always stay."""
    max_used: int | None = None
    """What the cache may have afterwards; with `min_free` what is aimed at, where they are given."""
    min_free: int | None = None
    """What its disk is to have free."""


@dataclass(frozen=True, slots=True)
class Pruned:
    """What a prune took away; `space` is bytes given back."""

    ids: tuple[str, ...] = ()
    space: int = 0


class Builds(Protocol):
    """Building."""

    def build(
        self, request: BuildRequest, *, secrets: SecretSource, exporter: Exporter | None = None
    ) -> AsyncGenerator[Progress]:
        """Build; closing the generator cancels it and leaves nothing half-made.

        Raises DockerfileError, Invalid, NotFound, BuildFailed (after StepFailed), Full.
        """
        ...

    def cancel(self, build_id: str) -> None:
        """Cancel the build that was asked for with this id; one that is not there is fine."""
        ...

    async def disk_usage(self) -> list[CacheRecord]:
        """Return all that the cache has."""
        ...

    async def prune(self, wanted: Pruning) -> Pruned:
        """Remove records that match and nobody uses, the longest unused first. Raises Invalid for a filter."""
        ...
