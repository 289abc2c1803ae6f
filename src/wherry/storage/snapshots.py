"""Trees for containers: image layers below, one writable directory of the container's own on top.

A snapshotter answers with paths, as data; who mounts them is not its affair. Chains are given
bottom first, as an image's configuration lists them; views name layers top first, as overlay does.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from wherry.model.errors import Invalid, NotFound
from wherry.model.ids import Digest
from wherry.storage.changes import Change
from wherry.storage.placement import spread
from wherry.storage.trees import LayerTrees, read_usage

_PRIVATE: Final = 0o700


@dataclass(frozen=True, slots=True)
class OverlayView:
    """What to mount as a root.

    With `lowers` and `upper`: an overlay, to be mounted with redirect_dir=off, metacopy=off and
    index=off, which `pack` and `changes` count on. `upper` None: read-only; a single lower is
    bound, several are an overlay without an upper. `lowers` empty: bind `upper`.
    """

    lowers: tuple[Path, ...]
    upper: Path | None
    work: Path | None


class Snapshotter(Protocol):
    """Layers and the writable trees over them. Keys are container ids. One process owns a root."""

    def layer_path(self, chain: Digest) -> Path:
        """Return where the layer is, or would be."""
        ...

    def has_layer(self, chain: Digest) -> bool:
        """Whether the layer is here, whole."""
        ...

    def parent_paths(self, chain: Sequence[Digest]) -> tuple[Path, ...]:
        """Return the layers' directories, nearest (top) first; NotFound for a missing one."""
        ...

    def new_layer(
        self, chain: Digest, parents: Sequence[Digest], *, later: bool = False
    ) -> AbstractContextManager[Path]:
        """Give out an empty directory that becomes the layer at a clean end of the block.

        With `later` it is durable only after `settle`.
        """
        ...

    def settle(self) -> None:
        """Make durable all layers that were made with `later`."""
        ...

    def settle_soon(self) -> None:
        """Begin, in the background, what `settle` is going to wait for."""
        ...

    def prepare(self, key: str, chain: Sequence[Digest]) -> OverlayView:
        """Make the writable tree `key` over `chain`, or find it as it is. NotFound, Full."""
        ...

    def view(self, chain: Sequence[Digest]) -> OverlayView:
        """Return the read-only view of `chain`. NotFound."""
        ...

    def view_of(self, key: str, chain: Sequence[Digest]) -> OverlayView:
        """Return the view that `prepare` returned. NotFound."""
        ...

    def remove(self, key: str) -> None:
        """Remove the writable tree `key` and nothing else of its folder; missing is fine."""
        ...

    def keys(self) -> Iterator[str]:
        """Yield the keys that have a writable tree, in no order."""
        ...

    def layers(self) -> Iterator[Digest]:
        """Yield the chain ids of all layers, in no order."""
        ...

    def has_upper(self, key: str) -> bool:
        """Whether the tree `key` is there: quick, for who asks often."""
        ...

    def retire_layer(self, chain: Digest) -> tuple[Path, ...]:
        """Take the layer away at once; return what of it is to be removed by `remove_path`."""
        ...

    def usage(self, path: Path) -> int:
        """Return the bytes that the tree at `path` takes on disk, hard links once."""
        ...

    def changes(self, key: str, chain: Sequence[Digest]) -> Iterator[Change]:
        """Yield what the tree `key` changed of `chain`, by path. NotFound."""
        ...


class DirectorySnapshotter:
    """What snapshotters with one directory per layer and per key have in common."""

    def __init__(self, root: Path) -> None:
        self._trees = LayerTrees(root)
        self._containers = root / "containers"
        self._uppers = str(self._containers)
        self._containers.mkdir(mode=_PRIVATE, exist_ok=True)
        spread(self._containers)
        self.layer_path = self._trees.layer_path
        self.has_layer = self._trees.has_layer
        self.parent_paths = self._trees.parent_paths
        self.new_layer = self._trees.new_layer
        self.layers = self._trees.layers
        self.settle = self._trees.settle
        self.settle_soon = self._trees.settle_soon

    def remove(self, key: str) -> None:
        """Remove upper and work of `key`; missing is fine."""
        folder = self._folder(key)
        for name in ("upper", "work"):
            self._trees.discard(folder / name)

    def keys(self) -> Iterator[str]:
        """Yield the keys that have an upper directory, in no order."""
        with os.scandir(self._containers) as entries:
            for entry in entries:
                if os.path.isdir(os.path.join(entry.path, "upper")):
                    yield entry.name

    def has_upper(self, key: str) -> bool:
        """Whether `key` has an upper directory."""
        return os.path.isdir(f"{self._uppers}/{key}/upper")

    def retire_layer(self, chain: Digest) -> tuple[Path, ...]:
        """Take the layer away at once; return what of it is to be removed by `remove_path`."""
        return self._trees.bury(self.layer_path(chain))

    def usage(self, path: Path) -> int:
        """Return the bytes that the tree at `path` takes on disk, hard links once."""
        return read_usage(path)

    def _folder(self, key: str) -> Path:
        if not key or "/" in key or "\0" in key or key in (".", ".."):
            raise Invalid(f"invalid snapshot key: {key!r}")
        return self._containers / key

    def _upper(self, key: str) -> Path:
        upper = self._folder(key) / "upper"
        if not upper.is_dir():
            raise NotFound("snapshot", key)
        return upper
