"""wherryd's end of the supervisor (asyncio): asks, is told of exits, and survives the other end's death.

A connection that drops hurts no container. The client connects again by itself; exits that were not
forgotten are reported again then, so `on_exit` must be idempotent. Where the keeper itself has died, all
processes died with it and nobody reports them: whoever knows what should run looks at `on_return`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from pathlib import Path

from wherry.kernel.rights import copies
from wherry.model.errors import Unavailable, WherryError
from wherry.model.wiring import Way, Wiring
from wherry.runtime import wire as codec
from wherry.supervisor import boot, protocol
from wherry.supervisor.detach import parse_keys
from wherry.supervisor.messages import (
    Attachment,
    ExecLaunch,
    Exit,
    Fields,
    Launch,
    LogSettings,
    Started,
    Survivor,
    Wire,
    error_from_wire,
    pack,
    ways_to_wire,
)

__all__ = [
    "Attachment",
    "ExecLaunch",
    "Exit",
    "Launch",
    "LogSettings",
    "Started",
    "SupervisorClient",
    "Survivor",
    "parse_keys",
]

OnExit = Callable[[Exit], Awaitable[None]]
OnReturn = Callable[[], Awaitable[None]]

_log = logging.getLogger("wherry.supervisor")
_SOURCE = str(Path(boot.__file__).parents[2])
_PATIENCE = 30.0
_PAUSE = 0.02
_LONGEST_PAUSE = 0.5


class _Lost(Exception):
    """The connection ended before the answer came."""


class SupervisorClient:
    """One connection to the supervisor of an exec root; made by `connect`."""

    def __init__(
        self,
        exec_root: Path,
        program: Sequence[str],
        spawn: bool,
        on_exit: OnExit,
        on_return: OnReturn | None,
    ) -> None:
        """Use `connect`."""
        self._exec_root = str(exec_root)
        self._program = list(program)
        self._spawn = spawn
        self._on_exit = on_exit
        self._on_return = on_return
        self._loop = asyncio.get_running_loop()
        self._channel: socket.socket | None = None
        self._connected = asyncio.Event()
        self._unsent: deque[tuple[bytes, list[int]]] = deque()
        self._answers: dict[int, asyncio.Future[tuple[Wire, tuple[int, ...]]]] = {}
        self._number = 0
        self._exits: asyncio.Queue[Exit] = asyncio.Queue()
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = False
        self._leaving = False

    @classmethod
    async def connect(
        cls,
        exec_root: Path,
        *,
        data_root: Path,
        on_exit: OnExit,
        on_return: OnReturn | None = None,
        spawn: bool = True,
        program: Sequence[str] = (),
    ) -> SupervisorClient:
        """Return a connected client; with `spawn` it starts keeper and supervisor where none run.

        `on_return` is awaited each time that the connection was lost and is there again. `program`
        replaces the supervisor's argument vector. Raises Unavailable.
        """
        program = program or boot.plan_supervisor(_SOURCE, str(exec_root), str(data_root))
        self = cls(exec_root, program, spawn, on_exit, on_return)
        try:
            await self._connect(_PATIENCE)
        except BaseException:
            await self.close()
            raise
        self._run(self._deliver())
        return self

    # -- verbs -------------------------------------------------------------------------------

    async def start(self, launch: Launch, mounts: Sequence[int] = ()) -> Started:
        """Start a container's process; raise StartFailed. `mounts` (`launch.held`) stay the caller's.

        When the supervisor dies meanwhile its successor undoes what was half done, and the start is
        asked for again, unless the process runs already.
        """
        request: Wire = {"do": "start", "launch": launch.to_wire()}
        for _ in range(3):
            try:
                return Started.from_wire(*await self._ask_fully(request, *copies(mounts)))
            except _Lost:
                for survivor in await self.survivors():
                    if survivor.key == launch.id:
                        wanted = launch.wiring.name_service and survivor.exit is None
                        sockets = await self.name_sockets(launch.id) if wanted else ()
                        return Started(survivor.pid, survivor.started_at, sockets)
        raise Unavailable("the supervisor does not stay alive", hint="see supervisor.log")

    async def execute(self, launch: ExecLaunch, fd: int = -1, initial: bytes = b"") -> Started:
        """Start a process inside a container; raise StartFailed, Conflict, Unavailable.

        `fd` is the client's socket, closed here (-1: detached); on failure the connection itself is
        left as it is, for whoever holds another descriptor of it. `initial` was read from it already.
        """
        request: Wire = {"do": "execute", "launch": launch.to_wire(), "initial": pack(initial)}
        try:
            return Started.from_wire(await self._ask_once(request, fd))
        except _Lost:
            raise Unavailable("the supervisor was replaced while the process was started") from None

    async def attach(self, key: str, attachment: Attachment, fd: int, initial: bytes = b"") -> None:
        """Give the client's socket to a container's streams, now or when it runs next; closes `fd` here.

        The supervisor shuts the connection down when the container's process has ended and everything
        was sent, after `forget`.
        """
        request: Wire = {"do": "attach", "key": key, "attachment": attachment.to_wire()}
        try:
            await self._ask_once(request | {"initial": pack(initial)}, fd)
        except _Lost:
            raise Unavailable("the supervisor was replaced while a client was attached") from None

    async def signal(self, key: str, signo: int) -> None:
        """Send a signal; raise NotFound when there is no such process."""
        await self._ask({"do": "signal", "key": key, "signal": int(signo)})

    async def resize(self, key: str, rows: int, columns: int) -> None:
        """Set the size of a process's terminal; raise NotFound."""
        await self._ask({"do": "resize", "key": key, "rows": rows, "columns": columns})

    async def connect_networks(self, key: str, wiring: Wiring) -> tuple[int, ...]:
        """Give a running container more links; return the name service's new sockets (udp, tcp) if wanted.

        Raises NotFound, Conflict, StartFailed, Unavailable.
        """
        request: Wire = {"do": "connect", "key": key, "wiring": codec.encode(wiring)}
        try:
            return (await self._ask_fully(request))[1]
        except _Lost:
            raise Unavailable("the supervisor was replaced while a network was connected") from None

    async def disconnect(self, key: str, interface: str) -> None:
        """Remove an interface of a running container; raise NotFound for one that is not there."""
        await self._ask({"do": "disconnect", "key": key, "interface": interface})

    async def set_ways(self, key: str, ways: Sequence[tuple[str, Way]]) -> None:
        """Make `ways`, (interface, way) each, a running container's only default routes.

        Raises NotFound, Conflict, StartFailed, Unavailable.
        """
        await self._ask({"do": "ways", "key": key, "ways": ways_to_wire(ways)})

    async def name_sockets(self, key: str) -> tuple[int, ...]:
        """Return new sockets (udp, tcp) for 127.0.0.11 of a running container, which the caller owns.

        Queries go there from now on. Raises NotFound, Conflict, Unavailable.
        """
        try:
            return (await self._ask_fully({"do": "names", "key": key}))[1]
        except _Lost:
            raise Unavailable("the supervisor was replaced meanwhile") from None

    async def forget(self, key: str) -> None:
        """Tell that the exit of `key` is stored: everything is released and clients see their end.

        For a key without a process: clients that wait for it to run are closed. Raises Conflict when
        it runs.
        """
        await self._ask({"do": "forget", "key": key})

    async def survivors(self) -> list[Survivor]:
        """Return what runs, and what has exited without being forgotten."""
        answer = await self._ask({"do": "survivors"})
        return [Survivor.from_wire(item) for item in answer["survivors"]]

    async def shutdown(self) -> bool:
        """End supervisor and keeper if nothing is left to keep; return False when something is."""
        self._leaving = True  # what is to end must not be started again
        try:
            done = bool((await self._ask_once({"do": "shutdown"}))["done"])
        except _Lost:
            done = True
        finally:
            self._leaving = False
        if done:
            await self.close()
        return done

    async def replace(self, program: Sequence[str] = ()) -> None:
        """Have the supervisor replaced by one from `program` (or the code of this process)."""
        argv = list(program or self._program)
        with contextlib.suppress(_Lost):
            await self._ask_once({"do": "program", "program": argv})

    async def close(self) -> None:
        """Disconnect. Containers go on."""
        self._closing = True
        self._disconnect()
        tasks = [task for task in self._tasks if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # -- asking ------------------------------------------------------------------------------

    async def _ask(self, request: Wire) -> Wire:
        """Ask for what may be asked twice."""
        for _ in range(3):
            try:
                return await self._ask_once(request)
            except _Lost:
                continue
        raise Unavailable("the supervisor does not stay alive", hint="see supervisor.log")

    async def _ask_once(self, request: Wire, *descriptors: int) -> Wire:
        """Send a request and return the answer; raise what it says, or _Lost. Closes the descriptors."""
        answer, fds = await self._ask_fully(request, *descriptors)
        _close(list(fds))
        return answer

    async def _ask_fully(self, request: Wire, *descriptors: int) -> tuple[Wire, tuple[int, ...]]:
        """Send a request and return the answer and what came with it; raise what it says, or _Lost.

        Closes the descriptors.
        """
        fds = [fd for fd in descriptors if fd >= 0]
        try:
            if self._closing:
                raise Unavailable("the connection to the supervisor is closed")
            async with asyncio.timeout(_PATIENCE):
                await self._connected.wait()
        except TimeoutError:
            _close(fds)
            raise Unavailable(
                "the supervisor cannot be reached", hint="see supervisor.log"
            ) from None
        except BaseException:
            _close(fds)
            raise
        self._number += 1
        number = self._number
        future = self._answers[number] = self._loop.create_future()
        try:
            self._unsent.append((protocol.encode({"id": number} | request), fds))
            self._flush()
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and future.exception() is None:
                _close(list(future.result()[1]))
            raise
        finally:
            self._answers.pop(number, None)

    def _flush(self) -> None:
        channel = self._channel
        if channel is None:
            return
        try:
            while self._unsent:
                text, fds = self._unsent[0]
                protocol.send(channel, text, fds)
                self._unsent.popleft()
                _close(fds)
        except BlockingIOError:
            self._loop.add_writer(channel, self._flush)
        except (protocol.Closed, OSError):
            self._dropped()
        else:
            self._loop.remove_writer(channel)

    def _readable(self) -> None:
        channel = self._channel
        try:
            while channel is not None and channel is self._channel:
                message, fds = protocol.receive(channel)
                try:
                    self._handle(message, fds)
                finally:
                    _close(fds)
        except BlockingIOError:
            return
        except (protocol.Closed, OSError):
            self._dropped()
        except WherryError as error:
            _log.error("the supervisor talks nonsense: %s", error)
            self._dropped()

    def _handle(self, message: Wire, fds: list[int]) -> None:
        """Give the answer to whoever waits for it; takes the descriptors out of `fds` then."""
        if message.get("event") == "exit":
            self._exits.put_nowait(Exit.from_wire(message.get("exit")))
            return
        future = self._answers.get(Fields(message).number("id"))
        if future is None or future.done():
            return
        if "error" in message:
            future.set_exception(error_from_wire(message["error"]))
        else:
            future.set_result((Fields(message).table("ok"), tuple(fds)))
            fds.clear()

    async def _deliver(self) -> None:
        """Hand exits to `on_exit`, one after the other."""
        while True:
            outcome = await self._exits.get()
            try:
                await self._on_exit(outcome)
            except Exception:
                _log.exception("the exit of %s could not be handled", outcome.key)

    # -- the connection ----------------------------------------------------------------------

    def _disconnect(self) -> None:
        self._connected.clear()
        channel, self._channel = self._channel, None
        if channel is not None:
            self._loop.remove_reader(channel)
            self._loop.remove_writer(channel)
            channel.close()
        for _, fds in self._unsent:
            _close(fds)
        self._unsent.clear()
        answers, self._answers = self._answers, {}
        for future in answers.values():
            if not future.done():
                future.set_exception(_Lost())

    def _dropped(self) -> None:
        if self._channel is not None:
            self._disconnect()
            if not self._closing and not self._leaving:
                self._run(self._reconnect())

    async def _reconnect(self) -> None:
        while not self._closing:
            try:
                await self._connect(_PATIENCE)
                break
            except Unavailable as error:
                _log.error("%s", error)
        if self._on_return is not None and not self._closing:
            await self._on_return()

    async def _connect(self, patience: float) -> None:
        """Connect, starting what has to be started; raise Unavailable after `patience` seconds."""
        deadline = self._loop.time() + patience
        pause = _PAUSE
        while True:
            try:
                channel = boot.connect(self._exec_root, socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
                break
            except OSError as error:
                if not self._spawn:
                    raise Unavailable(
                        f"no supervisor runs in {self._exec_root}: {error.strerror}"
                    ) from error
                if self._loop.time() > deadline:
                    raise Unavailable(f"no supervisor in {self._exec_root}: {error}") from error
            await self._start_keeper()
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)
        self._channel = channel
        self._loop.add_reader(channel, self._readable)
        self._connected.set()

    async def _start_keeper(self) -> None:
        os.makedirs(self._exec_root, mode=0o711, exist_ok=True)
        path = os.path.join(self._exec_root, "supervisor.log")
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        log = os.open(path, flags, 0o600)
        try:
            process = await asyncio.create_subprocess_exec(
                *boot.plan_boot(_SOURCE, self._exec_root, self._program),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
            )
            status = await process.wait()
        finally:
            os.close(log)
        if status != 0:
            raise Unavailable("the keeper could not be started", hint=f"see {path}")

    def _run(self, work: Coroutine[None, None, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _close(fds: list[int]) -> None:
    while fds:
        os.close(fds.pop())
