"""What a dead process left half-made or half-removed, cleared when its folder is opened again."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path

from wherry.kernel.paths import remove_path

log = logging.getLogger(__name__)


def remove_leftovers(folder: Path, wanted: Callable[[Path], bool] = lambda path: False) -> None:
    """Remove all in `folder` but what is `wanted`.

    What stays (immutable, a mount point, a damaged disk) is told of and tried again at the next opening:
    a container can make files that do, and the engine starts all the same.
    """
    for entry in tuple(folder.iterdir()):
        if not wanted(entry):
            try:
                remove_path(entry)
            except OSError as error:
                log.warning("%s cannot be removed: %s", entry, os.strerror(error.errno or 0))
