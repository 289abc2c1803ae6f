"""What happened, kept for a while in memory and handed to whoever listens.

Source: Engine API v1.51, `GET /events`; action names and attributes are those of Docker Engine 28.5.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Protocol

from wherry.model.containers import Container
from wherry.model.errors import Invalid, Unavailable
from wherry.model.events import Event
from wherry.model.networks import Network

KEPT = 2048
"""Events that `since` can reach back to."""
QUEUE = 4096
"""Events that may wait for one listener; one who falls further behind is cut off."""

Filters = Mapping[str, Sequence[str]]
_FILTERS = frozenset(
    "builder config container daemon event image label network node plugin scope secret service type volume".split()
)


class Recorder(Protocol):
    """Where events are put."""

    def record(self, event: Event) -> None: ...


class EventLog:
    """A ring of the last events and the queues of those who listen."""

    def __init__(self, *, kept: int = KEPT, clock: Callable[[], int] = time.time_ns) -> None:
        self._ring: deque[Event] = deque(maxlen=kept)
        self._listeners: set[asyncio.Queue[Event | None]] = set()
        self._hearers: list[Callable[[Event], None]] = []
        self._clock = clock
        self._last = 0

    def on_event(self, hear: Callable[[Event], None]) -> None:
        """Call `hear` with every event, at once and before the listeners; it must not raise."""
        self._hearers.append(hear)

    def record(self, event: Event) -> None:
        """Add `event`; one without a time gets the present one. Times never run backwards."""
        self._last = max(self._last + 1, event.time or self._clock())
        stamped = Event(event.kind, event.action, event.actor, event.attributes, self._last)
        self._ring.append(stamped)
        for hear in self._hearers:
            hear(stamped)
        for listener in tuple(self._listeners):
            if listener.qsize() >= QUEUE:
                self._listeners.discard(listener)
                listener.put_nowait(None)
            else:
                listener.put_nowait(stamped)

    async def subscribe(self, *, since: int, until: int, filters: Filters) -> AsyncIterator[Event]:
        """Yield what is kept from `since` on (0: nothing of the past), then what comes, until `until`.

        Times are nanoseconds since the epoch; `until` 0 goes on for ever. Raises Invalid for an
        unknown filter, Unavailable where the listener was too slow.
        """
        wanted = compile_filters(filters)
        queue: asyncio.Queue[Event | None] = asyncio.Queue()
        past = [event for event in self._ring if since and event.time >= since]
        self._listeners.add(queue)
        try:
            for event in past:
                if until and event.time > until:
                    return
                if wanted(event):
                    yield event
            while True:
                if not until:
                    event = await queue.get()
                else:
                    left = (until - self._clock()) / 1e9
                    if left <= 0 and queue.empty():
                        return
                    try:
                        event = await asyncio.wait_for(queue.get(), max(left, 0.001))
                    except TimeoutError:
                        return
                if event is None:
                    raise Unavailable("the listener of events is too slow and was cut off")
                if until and event.time > until:
                    return
                if wanted(event):
                    yield event
        finally:
            self._listeners.discard(queue)


def container_event(container: Container, action: str, **attributes: str) -> Event:
    """Return an event about `container`; its labels, image and name are among the attributes."""
    merged = dict(container.labels) | attributes
    merged["image"] = container.image_name
    merged["name"] = container.name
    return Event("container", action, container.id, tuple(sorted(merged.items())))


def network_event(network: Network, action: str, **attributes: str) -> Event:
    """Return an event about `network`; its name and driver are among the attributes."""
    merged = attributes | {"name": network.name, "type": str(network.spec.driver)}
    return Event("network", action, network.id, tuple(sorted(merged.items())))


def compile_filters(filters: Filters) -> Callable[[Event], bool]:
    """Return a predicate: every filter named must have a value that holds. Raises Invalid."""
    for name in filters:
        if name not in _FILTERS:
            raise Invalid(f"invalid filter '{name}'")
    tests = [_test(name, tuple(values)) for name, values in filters.items() if values]

    def matches(event: Event) -> bool:
        return all(test(event) for test in tests)

    return matches


def _test(name: str, values: tuple[str, ...]) -> Callable[[Event], bool]:
    match name:
        case "event":
            return lambda event: any(
                event.action == value or event.action.startswith(f"{value}:") for value in values
            )
        case "type":
            return lambda event: event.kind in values
        case "scope":
            return lambda event: "local" in values
        case "label":
            return lambda event: all(_has_label(event, value) for value in values)
        case "image":
            return lambda event: any(_is_image(event, value) for value in values)
        case _:
            # Docker compares the rest with the beginning of the actor's id or of its name.
            return lambda event: (
                event.kind == name
                and (
                    event.actor.startswith(values)
                    or dict(event.attributes).get("name", "").startswith(values)
                )
            )


def _has_label(event: Event, text: str) -> bool:
    key, equals, value = text.partition("=")
    attributes = dict(event.attributes)
    return key in attributes and (not equals or attributes[key] == value)


def _is_image(event: Event, value: str) -> bool:
    attributes = dict(event.attributes)
    name = attributes.get("name" if event.kind == "image" else "image", "")
    return value in (event.actor, name, name.partition(":")[0])
