"""A TCP proxy that cuts connections where it is told to, and counts what went through."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable
from contextlib import suppress

_PIECE = 64 << 10
_RESET = struct.pack("ii", 1, 0)


class Cutter:
    """Forwards to a port of 127.0.0.1. A context manager; `host` is where it listens.

    `passed` is called with the bytes that went through in both directions, after each piece; where it
    returns True, all connections are reset.
    """

    def __init__(self, port: int) -> None:
        self.there = 0
        """Bytes that went to the server."""
        self.back = 0
        """Bytes that came from it."""
        self.passed: Callable[[int], object] = lambda _: False
        self._target = port
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._server = socket.create_server(("127.0.0.1", 0))
        self.host = f"127.0.0.1:{self._server.getsockname()[1]}"
        self._accepting = threading.Thread(target=self._accept)

    def __enter__(self) -> Cutter:
        self._accepting.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._accepting.join()
        self._server.close()
        self.cut()

    def cut(self) -> None:
        """Reset every connection."""
        with self._lock:
            ends, self._open = self._open, set()
        for end in ends:
            with suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                # close(2) alone would wait for the thread that reads from it.
                end.shutdown(socket.SHUT_RD)
            end.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                client.close()
                continue
            # What lies in these is lost when they are reset: it shall be little.
            server.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _PIECE)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _PIECE)
            with self._lock:
                self._open |= {client, server}
            for source, target in ((client, server), (server, client)):
                threading.Thread(
                    target=self._carry, args=(source, target, source is client), daemon=True
                ).start()

    def _carry(self, source: socket.socket, target: socket.socket, up: bool) -> None:
        with suppress(OSError):
            while data := source.recv(_PIECE):
                target.sendall(data)
                with self._lock:
                    self.there += len(data) if up else 0
                    self.back += 0 if up else len(data)
                    total = self.there + self.back
                if self.passed(total):
                    self.cut()
            target.shutdown(socket.SHUT_WR)
