"""The service at one container's 127.0.0.11: its UDP and TCP sockets, and what comes in by them.

A container is a hostile neighbour to the others: it gets a share of every round and no more, its connections
and questions under way are counted, and an idle connection is closed.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable

from wherry.kernel.reactor import READ, WRITE, Reactor, Timer
from wherry.network.dns import message
from wherry.network.dns.answer import Answerer
from wherry.network.dns.facts import View
from wherry.network.dns.forward import Forwarder, Reply
from wherry.network.dns.message import Malformed
from wherry.network.dns.sockets import Doors
from wherry.network.dns.zone import Zones

_A_ROUND = 32
"""Datagrams taken from one container before the others' turn."""
MOST_STREAMS = 64
"""Connections that a container may have; the oldest goes for a new one."""
IDLE = 10.0
"""Seconds after which a silent connection is closed; RFC 7766 section 6.2.3."""
_MOST_UNSENT = 256 << 10
_PAUSE = 1.0

Handle = Callable[[bytes, Reply, bool], None]
"""Takes a message, what to do with its response, and whether it came over TCP."""


class Server:
    """Serves one container. It owns the sockets: UDP, and TCP that listens."""

    def __init__(
        self,
        reactor: Reactor,
        doors: Doors,
        zones: Zones,
        view: View,
        udp: socket.socket,
        tcp: socket.socket,
    ) -> None:
        self._reactor = reactor
        self._udp = udp
        self._tcp = tcp
        self._answerer = Answerer(zones, view)
        self._forwarder = Forwarder(reactor, doors, udp)
        self._streams: dict[int, _Stream] = {}
        self._closed = False
        for one in (udp, tcp):
            one.setblocking(False)
        reactor.watch(udp.fileno(), READ, self._datagrams)
        reactor.watch(tcp.fileno(), READ, self._connection)

    @property
    def view(self) -> View:
        """What the container sees."""
        return self._answerer.view

    @view.setter
    def view(self, view: View) -> None:
        self._answerer.view = view

    def close(self) -> None:
        """Close everything that is open in the container's network namespace."""
        self._closed = True
        self._forwarder.close()
        for stream in list(self._streams.values()):
            stream.close()
        for one in (self._udp, self._tcp):
            self._reactor.unwatch(one.fileno())
            one.close()

    def _datagrams(self, mask: int) -> None:
        receive, send, kept = self._udp.recvfrom, self._udp.sendto, self._answerer.kept
        for _ in range(_A_ROUND):
            try:
                data, sender = receive(4096)
            except BlockingIOError:
                return
            except OSError:
                continue  # what an earlier answer met: ICMP port unreachable
            response = kept(data)
            if response is None:
                self._handle(data, lambda r, to=sender: self._send(r, to), False)
                continue
            try:
                send(response, sender)
            except OSError:
                continue  # a full queue: datagrams may be lost

    def _send(self, response: bytes, to: object) -> None:
        if not self._closed:
            try:
                self._udp.sendto(response, to)  # type: ignore[arg-type]
            except OSError:
                pass

    def _handle(self, data: bytes, reply: Reply, tcp: bool) -> None:
        try:
            query = message.parse_query(data)
        except Malformed as error:
            if error.reply:
                reply(error.reply)
            return
        response = self._answerer.answer(query, data, tcp=tcp)
        if response is not None:
            reply(response)
        else:
            self._forwarder.forward(query, self.view, reply, tcp=tcp)

    def _connection(self, mask: int) -> None:
        try:
            opened, _ = self._tcp.accept()
        except (BlockingIOError, ConnectionError):
            return  # it went again
        except OSError:
            # No descriptor is left: the backlog waits, without being looked at in every round.
            self._reactor.unwatch(self._tcp.fileno())
            self._reactor.later(_PAUSE, self._resume)
            return
        opened.setblocking(False)
        if len(self._streams) >= MOST_STREAMS:
            next(iter(self._streams.values())).close()
        stream = _Stream(self._reactor, opened, self._handle, self._streams)
        self._streams[opened.fileno()] = stream

    def _resume(self) -> None:
        if not self._closed:
            self._reactor.watch(self._tcp.fileno(), READ, self._connection)


class _Stream:
    """One TCP connection: queries and responses, each after its length; answers may overtake."""

    def __init__(
        self,
        reactor: Reactor,
        opened: socket.socket,
        handle: Handle,
        registry: dict[int, _Stream],
    ) -> None:
        self._reactor = reactor
        self._socket = opened
        self._fd = opened.fileno()
        self._handle = handle
        self._registry = registry
        self._received = bytearray()
        self._unsent = bytearray()
        self._waiting = 0
        self._ended = False
        self._active = time.monotonic()
        self._timer: Timer = reactor.later(IDLE, self._expire)
        reactor.watch(self._fd, READ, self._ready)

    @property
    def _open(self) -> bool:
        return self._registry.get(self._fd) is self

    def close(self) -> None:
        """Close the connection; again is fine."""
        if self._open:
            del self._registry[self._fd]
            self._timer.cancel()
            self._reactor.unwatch(self._fd)
            self._socket.close()

    def _ready(self, mask: int) -> None:
        try:
            if mask & WRITE:
                self._flush()
            if mask & ~WRITE and not self._ended:
                self._receive()
        except BlockingIOError:
            pass
        except (OSError, EOFError):
            self.close()
            return
        self._watch()

    def _receive(self) -> None:
        piece = self._socket.recv(16384)
        if not piece:
            # The client may have shut only its half: what it asked is answered first.
            self._ended = True
            return
        self._active = time.monotonic()
        self._received += piece
        while len(self._received) >= 2:
            size = 2 + int.from_bytes(self._received[:2], "big")
            if len(self._received) < size:
                return
            data = bytes(self._received[2:size])
            del self._received[:size]
            if len(data) < message.HEADER:
                raise EOFError  # no message can follow that makes sense
            self._waiting += 1
            self._handle(data, self._reply, True)

    def _reply(self, response: bytes) -> None:
        self._waiting -= 1
        if not self._open:
            return
        if len(self._unsent) > _MOST_UNSENT:
            self.close()  # it asks and does not read
            return
        self._unsent += len(response).to_bytes(2, "big") + response
        try:
            self._flush()
        except BlockingIOError:
            pass
        except OSError:
            self.close()
            return
        self._watch()

    def _flush(self) -> None:
        while self._unsent:
            del self._unsent[: self._socket.send(self._unsent, socket.MSG_NOSIGNAL)]
            self._active = time.monotonic()

    def _watch(self) -> None:
        if not self._open:
            return
        if self._ended and not self._unsent and self._waiting <= 0:
            self.close()
            return
        mask = (0 if self._ended else READ) | (WRITE if self._unsent else 0)
        self._reactor.watch(self._fd, mask, self._ready)

    def _expire(self) -> None:
        left = self._active + IDLE - time.monotonic()
        if left > 0:
            self._timer = self._reactor.later(left, self._expire)
        else:
            self.close()
