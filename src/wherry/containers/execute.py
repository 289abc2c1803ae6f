"""docker exec: one more process in a running container."""

from __future__ import annotations

import asyncio
import os
import re
from dataclasses import replace
from typing import Protocol

from wherry.containers.events import Recorder, container_event
from wherry.containers.exec_store import Exec, ExecStore
from wherry.containers.inside import read_user
from wherry.containers.live import Lives
from wherry.containers.runtime_spec import HostFacts, base_env, build_process, user_of
from wherry.containers.security import plan_security, seccomp_program
from wherry.containers.start import Platform, in_host_user_namespace
from wherry.containers.store import ContainerStore
from wherry.containers.transitions import check_exec
from wherry.model.containers import Container, ExecSpec
from wherry.model.errors import Conflict, Invalid, NotFound, StartFailed
from wherry.model.ids import new_id
from wherry.model.oci import Process
from wherry.model.views import ExecView
from wherry.runtime import capabilities
from wherry.supervisor.detach import parse_keys
from wherry.supervisor.messages import DETACH_DEFAULT, ExecLaunch, Exit, Started

_START_SECONDS = 10.0
_SMALL = re.compile("[0-9]{1,9}")
"""An id that needs no look-up to be known to be one."""


class Supervisor(Protocol):
    """What is used of the supervisor's client."""

    async def execute(self, launch: ExecLaunch, fd: int = -1, initial: bytes = b"") -> Started: ...
    async def resize(self, key: str, rows: int, columns: int) -> None: ...


def _settled(entry: Exec) -> bool:
    return entry.pid != 0 or entry.code is not None


