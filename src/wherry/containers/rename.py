"""docker rename."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

from wherry.containers.events import Recorder, container_event
from wherry.containers.live import Lives
from wherry.containers.store import ContainerStore
from wherry.model.containers import Container
from wherry.model.errors import Conflict, Invalid
from wherry.model.ids import check_container_name


class Networking(Protocol):
    """Who tells the new name to the container's networks."""

    def renamed(self, container: Container) -> Container: ...


class Renamer:
    """Gives containers other names."""

    def __init__(
        self, *, store: ContainerStore, lives: Lives, events: Recorder, networking: Networking
    ) -> None:
        self._store = store
        self._lives = lives
        self._events = events
        self._networking = networking

    async def rename(self, ref: str, name: str) -> None:
        """Rename the container. Raises NotFound, Invalid, or Conflict for a name that is taken."""
        if not ref or not name:
            raise Invalid("Neither old nor new names may be empty")
        container = self._store.resolve(ref)
        bare = name.removeprefix("/")
        try:
            check_container_name(bare)
        except Invalid:
            raise Invalid(
                f"Error when allocating new name: Invalid container name (/{bare}), only "
                "[a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
            ) from None
        async with self._lives.get(container.id).lock:
            container = self._store.get(container.id)
            if container.name == bare:
                raise Invalid("Renaming a container with the same name as its current name")
            try:
                self._store.check_name(bare)
            except Conflict as error:
                error.message = f"Error when allocating new name: {error.message}"
                raise
            renamed = self._networking.renamed(replace(container, name=bare))
            self._store.save(renamed)
            self._events.record(container_event(renamed, "rename", oldName=f"/{container.name}"))
