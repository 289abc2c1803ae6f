"""A launcher without namespaces, and a supervisor around it: real processes, real keeper, no root file system."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import threading
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from wherry.kernel import abi
from wherry.kernel.linux import Linux
from wherry.kernel.processes import wait_readable
from wherry.model import oci
from wherry.model.errors import Conflict, StartFailed
from wherry.model.ids import new_id
from wherry.runtime.plan import Plan, plan_launch
from wherry.runtime.slots import Slot
from wherry.supervisor.client import ExecLaunch, Exit, Launch, LogSettings, SupervisorClient

REPOSITORY = Path(__file__).parents[2]
SOURCE = REPOSITORY / "src"
_PROGRAM = (
    "import sys; sys.path[:0] = sys.argv[1:3];"
    " from tests.supervisor.plain import main; main(sys.argv[3:])"
)


class PlainLauncher:
    """Makes children that exec what the plan's process says, and notes what is released.

    Some first words are orders: `no-slot`, `kill-joined PID` (which ends while it is joined), `stop` and
    `die` (before the program is begun). Nothing is released while the file `held` is there; with `slow`
    the keeper tells of no end for a while after a supervisor has taken over.
    """

    def __init__(self, exec_root: str) -> None:
        self._notes = os.path.join(exec_root, "released")
        self._held = os.path.join(exec_root, "held")
        self._slow = os.path.join(exec_root, "slow")

    def take(self, plan: Plan) -> Slot:
        if plan.process.argv[0] == "no-slot":
            raise StartFailed("no slot for this one", step="take")
        if plan.process.argv[0] == "kill-joined":
            pidfd = os.pidfd_open(int(plan.process.argv[1]))
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            wait_readable(pidfd, 10)
            os.close(pidfd)
        return self._fork()

    def _fork(self) -> Slot:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        pid, pidfd = Linux().clone3(abi.CLONE_PARENT)
        if pid == 0:
            ours.close()
            _child(theirs)
        theirs.close()
        return Slot(pid, pidfd, ours.detach())

    def open_pty(self, slot: Slot) -> tuple[int, int]:
        return os.openpty()

    def begin(
        self,
        slot: Slot,
        plan: Plan,
        stdin: int,
        stdout: int,
        stderr: int,
        console: int,
        held: Mapping[str, int],
    ) -> None:
        self.begin_exec(slot, plan.process, stdin, stdout, stderr, console)

    def begin_exec(
        self, slot: Slot, process: oci.Process, stdin: int, stdout: int, stderr: int, console: int
    ) -> None:
        with socket.socket(fileno=os.dup(slot.socket)) as channel:
            memory = os.memfd_create("argv")
            os.write(memory, "\0".join((str(int(console >= 0)), *process.argv)).encode())
            socket.send_fds(channel, [b"go"], [memory, stdin, stdout, stderr])
            os.close(memory)

    def finish(self, slot: Slot) -> None:
        with socket.socket(fileno=os.dup(slot.socket)) as channel:
            said = channel.recv(4096)
        if said:
            raise StartFailed(said.decode(), exit_code=127, step="exec")

    def facts(self, slot: Slot) -> dict[str, Any]:
        return {"pid": slot.pid}

    def take_exec(self, facts: Mapping[str, Any], pidfd: int) -> Slot:
        return self._fork()

    def release(self, facts: Mapping[str, Any]) -> None:
        if os.path.exists(self._held):
            raise Conflict("held")
        with open(self._notes, "a") as notes:
            notes.write(f"{facts['pid']}\n")

    def oom_kills(self, facts: Mapping[str, Any]) -> int:
        return 1

    def refill(self) -> bool:
        return False

    def adopt(self, facts: Mapping[str, Any]) -> None:
        if os.path.exists(self._slow):
            keeper = os.getppid()
            os.kill(keeper, signal.SIGSTOP)
            threading.Timer(0.5, os.kill, (keeper, signal.SIGCONT)).start()

    def close(self) -> None:
        pass


def _child(channel: socket.socket) -> None:
    try:
        data, (memory, *streams), _, _ = socket.recv_fds(channel, 10, 4)
        if not data:
            os._exit(1)
        os.setsid()
        text = os.pread(memory, 1 << 22, 0)
        console, *argv = text.decode().split("\0")
        if argv[0] == "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        if argv[0] == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        for number, fd in enumerate(streams):
            os.dup2(fd, number)
        os.closerange(3, channel.fileno())
        os.closerange(channel.fileno() + 1, 256)
        if console == "1":
            import fcntl
            import termios

            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        for number in (signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        os.execvp(argv[0], argv)
    except BaseException as error:
        channel.send(str(error).encode())
    finally:
        os._exit(127)


def main(arguments: list[str]) -> None:
    """Run a supervisor with plain children."""
    from wherry.supervisor import table
    from wherry.supervisor.main import serve

    table.LONGEST_START = 1.0
    serve(arguments, lambda ids: PlainLauncher(arguments[0]))


def program(exec_root: Path) -> list[str]:
    """Return the argument vector of a supervisor with plain children."""
    paths = [str(SOURCE), str(REPOSITORY)]
    return [sys.executable, "-I", "-S", "-c", _PROGRAM, *paths, str(exec_root)]


class Case:
    """A supervisor in a folder of its own, and one client of it. Exits are noted and forgotten."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.exec_root = root / "run"
        self.client: SupervisorClient
        self.exits: list[Exit] = []
        self.forget = True
        self._news = asyncio.Condition()

    async def connect(self) -> SupervisorClient:
        return await SupervisorClient.connect(
            self.exec_root,
            data_root=self.root,
            program=program(self.exec_root),
            on_exit=self._on_exit,
        )

    async def _on_exit(self, outcome: Exit) -> None:
        async with self._news:
            self.exits.append(outcome)
            self._news.notify_all()
        if self.forget:
            await self.client.forget(outcome.key)

    async def exit_of(self, key: str, seconds: float = 10) -> Exit:
        """Return the exit of `key` when it has come."""
        async with asyncio.timeout(seconds), self._news:
            while True:
                for outcome in self.exits:
                    if outcome.key == key:
                        return outcome
                await self._news.wait()

    def logs(self, key: str) -> Path:
        return self.root / f"logs-{key}"

    def launch(self, *argv: str, key: str = "", **options: Any) -> Launch:
        """Return a launch of `argv`."""
        key = key or new_id()
        log = options.pop("log", None) or LogSettings("json-file", str(self.logs(key)))
        process = oci.Process(argv=argv, terminal=options.get("tty", False))
        plan = plan_launch(oci.RuntimeSpec(id=key, process=process, root=oci.PathRoot("/")))
        flags: dict[str, Any] = {"tty": False, "open_stdin": False, "stdin_once": False} | options
        return Launch(id=key, plan=plan, log=log, **flags)

    def exec_launch(self, container: str, *argv: str, **options: Any) -> ExecLaunch:
        """Return an exec of `argv`, with output and without input unless said."""
        flags: dict[str, Any] = {"tty": False, "stdin": False, "stdout": True, "stderr": True}
        flags |= options
        return ExecLaunch(new_id(), container, oci.Process(argv=argv), **flags)

    def supervisor_pid(self) -> int:
        """Return the pid of the running supervisor."""
        return self._find("plain import main")

    def keeper_pid(self) -> int:
        """Return the pid of the keeper."""
        return self._find("keeper import main")

    def _find(self, mark: str) -> int:
        for entry in os.listdir("/proc"):
            try:
                words = Path(f"/proc/{entry}/cmdline").read_bytes().decode().split("\0")
            except (OSError, UnicodeDecodeError):
                continue
            if len(words) > 5 and mark in words[4] and str(self.exec_root) in words:
                return int(entry)
        return 0


@asynccontextmanager
async def supervised(root: Path) -> AsyncIterator[Case]:
    """A fresh supervisor; at the end everything that it runs is killed, and it is shut down."""
    case = Case(root)
    case.client = await case.connect()
    try:
        yield case
    finally:
        async with asyncio.timeout(20):
            case.forget = True
            for survivor in await case.client.survivors():
                if survivor.exit:
                    await case.client.forget(survivor.key)
                    continue
                await case.client.signal(survivor.key, signal.SIGKILL)
            while not await case.client.shutdown():
                await asyncio.sleep(0.01)
            while case.keeper_pid() or case.supervisor_pid():
                await asyncio.sleep(0.01)


def pair() -> tuple[socket.socket, int]:
    """Return a client's socket and the descriptor of its other end, as a server would have it."""
    near, far = socket.socketpair()
    return near, far.detach()
