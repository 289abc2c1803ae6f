"""`--squash`: all that a build made over its base, as one layer."""

from __future__ import annotations

from dataclasses import replace

from wherry.build.layers import make_layer
from wherry.build.perform import Place
from wherry.build.stages import StageResult
from wherry.images.intake import Intake
from wherry.model.images import HistoryEntry
from wherry.storage.layers import unpack
from wherry.storage.snapshots import Snapshotter


def squash(result: StageResult, key: str, snapshots: Snapshotter, intake: Intake) -> StageResult:
    """Return `result` with the layers above its base's made one, by way of the writable tree `key`.

    Blocks. Raises Full.
    """
    below = len(result.base.layers) if result.base is not None else 0
    own = result.layers[below:]
    if len(own) < 2:
        return result
    base = Place(result.layers[:below])
    view = snapshots.prepare(key, base.chain)
    assert view.upper is not None
    parents = snapshots.parent_paths(base.chain)
    for stored in own:
        with intake.content.open(stored.layer.blob) as archive:
            unpack(archive, view.upper, parents=parents)
    layer = make_layer(snapshots, view, base.chain, base.diff_ids, intake)
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
