"""Trees that steps take files from, and who copies: the seams between the solver, contexts and copying.

ContextRef > Contexts.open > Tree
CopyStep + Tree > Copier.digest (enters the step's key) > on a miss: Copier.copy into a Target
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from wherry.build.linking import Linking
from wherry.build.statements import Attestation
from wherry.build.steps import AddStep, CopyStep
from wherry.images.store import StoredLayer
from wherry.model.build import BuildRequest, ContextRef, OutputRef, Progress
from wherry.model.images import Image


class Tree(Protocol):
    """Files to copy from: a context, a stage's result, an image's root. Hostile unless proven otherwise."""

    @property
    def digest(self) -> str:
        """What stands for the whole content: two trees of one digest are alike. Cheap to ask."""
        ...

    @property
    def epoch(self) -> int | None:
        """The time of the commit it is of, in seconds; None for none."""
        ...

    def open(self) -> AbstractContextManager[int]:
        """Give a descriptor of its root directory, for reading. Blocks."""
        ...


class Contexts(Protocol):
    """Opens contexts."""

    def open(self, ref: ContextRef) -> Tree:
        """Return the context's files, fetched where they are elsewhere. Blocks. Raises NotFound, Invalid,
        Unavailable."""
        ...


@dataclass(frozen=True, slots=True)
class Target:
    """Where a copy goes.

    `root` is a descriptor of the stage's whole tree, writable: what is written there becomes the layer.
    With `--link` it is an empty directory, and `users` is still the stage's tree, for /etc/passwd.
    """

    root: int
    users: int
    epoch: int | None = None
    """Times later than this (seconds) are folded into it: `times.fold`."""
    linking: Linking | None = None
    """Gives what an earlier layer has already."""


class Copier(Protocol):
    """Carries out COPY and ADD. Everything blocks."""

    def digest(self, step: CopyStep | AddStep, source: Tree | None) -> str:
        """Return what stands for all that the step would bring: names, modes, owners, content.

        `source` is None where nothing is taken from a tree (here-documents, URLs alone).
        Raises NotFound for a source that is not there, Invalid, Unavailable.
        """
        ...

    def copy(self, step: CopyStep | AddStep, source: Tree | None, target: Target) -> None:
        """Bring the files. Raises as `digest`, and Full."""
        ...


@dataclass(frozen=True, slots=True)
class BuiltImage:
    """One image that was built. Its blobs are held until the build is over, whether a store has it or not."""

    image: Image
    config: bytes
    """Its configuration."""
    layers: tuple[StoredLayer, ...]
    root: Tree
    attestations: tuple[Attestation, ...] = ()


@dataclass(frozen=True, slots=True)
class Export:
    """One output, and what it is to be of."""

    request: BuildRequest
    output: OutputRef
    images: Sequence[BuiltImage]
    """One, or one a platform."""


@dataclass(frozen=True, slots=True)
class Exported:
    """What an output came to."""

    digest: str = ""
    """Of the manifest or the index; "" where there is none."""
    descriptor: Mapping[str, object] | None = None
    """It as JSON, for `--metadata-file`."""


class Exporter(Protocol):
    """Brings what was built to where `--output` says; the store's own image is none of its work."""

    async def export(self, export: Export, report: Callable[[Progress], None]) -> Exported:
        """Write one output. Raises Full, Invalid."""
        ...
