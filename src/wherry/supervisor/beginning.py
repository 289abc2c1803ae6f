"""A start that is under way: of a container, or of an exec inside one. The table drives it:

take > streams > make > (stored with the keeper) > begin: wired, then planned > the child has exec'd >
connect
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Protocol

from wherry.kernel.processes import wait_readable
from wherry.model.errors import StartFailed, WherryError
from wherry.runtime.slots import Slot
from wherry.supervisor import stdio
from wherry.supervisor.attach import Client
from wherry.supervisor.executed import ExecutedProcess
from wherry.supervisor.launcher import Launcher
from wherry.supervisor.logged import LoggedProcess
from wherry.supervisor.messages import ExecLaunch, Launch, Started
from wherry.supervisor.process import PIDFD, VOLUME, House, Meta, Process
from wherry.supervisor.stdio import Stdio
from wherry.supervisor.waiting import Waiting
from wherry.supervisor.wiring import Wirer

Answer = Callable[[Started | WherryError], None]


class Start(Protocol):
    """What the table needs of a start."""

    key: str
    descriptors: tuple[int, ...]
    """What the answer carries, once `begin` was done; whoever sends it owns them."""
    root: int
    """The same of the root's mount, -1 where nobody asked for it."""

    def take(self, launcher: Launcher) -> Slot:
        """Return the child-to-be; raise StartFailed."""
        ...

    def streams(self, launcher: Launcher, slot: Slot) -> Stdio:
        """Return the process's streams; raise StartFailed or Full."""
        ...

    def make(self, house: House, slot: Slot, fds: dict[str, int]) -> Process:
        """Return the process, which owns `fds`."""
        ...

    def begin(self, launcher: Launcher, slot: Slot, streams: Stdio) -> None:
        """Have the child become the process; raise StartFailed."""
        ...

    def connect(self) -> None:
        """It runs: serve its streams."""
        ...

    def give_up(self) -> None:
        """It could not be started."""
        ...


class ContainerStart:
    """Start of a container's own process; clients that wait for it are attached.

    The mounts `held` are kept with the process: other containers get copies while one that has them runs,
    and with the last of them the file system is gone.
    """

    def __init__(
        self,
        launch: Launch,
        waiting: Waiting,
        wirer: Wirer,
        joined: tuple[int, ...],
        held: dict[str, int],
    ) -> None:
        self.key = launch.id
        self.descriptors: tuple[int, ...] = ()
        self.root = -1
        self._wirer = wirer
        self._joined = joined
        self._launch = launch
        self._waiting = waiting
        self._held = held
        self._process: LoggedProcess | None = None

    def take(self, launcher: Launcher) -> Slot:
        """Start.take."""
        return launcher.take(self._launch.plan)

    def streams(self, launcher: Launcher, slot: Slot) -> Stdio:
        """Start.streams."""
        launch = self._launch
        # Alive now, so what was opened by their pids before is theirs.
        if any(wait_readable(pidfd, 0) for pidfd in self._joined):
            raise StartFailed("a container whose namespaces are joined has ended meanwhile")
        if not launch.tty:
            return stdio.make_pipes(launch.open_stdin)
        return _terminal(launcher, slot, launch.rows, launch.columns, kept=True)

    def make(self, house: House, slot: Slot, fds: dict[str, int]) -> Process:
        """Start.make."""
        launch = self._launch
        fds |= {f"{VOLUME}{name}": fd for name, fd in self._held.items()}
        meta = Meta(
            list(fds), tty=launch.tty, stdin_once=launch.stdin_once, log=launch.log.to_wire()
        )
        self._process = LoggedProcess(house, self.key, slot.pid, meta, fds)
        return self._process

    def begin(self, launcher: Launcher, slot: Slot, streams: Stdio) -> None:
        """Start.begin."""
        s = streams
        plan = self._launch.plan
        self.descriptors = self._wirer.wire(slot.pid, slot.pidfd, self._launch.wiring)
        slot.keep_root = self._launch.keep_root
        launcher.begin(slot, plan, s.stdin, s.stdout, s.stderr, s.console, self._held)
        self.root, slot.root = slot.root, -1

    def connect(self) -> None:
        """Start.connect."""
        assert self._process is not None
        self._process.run()
        for client, wanted in self._waiting.take(self.key):
            self._process.attach(client, wanted)

    def give_up(self) -> None:
        """Start.give_up."""
        for fd in (*self.descriptors, self.root):
            if fd >= 0:
                os.close(fd)
        self.descriptors, self.root = (), -1
        self._waiting.close(self.key)


class ExecStart:
    """Start of a process inside `container`; `client` is None when detached."""

    def __init__(self, launch: ExecLaunch, container: Process, client: Client | None) -> None:
        self.key = launch.exec_id
        self.descriptors: tuple[int, ...] = ()
        self.root = -1
        self._launch = launch
        self._container = container
        self._client = client
        self._process: ExecutedProcess | None = None

    def take(self, launcher: Launcher) -> Slot:
        """Start.take."""
        return launcher.take_exec(self._container.meta.facts, self._container.fds[PIDFD])

    def streams(self, launcher: Launcher, slot: Slot) -> Stdio:
        """Start.streams."""
        launch = self._launch
        if launch.tty:
            return _terminal(launcher, slot, launch.rows, launch.columns, kept=False)
        if self._client is None:
            return stdio.make_pipes(False, False, False)
        return stdio.make_pipes(launch.stdin, launch.stdout, launch.stderr)

    def make(self, house: House, slot: Slot, fds: dict[str, int]) -> Process:
        """Start.make."""
        launch = self._launch
        meta = Meta(list(fds), launch.container_id, tty=launch.tty, stdin_once=True)
        self._process = ExecutedProcess(house, self.key, slot.pid, meta, fds)
        return self._process

    def begin(self, launcher: Launcher, slot: Slot, streams: Stdio) -> None:
        """Start.begin."""
        s, process = streams, self._launch.process
        launcher.begin_exec(slot, process, s.stdin, s.stdout, s.stderr, s.console)

    def connect(self) -> None:
        """Start.connect."""
        assert self._process is not None
        if self._client is None or self._client.closed:
            self._process.run()
        else:
            self._process.connect(self._client, self._launch)

    def give_up(self) -> None:
        """Start.give_up: the API says why on the same socket."""
        if self._client is not None:
            self._client.drop()


def _terminal(launcher: Launcher, slot: Slot, rows: int, columns: int, *, kept: bool) -> Stdio:
    master, slave = launcher.open_pty(slot)
    streams = stdio.make_terminal(master, slave, kept=kept)
    if rows or columns:
        stdio.set_size(master, rows, columns)
    return streams
