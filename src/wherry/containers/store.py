"""The containers that exist: rows in the database, and the same in memory for speed.

A row is the wanted part (JSON of `Container`, its state at its default) and the observed part (JSON
of `ContainerState`) beside it, since the latter changes at every start and stop.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any, Protocol

import msgspec

from wherry.containers.transitions import ACTIVE
from wherry.images.users import Use
from wherry.model.containers import Container, ContainerState
from wherry.model.errors import Conflict, Full, Invalid, NotFound
from wherry.model.ids import Digest

log = logging.getLogger(__name__)
_STEPS = (
    """
    CREATE TABLE containers (
        id TEXT PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        image TEXT NOT NULL,
        body BLOB NOT NULL,
        state BLOB NOT NULL
    ) WITHOUT ROWID
    """,
)
_UNSET = ContainerState()


class Rows(Protocol):
    """What is used of a database."""

    def migrate(self, component: str, steps: Sequence[str]) -> None: ...
    def query(self, sql: str, *args: object) -> list[tuple[Any, ...]]: ...
    def transaction(self) -> AbstractContextManager[Any]: ...


class ContainerStore:
    """All containers by id and by name. Answers come from memory; each change is one transaction."""

    def __init__(self, database: Rows) -> None:
        """Read everything that `database` holds."""
        database.migrate("containers", _STEPS)
        self._database = database
        self._by_id: dict[str, Container] = {}
        self._by_name: dict[str, str] = {}
        self._late: set[str] = set()
        self._volatile: set[str] = set()
        bodies = msgspec.json.Decoder(Container)
        states = msgspec.json.Decoder(ContainerState)
        for body, state in database.query("SELECT body, state FROM containers"):
            container = replace(bodies.decode(body), state=states.decode(state))
            self._by_id[container.id] = container
            self._by_name[container.name] = container.id

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[Container]:
        return iter(tuple(self._by_id.values()))

    def get(self, container_id: str) -> Container:
        """Return the container with this full id. Raises NotFound."""
        try:
            return self._by_id[container_id]
        except KeyError:
            raise NotFound("container", container_id) from None

    def find(self, container_id: str) -> Container | None:
        """Return the container with this full id, or None."""
        return self._by_id.get(container_id)

    def resolve(self, ref: str) -> Container:
        """Return the container that an id, a name or the unique beginning of an id names.

        Raises NotFound, or Invalid where several ids begin so or it is empty.
        """
        if found := self._by_id.get(ref):
            return found
        if not ref:
            raise Invalid('invalid name or ID supplied: ""')
        if named := self._by_name.get(ref.removeprefix("/")):
            return self._by_id[named]
        if linked := self._linked(ref):
            return linked
        matches = [key for key in self._by_id if ref and key.startswith(ref)]
        if len(matches) == 1:
            return self._by_id[matches[0]]
        if matches:
            raise Invalid(f"Multiple IDs found with provided prefix: {ref}")
        raise NotFound("container", ref)

    def _linked(self, ref: str) -> Container | None:
        """The container that a legacy link calls `web/db`."""
        name, slash, alias = ref.removeprefix("/").partition("/")
        parent = self._by_name.get(name) if slash else None
        if parent is None:
            return None
        for link in self._by_id[parent].spec.links:
            target, _, called = link.partition(":")
            if called == alias:
                return self._by_id.get(target)
        return None

    def has_name(self, name: str) -> bool:
        """Return whether a container bears `name`."""
        return name in self._by_name

    def check_name(self, name: str) -> None:
        """Raise Conflict, naming the holder, where `name` is taken."""
        if holder := self._by_name.get(name):
            raise Conflict(
                f'Conflict. The container name "/{name}" is already in use by container "{holder}". '
                "You have to remove (or rename) that container to be able to reuse that name."
            )

    def add(self, container: Container) -> None:
        """Keep a new container. Raises Conflict where its name is taken."""
        self.check_name(container.name)
        self._database.query(
            "INSERT INTO containers VALUES (?, ?, ?, ?, ?)",
            container.id,
            container.name,
            str(container.image_id),
            _body(container),
            msgspec.json.encode(container.state),
        )
        self._by_id[container.id] = container
        self._by_name[container.name] = container.id

    def save_state(self, container_id: str, state: ContainerState) -> Container:
        """Keep what was observed of a container, and return it. Raises NotFound."""
        container = self.get(container_id)
        known = container_id not in self._late and container_id not in self._volatile
        if container.state == state and known:
            return container
        if container_id in self._late:
            container = replace(container, state=state)
            self.save(container)
            return container
        self._database.query(
            "UPDATE containers SET state = ? WHERE id = ?", msgspec.json.encode(state), container_id
        )
        self._volatile.discard(container_id)
        return self._put(replace(container, state=state))

    def observe(self, container_id: str, state: ContainerState) -> Container:
        """Keep what has happened already, and return the container. Raises NotFound.

        Where the disk is full it is in memory only, and `is_late`, until `catch_up`.
        """
        try:
            return self.save_state(container_id, state)
        except Full as error:
            log.warning("the state of container %s is written later: %s", container_id, error)
            self._late.add(container_id)
            return self.save_volatile(container_id, state)

    def keep(self, container: Container) -> None:
        """Keep a container whose specification has changed already; its name is the same. Raises NotFound.

        Where the disk is full it is in memory only, and `is_late`, until `catch_up`.
        """
        try:
            self.save(container)
        except Full as error:
            log.warning("what changed of container %s is written later: %s", container.id, error)
            self._late.add(container.id)
            self._put(container)

    def is_late(self, container_id: str) -> bool:
        """Whether the database knows less of the container than memory does."""
        return container_id in self._late

    def catch_up(self) -> None:
        """Write what did not fit. Raises Full where it still does not."""
        for container_id in tuple(self._late):
            container = self.find(container_id)
            if container is None:
                self._late.discard(container_id)
            else:
                self.save(container)

    def save_volatile(self, container_id: str, state: ContainerState) -> Container:
        """Set the state in memory only, for what the next start of the daemon finds out anyway."""
        self._volatile.add(container_id)
        return self._put(replace(self.get(container_id), state=state))

    def save(self, container: Container) -> None:
        """Keep a container whose name or specification changed. Raises NotFound or Conflict."""
        before = self.get(container.id)
        if container.name != before.name:
            self.check_name(container.name)
        self._database.query(
            "UPDATE containers SET name = ?, body = ?, state = ? WHERE id = ?",
            container.name,
            _body(container),
            msgspec.json.encode(container.state),
            container.id,
        )
        if container.name != before.name:
            del self._by_name[before.name]
            self._by_name[container.name] = container.id
        self._late.discard(container.id)
        self._volatile.discard(container.id)
        self._put(container)

    def remove(self, container_id: str) -> None:
        """Forget a container. Raises NotFound."""
        container = self.get(container_id)
        self._database.query("DELETE FROM containers WHERE id = ?", container_id)
        del self._by_id[container_id]
        del self._by_name[container.name]
        self._volatile.discard(container_id)

    def image_users(self) -> dict[Digest, list[Use]]:
        """Return the containers made from each image; may be called from any thread."""
        users: dict[Digest, list[Use]] = {}
        for container in self:
            use = Use(container.id, container.state.status in ACTIVE)
            users.setdefault(container.image_id, []).append(use)
            for mount in container.points or ():
                if mount.image_id is not None and mount.image_id != container.image_id:
                    users.setdefault(mount.image_id, []).append(use)
        return users

    def live_layers(self) -> Iterable[Digest]:
        """Return the chain ids of all layers that containers stand on; may be called from any thread."""
        return {
            layer
            for container in self
            for chain in (container.chain, *(mount.chain for mount in container.points or ()))
            for layer in chain
        }

    def _put(self, container: Container) -> Container:
        self._by_id[container.id] = container
        return container


def _body(container: Container) -> bytes:
    if container.state != _UNSET:
        container = replace(container, state=_UNSET)
    return msgspec.json.encode(container)
