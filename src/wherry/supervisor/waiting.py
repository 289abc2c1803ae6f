"""Clients that are attached to containers before these run: `docker run` attaches first, then starts."""

from __future__ import annotations

from wherry.supervisor.attach import Client
from wherry.supervisor.messages import Attachment


class Waiting:
    """The clients by container id (attach.Owner)."""

    def __init__(self) -> None:
        self._clients: dict[str, list[tuple[Client, Attachment]]] = {}

    def add(self, key: str, client: Client, wanted: Attachment) -> None:
        """Let a client wait for `key`."""
        client.belong(self)
        self._clients.setdefault(key, []).append((client, wanted))

    def take(self, key: str) -> list[tuple[Client, Attachment]]:
        """Return the clients that wait for `key`; they wait no more."""
        return self._clients.pop(key, [])

    def close(self, key: str) -> None:
        """Close the clients that wait for `key`: it will not run."""
        for client, _ in self.take(key):
            client.close()

    def input_ended(self, client: Client) -> None:
        """Nothing is read of a waiting client."""

    def client_gone(self, client: Client) -> None:
        """A waiting client hung up."""
        for key, clients in list(self._clients.items()):
            self._clients[key] = [pair for pair in clients if pair[0] is not client]
            if not self._clients[key]:
                del self._clients[key]
