"""What happened: `docker events` entries. Source: Engine API v1.51, EventMessage."""

from __future__ import annotations

from dataclasses import dataclass

from wherry.model.containers import Pairs


@dataclass(frozen=True, slots=True)
class Event:
    """One event; `time` is nanoseconds since the epoch."""

    kind: str
    """container, image, volume, network, daemon, builder."""
    action: str
    actor: str
    """The id, or the name where Docker uses it."""
    attributes: Pairs = ()
    time: int = 0


def prune_event(kind: str, reclaimed: int) -> Event:
    """Return the event that tells of a prune of one kind, which gave `reclaimed` bytes back."""
    return Event(kind, "prune", "", (("reclaimed", str(reclaimed)),))
