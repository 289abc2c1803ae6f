"""Times of files later than an epoch: folded into the second that begins at it, their order kept.

A layer's archive has whole seconds, so there every such file has the epoch's time, on every machine. In the
layer as it lies on disk they differ by their fractions: `make` in a later step still sees which file is
newer. Where objects of earlier builds lie beside them (a cache mount), the times are unfolded for the step:
see docs/decisions/0021.
"""

from __future__ import annotations

import math
from typing import Final

SECOND: Final = 10**9
_LONGEST: Final = 2**34
"""Seconds; no file is later than an epoch by more."""
_SCALE: Final = (SECOND - 2) / math.log1p(_LONGEST)


def fold(mtime_ns: int, epoch: int) -> int:
    """Return a time as a layer has it: as it is up to `epoch` (seconds), else within the second after it."""
    if mtime_ns // SECOND <= epoch:
        return mtime_ns
    late = min(mtime_ns / SECOND - epoch, _LONGEST)
    return epoch * SECOND + 1 + int(math.log1p(late) * _SCALE)


def unfold(mtime_ns: int, epoch: int) -> int:
    """Return the time that `fold` was given: exact up to some milliseconds a day, never earlier."""
    seconds, fraction = divmod(mtime_ns, SECOND)
    if seconds != epoch or not fraction:
        return mtime_ns
    return epoch * SECOND + math.ceil(math.expm1(fraction / _SCALE) * SECOND)
