"""The networks that exist: rows in the database, and the same in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import msgspec

from wherry.model.errors import Conflict, Invalid, NotFound
from wherry.model.networks import DEFAULT_BRIDGE, Network

_STEPS = (
    """
    CREATE TABLE networks (
        id TEXT PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        body BLOB NOT NULL
    ) WITHOUT ROWID
    """,
)


class Rows(Protocol):
    """What is used of a database."""

    def migrate(self, component: str, steps: Sequence[str]) -> None: ...
    def query(self, sql: str, *args: object) -> list[tuple[Any, ...]]: ...


class NoSuchNetwork(NotFound):
    """NotFound in the API's words for networks."""

    def __init__(self, ref: str) -> None:
        super().__init__("network", ref)
        self.message = f"network {ref} not found"


class NetworkStore:
    """All networks by id and by name. Answers come from memory; each change is one transaction."""

    def __init__(self, database: Rows) -> None:
        """Read everything that `database` holds."""
        database.migrate("networks", _STEPS)
        self._database = database
        self._by_id: dict[str, Network] = {}
        self._by_name: dict[str, str] = {}
        decoder = msgspec.json.Decoder(Network)
        for (body,) in database.query("SELECT body FROM networks"):
            network = decoder.decode(body)
            self._by_id[network.id] = network
            self._by_name[network.name] = network.id

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[Network]:
        return iter(tuple(self._by_id.values()))

    def find(self, network_id: str) -> Network | None:
        """Return the network with this full id, or None."""
        return self._by_id.get(network_id)

    def named(self, name: str) -> Network | None:
        """Return the network called `name`, or None."""
        found = self._by_name.get(name)
        return self._by_id[found] if found else None

    def bridge_gateways(self) -> tuple[str, ...]:
        """Return the host's addresses on the default bridge."""
        bridge = self.named(DEFAULT_BRIDGE)
        pools = bridge.spec.pools if bridge is not None else ()
        return tuple(pool.gateway.partition("/")[0] for pool in pools if pool.gateway)

    def resolve(self, ref: str) -> Network:
        """Return the network that an id, a name or the unique beginning of an id names.

        Raises NotFound, or Invalid where several ids begin so.
        """
        if found := self._by_id.get(ref) or self.named(ref):
            return found
        matches = [network for key, network in self._by_id.items() if ref and key.startswith(ref)]
        if len(matches) > 1:
            raise Invalid(
                f"network {ref} is ambiguous ({len(matches)} matches found based on ID prefix)"
            )
        if not matches:
            raise NoSuchNetwork(ref)
        return matches[0]

    def check_name(self, name: str) -> None:
        """Raise Conflict where `name` is taken."""
        if name in self._by_name:
            raise Conflict(f"network with name {name} already exists")

    def save(self, network: Network) -> None:
        """Keep a network, new or changed; its name stays. Raises Conflict where the name is another's."""
        if self._by_name.get(network.name, network.id) != network.id:
            self.check_name(network.name)
        self._database.query(
            "INSERT OR REPLACE INTO networks VALUES (?, ?, ?)",
            network.id,
            network.name,
            msgspec.json.encode(network),
        )
        self._by_id[network.id] = network
        self._by_name[network.name] = network.id

    def remove(self, network_id: str) -> None:
        """Forget a network; again is fine."""
        network = self._by_id.pop(network_id, None)
        if network is not None:
            self._database.query("DELETE FROM networks WHERE id = ?", network_id)
            del self._by_name[network.name]
