"""`--squash`: all that a build made over its base, as one layer.

The layers are put one after the other into a writable tree over the base, whose changes then are the layer.
"""

from __future__ import annotations

import os
import stat
import tempfile
from dataclasses import replace
from pathlib import Path

from wherry.build.layers import make_layer, open_view
from wherry.build.perform import Place
from wherry.build.stages import StageResult
from wherry.images.intake import Intake
from wherry.kernel.paths import RESOLVE_IN_ROOT, RESOLVE_NO_SYMLINKS, open_in_root, remove_tree
from wherry.model.images import HistoryEntry
from wherry.storage.layers import extract, pack
from wherry.storage.layers.lower import is_opaque
from wherry.storage.layers.whiteouts import is_whiteout
from wherry.storage.snapshots import Snapshotter

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_STRICT = RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS


def squash(
    result: StageResult, key: str, snapshots: Snapshotter, intake: Intake, scratch: Path
) -> StageResult:
    """Return `result` with the layers above its base's made one, by way of the writable tree `key`.

    Blocks. Raises Full.
    """
    below = len(result.base.layers) if result.base is not None else 0
    own = result.layers[below:]
    if len(own) < 2:
        return result
    base = Place(result.layers[:below])
    view = snapshots.prepare(key, base.chain)
    root = open_view(view)
    try:
        for stored in own:
            _apply(snapshots.layer_path(stored.layer.chain_id), root, scratch)
    finally:
        os.close(root)
    layer = make_layer(snapshots, view, base.chain, base.diff_ids, intake, epoch=result.epoch)
    snapshots.settle()
    kept = len(result.base.history) if result.base is not None else 0
    history = (
        *result.history[:kept],
        *(replace(entry, empty_layer=True) for entry in result.history[kept:]),
        HistoryEntry(
            created=result.history[-1].created if result.history else "",
            comment="the layers above the base merged into one",
            empty_layer=layer is None,
        ),
    )
    return replace(result, layers=(*base.layers, *([layer] if layer else [])), history=history)


def _apply(layer: Path, root: int, scratch: Path) -> None:
    """Do to the tree `root` what the layer directory does to what is below it."""
    hidden = _clear(layer, root)
    with tempfile.TemporaryFile(dir=scratch) as spool:
        pack(layer, spool.write, prefix=b".", include=lambda path: path not in hidden)
        spool.seek(0)
        extract(spool, root, ".")


def _clear(layer: Path, root: int) -> set[bytes]:
    """Take out of the tree what the layer hides; return the layer's marks."""
    marks: set[bytes] = set()
    top = os.fsencode(layer)
    for folder, _, names, fd in os.fwalk(top, follow_symlinks=False):
        path = folder[len(top) :].strip(b"/")
        if path and is_opaque(fd):
            _remove(root, path)
        for name in names:
            if is_whiteout(os.stat(name, dir_fd=fd, follow_symlinks=False)):
                mark = path + b"/" + name if path else name
                marks.add(mark)
                _remove(root, mark)
    return marks


def _remove(root: int, path: bytes) -> None:
    directory, _, name = path.rpartition(b"/")
    try:
        parent = open_in_root(root, directory or b".", _DIRECTORY, resolve=_STRICT)
    except OSError:
        return  # Nothing there to be hidden.
    try:
        status = os.stat(name, dir_fd=parent, follow_symlinks=False)
        if stat.S_ISDIR(status.st_mode):
            remove_tree(parent, name)
        else:
            os.unlink(name, dir_fd=parent)
    except FileNotFoundError:
        pass
    finally:
        os.close(parent)
