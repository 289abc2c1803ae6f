"""Published ports that no rule can carry, handed to the name service's process: it outlives the daemon."""

from __future__ import annotations

import contextlib
import os
import socket

from wherry.model.errors import WherryError
from wherry.model.networks import PublishedPort
from wherry.network.dns.client import NameService


class Relays:
    """`network.publisher.Relay` by way of the name service; keys there are `KEY/PROTO/ADDRESS/PORT`."""

    def __init__(self, names: NameService) -> None:
        self._names = names
        self._keys: dict[str, list[str]] = {}
        self._found: dict[str, socket.socket] | None = None

    async def relay(self, key: str, listener: int, proto: str, address: str, port: int) -> None:
        """Serve what comes in on `listener`, which is copied; `key` is the container's id."""
        keys = self._keys.setdefault(key, [])
        one = socket.socket(fileno=os.dup(listener))
        host, number = one.getsockname()[:2]
        name = f"{key}/{proto}/{host}/{number}"
        keys.append(name)
        self._names.relay(name, key, one, (address, port))

    async def adopt(self, key: str, port: PublishedPort) -> socket.socket | None:
        """Return the socket by which the daemon's predecessor had a port served, or None."""
        if self._found is None:
            self._found = await self._names.adopt()
        name = f"{key}/{port.proto}/{port.host_address}/{port.host_port}"
        return self._found.pop(name, None)

    async def sweep(self) -> None:
        """Stop what the predecessor had served and nobody has adopted."""
        if self._found is None:
            self._found = await self._names.adopt()
        for name, left in self._found.items():
            left.close()
            self._names.unrelay(name)
        self._found.clear()

    async def stop(self, key: str) -> None:
        """Stop all that is served under `key`; again is fine."""
        keys = self._keys.pop(key, ())
        for name in keys:
            self._names.unrelay(name)
        if keys:
            # The port is free only when the other process has let go of it as well.
            with contextlib.suppress(WherryError):
                await self._names.settled()
