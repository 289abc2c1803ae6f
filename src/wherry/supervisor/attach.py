"""An attached client: its socket, what it types, what it is sent, and how it ends.

The supervisor owns the socket. The client may close its half and still read (`docker run -i` at the end of
its input). It is gone when both halves are closed, which epoll tells unasked.
"""

from __future__ import annotations

import errno
import socket
from typing import Protocol

from wherry.kernel.reactor import GONE, READ, WRITE, Reactor
from wherry.supervisor.detach import DetachScanner
from wherry.supervisor.output import Output
from wherry.supervisor.sink import InputSink

_TYPED = 16 << 10
_SEND_BUFFER = 1 << 20
_SO_SNDBUFFORCE = 32  # asm-generic/socket.h


class Owner(Protocol):
    """The process (or the waiting list) that a client belongs to."""

    def input_ended(self, client: Client) -> None:
        """The client will send no more input."""
        ...

    def client_gone(self, client: Client) -> None:
        """The client's socket is closed."""
        ...


class Client:
    """One attached socket. Until `connect` it only waits."""

    def __init__(self, reactor: Reactor, fd: int, initial: bytes, wants_input: bool) -> None:
        """Own `fd`; `initial` was read from it already. Raises OSError when it is not a socket."""
        self._reactor = reactor
        self._socket = socket.socket(fileno=fd)
        self._socket.setblocking(False)
        self._initial = initial
        self._owner: Owner | None = None
        self._output: Output | None = None
        self._sink: InputSink | None = None
        self._scanner: DetachScanner | None = None
        self._reading = False
        self._wants_input = wants_input
        self._blocked = False
        self._finishing = False
        self._released = False
        for option in (_SO_SNDBUFFORCE, socket.SO_SNDBUF):
            try:
                self._socket.setsockopt(socket.SOL_SOCKET, option, _SEND_BUFFER)
                break
            except OSError:
                continue
        self._watch()

    @property
    def closed(self) -> bool:
        """Whether the client is gone."""
        return self._socket.fileno() < 0

    def belong(self, owner: Owner) -> None:
        """Report to `owner` from here on."""
        self._owner = owner

    def connect(
        self, output: Output | None, sink: InputSink | None, detach_keys: bytes | None
    ) -> None:
        """Begin: send from `output`, pass input to `sink`. Detach keys are for terminals (else None)."""
        self._output = output
        if detach_keys is not None:
            self._scanner = DetachScanner(detach_keys)
        if sink is not None and self._wants_input:
            self._sink = sink
            self._reading = True
            initial, self._initial = self._initial, b""
            if initial and not self._pass_on(initial):
                return
        self._watch()
        self.pump()

    def pump(self) -> None:
        """Send what there is, as far as the client takes it."""
        if self.closed or self._blocked:
            return
        if self._output is not None:
            try:
                self._blocked = self._output.pump(self._socket)
            except OSError as error:
                if error.errno not in (errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN, errno.EIO):
                    raise
                self.close()
                return
            if self._blocked:
                self._watch()
                return
        if self._finishing and self._released:
            self.close()

    def finish(self) -> None:
        """There will be no more output: end when everything is sent and `release` was called."""
        self._finishing = True
        self.pump()

    def release(self) -> None:
        """Let the client see the end: whoever must know of the exit before it does, knows."""
        self._released = True
        self.pump()

    def close(self) -> None:
        """Shut the connection down and close it; the owner is told."""
        if self.closed:
            return
        self._reactor.unwatch(self._socket.fileno())
        try:
            # Others may hold the socket open too: only a shutdown ends the stream for the client.
            self._socket.shutdown(socket.SHUT_RDWR)
            # Closed with unread input, the connection is reset, and its client sees an error
            # instead of the end (unix(7), RFC 2525 2.17).
            while self._socket.recv(_TYPED):
                pass
        except OSError:
            pass
        self._socket.close()
        if self._output is not None:
            self._output.close()
            self._output = None
        self._end_input()
        if self._owner is not None:
            self._owner.client_gone(self)

    def drop(self) -> None:
        """Close our copy of the socket and leave the connection to its other holders."""
        self._reactor.unwatch(self._socket.fileno())
        self._socket.close()
        self._output = None

    def _watch(self) -> None:
        mask = (READ if self._reading else 0) | (WRITE if self._blocked else 0)
        self._reactor.watch(self._socket.fileno(), mask, self._ready)

    def _ready(self, mask: int) -> None:
        if mask & READ and self._reading:
            self._read()
            if self.closed:
                return
        if mask & GONE and not self._reading:
            self.close()
            return
        if mask & WRITE and self._blocked:
            self._blocked = False
            self.pump()
            if not self.closed and not self._blocked:
                self._watch()

    def _read(self) -> None:
        """Pass on what the client sent."""
        sink = self._sink
        try:
            if sink is None or not sink.open:
                self._end_input()
            elif self._scanner is not None or sink.full:
                data = self._socket.recv(_TYPED)
                if not data:
                    self._end_input()
                elif self._pass_on(data) and sink.full:
                    self._wait_for(sink)
            elif sink.splice(self._socket.fileno()) == 0:
                self._end_input()
        except BlockingIOError:
            # The socket was ready, so it is the pipe that is not.
            if sink is not None:
                self._wait_for(sink)
        except BrokenPipeError:
            if sink is not None:
                sink.close()
            self._end_input()
        except OSError:
            self.close()

    def _pass_on(self, data: bytes) -> bool:
        """Write what was typed; False when it held the detach keys, and the client is closed."""
        detached = False
        if self._scanner is not None:
            data, detached = self._scanner.feed(data)
        if self._sink is not None:
            self._sink.write(data)
        if detached:
            self._sink = None  # the process keeps its input
            self.close()
        return not detached

    def _wait_for(self, sink: InputSink) -> None:
        self._reading = False
        self._watch()
        sink.when_room(self._resume)

    def _resume(self) -> None:
        if not self.closed and self._sink is not None:
            self._reading = True
            self._watch()

    def _end_input(self) -> None:
        self._reading = False
        if not self.closed:
            self._watch()
        if self._sink is not None:
            self._sink = None
            if self._owner is not None:
                self._owner.input_ended(self)
