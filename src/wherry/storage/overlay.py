"""Snapshots for overlayfs: layers are shared read-only lowers, a container is an upper and a work.

Both lie in `<root>/containers/<key>/`, beside what others keep there. Nothing is copied.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from wherry.kernel.failpoints import failpoint
from wherry.kernel.paths import remove_path
from wherry.model.ids import Digest
from wherry.storage.changes import Change, read_changes
from wherry.storage.durable import full
from wherry.storage.layers.entries import Entry, Kind
from wherry.storage.layers.lower import LowerTree
from wherry.storage.snapshots import DirectorySnapshotter, OverlayView

_PRIVATE: Final = 0o700
_PLAIN_ROOT: Final = Entry(b"", Kind.DIRECTORY, 0o755)


class OverlaySnapshotter(DirectorySnapshotter):
    """Layers and containers under `root`, which must be on a file system that overlay accepts."""

    def __init__(self, root: Path, *, marked: bool = False) -> None:
        """`marked` puts some files below every container's layers, as Docker does.

        /.dockerenv, /etc/mtab, and places for /etc/hosts, /etc/hostname and /etc/resolv.conf.
        """
        super().__init__(root)
        # Overlay wants at least one lower: this one stands for a chain of no layers.
        self._empty = root / "empty"
        self._empty.mkdir(mode=0o755, exist_ok=True)
        self._empty.chmod(0o755)
        self._base: tuple[Path, ...] = ()
        if marked:
            # Programs look at the first to learn where they are, and into the second for mounts.
            # Below all layers they belong to no image and are no change of the container's.
            base = root / "base"
            (base / "etc").mkdir(mode=0o755, parents=True, exist_ok=True)
            with suppress(FileExistsError):
                (base / "etc" / "mtab").symlink_to("/proc/mounts")
            (base / ".dockerenv").touch(mode=0o755)
            for name in ("hosts", "hostname", "resolv.conf"):
                (base / "etc" / name).touch(mode=0o755)
            self._base = (base,)

    def prepare(self, key: str, chain: Sequence[Digest]) -> OverlayView:
        """Make upper and work for `key`, or find them. The upper's root is like the top layer's.

        Not synced: after a crash of the machine a container that was just made may have none,
        and is prepared again. Raises NotFound for a missing layer, Full.
        """
        lowers = self.container_paths(chain)
        folder = self._folder(key)
        upper, work = folder / "upper", folder / "work"
        with full(f"container {key}", folder):
            folder.mkdir(exist_ok=True)
            work.mkdir(mode=_PRIVATE, exist_ok=True)
            if not upper.is_dir():
                self._make_upper(upper, lowers)
        return OverlayView(lowers, upper, work)

    def view(self, chain: Sequence[Digest]) -> OverlayView:
        """Return the read-only view of `chain`. Raises NotFound."""
        return OverlayView(self._lowers(chain), None, None)

    def view_of(self, key: str, chain: Sequence[Digest]) -> OverlayView:
        """Return the view of an existing key. Raises NotFound."""
        upper = self._upper(key)
        return OverlayView(self.container_paths(chain), upper, upper.with_name("work"))

    def changes(self, key: str, chain: Sequence[Digest]) -> Iterator[Change]:
        """Yield what the upper of `key` changed of `chain`, by path. Raises NotFound."""
        yield from read_changes(self._upper(key), self.container_paths(chain))

    def _lowers(self, chain: Sequence[Digest]) -> tuple[Path, ...]:
        return self.parent_paths(chain) or (self._empty,)

    def container_paths(self, chain: Sequence[Digest]) -> tuple[Path, ...]:
        """Return what lies below a container of `chain`, top first. Raises NotFound."""
        return (*self.parent_paths(chain), *self._base) or (self._empty,)

    def _make_upper(self, upper: Path, lowers: tuple[Path, ...]) -> None:
        """Make the upper directory whole under another name first: it is there or it is not.

        What a dead process left under that name is used: it is empty, and all of it is set anew.
        """
        # Not in `making`, whose directories are spread over the disk: that takes 0.2 ms, here 0.04.
        temporary = upper.with_name("making")
        temporary.mkdir(mode=_PRIVATE, exist_ok=True)
        try:
            with LowerTree(lowers[:1]) as top:
                root = top.directory(b"") or _PLAIN_ROOT
            os.chown(temporary, root.uid, root.gid)
            os.chmod(temporary, root.mode)
            for name, value in root.xattrs.items():
                os.setxattr(temporary, name, value)
            os.utime(temporary, ns=(root.mtime_ns, root.mtime_ns))
            failpoint("overlay.before-upper")
            os.rename(temporary, upper)
        except BaseException:
            remove_path(temporary)
            raise
