"""The listening side: takes sockets that are bound already, keeps account of connections, closes politely."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

from wherry.http.connection import Connection
from wherry.http.messages import Handler
from wherry.http.style import Style

if TYPE_CHECKING:
    import ssl

BACKLOG = 4096
_HANDSHAKE = 20.0


class Server:
    """Serves `handler` on any number of listening sockets (unix, TCP, inherited ones)."""

    def __init__(self, handler: Handler, style: Style) -> None:
        self._handler = handler
        self._style = style
        self._servers: list[asyncio.Server] = []
        self._connections: set[Connection] = set()
        self._idle: asyncio.Event | None = None

    @property
    def connections(self) -> int:
        """How many clients are connected."""
        return len(self._connections)

    async def listen(self, listener: socket.socket, tls: ssl.SSLContext | None = None) -> None:
        """Accept clients on a bound socket, which is owned by the server from here on.

        `tls` needs an asyncio that was imported with ssl (docs/decisions/0006).
        """
        listener.setblocking(False)
        loop = asyncio.get_running_loop()

        def make() -> Connection:
            return Connection(self._handler, self, loop, self._style)

        if listener.family == socket.AF_UNIX:
            server = await loop.create_unix_server(make, sock=listener, backlog=BACKLOG)
        else:
            server = await loop.create_server(
                make,
                sock=listener,
                backlog=BACKLOG,
                ssl=tls,
                ssl_handshake_timeout=_HANDSHAKE if tls else None,
            )
        self._servers.append(server)

    async def adopt(self, connected: socket.socket) -> None:
        """Serve a client that is connected already; the socket is owned by the server from here on."""
        loop = asyncio.get_running_loop()
        await loop.connect_accepted_socket(
            lambda: Connection(self._handler, self, loop, self._style), connected
        )

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

    def closed(self, connection: Connection) -> None:
        """Called by a connection."""
        self._connections.discard(connection)
        if self._idle is not None and not self._connections:
            self._idle.set()
