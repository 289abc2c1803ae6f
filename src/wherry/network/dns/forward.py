"""Queries that others answer: asked of the upstreams in their order, over the transport they came by.

Every question goes out from a socket of its own, connected, under an id of its own: an answer from elsewhere
or to another question is not taken. The next server is asked when one refuses, fails, cannot be reached or is
silent for PATIENCE; what was asked before may still answer. With no answer at all the client gets SERVFAIL.
Docker waits 4 s for each; clients ask again after 5.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable

from wherry.kernel.reactor import READ, WRITE, Reactor, Timer
from wherry.network.dns import message
from wherry.network.dns.facts import Side, Upstream, View
from wherry.network.dns.message import Query
from wherry.network.dns.sockets import Doors, is_usable

PATIENCE = 2.0
"""Seconds until the next server is asked as well."""
LAST_PATIENCE = 4.0
"""Seconds that the last one has."""
MOST = 1024
"""Questions under way for one container; more are refused, as Docker does."""
_A_ROUND = 32
"""Datagrams taken from one server before the turn of others."""
_SERVERS = 3
"""As resolv.conf(5): MAXNS."""

Reply = Callable[[bytes], None]


class Forwarder:
    """Forwards for one container; `witness` is a socket in its network namespace."""

    def __init__(self, reactor: Reactor, doors: Doors, witness: socket.socket) -> None:
        self._reactor = reactor
        self._doors = doors
        self._witness = witness
        self._under_way: set[_Question] = set()

    def forward(self, query: Query, view: View, reply: Reply, *, tcp: bool) -> None:
        """Ask for `query`; `reply` is called once, maybe before this returns, unless this is closed."""
        if len(self._under_way) >= MOST:
            reply(message.refuse(query, message.REFUSED))
            return
        servers = plan_servers(view)
        if len(servers) == 1 and not tcp:
            servers *= 2  # a datagram may be lost
        question = _Question(self._reactor, query, servers, self._dial, tcp=tcp)

        def done(response: bytes) -> None:
            self._under_way.discard(question)
            reply(response)

        self._under_way.add(question)
        question.ask(done)

    def _dial(self, server: Upstream, kind: int) -> socket.socket:
        return self._doors.dial(server, self._witness, kind)

    def close(self) -> None:
        """Give up what is under way; nobody is answered."""
        for question in list(self._under_way):
            question.close()
        self._under_way.clear()


def plan_servers(view: View) -> list[Upstream]:
    """Return the servers that may be asked for `view`, in order, three at most."""
    usable = (upstream for upstream in view.upstreams if is_usable(upstream))
    allowed = [u for u in usable if not (view.internal and u.side is Side.HOST)]
    return allowed[:_SERVERS]


class _Question:
    """One question under way, with a socket to every server that was asked."""

    def __init__(
        self,
        reactor: Reactor,
        query: Query,
        servers: list[Upstream],
        dial: Callable[[Upstream, int], socket.socket],
        *,
        tcp: bool,
    ) -> None:
        self._reactor = reactor
        self._query = query
        self._left = servers
        self._dial = dial
        self._tcp = tcp
        self._open: set[socket.socket] = set()
        self._timer: Timer | None = None
        self._over = False

    def ask(self, done: Reply) -> None:
        """Ask the first server, and the others when it is their turn; `done` gets the response."""
        self._done = done
        self._next()

    def _next(self) -> None:
        """Ask the next server that can be reached; where none is left, wait for those asked or fail."""
        self._stop_timer()
        while self._left:
            server = self._left.pop(0)
            try:
                opened = self._dial(server, socket.SOCK_STREAM if self._tcp else socket.SOCK_DGRAM)
            except (OSError, ValueError):
                continue
            self._open.add(opened)
            if self._advance(opened, _Asked(opened, self._query, tcp=self._tcp)):
                break
            if self._over:
                return
        if not self._open:
            self._fail()
        elif self._left:
            self._timer = self._reactor.later(PATIENCE, self._next)
        else:
            self._timer = self._reactor.later(LAST_PATIENCE, self._fail)

    def _advance(self, opened: socket.socket, asked: _Asked) -> bool:
        """Go on with one server as far as it goes; return whether it may still answer."""
        try:
            response = asked.advance()
        except (OSError, EOFError):
            self._drop(opened)
            return False
        if response is None:
            mask = WRITE if asked.sending else READ
            self._reactor.watch(opened.fileno(), mask, lambda _: self._ready(opened, asked))
            return True
        if message.code_of(response) in (message.SERVFAIL, message.REFUSED):
            self._drop(opened)
            return False
        self._finish(message.with_id(response, self._query.id))
        return False

    def _ready(self, opened: socket.socket, asked: _Asked) -> None:
        if not self._advance(opened, asked) and not self._over:
            if self._left:
                self._next()
            elif not self._open:
                self._fail()

    def _fail(self) -> None:
        self._finish(message.refuse(self._query, message.SERVFAIL))

    def _finish(self, response: bytes) -> None:
        if not self._over:
            self.close()
            self._done(response)

    def _drop(self, opened: socket.socket) -> None:
        if opened in self._open:
            self._open.remove(opened)
            self._reactor.unwatch(opened.fileno())
            opened.close()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def close(self) -> None:
        """Stop waiting."""
        self._over = True
        self._left = []
        self._stop_timer()
        for opened in list(self._open):
            self._drop(opened)


class _Asked:
    """The conversation with one server."""

    def __init__(self, opened: socket.socket, query: Query, *, tcp: bool) -> None:
        self._socket = opened
        self._tcp = tcp
        self._question = query.question
        self._number = int.from_bytes(os.urandom(2), "big")
        own = message.ask(query, self._number)
        self._unsent = len(own).to_bytes(2, "big") + own if tcp else own
        self._received = bytearray()

    @property
    def sending(self) -> bool:
        """Whether there is something to send yet."""
        return bool(self._unsent)

    def advance(self) -> bytes | None:
        """Send and receive what can be; return the response, or None. Raises OSError, EOFError."""
        try:
            while self._unsent:
                self._unsent = self._unsent[self._socket.send(self._unsent, socket.MSG_NOSIGNAL) :]
            return self._receive_stream() if self._tcp else self._receive_datagram()
        except BlockingIOError:
            return None

    def _receive_datagram(self) -> bytes | None:
        # A container may be its own upstream, and send faster than this reads: the others have their turn.
        for _ in range(_A_ROUND):
            response = self._socket.recv(65535)
            if message.answers(response, self._number, self._question):
                return response
        return None

    def _receive_stream(self) -> bytes:
        while True:
            piece = self._socket.recv(65537)
            if not piece:
                raise EOFError
            self._received += piece
            size = 2 + int.from_bytes(self._received[:2], "big")
            if len(self._received) >= max(size, 3):
                response = bytes(self._received[2:size])
                if not message.answers(response, self._number, self._question):
                    raise EOFError
                return response
