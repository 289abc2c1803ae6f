"""Starts as they are asked for: by a client, by a policy, at the daemon's start."""

from __future__ import annotations

import logging

from wherry.containers.live import Live, Lives, exited
from wherry.containers.remove import Remover
from wherry.containers.start import Starter
from wherry.containers.store import ContainerStore
from wherry.containers.transitions import check_start
from wherry.model.containers import Container, Status
from wherry.model.errors import Conflict, NotFound, WherryError
from wherry.model.views import Exited

_log = logging.getLogger("wherry.containers")


class Runner:
    """Starts containers under their lock."""

    def __init__(
        self, *, store: ContainerStore, lives: Lives, starter: Starter, remover: Remover
    ) -> None:
        self._store = store
        self._lives = lives
        self._starter = starter
        self._remover = remover

    async def start(self, ref: str) -> bool:
        """Start the container that `ref` names; return False when it runs already.

        Raises NotFound, Conflict, StartFailed. A container of --rm that cannot be started is removed.
        """
        container = self._store.resolve(ref)
        live = self._lives.get(container.id)
        async with live.lock:
            found = self._store.find(container.id)
            if found is None:
                raise NotFound("container", ref)
            if live.removing:
                raise Conflict("container is marked for removal and cannot be started")
            if not check_start(found):
                return False
            try:
                await self._starter.start(found, live)
            except Exception:
                await self._clean_up(found, live)
                raise
        return True

    async def _clean_up(self, container: Container, live: Live) -> None:
        failed = self._store.get(container.id)
        outcome = Exited(failed.state.exit_code)
        if container.spec.auto_remove:
            await self._remover.delete(failed, live, outcome)
        else:
            live.tell_exit(outcome)

    async def restart(self, container_id: str) -> None:
        """Start a container whose policy has been waiting for it, if that is still wanted."""
        live = self._lives.get(container_id)
        async with live.lock:
            container = self._store.find(container_id)
            if container is None or container.state.status is not Status.RESTARTING:
                return
            try:
                await self._starter.start(container, live, restarts=container.state.restart_count)
            except Exception as error:
                _warn("restart", container.name, error)
                live.tell_exit(exited(self._store.get(container_id)))

    async def start_all(self, container_ids: list[str]) -> None:
        """Start containers one after the other, as policies want at the daemon's start."""
        for container_id in container_ids:
            try:
                await self.start(container_id)
            except Exception as error:
                _warn("start", container_id, error)


def _warn(what: str, which: str, error: Exception) -> None:
    _log.warning(
        "%s of %s failed: %s", what, which, error, exc_info=not isinstance(error, WherryError)
    )
