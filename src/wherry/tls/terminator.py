"""The process in which the daemon's TLS ends: accepts on TCP, and hands wherryd plain connections.

    client ==TLS== terminator --socket pair--> wherryd (the other end came over `control` by SCM_RIGHTS)

It has a process of its own so that wherryd need not map OpenSSL (docs/decisions/0011) and so that a
fault in it ends in it. It ends when wherryd's end of `control` is closed. One thread, one epoll.
Started as `python -m wherry.tls.terminator CONTROL CERT KEY CA VERIFY LISTENER…`, descriptors by number.
"""

from __future__ import annotations

import array
import contextlib
import select
import socket
import ssl
import sys
import time
from collections.abc import Sequence

from wherry.tls.contexts import UnusableFiles, server_context
from wherry.tls.pump import Pump

HANDSHAKE_SECONDS = 10.0
"""Within which a client must have shaken hands."""
_MOST = 4096
"""Connections at one time; more wait in the kernel's queue."""


class Terminator:
    """All connections and the listeners they come from."""

    def __init__(
        self, context: ssl.SSLContext, control: socket.socket, listeners: Sequence[socket.socket]
    ) -> None:
        self._context = context
        self._control = control
        self._epoll = select.epoll()
        self._listeners = {listener.fileno(): listener for listener in listeners}
        self._pumps: dict[int, Pump] = {}
        self._events: dict[int, int] = {}
        self._unshaken: dict[Pump, float] = {}

    def run(self) -> None:
        """Serve until wherryd is gone."""
        self._epoll.register(self._control.fileno(), select.EPOLLIN | select.EPOLLRDHUP)
        for fd, listener in self._listeners.items():
            listener.setblocking(False)
            self._epoll.register(fd, select.EPOLLIN)
        while True:
            for fd, _ in self._epoll.poll(1.0 if self._unshaken else -1):
                if fd == self._control.fileno():
                    return
                if fd in self._listeners:
                    self._accept(self._listeners[fd])
                elif (pump := self._pumps.get(fd)) is not None:
                    self._step(pump)
            self._drop_slow()

    def _accept(self, listener: socket.socket) -> None:
        if len(self._pumps) >= 2 * _MOST:
            time.sleep(0.01)
            return
        try:
            wire, _ = listener.accept()
        except OSError:
            return
        with contextlib.suppress(OSError):
            wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            wire.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        ours, theirs = socket.socketpair()
        try:
            pump = Pump(self._context, ours, wire, server_side=True)
            # The other end is kept here until hands are shaken: wherryd sees no stranger.
            self._unshaken[pump] = time.monotonic() + HANDSHAKE_SECONDS
            pump.other = theirs
        except (OSError, ssl.SSLError):
            for sock in (ours, theirs, wire):
                sock.close()
            return
        for sock in (ours, wire):
            self._pumps[sock.fileno()] = pump
            self._events[sock.fileno()] = 0
            self._epoll.register(sock.fileno(), 0)
        self._step(pump)

    def _step(self, pump: Pump) -> None:
        pump.step()
        if pump.shaken and pump.other is not None:
            self._hand_over(pump)
        if pump.done:
            self._end(pump)
            return
        for sock, wanted in ((pump.plain, pump.plain_events), (pump.wire, pump.wire_events)):
            if self._events[sock.fileno()] != wanted:
                self._events[sock.fileno()] = wanted
                self._epoll.modify(sock.fileno(), wanted)

    def _hand_over(self, pump: Pump) -> None:
        other, pump.other = pump.other, None
        assert other is not None
        del self._unshaken[pump]
        rights = array.array("i", (other.fileno(),)).tobytes()
        try:
            self._control.sendmsg([b"c"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
        except OSError:
            pump.done = True
        finally:
            other.close()

    def _end(self, pump: Pump) -> None:
        for sock in (pump.plain, pump.wire):
            del self._pumps[sock.fileno()], self._events[sock.fileno()]
            self._epoll.unregister(sock.fileno())
        self._unshaken.pop(pump, None)
        if pump.failure and not pump.shaken:
            sys.stderr.write(f"TLS handshake error: {pump.failure}\n")
            sys.stderr.flush()
        if pump.other is not None:
            pump.other.close()
        pump.close()

    def _drop_slow(self) -> None:
        now = time.monotonic()
        for pump in [pump for pump, deadline in self._unshaken.items() if deadline < now]:
            pump.failure = "the client took too long"
            self._end(pump)


def main(words: Sequence[str]) -> int:
    """Run with descriptors and files as `words` name them; return the exit code."""
    control, cert, key, ca, verify, *listeners = words
    try:
        context = server_context(cert, key, ca if verify == "1" else "")
    except UnusableFiles as error:
        sys.stderr.write(f"cannot load the TLS certificates: {error}\n")
        return 1
    end = socket.socket(fileno=int(control))
    end.send(b"r")
    Terminator(context, end, [socket.socket(fileno=int(fd)) for fd in listeners]).run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
