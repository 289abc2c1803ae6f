"""What a build tells, on its way to whoever asked for it, who may read slowly or not at all.

Events are few, but for what commands print: of that so much waits and no more, since a Dockerfile may be
anybody's and `RUN yes` prints gigabytes. What is left out is told by a line in its place.
"""

from __future__ import annotations

import asyncio
from collections import deque

from wherry.model.build import Progress, StepDone, StepFailed, StepOutput, StepRef

MOST = 16 << 20
"""Bytes of output that wait for whoever reads them."""
KEPT = 1 << 20
"""Bytes of a running step's output that are kept for a build that joins it."""
_EACH = 256
"""Bytes that an event takes beside its data: a command may write its output byte by byte."""

Written = tuple[int, bytes]
"""1 or 2, and what a command wrote there."""


class Telling:
    """The events of one build. Everything runs in the loop's thread."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._events: asyncio.Queue[Progress | None] = asyncio.Queue()
        self._waiting = 0
        self._left_out: dict[StepRef, int] = {}

    def tell(self, event: Progress) -> None:
        """Add an event, but for output while too much of it waits."""
        if isinstance(event, StepOutput):
            # Half of it has to be read before more is taken, or there would be a gap behind every piece.
            room = self._most // 2 if event.step in self._left_out else self._most
            if self._waiting + _weight(event.data) > room:
                self._left_out[event.step] = self._left_out.get(event.step, 0) + len(event.data)
                return
            self._tell_gap(event.step)
            self._waiting += _weight(event.data)
        elif isinstance(event, StepDone | StepFailed):
            self._tell_gap(event.step)
        self._events.put_nowait(event)

    def _tell_gap(self, step: StepRef) -> None:
        size = self._left_out.pop(step, 0)
        if size:
            line = f"\n[{size} bytes of output left out: they were not read in time]\n".encode()
            self._waiting += _weight(line)
            self._events.put_nowait(StepOutput(step, line, 2))

    def end(self) -> None:
        """Nothing more is told."""
        self._events.put_nowait(None)

    async def next(self) -> Progress | None:
        """Return the next event, None after the last one."""
        event = await self._events.get()
        if isinstance(event, StepOutput):
            self._waiting -= _weight(event.data)
        return event


class Latest:
    """The end of what a running step has printed so far."""

    def __init__(self, most: int = KEPT) -> None:
        self._most = most
        self._pieces: deque[Written] = deque()
        self._size = 0

    def add(self, piece: Written) -> None:
        """Add a piece; the oldest go for it."""
        self._pieces.append(piece)
        self._size += _weight(piece[1])
        while self._size > self._most and len(self._pieces) > 1:
            self._size -= _weight(self._pieces.popleft()[1])

    def pieces(self) -> tuple[Written, ...]:
        """Return what there is, oldest first."""
        return tuple(self._pieces)


def _weight(data: bytes) -> int:
    return len(data) + _EACH