class Executor:
    """Makes, starts and tells of execs."""

    def __init__(
        self,
        *,
        store: ContainerStore,
        execs: ExecStore,
        lives: Lives,
        supervisor: Supervisor,
        events: Recorder,
        facts: HostFacts,
        platform: Platform,
    ) -> None:
        self._store = store
        self._execs = execs
        self._lives = lives
        self._supervisor = supervisor
        self._events = events
        self._facts = facts
        self._platform = platform
        self._settling: dict[str, list[asyncio.Event]] = {}
        """Who waits for an exec to run, or to have failed to."""
        # A client asks for the exit code when its stream has ended. Where the supervisor dies, the stream
        # ends with the process all the same, since its socket is held here as well.
        self._held: dict[str, int] = {}

    async def create(self, ref: str, spec: ExecSpec) -> str:
        """Note what is to be run, and return its id. Raises NotFound, Conflict or Invalid."""
        container = self._store.resolve(ref)
        if not spec.argv:
            raise Invalid("No exec command specified")
        check_exec(container)
        parse_keys(spec.detach_keys)
        for entry in spec.env:
            if not entry.partition("=")[0] or "\0" in entry:
                raise Invalid(f"invalid environment variable: {entry}")
        if any("\0" in text for text in (*spec.argv, spec.working_dir, spec.user)):
            raise Invalid("a NUL character in the command, the working directory or the user")
        entry = Exec(new_id(), container.id, spec)
        self._execs.add(entry)
        self._tell(container, entry, "exec_create")
        return entry.id

    async def check(self, exec_id: str) -> None:
        """Raise what is known to keep it from starting, while the client can still be answered.

        NotFound, Conflict where it ran or the container does not, Invalid for an unknown user.
        """
        entry = self._execs.get(exec_id)
        container = self._container_of(entry)
        user = entry.spec.user or container.user
        if not all(_SMALL.fullmatch(part) for part in user.split(":") if part):
            await asyncio.to_thread(_check_user, container, user)

    def _container_of(self, entry: Exec) -> Container:
        if entry.started:
            state = "has already run" if entry.code is not None else "is already running"
            raise Conflict(f"exec command {entry.id} {state}")
        container = self._store.get(entry.container_id)
        check_exec(container)
        return container

    async def start(
        self,
        exec_id: str,
        *,
        detach: bool,
        console_size: tuple[int, int] = (0, 0),
        fd: int = -1,
        initial: bytes = b"",
    ) -> None:
        """Run it; `fd` is the client's connection (owned here), -1 when detached.

        Raises NotFound, Conflict where it ran or the container does not, StartFailed.
        """
        try:
            entry = self._execs.get(exec_id)
            # Held until it runs: a container must not be frozen with a process half-way inside.
            async with self._lives.get(entry.container_id).lock:
                container, launch = self._prepare(exec_id, detach, console_size)
                given, fd = fd, -1
                await self._run(container, launch, given, initial)
        finally:
            if fd >= 0:
                os.close(fd)

    def _prepare(
        self, exec_id: str, detach: bool, console_size: tuple[int, int]
    ) -> tuple[Container, ExecLaunch]:
        entry = self._execs.get(exec_id)
        container = self._container_of(entry)
        return container, self._launch(container, entry, detach, console_size)

    async def _run(self, container: Container, launch: ExecLaunch, fd: int, initial: bytes) -> None:
        entry = self._execs.get(launch.exec_id)
        self._execs.update(replace(entry, started=True))
        self._tell(container, entry, "exec_start")
        if fd >= 0:
            self._held[entry.id] = os.dup(fd)
        try:
            started = await self._supervisor.execute(launch, fd, initial)
        except BaseException as error:
            self._let_go(entry.id)
            code = error.exit_code if isinstance(error, StartFailed) else 126
            if self._execs.knows(entry.id):
                self._execs.update(replace(entry, started=True, code=code))
            self._settle(entry.id)
            raise
        # The end may have been told already, or the container removed.
        if self._execs.knows(entry.id):
            self._execs.update(replace(self._execs.get(entry.id), pid=started.pid))
        self._settle(entry.id)
        if not self._execs.knows(entry.id) or self._execs.get(entry.id).code is not None:
            self._let_go(entry.id)

    def _let_go(self, exec_id: str) -> None:
        held = self._held.pop(exec_id, -1)
        if held >= 0:
            os.close(held)

    def knows(self, exec_id: str) -> bool:
        """Return whether there is such an exec."""
        return self._execs.knows(exec_id) or exec_id in self._held

    def forget(self, exec_id: str) -> None:
        """Drop an exec that nobody will ask for; its end is then no news."""
        self._execs.remove(exec_id)

    def ended(self, end: Exit) -> None:
        """Note how it ended; hearing it twice is fine."""
        if not self._execs.knows(end.key):
            self._let_go(end.key)  # its container is gone already
            return
        entry = self._execs.get(end.key)
        if entry.code is not None:
            return
        self._execs.update(replace(entry, started=True, code=end.code))
        self._let_go(end.key)
        self._settle(entry.id)
        container = self._store.find(entry.container_id)
        if container is not None:
            self._events.record(
                container_event(container, "exec_die", execID=entry.id, exitCode=str(end.code))
            )

    async def inspect(self, exec_id: str) -> ExecView:
        """Return what `GET /exec/{id}/json` shows. Raises NotFound."""
        entry = self._execs.get(exec_id)
        return ExecView(
            entry.id, entry.container_id, entry.spec, entry.running, entry.code, entry.pid
        )

    async def resize(self, exec_id: str, rows: int, columns: int) -> None:
        """Set the size of its terminal, once it runs. Raises NotFound where it does not run any more.

        StartFailed where it is not started in ten seconds: 500, as in Docker. A client knows that its start was
        answered, which is before the process is there.
        """
        if not _settled(self._execs.get(exec_id)):
            await self._wait_settled(exec_id)
        if not self._execs.get(exec_id).running:
            raise NotFound("exec process", exec_id)
        await self._supervisor.resize(exec_id, rows, columns)

    async def _wait_settled(self, exec_id: str) -> None:
        event = asyncio.Event()
        others = self._settling.setdefault(exec_id, [])
        others.append(event)
        try:
            async with asyncio.timeout(_START_SECONDS):
                await event.wait()
        except TimeoutError:
            raise StartFailed("timeout waiting for exec session ready") from None
        finally:
            others.remove(event)
            if not others:
                self._settling.pop(exec_id, None)

    def _settle(self, exec_id: str) -> None:
        for event in self._settling.get(exec_id, ()):
            event.set()

    def _launch(
        self, container: Container, entry: Exec, detach: bool, console_size: tuple[int, int]
    ) -> ExecLaunch:
        spec = entry.spec
        rows, columns = console_size if any(console_size) else spec.console_size
        return ExecLaunch(
            exec_id=entry.id,
            container_id=container.id,
            process=self.process(container, spec),
            tty=spec.tty,
            stdin=spec.attach_stdin and not detach,
            stdout=spec.attach_stdout and not detach,
            stderr=spec.attach_stderr and not detach,
            rows=rows if spec.tty else 0,
            columns=columns if spec.tty else 0,
            detach_keys=parse_keys(spec.detach_keys) or DETACH_DEFAULT,
        )

    def process(self, container: Container, spec: ExecSpec) -> Process:
        """Return the process that `spec` asks for: the container's, with what the exec says put over it."""
        own = not in_host_user_namespace(container.state.pid)
        available = capabilities.ALL if own else self._facts.capabilities
        security = plan_security(container.spec.security, available=available)
        seccomp = seccomp_program(security, arch=self._platform.arch, kernel=self._platform.kernel)
        base = build_process(container, security=security, seccomp=seccomp, facts=self._facts)
        mask = available if spec.privileged else security.capabilities
        rows, columns = spec.console_size
        return replace(
            base,
            argv=spec.argv,
            env=base_env(container, tty=spec.tty, extra=spec.env),
            cwd=spec.working_dir or container.working_dir or "/",
            user=user_of(spec.user or container.user, container.spec.group_add),
            terminal=spec.tty,
            rows=rows if spec.tty else 0,
            columns=columns if spec.tty else 0,
            bounding=mask,
            effective=mask,
            permitted=mask,
            create_cwd=False,
        )

    def _tell(self, container: Container, entry: Exec, action: str) -> None:
        words = f"{entry.spec.argv[0]} {' '.join(entry.spec.argv[1:])}"
        self._events.record(container_event(container, f"{action}: {words}", execID=entry.id))


def _check_user(container: Container, user: str) -> None:
    try:
        root = os.open(
            f"/proc/{container.state.pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
        )
    except OSError as error:
        raise Conflict(f"container {container.id} is not running") from error
    try:
        read_user(root, user)
    except StartFailed as error:
        raise Invalid(error.message) from None
    finally:
        os.close(root)
