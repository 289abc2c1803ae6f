"""Messages between wherryd and wherry-names: one JSON object per SEQPACKET datagram, with descriptors.

    request  {"id": n, "do": verb, …}
    answer   {"id": n, "ok": {…}} or {"id": n, "error": text}

Neither end ever waits for the other: what does not fit into the socket is kept and sent when it does.
"""

from __future__ import annotations

import json
import os
import socket
from collections import deque
from collections.abc import Sequence

from wherry.kernel import rendezvous
from wherry.kernel.rights import copies, passed, passing
from wherry.model.errors import Invalid
from wherry.network.dns.facts import Wire, as_table

SOCKET = "names.sock"
LOCK = "names.lock"
LOG = "names.log"
LARGEST = 400 << 10
"""Bytes of one message: a container in a thousand networks has a view of a quarter of that."""
DESCRIPTORS = 64
"""In one message, at most."""
_SO_SNDBUFFORCE = 32
_SO_RCVBUFFORCE = 33


class Closed(Exception):
    """The other end is gone."""


class Channel:
    """One end of a connection. `unsent` tells whether to wait until `fileno` can be written."""

    def __init__(self, opened: socket.socket) -> None:
        self._socket = opened
        self._unsent: deque[tuple[bytes, list[int]]] = deque()
        for option in (_SO_SNDBUFFORCE, _SO_RCVBUFFORCE):
            opened.setsockopt(socket.SOL_SOCKET, option, 2 * LARGEST)

    def fileno(self) -> int:
        """Return the descriptor to wait on."""
        return self._socket.fileno()

    @property
    def unsent(self) -> int:
        """How many messages are waiting for room."""
        return len(self._unsent)

    def send(self, message: Wire, descriptors: Sequence[int] = ()) -> None:
        """Send a message or keep it for `flush`; descriptors are copied. Raises Closed, OSError."""
        text = json.dumps(message, separators=(",", ":")).encode()
        self._unsent.append((text, copies(descriptors)))
        self.flush()

    def flush(self) -> None:
        """Send what is kept, as far as there is room. Raises Closed."""
        while self._unsent:
            text, fds = self._unsent[0]
            try:
                self._socket.sendmsg([text], passing(fds), socket.MSG_NOSIGNAL)
            except BlockingIOError:
                return
            except OSError as error:
                raise Closed from error
            self._unsent.popleft()
            close_all(fds)

    def receive(self) -> tuple[Wire, list[int]] | None:
        """Return the next message and its descriptors (the caller's), or None when there is none now.

        Raises Closed at the end, Invalid for what is no message.
        """
        try:
            text, control, flags, _ = self._socket.recvmsg(
                LARGEST, socket.CMSG_SPACE(DESCRIPTORS * 4), socket.MSG_CMSG_CLOEXEC
            )
        except BlockingIOError:
            return None
        except OSError as error:
            raise Closed from error
        fds = passed(control)
        try:
            if not text and not fds:
                raise Closed
            if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
                raise Invalid("malformed message: too long")
            return as_table(json.loads(text)), fds
        except (ValueError, RecursionError) as error:
            close_all(fds)
            raise Invalid(f"malformed message: {error}") from error
        except BaseException:
            close_all(fds)
            raise

    def close(self) -> None:
        """Close this end; what is unsent is lost."""
        for _, fds in self._unsent:
            close_all(fds)
        self._unsent.clear()
        self._socket.close()


def connect(exec_root: str) -> Channel:
    """Return a channel to the process that listens below `exec_root`. Raises OSError when none does."""
    return Channel(rendezvous.connect(exec_root, SOCKET, socket.SOCK_NONBLOCK))


def close_all(fds: list[int]) -> None:
    """Close descriptors and empty the list."""
    while fds:
        os.close(fds.pop())
