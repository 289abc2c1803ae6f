"""What a client is sent: from a log (containers) or straight from the process's pipes (exec).

Docker's frames are in `model.frames`; a terminal's output is not framed.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from typing import Protocol

from wherry.kernel.reactor import READ, Reactor
from wherry.model import frames
from wherry.supervisor.announcer import PipeUse
from wherry.supervisor.logs.cursor import Cursor, Piece

LONGEST_FRAME = 256 << 10
_SMALL = 64 << 10
_BURST = 1 << 20


class Output(Protocol):
    """Where a client's output comes from."""

    def pump(self, to: socket.socket) -> bool:
        """Send what there is; return True when the socket is full, False when there is no more now.

        Raises OSError when the client is gone.
        """
        ...

    def close(self) -> None:
        """Let go of the source."""
        ...


class LogOutput:
    """Sends from a cursor. What a slow client has not read stays in the log, not in memory."""

    def __init__(self, cursor: Cursor, framed: bool, on_close: Callable[[Cursor], None]) -> None:
        self._cursor = cursor
        self._framed = framed
        self._on_close = on_close
        self._header = b""
        self._piece: Piece | None = None
        self._sent = 0

    def pump(self, to: socket.socket) -> bool:
        """Send from where the cursor stands."""
        try:
            while True:
                piece = self._piece
                if piece is None:
                    piece = self._piece = self._cursor.take(LONGEST_FRAME)
                    if piece is None:
                        return False
                    self._sent = 0
                    if self._framed:
                        self._header = frames.header(piece.stream, piece.length)
                self._send(to, piece)
                if self._sent >= piece.length:
                    self._piece = None
        except BlockingIOError:
            return True

    def _send(self, to: socket.socket, piece: Piece) -> None:
        left = piece.length - self._sent
        at = piece.offset + self._sent
        if left > _SMALL:
            if self._header:
                self._header = self._header[to.send(self._header, socket.MSG_MORE) :]
            else:
                self._sent += os.sendfile(to.fileno(), piece.fd, at, left)
            return
        data = os.pread(piece.fd, left, at)
        if not data:
            raise OSError(errno.EIO, "a log file is shorter than its index says")
        sent = to.send(self._header + data) - len(self._header)
        self._header = self._header[len(self._header) + sent :] if sent < 0 else b""
        self._sent += max(0, sent)

    def close(self) -> None:
        """Give the cursor up."""
        self._on_close(self._cursor)


class PipeOutput:
    """Sends what a process writes into `pipes` (stream: descriptor), with back-pressure.

    Once the client has closed it, output is read and dropped. The descriptors belong to the caller,
    who must call `stop` before closing them. `on_ready` is called when a pipe has something for the
    client; `on_quiet` when everything that was there is gone.
    """

    def __init__(
        self,
        reactor: Reactor,
        pipes: dict[int, int],
        framed: bool,
        on_ready: Callable[[], None],
        on_quiet: Callable[[], None],
        at_pipe: PipeUse,
    ) -> None:
        self._reactor = reactor
        self._pipes = dict(pipes)
        self._framed = framed
        self._on_ready = on_ready
        self._on_quiet = on_quiet
        self._at_pipe = at_pipe
        self._left = b""
        self._watching = False
        self._dropping = False

    @property
    def ended(self) -> bool:
        """Whether every pipe has come to its end and everything was sent."""
        return not self._pipes and not self._left

    @property
    def blocked(self) -> bool:
        """Whether the client has yet to take something."""
        return bool(self._left)

    def pump(self, to: socket.socket) -> bool:
        """Send what there is, up to a burst: a process that never pauses must not hold up the others."""
        burst = _BURST
        try:
            while True:
                while self._left:
                    self._left = self._left[to.send(self._left) :]
                if burst <= 0:
                    self._watch(True)
                    return False
                self._left = self._read()
                burst -= len(self._left)
                if not self._left:
                    break
        except BlockingIOError:
            self._watch(False)
            return True
        self._watch(True)
        self._on_quiet()
        return False

    def close(self) -> None:
        """The client is gone, or there never was one: read and drop from here on."""
        self._dropping = True
        self._left = b""
        self._watch(True)
        self._on_quiet()

    def stop(self) -> None:
        """Stop reading; what was read can still be sent."""
        self._watch(False)
        self._pipes.clear()

    def _read(self) -> bytes:
        """Return what one pipe has, framed; the pipes take turns. Empty when none has anything."""
        for stream, fd in list(self._pipes.items()):
            try:
                with self._at_pipe:
                    data = os.read(fd, _SMALL)
            except BlockingIOError:
                continue
            except OSError as error:
                if error.errno != errno.EIO:  # a terminal without a slave
                    raise
                data = b""
            del self._pipes[stream]
            if data:
                self._pipes[stream] = fd
                return frames.encode(stream, data) if self._framed else data
            self._reactor.unwatch(fd)
        return b""

    def _watch(self, wanted: bool) -> None:
        if wanted == self._watching:
            return
        self._watching = wanted
        for fd in self._pipes.values():
            if wanted:
                self._reactor.watch(fd, READ, self._ready)
            else:
                self._reactor.unwatch(fd)

    def _ready(self, mask: int) -> None:
        if not self._dropping:
            self._on_ready()
        elif not self._read():
            self._on_quiet()
