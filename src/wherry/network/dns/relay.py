"""Ports published on `[::1]`: what comes in there is carried to the container, and what answers back.

The kernel rewrites the destination of packets to 127.0.0.1, but not those to ::1 (no route_localnet for
IPv6), so somebody has to listen; this process does, for all ports together. Every flow has a bounded buffer:
who does not read is not read from.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable

from wherry.kernel.reactor import READ, WRITE, Reactor

Target = tuple[str, int]

_PIECE = 128 << 10
_MOST_FLOWS = 1024
"""Connections, or senders of datagrams, that one port has at a time."""
QUIET = 90.0
"""Seconds after which a sender of datagrams is forgotten; Docker's proxy has the same."""
_A_ROUND = 32
_PAUSE = 1.0


def relay(reactor: Reactor, listener: socket.socket, target: Target) -> Relay:
    """Return what carries to `target` from a socket that listens (TCP) or is bound (UDP); it owns it."""
    listener.setblocking(False)
    if listener.type == socket.SOCK_DGRAM:
        return DatagramRelay(reactor, listener, target)
    return StreamRelay(reactor, listener, target)


def _family(target: Target) -> int:
    return socket.AF_INET6 if ":" in target[0] else socket.AF_INET


class StreamRelay:
    """Connections to one port."""

    def __init__(self, reactor: Reactor, listener: socket.socket, target: Target) -> None:
        self._reactor = reactor
        self.listener = listener
        self.target = target
        self._flows: set[_Flow] = set()
        self._closed = False
        reactor.watch(listener.fileno(), READ, self._connection)

    def close(self) -> None:
        """Stop listening; what is connected is cut."""
        self._closed = True
        self._reactor.unwatch(self.listener.fileno())
        self.listener.close()
        for flow in list(self._flows):
            flow.close()

    def _connection(self, mask: int) -> None:
        try:
            inner, _ = self.listener.accept()
        except (BlockingIOError, ConnectionError):
            return
        except OSError:
            self._wait()
            return
        if len(self._flows) >= _MOST_FLOWS:
            inner.close()
            return
        inner.setblocking(False)
        try:
            outer = socket.socket(_family(self.target), socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        except OSError:
            inner.close()
            self._wait()
            return
        try:
            outer.connect(self.target)
        except BlockingIOError:
            pass
        except OSError:
            inner.close()
            outer.close()
            return
        flow = _Flow(self._reactor, inner, outer, self._flows.discard)
        self._flows.add(flow)

    def _wait(self) -> None:
        """No descriptor is left: look again later instead of in every round."""
        self._reactor.unwatch(self.listener.fileno())
        self._reactor.later(_PAUSE, self._resume)

    def _resume(self) -> None:
        if not self._closed:
            self._reactor.watch(self.listener.fileno(), READ, self._connection)


class _Half:
    """One direction: what was read from `source` and is not yet written to `sink`."""

    __slots__ = ("source", "sink", "held", "ended", "shut")

    def __init__(self, source: socket.socket, sink: socket.socket) -> None:
        self.source = source
        self.sink = sink
        self.held = b""
        self.ended = False
        self.shut = False

    def carry(self) -> None:
        """Move what can be moved, a few pieces at most. Raises OSError other than BlockingIOError."""
        for _ in range(4):
            if self.held:
                try:
                    sent = self.sink.send(self.held, socket.MSG_NOSIGNAL)
                except BlockingIOError:
                    return
                self.held = self.held[sent:]
                if self.held:
                    return
            if self.ended:
                break
            try:
                self.held = self.source.recv(_PIECE)
            except BlockingIOError:
                return
            self.ended = not self.held
        if self.ended and not self.held and not self.shut:
            self.shut = True
            self.sink.shutdown(socket.SHUT_WR)


class _Flow:
    """One connection, both ways; half-closed as its ends are."""

    def __init__(
        self,
        reactor: Reactor,
        inner: socket.socket,
        outer: socket.socket,
        gone: Callable[[_Flow], None],
    ) -> None:
        self._reactor = reactor
        self._inner = inner
        self._outer = outer
        self._gone = gone
        self._out = _Half(inner, outer)
        self._back = _Half(outer, inner)
        self._connected = False
        reactor.watch(outer.fileno(), WRITE, self._ready)

    def close(self) -> None:
        """Cut both ends."""
        for end in (self._inner, self._outer):
            self._reactor.unwatch(end.fileno())
            end.close()
        self._gone(self)

    def _ready(self, mask: int) -> None:
        try:
            if not self._connected:
                if error := self._outer.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                    raise OSError(error, "")
                self._connected = True
            self._out.carry()
            self._back.carry()
        except OSError:
            self._reset()
            return
        if self._out.shut and self._back.shut:
            self.close()
            return
        self._watch(self._inner, self._out, self._back)
        self._watch(self._outer, self._back, self._out)

    def _watch(self, end: socket.socket, reads: _Half, writes: _Half) -> None:
        mask = (READ if not reads.held and not reads.ended else 0) | (WRITE if writes.held else 0)
        if mask:
            self._reactor.watch(end.fileno(), mask, self._ready)
        else:
            self._reactor.unwatch(end.fileno())

    def _reset(self) -> None:
        """One end broke: the other sees a reset, not an end that looks orderly."""
        linger = (1).to_bytes(4, "little") + bytes(4)
        for end in (self._inner, self._outer):
            try:
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            except OSError:
                pass
        self.close()


class DatagramRelay:
    """Datagrams to one port; every sender has a socket of its own towards the container."""

    def __init__(self, reactor: Reactor, listener: socket.socket, target: Target) -> None:
        self._reactor = reactor
        self.listener = listener
        self.target = target
        self._senders: dict[object, _Sender] = {}
        self._sweeper = reactor.later(QUIET, self._sweep)
        reactor.watch(listener.fileno(), READ, self._datagrams)

    def close(self) -> None:
        """Close all of it."""
        self._sweeper.cancel()
        for address in list(self._senders):
            self._forget(address)
        self._reactor.unwatch(self.listener.fileno())
        self.listener.close()

    def _datagrams(self, mask: int) -> None:
        for _ in range(_A_ROUND):
            try:
                data, address = self.listener.recvfrom(65535)
            except BlockingIOError:
                return
            except OSError:
                continue
            try:
                sender = self._senders.get(address) or self._meet(address)
                sender.seen = time.monotonic()
                sender.socket.send(data)
            except OSError:
                continue  # nobody listens in the container, or a queue is full

    def _meet(self, address: object) -> _Sender:
        if len(self._senders) >= _MOST_FLOWS:
            self._forget(min(self._senders, key=lambda a: self._senders[a].seen))
        opened = socket.socket(_family(self.target), socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            opened.connect(self.target)
        except OSError:
            opened.close()
            raise
        sender = self._senders[address] = _Sender(opened)
        self._reactor.watch(opened.fileno(), READ, lambda _: self._answers(sender, address))
        return sender

    def _answers(self, sender: _Sender, address: object) -> None:
        for _ in range(_A_ROUND):
            try:
                data = sender.socket.recv(65535)
                sender.seen = time.monotonic()
                self.listener.sendto(data, address)  # type: ignore[arg-type]
            except BlockingIOError:
                return
            except OSError:
                return

    def _forget(self, address: object) -> None:
        sender = self._senders.pop(address)
        self._reactor.unwatch(sender.socket.fileno())
        sender.socket.close()

    def _sweep(self) -> None:
        limit = time.monotonic() - QUIET
        for address in [a for a, sender in self._senders.items() if sender.seen < limit]:
            self._forget(address)
        self._sweeper = self._reactor.later(QUIET, self._sweep)


class _Sender:
    """Who sends datagrams, and when it was last heard of or answered."""

    __slots__ = ("socket", "seen")

    def __init__(self, opened: socket.socket) -> None:
        self.socket = opened
        self.seen = time.monotonic()


Relay = StreamRelay | DatagramRelay
