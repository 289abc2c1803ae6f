"""Published ports that no rule can carry, handed to the name service's process: it outlives the daemon."""

from __future__ import annotations

import contextlib
import os
import socket

from wherry.model.errors import WherryError
from wherry.network.dns.client import NameService


class Relays:
    """`network.publisher.Relay` by way of the name service; keys there are `KEY/NUMBER`."""

    def __init__(self, names: NameService) -> None:
        self._names = names
        self._keys: dict[str, list[str]] = {}

    async def relay(self, key: str, listener: int, proto: str, address: str, port: int) -> None:
        """Serve what comes in on `listener`, which is copied; `key` is the container's id."""
        keys = self._keys.setdefault(key, [])
        one = socket.socket(fileno=os.dup(listener))
        host, number = one.getsockname()[:2]
        name = f"{key}/{proto}/{host}/{number}"
        keys.append(name)
        self._names.relay(name, key, one, (address, port))

    async def stop(self, key: str) -> None:
        """Stop all that is served under `key`; again is fine."""
        keys = self._keys.pop(key, ())
        for name in keys:
            self._names.unrelay(name)
        if keys:
            # The port is free only when the other process has let go of it as well.
            with contextlib.suppress(WherryError):
                await self._names.settled()
