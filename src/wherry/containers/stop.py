"""Ending a container: stop (a signal, some time, SIGKILL), kill (a signal), restart."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from wherry.containers.events import Recorder, container_event
from wherry.containers.live import Live, Lives, exited
from wherry.containers.signalling import Signals
from wherry.containers.store import ContainerStore
from wherry.containers.transitions import ALIVE, move
from wherry.model.containers import Container, Status
from wherry.model.errors import Conflict, Invalid, NotFound, StartFailed, Unavailable
from wherry.model.signals import check_known, parse_signal
from wherry.model.views import Exited

KILL = 9
DEFAULT_SECONDS = 10
_KILL_SECONDS = 30.0


class Stopper:
    """Ends containers and starts them again."""

    def __init__(
        self,
        *,
        store: ContainerStore,
        lives: Lives,
        signals: Signals,
        events: Recorder,
        start: Callable[[str], Awaitable[bool]],
    ) -> None:
        """`start(container_id)` starts a container that does not run."""
        self._store = store
        self._lives = lives
        self._signals = signals
        self._events = events
        self._start = start

    async def stop(self, ref: str, timeout: int | None, signal: str) -> bool:
        """Ask the container to end, and kill it after `timeout` seconds (None: its own, -1: never).

        Return False when it did not run. Raises NotFound, Invalid, Unavailable when even SIGKILL
        brought no exit.
        """
        container = self._store.resolve(ref)
        return await self._stop(container, self._lives.get(container.id), timeout, signal)

    async def restart(self, ref: str, timeout: int | None, signal: str) -> None:
        """Stop the container if it runs, and start it. Raises StartFailed, a 500 whatever the reason."""
        container = self._store.resolve(ref)
        live = self._lives.get(container.id)
        live.kept = True
        try:
            await self._stop(container, live, timeout, signal)
        finally:
            live.kept = False
        try:
            await self._start(container.id)
        except StartFailed as error:
            text = f"Cannot restart container {ref}: {error.message}"
            raise StartFailed(text, step=error.step, errno=error.errno, hint=error.hint) from error
        self._events.record(container_event(self._store.get(container.id), "restart"))

    async def kill(self, ref: str, signal: str) -> None:
        """Send a signal to the container's first process. Raises Conflict when it does not run."""
        container = self._store.resolve(ref)
        try:
            number = check_known(parse_signal(signal or "KILL"))
        except Invalid as error:
            raise Invalid(f"cannot kill container: {ref}: {error.message}") from None
        live = self._lives.get(container.id)
        async with live.lock:
            container = self._again(container.id, ref)
            status = container.state.status
            if status is Status.RESTARTING and number == KILL:
                self._call_off(container, live)
                return
            if status not in ALIVE:
                raise Conflict(
                    f"cannot kill container: {ref}: container {container.id} is not running"
                )
            ended = live.next_exit() if number == KILL else None
            ending = number in (KILL, parse_signal(container.stop_signal))
            await self._signals.send(container, number, by_user=ending)
        if ended is not None:
            await self._wait_killed(container, ended)

    async def _stop(
        self, container: Container, live: Live, timeout: int | None, signal: str
    ) -> bool:
        number = check_known(parse_signal(signal or container.stop_signal))
        seconds = container.spec.stop_timeout if timeout is None else timeout
        if seconds is None:
            seconds = DEFAULT_SECONDS
        async with live.lock:
            container = self._again(container.id, container.name)
            if container.state.status is Status.RESTARTING:
                self._call_off(container, live)
                return True
            if container.state.status not in ALIVE:
                return False
            ended = live.next_exit()
            live.stopping = True
            await self._signals.send(container, number, by_user=True)
        try:
            await self._see_through(container, live, ended, seconds)
        finally:
            live.stopping = False
        return True

    async def _see_through(
        self, container: Container, live: Live, ended: asyncio.Future[Exited], seconds: int
    ) -> None:
        """Return when a container that was asked to end has; kill it after `seconds`."""
        if await _wait(ended, seconds if seconds >= 0 else None):
            return
        async with live.lock:
            found = self._store.find(container.id)
            if found is not None and not ended.done() and found.state.status in ALIVE:
                await self._signals.send(found, KILL, by_user=True)
        await self._wait_killed(container, ended)

    async def _wait_killed(self, container: Container, ended: asyncio.Future[Exited]) -> None:
        if not await _wait(ended, _KILL_SECONDS):
            raise Unavailable(
                f"cannot stop container: {container.name}: tried to kill container, but did not "
                "receive an exit event"
            )

    def _again(self, container_id: str, ref: str) -> Container:
        found = self._store.find(container_id)
        if found is None:
            raise NotFound("container", ref)
        return found

    def _call_off(self, container: Container, live: Live) -> None:
        live.cancel_restart()
        state = move(
            container.state,
            Status.EXITED,
            stopped_by_user=True,
            finished_at=container.state.finished_at or time.time_ns(),
        )
        container = self._store.observe(container.id, state)
        live.tell_exit(exited(container))
        self._events.record(container_event(container, "stop"))


async def _wait(ended: asyncio.Future[Exited], seconds: float | None) -> bool:
    """Return whether the exit came within `seconds` (None: for ever)."""
    done, _ = await asyncio.wait((ended,), timeout=seconds)
    return bool(done)
