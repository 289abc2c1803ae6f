"""Attaching to a container: opened before it starts, run until its streams end."""

from __future__ import annotations

import os
import time

from wherry.cli.stream import AttachedStream
from wherry.cli.terminal import DEFAULT_KEYS, RawMode, parse_keys

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket

    from wherry.cli.session import Session
    from wherry.cli.signals import Handlers

_RAW_STREAM = "application/vnd.docker.raw-stream"
_RESIZE_TRIES = 10


class Attachment:
    """The streams of one container, as one caller has them."""

    def __init__(
        self,
        session: Session,
        container: str,
        *,
        tty: bool,
        stdin: bool,
        stdout: bool = True,
        stderr: bool = True,
        keys: str = "",
    ) -> None:
        self._session = session
        self._container = container
        self._tty = tty
        self._stdin = stdin
        self._query = {"stream": "1"}
        wanted = {"stdin": stdin, "stdout": stdout, "stderr": stderr}
        self._query |= {name: "1" for name, on in wanted.items() if on}
        if keys:
            self._query["detachKeys"] = keys
        self._keys = parse_keys(keys) if keys else DEFAULT_KEYS
        self._socket: _socket.socket | None = None
        self._rest = b""
        self._media = ""

    def open(self) -> None:
        """Attach; from here on nothing that the container writes is missed."""
        path = f"/containers/{self._container}/attach"
        self._socket, self._rest, self._media = self._session.engine.hijack(path, self._query)

    def close(self) -> None:
        """Let go of the streams."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def run(self, handlers: Handlers) -> bool:
        """Carry the streams to their end. False when the caller detached."""
        if self._socket is None:
            return True
        resize = f"/containers/{self._container}/resize"
        if self._tty and os.isatty(1):
            keep_size(handlers, resize)
        return carry(
            self._socket, self._rest, self._media, tty=self._tty, stdin=self._stdin, keys=self._keys
        )


def keep_size(handlers: Handlers, path: str) -> None:
    """Set the size of the far terminal to this one's, now and on every change.

    The process may not be there yet when it is first asked for: Docker's client tries again too.
    """
    handlers.follow_size(path)
    for attempt in range(_RESIZE_TRIES):
        if handlers.resize(path):
            return
        time.sleep(0.01 * (attempt + 1))


def carry(
    sock: _socket.socket, rest: bytes, media: str, *, tty: bool, stdin: bool, keys: bytes
) -> bool:
    """Carry an upgraded connection's streams to their end. False when the caller detached."""
    typed = tty and stdin and os.isatty(0)
    stream = AttachedStream(
        sock,
        rest,
        multiplexed=not tty and media != _RAW_STREAM,
        stdin=stdin,
        keys=keys if typed else b"",
    )
    if not typed:
        return stream.run()
    with RawMode(0):
        return stream.run()
