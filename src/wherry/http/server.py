"""The listening side: takes sockets that are bound already, keeps account of connections, closes politely."""

from __future__ import annotations

import asyncio
import resource
import socket
from typing import TYPE_CHECKING

from wherry.http.connection import Connection
from wherry.http.messages import AtOnce, Handler
from wherry.http.style import Style

if TYPE_CHECKING:
    import ssl

BACKLOG = 4096
_BATCH = 32
"""Clients taken in before those taken before are looked at: asyncio accepts as many as its backlog."""
_HANDSHAKE = 20.0
SPARE = 256
"""Descriptors that clients leave to what they ask for: containers, files, the database."""
_TELLING = 64
"""Clients beyond the most who are told so; further ones are cut off."""


class Server:
    """Serves `handler` on any number of listening sockets (unix, TCP, inherited ones)."""

    def __init__(self, handler: Handler, style: Style, at_once: AtOnce | None = None) -> None:
        self._handler = handler
        self._at_once = at_once
        self._style = style
        self._servers: list[asyncio.Server] = []
        self._connections: set[Connection] = set()
        self._idle: asyncio.Event | None = None

    @property
    def connections(self) -> int:
        """How many clients are connected."""
        return len(self._connections)

    def crowded(self) -> int:
        """Return how many clients too many there are: each holds one of the process's descriptors."""
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft == resource.RLIM_INFINITY:
            return 0
        return max(len(self._connections) - max(soft - SPARE, soft // 2), 0)

    async def listen(self, listener: socket.socket, tls: ssl.SSLContext | None = None) -> None:
        """Accept clients on a bound socket, which is owned by the server from here on.

        `tls` needs an asyncio that was imported with ssl (docs/decisions/0006).
        """
        listener.setblocking(False)
        loop = asyncio.get_running_loop()
        if listener.family == socket.AF_UNIX:
            server = await loop.create_unix_server(self._make, sock=listener, backlog=_BATCH)
        else:
            server = await loop.create_server(
                self._make,
                sock=listener,
                backlog=_BATCH,
                ssl=tls,
                ssl_handshake_timeout=_HANDSHAKE if tls else None,
            )
        listener.listen(BACKLOG)
        self._servers.append(server)

    async def adopt(self, connected: socket.socket) -> None:
        """Serve a client that is connected already; the socket is owned by the server from here on."""
        await asyncio.get_running_loop().connect_accepted_socket(self._make, connected)

    def _make(self) -> Connection:
        loop = asyncio.get_running_loop()
        return Connection(self._handler, self, loop, self._style, self._at_once)

    async def close(self, grace: float = 5.0) -> None:
        """Stop listening, let answers under way end for `grace` seconds, then cut what is left.

        Streams without an end (events, followed logs) are cut at once.
        """
        for server in self._servers:
            server.close()
        self._idle = asyncio.Event()
        for connection in tuple(self._connections):
            connection.shut(now=connection.streaming)
        if self._connections:
            try:
                await asyncio.wait_for(self._idle.wait(), grace)
            except TimeoutError:
                for connection in tuple(self._connections):
                    connection.shut(now=True)

    def opened(self, connection: Connection) -> None:
        """Called by a connection."""
        self._connections.add(connection)
        if (many := self.crowded()) > _TELLING:
            connection.shut(now=True)
        elif many:
            connection.turn_away(
                f"{len(self._connections) - many} clients are connected, which is the most"
                " (RLIMIT_NOFILE): try again when one has left, or raise LimitNOFILE"
            )

    def closed(self, connection: Connection) -> None:
        """Called by a connection."""
        self._connections.discard(connection)
        if self._idle is not None and not self._connections:
            self._idle.set()
