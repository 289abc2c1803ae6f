"""Health checks: a command run inside at intervals, and what its answers make of the container.

    start > starting -(exit 0)> healthy <-(exit 0)- unhealthy
                     -(`retries` failures in a row, after the start period)> unhealthy <-(the same)- healthy

`judge` is the rule and pure; `Monitors` keeps one task for each container that has a check and runs.
Monitors listen to events rather than being told, so that no workflow knows of them. Times and texts are
those of Docker Engine 28.5. Source: docker-run(1), "--health-cmd"; Engine API v1.51, Health.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import time
from collections.abc import Awaitable
from dataclasses import dataclass, replace
from typing import Protocol

from wherry.containers.events import Recorder, container_event
from wherry.containers.live import Tasks
from wherry.containers.store import ContainerStore
from wherry.model.containers import (
    Container,
    ContainerState,
    ExecSpec,
    Health,
    HealthSpec,
    HealthStatus,
    Probe,
    Status,
)
from wherry.model.errors import Full, NotFound, WherryError
from wherry.model.events import Event
from wherry.model.frames import Demultiplexer
from wherry.model.literals import render_duration
from wherry.model.views import ExecView

log = logging.getLogger(__name__)

_SECOND = 1_000_000_000
KEPT = 5
"""Probes that inspect shows."""
LONGEST_OUTPUT = 4096
"""Bytes kept of what a probe printed."""
_TIMED_OUT = -1
_SHELL = ("/bin/sh", "-c")
_END_SECONDS = 5.0
"""For a killed probe's end to be told."""


def wants_checks(spec: HealthSpec | None) -> bool:
    """Return whether there is a command to run."""
    return spec is not None and bool(spec.test) and spec.test[0] != "NONE"


def with_defaults(spec: HealthSpec) -> HealthSpec:
    """Return `spec` with Docker's defaults where it says nothing."""
    return replace(
        spec,
        interval=spec.interval or 30 * _SECOND,
        timeout=spec.timeout or 30 * _SECOND,
        start_interval=spec.start_interval or 5 * _SECOND,
        retries=spec.retries or 3,
    )


def command_of(spec: HealthSpec, shell: tuple[str, ...]) -> tuple[str, ...]:
    """Return what is run; `shell` is the image's SHELL, for CMD-SHELL."""
    if spec.test[0] == "CMD-SHELL":
        return (*(shell or _SHELL), *spec.test[1:])
    return spec.test[1:]


def next_interval(spec: HealthSpec, health: Health, started_at: int, now: int) -> int:
    """Return the nanoseconds until the next probe; `spec` has its defaults."""
    starting = health.status is HealthStatus.STARTING and now - started_at < spec.start_period
    return spec.start_interval if starting else spec.interval


def judge(health: Health, probe: Probe, spec: HealthSpec, started_at: int) -> Health:
    """Return what `probe` makes of `health`; `spec` has its defaults, times are nanoseconds."""
    probes = (*health.log, probe)[-KEPT:]
    if probe.exit_code == 0:
        return Health(HealthStatus.HEALTHY, 0, probes)
    starting = health.status is HealthStatus.STARTING
    if starting and probe.start - started_at < spec.start_period:
        return replace(health, log=probes)
    streak = health.failing_streak + 1
    status = HealthStatus.UNHEALTHY if streak >= spec.retries else health.status
    return Health(status, streak, probes)


class Executor(Protocol):
    """What is used of exec."""

    async def create(self, ref: str, spec: ExecSpec) -> str: ...
    async def start(self, exec_id: str, *, detach: bool, fd: int = -1) -> None: ...
    async def inspect(self, exec_id: str) -> ExecView: ...
    def forget(self, exec_id: str) -> None: ...


