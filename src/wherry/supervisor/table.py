"""All processes of this engine and what is done with them, for any number of wherryds.

A start that fails is undone before it is answered: the child is killed and reaped, and what it held is
released. One that a dying supervisor left half-way is undone by the next, unless the child has
exec'd already. A child that neither begins its program nor fails within a minute is taken for one that
never will. (One room for start, end and take-over: they are three views of the same two tables.)
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace

from wherry.kernel.failpoints import failpoint
from wherry.kernel.processes import runs_program, wait_readable
from wherry.kernel.reactor import READ, Reactor
from wherry.kernel.rights import copies
from wherry.model.errors import Conflict, Internal, Invalid, NotFound, StartFailed, WherryError
from wherry.model.wiring import Way, Wiring
from wherry.runtime.slots import Slot
from wherry.supervisor.announcer import Announcer
from wherry.supervisor.attach import Client
from wherry.supervisor.beginning import Answer, ContainerStart, ExecStart, Start
from wherry.supervisor.executed import ExecutedProcess
from wherry.supervisor.keeping import Ended, ExitSeen, Keeping, Kept
from wherry.supervisor.launcher import Launcher
from wherry.supervisor.logged import LoggedProcess
from wherry.supervisor.messages import Attachment, ExecLaunch, Exit, Launch, Started, Survivor
from wherry.supervisor.process import PIDFD, SOCKET, VOLUME, House, Meta, Process
from wherry.supervisor.releases import Releases
from wherry.supervisor.undecided import Beginning, has_execed
from wherry.supervisor.waiting import Waiting
from wherry.supervisor.wiring import Wirer

_PATIENCE = 3.0
_BUSY = 0.1
"""Seconds between two starts that follow each other."""
LONGEST_START = 60.0
"""Seconds until a child must have begun its program."""
_LONGEST_KILL = 5.0


class Table:
    """Processes by key. `on_exit` is told of each end once the output is where it belongs."""

    def __init__(
        self,
        reactor: Reactor,
        keeping: Keeping,
        announcer: Announcer,
        launcher: Launcher,
        on_exit: Callable[[Exit], None],
        wirer: Wirer,
    ) -> None:
        self._reactor = reactor
        self._keeping = keeping
        self._launcher = launcher
        self._wirer = wirer
        self._on_exit = on_exit
        self._house = House(reactor, keeping, announcer, self._finished)
        self._processes: dict[str, Process] = {}
        self._beginnings: dict[str, Beginning] = {}
        self._waiting = Waiting()
        self._releases = Releases(reactor, launcher)
        self._last_start = 0.0
        self._is_busy = False

    @property
    def empty(self) -> bool:
        """Whether nothing runs and no exit waits to be forgotten."""
        return not self._processes

    # -- verbs -------------------------------------------------------------------------------

    def start(self, launch: Launch, answer: Answer, mounts: Sequence[int] = ()) -> None:
        """Start a container's process and answer when it is decided. Raises StartFailed, Conflict, Full.

        `mounts` are those that `launch.held` names; they stay the caller's. Where a container that runs
        has one of that name, its file system is used instead.
        """
        undone = self._beginnings.get(launch.id)
        undone = undone if undone and undone.is_orphan else None
        if launch.id in self._processes and undone is None:
            raise Conflict(f"container {launch.id} is running, or its exit was not taken yet")
        if len(mounts) != len(launch.held):
            raise Invalid("malformed message: not as many mounts as names")
        shared = map(self._shared, launch.held, mounts)
        held = dict(zip(launch.held, copies(shared), strict=True))
        if undone is None:
            self._start_when_released(launch, answer, held)
        else:
            # A dead supervisor had begun it, and its child is being killed: whoever asked, asks again.
            undone.answer = lambda failed: self._start_again(launch, answer, held, failed)

    def _start_when_released(self, launch: Launch, answer: Answer, held: dict[str, int]) -> None:
        if self._releases.is_pending(launch.id):
            self._releases.when_done(launch.id, lambda: self._start_late(launch, answer, held))
        else:
            self._start(launch, answer, held)

    def _start_again(
        self, launch: Launch, answer: Answer, held: dict[str, int], failed: Started | WherryError
    ) -> None:
        if launch.id not in self._processes:
            self._start_late(launch, answer, held)
            return
        for fd in held.values():  # it cannot be killed
            os.close(fd)
        answer(failed)

    def _start(self, launch: Launch, answer: Answer, held: dict[str, int]) -> None:
        try:
            joined = self._joined(launch)
            start = ContainerStart(launch, self._waiting, self._wirer, joined, held)
            self._begin(start, answer)
        except BaseException:
            if launch.id not in self._processes:
                for fd in held.values():
                    os.close(fd)
            raise

    def _start_late(self, launch: Launch, answer: Answer, held: dict[str, int]) -> None:
        try:
            self._start_when_released(launch, answer, held)
        except Exception as error:
            answer(_as_ours(launch.id, error))

    def _joined(self, launch: Launch) -> tuple[int, ...]:
        """Return the pidfds of the containers whose namespaces are joined. Raises StartFailed."""
        found: list[int] = []
        for key, pid in launch.joins:
            other = self._processes.get(key)
            if other is None or other.pid != pid or other.ended or not other.meta.running:
                raise StartFailed(f"container {key}, whose namespaces are joined, is not running")
            found.append(other.fds[PIDFD])
        return tuple(found)

    def _shared(self, name: str, fresh: int) -> int:
        for process in self._processes.values():
            if (found := process.fds.get(f"{VOLUME}{name}")) is not None and not process.ended:
                return found
        return fresh

    def execute(self, launch: ExecLaunch, client: Client | None, answer: Answer) -> None:
        """Start an exec's process and answer when it is decided; owns `client` unless it raises."""
        container = self._processes.get(launch.container_id)
        if container is None or container.ended or not container.meta.running:
            raise Conflict(f"container {launch.container_id} is not running")
        if launch.exec_id in self._processes:
            raise Conflict(f"exec {launch.exec_id} has already run")
        self._begin(ExecStart(launch, container, client), answer)

    def attach(self, key: str, client: Client, wanted: Attachment) -> None:
        """Attach a client, now or when the container runs next."""
        process = self._processes.get(key)
        if isinstance(process, LoggedProcess) and process.meta.running and process.exit is None:
            process.attach(client, wanted)
        else:
            self._waiting.add(key, client, wanted)

    def signal(self, key: str, number: int) -> None:
        """Send a signal to a running process; raise NotFound."""
        self._running(key).signal(number)

    def resize(self, key: str, rows: int, columns: int) -> None:
        """Set the size of a running process's terminal; raise NotFound."""
        self._running(key).resize(rows, columns)

    def connect(self, key: str, wiring: Wiring) -> tuple[int, ...]:
        """Give a running container's network namespace more links, and a name service where it is wanted.

        Returns its sockets (udp, tcp). Raises NotFound, Conflict, StartFailed.
        """
        process = self._running(key)
        descriptors = self._wirer.wire(process.pid, process.fds[PIDFD], wiring, fresh=False)
        failpoint("supervisor.wired")
        return descriptors

    def disconnect(self, key: str, interface: str) -> Callable[[], None]:
        """Take away an interface of a running container; raise NotFound, Conflict.

        What is returned is to be called when that has been answered.
        """
        process = self._running(key)
        return self._wirer.unwire(process.pid, process.fds[PIDFD], interface)

    def set_ways(self, key: str, ways: Sequence[tuple[str, Way]]) -> None:
        """Change where a running container's default routes lead; raise NotFound, Conflict, StartFailed."""
        process = self._running(key)
        self._wirer.set_ways(process.pid, process.fds[PIDFD], ways)

    def name_sockets(self, key: str) -> tuple[int, ...]:
        """Return new name service sockets (udp, tcp) of a running container; raise NotFound, Conflict."""
        process = self._running(key)
        return self._wirer.name_sockets(process.pid, process.fds[PIDFD])

    def forget(self, key: str) -> None:
        """The exit is stored: release everything. Without a process: close the clients that wait for it.

        Raises Conflict when it runs.
        """
        process = self._processes.get(key)
        if process is None:
            self._waiting.close(key)
            return
        if process.exit is None:
            raise Conflict(f"{key} is running")
        del self._processes[key]
        self._keeping.drop(key)
        process.release_clients()
        # Where one start follows the other, a slot is made while the daemon prepares the next. Else it is
        # made when the daemon is done: beside it, the removal of a container takes twice as long.
        self._reactor.want_idle(soon=self._is_busy)

    def exits(self) -> list[Exit]:
        """Return the exits that were not forgotten."""
        return [process.exit for process in self._processes.values() if process.exit]

    def survivors(self) -> list[Survivor]:
        """Return what runs and what has exited without being forgotten."""
        return [
            Survivor(key, p.pid, p.meta.started_at, p.meta.container_id, p.exit)
            for key, p in self._processes.items()
            if p.meta.running
        ]

    def end_everything(self) -> None:
        """The keeper is gone, and with it every exit code to come: leave nothing that runs behind.

        What was written is logged, and what was held is released.
        """
        for process in self._processes.values():
            with contextlib.suppress(NotFound, OSError):
                process.signal(signal.SIGKILL)
        deadline = time.monotonic() + _PATIENCE
        for process in self._processes.values():
            if PIDFD in process.fds:
                left = max(0.0, deadline - time.monotonic())
                wait_readable(process.fds[PIDFD], left)
            try:
                process.drain()
            except Exception:
                traceback.print_exc()
            self._release(process)
        self.close()

    def close(self) -> None:
        """The supervisor leaves: give back what can be. Blocks."""
        self._releases.finish(_PATIENCE)

    # -- a start -----------------------------------------------------------------------------

    def _begin(self, start: Start, answer: Answer) -> None:
        slot = start.take(self._launcher)
        now = time.monotonic()
        self._is_busy, self._last_start = now - self._last_start < _BUSY, now
        self._reactor.want_idle()
        try:
            streams = start.streams(self._launcher, slot)
        except BaseException:
            self._discard(slot)
            raise
        fds = {PIDFD: slot.pidfd, SOCKET: slot.socket, **streams.ours}
        try:
            process = start.make(self._house, slot, fds)
        except BaseException:
            streams.close()
            self._discard(slot)
            raise
        failpoint("supervisor.before-store")
        process.meta.facts = self._launcher.facts(slot)
        # Before the process can be: one that ends at once must not have ended before it started.
        process.meta.started_at = time.time_ns()
        process.store()
        failpoint("supervisor.after-store")
        self._processes[start.key] = process
        beginning = self._beginnings[start.key] = Beginning(start, slot, answer)
        try:
            start.begin(self._launcher, slot, streams)
        except Exception as error:
            self._fail(start.key, beginning, _as_ours(start.key, error))
            return
        finally:
            with process.at_pipe:
                streams.close_child()
        failpoint("supervisor.after-begin")
        self._reactor.watch(slot.socket, READ, lambda mask: self._decided(start.key, None))
        beginning.deadline = self._reactor.later(
            LONGEST_START, lambda: self._overdue(start.key, beginning)
        )

    def _decided(self, key: str, ended: Ended | None) -> None:
        """The child has exec'd, or failed; `ended` where the keeper has told of its end."""
        beginning = self._beginnings.get(key)
        if beginning is None or beginning.error or not beginning.slot or not beginning.start:
            return
        process = self._processes[key]
        self._reactor.unwatch(process.fds[SOCKET])
        try:
            self._launcher.finish(beginning.slot)
        except Exception as error:
            self._fail(key, beginning, _as_ours(key, error))
            return
        if ended is None and not runs_program(process.pid, process.fds[PIDFD]):
            return  # its end closed the socket: the keeper is about to tell
        # An end of its own is the child's way to say that what was found cannot be run (255).
        if ended is not None and ended.unstarted and ended.killed:
            self._fail(key, beginning, self._why_unstarted(process, ended))
            return
        beginning.cancel_deadline()
        failpoint("supervisor.after-exec")
        del self._beginnings[key]
        process.meta.facts = self._launcher.facts(beginning.slot)
        self._now_runs(process)
        failpoint("supervisor.before-answer")
        try:
            beginning.start.connect()
        except Exception:
            # It runs, whatever becomes of its streams: whoever started it is to know.
            traceback.print_exc()
        start, started_at = beginning.start, process.meta.started_at
        beginning.answer(Started(process.pid, started_at, start.descriptors, start.root))

    def _now_runs(self, process: Process) -> None:
        process.meta.running = True
        process.let_go(SOCKET)
        self._keeping.update(process.key, process.meta.to_wire())

    def _fail(self, key: str, beginning: Beginning, error: WherryError) -> None:
        """Kill the child; the start is answered when it is reaped."""
        beginning.error = error
        process = self._processes[key]
        self._reactor.unwatch(process.fds[SOCKET])
        beginning.cancel_deadline()
        beginning.deadline = self._reactor.later(
            _LONGEST_KILL, lambda: self._unkillable(key, beginning, error)
        )
        try:
            process.signal(signal.SIGKILL)
        except NotFound:
            pass

    def _overdue(self, key: str, beginning: Beginning) -> None:
        """The child is stopped, or waits for something that does not come."""
        if self._beginnings.get(key) is beginning and beginning.error is None:
            text = f"its process has not begun its program within {LONGEST_START:g} s"
            hint = "it was stopped, or waits for a file system that does not answer"
            self._fail(key, beginning, StartFailed(text, hint=hint))

    def _unkillable(self, key: str, beginning: Beginning, error: WherryError) -> None:
        """A frozen child takes SIGKILL when it thaws: whoever asked is not kept waiting until then."""
        if self._beginnings.get(key) is beginning:
            if beginning.start is not None:
                beginning.start.give_up()
                beginning.start = None
            beginning.tell(error)

    def _why_unstarted(self, process: Process, ended: Ended) -> StartFailed:
        if ended.killed and self._oom_kills(process):
            return StartFailed(
                "its process was killed for want of memory before it began its program",
                hint="raise --memory",
            )
        return StartFailed(f"its process ended before it began its program (code {ended.code})")

    def _failed(self, key: str, beginning: Beginning, error: WherryError) -> None:
        """The child of a failed start is reaped: undo and answer."""
        del self._beginnings[key]
        beginning.cancel_deadline()
        process = self._processes.pop(key)
        process.close_streams()
        self._keeping.drop(key)
        self._release(process)
        if beginning.start is not None:
            beginning.start.give_up()
        beginning.answer(error)

    def _discard(self, slot: Slot) -> None:
        """Undo a take."""
        try:
            signal.pidfd_send_signal(slot.pidfd, signal.SIGKILL)
        except ProcessLookupError:
            pass
        wait_readable(slot.pidfd, 1)
        facts = self._launcher.facts(slot)
        os.close(slot.pidfd)
        os.close(slot.socket)
        slot.close()
        self._releases.add(f"slot {slot.pid}", facts)

    # -- ends --------------------------------------------------------------------------------

    def exited(self, seen: ExitSeen) -> None:
        """The keeper has reaped a process."""
        process = self._processes.get(seen.key)
        if process is None or process.pid != seen.pid:
            return
        # One that ended at once is decided all the same: its socket tells what failed, if anything.
        self._decided(seen.key, seen.ended)
        beginning = self._beginnings.get(seen.key)
        if beginning is not None and beginning.error is not None:
            self._failed(seen.key, beginning, beginning.error)
        else:
            process.exited(seen.ended)

    def _finished(self, process: Process) -> None:
        """House.on_finished: add what the cgroup knows, report, release."""
        assert process.exit is not None
        if isinstance(process, LoggedProcess) and self._oom_kills(process):
            process.exit = replace(process.exit, oom_killed=True)
        failpoint("supervisor.before-report")
        self._on_exit(process.exit)
        self._release(process)

    def _release(self, process: Process) -> None:
        if isinstance(process, LoggedProcess):
            self._releases.add(process.key, process.meta.facts)

    def _oom_kills(self, process: Process) -> int:
        try:
            return self._launcher.oom_kills(process.meta.facts)
        except (OSError, WherryError) as error:
            print(f"supervisor: {process.key}: {error}", file=sys.stderr, flush=True)
            return 0

    # -- taking over -------------------------------------------------------------------------

    def adopt(self, kept: Kept) -> None:
        """Take back one process that an earlier supervisor had."""
        meta = Meta(**kept.meta)
        fds = {meta.names[index]: fd for index, fd in kept.fds.items()}
        kind = ExecutedProcess if meta.container_id else LoggedProcess
        process = self._processes[kept.key] = kind(self._house, kept.key, kept.pid, meta, fds)
        if isinstance(process, LoggedProcess):
            self._launcher.adopt(meta.facts)
        if not meta.running and not has_execed(process, kept.ended):
            error = Internal("the supervisor was replaced during the start")
            self._beginnings[kept.key] = Beginning.orphaned(error)
            self._fail(kept.key, self._beginnings[kept.key], error)
            if kept.ended:
                self.exited(ExitSeen(kept.key, kept.pid, kept.ended))
            return
        if not meta.running:
            self._now_runs(process)
        process.resume()
        if kept.ended:
            process.exited(kept.ended)

    def _running(self, key: str) -> Process:
        process = self._processes.get(key)
        if process is None or process.ended or not process.meta.running:
            raise NotFound("process", key)
        return process


def _as_ours(key: str, error: Exception) -> WherryError:
    if isinstance(error, WherryError):
        return error
    traceback.print_exc()
    return Internal(f"starting {key}: {type(error).__name__}: {error}")
