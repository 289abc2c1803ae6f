"""One TLS connection carried to and from a plain socket: a state machine on two non-blocking sockets.

    plain socket --bytes-->  SSLObject --ciphertext--> network
                 <--bytes--            <--ciphertext--

The end of either direction is passed on as such: a `close_notify` becomes shutdown(SHUT_WR) and the
other way round. asyncio's own TLS closes the connection instead, and `docker run -i … cat` over TLS
would lose its output.
"""

from __future__ import annotations

import select
import socket
import ssl
from collections.abc import Callable

PIECE = 64 << 10
_MOST = 256 << 10
"""Bytes that may wait in one direction before its source is not read any more."""


class Pump:
    """Owns both sockets. Call `step` when either is ready for what `plain_events`, `wire_events` say."""

    def __init__(
        self,
        context: ssl.SSLContext,
        plain: socket.socket,
        wire: socket.socket,
        *,
        server_side: bool,
        hostname: str | None = None,
    ) -> None:
        self.plain = plain
        self.wire = wire
        self.failure = ""
        """Why it broke off, for a log; empty for a connection that ended as it should."""
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(
            self._incoming, self._outgoing, server_side=server_side, server_hostname=hostname
        )
        plain.setblocking(False)
        wire.setblocking(False)
        self.shaken = False
        self._to_plain = bytearray()
        self._to_wire = bytearray()
        self._wire_ended = False
        self._peer_ended = False
        self._plain_shut = False
        self._plain_ended = False
        self._notified = False
        self._wire_shut = False
        self.done = False
        self.other: socket.socket | None = None
        """The plain socket's other end, where the pump's owner keeps it until hands are shaken."""

    @property
    def plain_events(self) -> int:
        """What to wait for on the plain socket."""
        events = 0
        if self.shaken and not self._plain_ended and len(self._to_wire) < _MOST:
            events |= select.EPOLLIN
        if self._to_plain:
            events |= select.EPOLLOUT
        return events

    @property
    def wire_events(self) -> int:
        """What to wait for on the network's socket."""
        events = 0
        if not self._wire_ended and len(self._to_plain) < _MOST:
            events |= select.EPOLLIN
        if self._to_wire:
            events |= select.EPOLLOUT
        return events

    def step(self) -> None:
        """Carry what can be carried without waiting; sets `done` at the end of both directions."""
        try:
            self._step()
        except (OSError, ssl.SSLError) as error:
            self.failure = self.failure or _reason(error)
            self._collect()
            self._try_send()
            self.done = True
        if self._plain_shut and self._wire_shut:
            self.done = True

    def close(self) -> None:
        """Close both sockets."""
        self.plain.close()
        self.wire.close()

    def _step(self) -> None:
        self._read_wire()
        if not self.shaken:
            self._shake()
        if self.shaken:
            self._decrypt()
            self._encrypt()
        self._collect()
        self._send_plain()
        self._send_wire()

    def _shake(self) -> None:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            if self._wire_ended:
                raise ConnectionResetError("the peer left during the handshake") from None
        else:
            self.shaken = True

    def _read_wire(self) -> None:
        if self._wire_ended or len(self._to_plain) >= _MOST:
            return
        try:
            data = self.wire.recv(PIECE)
        except BlockingIOError:
            return
        if data:
            self._incoming.write(data)
        else:
            self._wire_ended = True
            self._incoming.write_eof()

    def _decrypt(self) -> None:
        while not self._peer_ended and len(self._to_plain) < _MOST:
            try:
                data = self._tls.read(PIECE)
            except ssl.SSLWantReadError:
                return
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                data = b""
            if not data:
                self._peer_ended = True
                return
            self._to_plain += data

    def _encrypt(self) -> None:
        while not self._plain_ended and len(self._to_wire) < _MOST:
            try:
                data = self.plain.recv(PIECE)
            except BlockingIOError:
                return
            if not data:
                self._plain_ended = True
                break
            self._tls.write(data)
            self._collect()
        if self._plain_ended and not self._notified:
            self._notified = True
            try:
                self._tls.unwrap()
            except (ssl.SSLWantReadError, ssl.SSLSyscallError):
                pass  # sent; the peer's own end is read like any other data
            except ssl.SSLError as error:
                # OpenSSL looks for the peer's notice at once, and finds data that was on its way.
                if error.reason != "APPLICATION_DATA_AFTER_CLOSE_NOTIFY":
                    raise

    def _collect(self) -> None:
        if self._outgoing.pending:
            self._to_wire += self._outgoing.read()

    def _send_plain(self) -> None:
        if self._to_plain:
            try:
                del self._to_plain[: self.plain.send(self._to_plain)]
            except BlockingIOError:
                return
        if self._peer_ended and not self._to_plain and not self._plain_shut:
            self._plain_shut = True
            self.plain.shutdown(socket.SHUT_WR)

    def _send_wire(self) -> None:
        if self._to_wire:
            try:
                del self._to_wire[: self.wire.send(self._to_wire)]
            except BlockingIOError:
                return
        if self._notified and not self._to_wire and not self._wire_shut:
            self._wire_shut = True
            self.wire.shutdown(socket.SHUT_WR)

    def _try_send(self) -> None:
        """Send an alert that says why, if it goes at once."""
        try:
            self.wire.send(self._to_wire)
        except OSError:
            return


def _reason(error: OSError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate cannot be trusted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return (error.reason or str(error)).lower().replace("_", " ")
    return (error.strerror or str(error)).lower()


def run(pump: Pump, ended: Callable[[str], None] | None = None) -> None:
    """Carry one connection to its end, waiting as needed; for a thread of its own. Closes the sockets.

    `ended` is told why it broke off, if it did, before the plain socket's other end can see it.
    """
    poll = select.poll()
    try:
        pump.step()
        while not pump.done:
            for sock, events in ((pump.plain, pump.plain_events), (pump.wire, pump.wire_events)):
                if events:
                    poll.register(sock, events)
                else:
                    _unregister(poll, sock)
            poll.poll()
            pump.step()
    finally:
        if ended is not None and pump.failure:
            ended(pump.failure)
        pump.close()


def _unregister(poll: select.poll, sock: socket.socket) -> None:
    try:
        poll.unregister(sock)
    except KeyError:
        return
