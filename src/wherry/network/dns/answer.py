"""From a query to its answer out of the zones, or to None: then it is forwarded.

Answers that one container gets again are kept, since a resolver in front of a busy program hears the same
question thousands of times a second. Several addresses are turned by one with every answer, so that callers
which take the first spread over all. TTL and flags are those of Docker 28.5.
"""

from __future__ import annotations

from wherry.network.dns import message
from wherry.network.dns.facts import View
from wherry.network.dns.message import Query
from wherry.network.dns.zone import Zones

TTL = 600
"""Seconds."""
_KEPT = 512


class Answerer:
    """Answers one container's queries; `view` may be replaced."""

    def __init__(self, zones: Zones, view: View) -> None:
        self._zones = zones
        self._view = view
        self._version = zones.version
        self._kept: dict[bytes, tuple[Query, list[bytes]]] = {}
        self._turn = 0

    @property
    def view(self) -> View:
        """What the container sees."""
        return self._view

    @view.setter
    def view(self, view: View) -> None:
        self._view = view
        self._kept.clear()

    def kept(self, data: bytes) -> bytes | None:
        """Return the answer over UDP to bytes that were answered before, or None."""
        if self._version != self._zones.version:
            self._version = self._zones.version
            self._kept.clear()
            return None
        found = self._kept.get(data[2:])
        if found is None:
            return None
        query, records = found
        response = message.respond(query, self._turned(records), room=query.room)
        return data[:2] + response[2:]

    def answer(self, query: Query, data: bytes, *, tcp: bool = False) -> bytes | None:
        """Return the response to `query`, which came as `data`, or None when nothing here has its name."""
        records = self._records(query)
        if records is None:
            return None
        if tcp:
            room = message.LARGEST_TCP
        else:
            room = query.room
            if len(self._kept) >= _KEPT:
                self._kept.clear()
            self._kept[data[2:]] = (query, records)
        return message.respond(query, self._turned(records), room=room)

    def _turned(self, records: list[bytes]) -> list[bytes]:
        if len(records) < 2:
            return records
        self._turn += 1
        at = self._turn % len(records)
        return records[at:] + records[:at]

    def _records(self, query: Query) -> list[bytes] | None:
        if query.dns_class not in (message.IN, message.ANY_CLASS):
            return None
        match query.kind:
            case message.A | message.AAAA | message.MX:
                addresses = self._zones.resolve(self._view, query.name)
                if addresses is None:
                    return None
                # Docker answers MX of a container's name with no data, and forwards all other kinds.
                size = {message.A: 4, message.AAAA: 16}.get(query.kind)
                return [message.record(query.kind, TTL, a) for a in addresses if len(a) == size]
            case message.PTR:
                name = self._zones.reverse(self._view, query.name)
                if name is None:
                    return None
                try:
                    return [message.record(message.PTR, TTL, message.encode_name(name))]
                except ValueError:  # a container's name may be longer than a label
                    return None
            case _:
                return None
