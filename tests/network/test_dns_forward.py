"""The conversation with one upstream, whatever it sends."""

from __future__ import annotations

import socket
from typing import Any, cast

from tests.network.questions import question
from wherry.network.dns.forward import _Asked  # pyright: ignore[reportPrivateUsage]
from wherry.network.dns.message import Query, parse_query, respond, with_id


class Flood:
    """A socket whose other end sends faster than anybody can read; the answer comes after `noise`."""

    def __init__(self, query: Query, noise: int) -> None:
        self.taken = 0
        self._query = query
        self._noise = noise
        self._sent = b""

    def send(self, data: bytes, flags: int) -> int:
        self._sent = data
        return len(data)

    def recv(self, size: int) -> bytes:
        self.taken += 1
        if self.taken <= self._noise:
            return b"noise" * 10
        return with_id(respond(self._query, [], room=512), int.from_bytes(self._sent[:2]))


def test_an_upstream_that_never_stops_sending_has_its_turn_and_no_more() -> None:
    query = parse_query(question("x.example", "A"))
    flood = Flood(query, 100)
    asked = _Asked(cast(socket.socket, cast(Any, flood)), query, tcp=False)
    rounds = 0
    while (response := asked.advance()) is None:
        rounds += 1
        assert flood.taken <= 32 * rounds
    assert response[2] & 0x80
    assert rounds == 3
