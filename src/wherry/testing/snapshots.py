"""A snapshotter without overlayfs, which the contract of snapshotters is held against as well."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from wherry.kernel.paths import remove_path
from wherry.model.ids import Digest
from wherry.storage.changes import Change, read_changes
from wherry.storage.durable import full
from wherry.storage.layers.merge import merge
from wherry.storage.snapshots import DirectorySnapshotter, OverlayView

_PRIVATE: Final = 0o700


class PlainCopySnapshotter(DirectorySnapshotter):
    """Every writable tree is a whole copy: slow and large, and works on any file system."""

    def prepare(self, key: str, chain: Sequence[Digest]) -> OverlayView:
        """Copy `chain` for `key`, unless that was done before. Raises NotFound, Full."""
        layers = self.parent_paths(chain)
        upper = self._folder(key) / "upper"
        if not upper.is_dir():
            upper.parent.mkdir(mode=_PRIVATE, exist_ok=True)
            self._copy(layers, upper)
        return OverlayView((), upper, None)

    def view(self, chain: Sequence[Digest]) -> OverlayView:
        """Return a copy of `chain`, kept as long as its top layer. Raises NotFound, Full."""
        layers = self.parent_paths(chain)
        merged = self._merged(chain[-1] if chain else None)
        if not merged.is_dir():
            merged.parent.mkdir(mode=_PRIVATE, exist_ok=True)
            self._copy(layers, merged)
        return OverlayView((merged,), None, None)

    def view_of(self, key: str, chain: Sequence[Digest]) -> OverlayView:
        """Return the view of an existing key. Raises NotFound."""
        return OverlayView((), self._upper(key), None)

    def retire_layer(self, chain: Digest) -> tuple[Path, ...]:
        """Take away the layer and the copy that `view` made for it."""
        return (*self._trees.bury(self._merged(chain)), *super().retire_layer(chain))

    def changes(self, key: str, chain: Sequence[Digest]) -> Iterator[Change]:
        """Yield what the copy `key` changed of `chain`, by path. Raises NotFound."""
        yield from read_changes(self._upper(key), self.parent_paths(chain), whole=True)

    def _merged(self, top: Digest | None) -> Path:
        return self._containers.parent / "merged" / (top.hex if top is not None else "empty")

    def _copy(self, layers: tuple[Path, ...], target: Path) -> None:
        with full(str(target), target):
            temporary = self._trees.fresh()
            try:
                merge(layers, temporary)
                if not layers:
                    temporary.chmod(0o755)
                temporary.rename(target)
            finally:
                remove_path(temporary)
