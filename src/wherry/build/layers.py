"""From a writable tree to a layer: without a copy, the same bytes for the same content.

    upper > what was only mounted upon taken out > times clamped > packed (the blob, its digest)
    > the upper itself moved to where the layer lies

Nothing is made of a tree in which nothing changed.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from pathlib import Path

from wherry.build.times import fold
from wherry.images.intake import Intake
from wherry.images.store import StoredLayer
from wherry.kernel.linux import LINUX
from wherry.kernel.overlays import Overlay, open_overlay
from wherry.model.ids import Digest
from wherry.model.images import Layer, chain_ids
from wherry.registry.media import OCI_LAYER
from wherry.storage.layers import pack
from wherry.storage.layers.lower import LowerTree
from wherry.storage.snapshots import OverlayView, Snapshotter

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_BILLION = 10**9
_EPOCH = "trusted.overlay.wherry.epoch"
"""On a layer's root: what its times were folded to. Overlay shows it to nobody, archives do not have it."""
MADE_BY_RUNTIME = (
    "/.dockerenv /dev/console /dev/pts /dev/shm /dev/mqueue /dev /etc/hostname /etc/hosts"
    " /etc/resolv.conf /proc /sys /sbin/docker-init"
).split()
"""What the runtime makes to mount upon; deeper ones first."""


class LayersTree:
    """The tree of some layers, for reading: `files.Tree`."""

    def __init__(self, snapshots: Snapshotter, chain: Sequence[Digest]) -> None:
        self._snapshots = snapshots
        self.chain = tuple(chain)

    @property
    def digest(self) -> str:
        """The top layer's chain id."""
        return str(self.chain[-1]) if self.chain else "scratch"

    @property
    def epoch(self) -> int | None:
        """None: layers keep their times."""
        return None

    @contextmanager
    def open(self) -> Generator[int]:
        """Give a descriptor of its root."""
        fd = open_view(self._snapshots.view(self.chain))
        try:
            yield fd
        finally:
            os.close(fd)


def open_view(view: OverlayView) -> int:
    """Return a directory descriptor of a view, writable where it has an upper. Detached: nobody else sees it."""
    lowers = tuple(os.fsencode(path) for path in view.lowers)
    if view.upper is None:
        if len(lowers) == 1:
            return os.open(lowers[0], _DIRECTORY)
        tree = open_overlay(LINUX, Overlay(lowers))
    elif not lowers:
        return os.open(view.upper, _DIRECTORY)
    else:
        work = os.fsencode(view.work) if view.work is not None else b""
        # The layer is synced by itself: no sync when this is let go.
        wanted = Overlay(lowers, os.fsencode(view.upper), work, volatile=True)
        tree = open_overlay(LINUX, wanted)
    try:
        return os.open(".", _DIRECTORY, dir_fd=tree)
    finally:
        os.close(tree)


def make_layer(
    snapshots: Snapshotter,
    view: OverlayView,
    parents: Sequence[Digest],
    diff_ids: Sequence[Digest],
    intake: Intake,
    *,
    stubs: Iterable[str] = (),
    epoch: int | None = None,
) -> StoredLayer | None:
    """Make the layer of what was written into `view`, held by `intake`; None where that is nothing.

    `stubs` are paths that may have been made only to mount upon. It outlives a crash of the machine after
    `Snapshotter.settle`. Blocks. Raises Full, NotFound.
    """
    assert view.upper is not None
    upper = Path(view.upper)
    with LowerTree([Path(path) for path in view.lowers]) as lower, LowerTree([upper]) as own:
        for stub in stubs:
            _remove_stub(upper, own, lower, os.fsencode(stub).strip(b"/"))
        root = _differs(own, lower, b"")
    if not root and not os.listdir(upper):
        return None
    if epoch is not None:
        clamp(upper, epoch)
        os.setxattr(upper, _EPOCH, b"%d" % epoch)
    packed_size = 0

    def write(out: Callable[[bytes], object]) -> None:
        nonlocal packed_size
        prefix = b"." if root else b""
        # Whole seconds, as Docker's layers have: no record of its own for the time of each file.
        packed_size = pack(
            upper, out, whiteouts=True, prefix=prefix, root_entry=root, whole_seconds=True
        ).size

    with intake.content.writer() as writer:
        write(writer.write)
        blob, tar_size = writer.digest(), writer.size
        chain = chain_ids((*diff_ids, blob))[-1]
        intake.hold(blob, chain)
        if snapshots.has_layer(chain):
            writer.commit()
        else:
            with snapshots.new_layer(chain, parents, later=True) as target:
                # rename(2) takes the place of an empty directory.
                os.rename(upper, target)
                # Inside the block: who finds both, and settles, syncs this blob too.
                writer.commit(later=True)
    return StoredLayer(Layer(blob, chain, blob, OCI_LAYER, tar_size, packed_size), tar_size)


def _remove_stub(upper: Path, own: LowerTree, lower: LowerTree, path: bytes) -> None:
    """Take out what was made only to be mounted upon, and the folders around it that hold nothing else."""
    place = os.fsencode(upper) + b"/" + path
    status = own.status(path) if path else None
    if status is not None and stat.S_ISREG(status.st_mode):
        if status.st_size or lower.status(path) is not None:
            return
        os.unlink(place)
    elif status is None or not _rmdir(place, own, lower, path):
        return
    while path := path.rpartition(b"/")[0]:
        if not _rmdir(os.fsencode(upper) + b"/" + path, own, lower, path):
            return


def _rmdir(place: bytes, own: LowerTree, lower: LowerTree, path: bytes) -> bool:
    """Remove an empty directory that says nothing that the layers below do not say."""
    found = own.directory(path)
    if found is None or os.listdir(place):
        return False
    status = lower.status(path)
    if status is not None and (not stat.S_ISDIR(status.st_mode) or _differs(own, lower, path)):
        return False
    os.rmdir(place)
    return True


def _differs(own: LowerTree, lower: LowerTree, path: bytes) -> bool:
    """Whether a directory's mode, owner or attributes are others than below; its time does not count."""
    mine, below = own.directory(path), lower.directory(path)
    if mine is None or below is None:
        return mine is not below
    return (mine.mode, mine.uid, mine.gid, mine.xattrs) != (
        below.mode,
        below.uid,
        below.gid,
        below.xattrs,
    )


def epoch_of(layer: Path) -> int | None:
    """Return what the times of a layer that was built here were folded to; None for others."""
    try:
        return int(os.getxattr(layer, _EPOCH))
    except OSError:
        return None


def clamp(top: Path, epoch: int) -> None:
    """Fold times later than `epoch` (seconds) in the whole tree; links are not followed."""
    limit = epoch * _BILLION
    for _, directories, names, fd in os.fwalk(top, topdown=False, follow_symlinks=False):
        for name in (*names, *directories):
            status = os.stat(name, dir_fd=fd, follow_symlinks=False)
            if status.st_mtime_ns > limit:
                stamp = fold(status.st_mtime_ns, epoch)
                os.utime(name, ns=(stamp, stamp), dir_fd=fd, follow_symlinks=False)
    stamp = os.lstat(top).st_mtime_ns
    if stamp > limit:
        stamp = fold(stamp, epoch)
        os.utime(top, ns=(stamp, stamp), follow_symlinks=False)