class Supervisor(Protocol):
    """What is used of the supervisor's client."""

    async def signal(self, key: str, signo: int) -> None: ...


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What one run of a check came to."""

    code: int
    output: bytes


class Monitors:
    """One task for each running container with a check. `heard` is called with every event."""

    def __init__(
        self,
        *,
        store: ContainerStore,
        executor: Executor,
        supervisor: Supervisor,
        events: Recorder,
        tasks: Tasks,
    ) -> None:
        self._store = store
        self._executor = executor
        self._supervisor = supervisor
        self._events = events
        self._owner = tasks
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._unsaved: set[str] = set()
        """Those whose last probes are in memory alone."""

    def heard(self, event: Event) -> None:
        """Begin, hold or end a container's checks, by what happened to it."""
        if event.kind != "container":
            return
        match event.action:
            case "start":
                self._begin(event.actor, anew=True)
            case "unpause":
                self._begin(event.actor, anew=False)
            case "pause":
                self._end(event.actor)
            case "destroy":
                self._end(event.actor)
                self._unsaved.discard(event.actor)
            case "die":
                self._end(event.actor)
                self._ended(event.actor)
            case _:
                pass

    def open(self) -> None:
        """Go on with the checks of what runs already, after a start of the daemon."""
        for container in self._store:
            if container.state.status is Status.RUNNING:
                self._begin(container.id, anew=False)

    def close(self) -> None:
        """End all checks; their probes, if any run, are found unknown by the next daemon and killed."""
        for container_id in tuple(self._tasks):
            self._end(container_id)
        for container_id in self._unsaved:
            if (container := self._store.find(container_id)) is not None:
                self._store.observe(container_id, container.state)
        self._unsaved.clear()

    def _begin(self, container_id: str, *, anew: bool) -> None:
        container = self._store.find(container_id)
        if container is None or container.id in self._tasks:
            return
        spec = container.spec.health
        if spec is None or not wants_checks(spec):
            return
        if anew or container.state.health is None:
            before = container.state.health or Health()
            self._keep(container, Health(log=before.log))
        self._tasks[container.id] = self._owner.spawn(
            self._watch(container.id, with_defaults(spec))
        )

    def _end(self, container_id: str) -> None:
        if task := self._tasks.pop(container_id, None):
            task.cancel()

    def _ended(self, container_id: str) -> None:
        """A container that does not run is not healthy."""
        container = self._store.find(container_id)
        if container is not None and container.state.health is not None:
            self._keep(container, replace(container.state.health, status=HealthStatus.UNHEALTHY))

    async def _watch(self, container_id: str, spec: HealthSpec) -> None:
        while (container := self._running(container_id)) is not None:
            state = container.state
            health = state.health or Health()
            pause = next_interval(spec, health, state.started_at, time.time_ns())
            await asyncio.sleep(pause / _SECOND)
            if (container := self._running(container_id)) is None:
                return
            try:
                probe = await self._probe(container, spec)
            except (WherryError, OSError) as error:
                # OSError: no descriptor is left, say. The next check may have one.
                log.debug("the health check of %s: %s", container.name, error)
                continue
            if (container := self._running(container_id)) is None:
                return
            self._judge(container, probe, spec)

    def _running(self, container_id: str) -> Container | None:
        container = self._store.find(container_id)
        running = container is not None and container.state.status is Status.RUNNING
        return container if running else None

    def _judge(self, container: Container, probe: Probe, spec: HealthSpec) -> None:
        before = container.state.health or Health()
        after = judge(before, probe, spec, container.state.started_at)
        self._keep(container, after)
        if after.status is not before.status:
            self._events.record(container_event(container, f"health_status: {after.status}"))

    def _keep(self, container: Container, health: Health) -> None:
        """Keep on disk what changes the answer, the rest in memory until the end: a probe is no reason for
        an fsync.
        """
        before = container.state.health
        state: ContainerState = replace(container.state, health=health)
        if before is None or before.status is not health.status:
            self._store.observe(container.id, state)
            self._unsaved.discard(container.id)
        else:
            self._store.save_volatile(container.id, state)
            self._unsaved.add(container.id)

    async def _probe(self, container: Container, spec: HealthSpec) -> Probe:
        argv = command_of(spec, container.spec.shell)
        began = time.time_ns()
        try:
            exec_id = await self._executor.create(
                container.id, ExecSpec(argv=argv, attach_stdout=True, attach_stderr=True)
            )
        except Full as error:
            return Probe(began, time.time_ns(), _TIMED_OUT, str(error))
        try:
            outcome = await self._run(exec_id, spec.timeout)
        except WherryError as error:
            outcome = _Outcome(_TIMED_OUT, str(error).encode())
        finally:
            self._executor.forget(exec_id)
        text = outcome.output.decode("utf-8", "replace")
        return Probe(began, time.time_ns(), outcome.code, text)

    async def _run(self, exec_id: str, timeout_ns: int) -> _Outcome:
        ours, theirs = socket.socketpair()
        reader, writer = await asyncio.open_connection(sock=ours)
        output = _Output()
        try:
            await self._executor.start(exec_id, detach=False, fd=theirs.detach())
            try:
                async with asyncio.timeout(timeout_ns / _SECOND):
                    await output.read(reader)
            except TimeoutError:
                with contextlib.suppress(NotFound):
                    await self._supervisor.signal(exec_id, signal.SIGKILL)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(output.read(reader), _END_SECONDS)
                text = f"Health check exceeded timeout ({render_duration(timeout_ns)})".encode()
                said = b": " + output.kept if output.kept else b""
                return _Outcome(_TIMED_OUT, text + said)
            except asyncio.CancelledError:
                # Not left running beside a container that is being stopped or was paused.
                self._owner.spawn(_suppressed(self._supervisor.signal(exec_id, signal.SIGKILL)))
                raise
        finally:
            writer.close()
        view = await self._executor.inspect(exec_id)
        return _Outcome(_TIMED_OUT if view.exit_code is None else view.exit_code, output.kept)


class _Output:
    """Takes the multiplexed stream of a probe and keeps its beginning."""

    def __init__(self) -> None:
        self.kept = b""
        self._frames = Demultiplexer()

    async def read(self, reader: asyncio.StreamReader) -> None:
        """Read to the end."""
        while data := await reader.read(1 << 16):
            for _, piece in self._frames.feed(data):
                self.kept += piece[: LONGEST_OUTPUT - len(self.kept)]


async def _suppressed(work: Awaitable[None]) -> None:
    with contextlib.suppress(WherryError):
        await work
