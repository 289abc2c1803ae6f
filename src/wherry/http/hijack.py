"""What is done to a connection's socket itself: giving it away, and asking whether its client is there."""

from __future__ import annotations

import array
import asyncio
import fcntl
import os
import select
import socket
import termios
from typing import cast

_PATIENCE = 0.02
_PAUSE = 0.0003
# Go's client reads the head and what follows through one buffer, so that nothing gets lost.
_CAREFUL = ("Docker-Client/", "Go-http-client/")


def socket_of(transport: asyncio.BaseTransport) -> socket.socket:
    """Return the socket below a transport."""
    return cast(socket.socket, transport.get_extra_info("socket"))


def take_descriptor(transport: asyncio.Transport) -> int:
    """Return a blocking descriptor of the connection, and let asyncio forget it.

    asyncio closes its own descriptor without shutdown(2), so the connection lives on in the new one.
    """
    fd = os.dup(socket_of(transport).fileno())
    os.set_blocking(fd, True)
    transport.abort()
    return fd


def client_gone(transport: asyncio.BaseTransport) -> bool:
    """Whether both directions are closed. TCP cannot tell that from a half-close: it counts as gone."""
    stream = socket_of(transport)
    if stream.family != socket.AF_UNIX:
        return True
    poll = select.poll()
    poll.register(stream.fileno(), select.POLLHUP)
    return any(events & (select.POLLHUP | select.POLLERR) for _, events in poll.poll(0))


async def wait_until_read(transport: asyncio.BaseTransport, user_agent: str) -> None:
    """Wait, for some milliseconds at most, until the client has read all that was sent.

    docker-py reads the head through a buffer and what follows from the socket below it: output that
    comes close behind the head would be lost in that buffer.
    """
    stream = socket_of(transport)
    if stream.family != socket.AF_UNIX or user_agent.startswith(_CAREFUL):
        return
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _PATIENCE
    unread = array.array("i", [0])
    while loop.time() < deadline and not transport.is_closing():
        # unix(7), SIOCOUTQ (the number is TIOCOUTQ's): bytes that the other side has not read yet.
        fcntl.ioctl(stream.fileno(), termios.TIOCOUTQ, unread)
        if unread[0] == 0:
            return
        await asyncio.sleep(_PAUSE)
