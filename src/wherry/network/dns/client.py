"""wherryd's end of the name service: says what is wanted, and keeps a process that does it.

Nothing here waits for the process: what is said is noted, and sent when there is one. A process that dies is
started again and told everything; it gets new sockets from whoever opens them (the supervisor). A new wherryd
finds the process of the last one and brings it up to date without a query going unanswered.

While nothing is wanted for half a minute it is left, and ends: what comes afterwards starts another. It is wherryd
that leaves, since a process that ended by itself would take with it what is on its way to it at that moment.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from wherry import __version__
from wherry.model.errors import Invalid, Unavailable, WherryError
from wherry.network.dns import channel as channels
from wherry.network.dns import facts
from wherry.network.dns.channel import Channel, Closed, close_all
from wherry.network.dns.ending import PATIENCE, open_running
from wherry.network.dns.facts import Member, View, Wire
from wherry.network.dns.process import plan_process

_log = logging.getLogger(__name__)

OpenSockets = Callable[[str], Awaitable[Sequence[int]]]
"""Opens the service's sockets in a container: UDP, TCP, and maybe a pidfd of its first process. The
caller owns them. A WherryError says that there is none to open them in."""

_SOURCE = str(Path(__file__).resolve().parents[3])
_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 5.0
IDLE = 30.0
"""Seconds without anything wanted after which the process is left."""
_STEADY = 10.0
"""Seconds that a process has to live for its end not to count as a failure to start."""


@dataclass(frozen=True, slots=True)
class _Relay:
    """A port on `[::1]`, its sockets kept for a process to come."""

    container: str
    listener: socket.socket
    target: tuple[str, int]


class NameService:
    """See the module. Everything runs in the event loop that `open` is awaited in."""

    def __init__(self, exec_root: Path, *, sockets: OpenSockets, source: str = _SOURCE) -> None:
        self._exec_root = exec_root
        self._sockets = sockets
        self._source = source
        self._views: dict[str, View] = {}
        self._members: dict[tuple[str, str], Member] = {}
        self._relays: dict[str, _Relay] = {}
        self._fresh: dict[str, list[int]] = {}
        """Descriptors that no process has yet."""
        self._pidfds: dict[str, int] = {}
        self._channel: Channel | None = None
        self._answers: dict[int, asyncio.Future[tuple[Wire, list[int]]]] = {}
        self._number = 0
        self._keeping: asyncio.Task[None] | None = None
        self._leaving: asyncio.TimerHandle | None = None
        self._connected_at = 0.0
        self._pause = 0.0
        self._closing = False

    # -- what is wanted -------------------------------------------------------------------------

    async def open(self, views: Sequence[View], members: Sequence[Member]) -> None:
        """Take over from the last wherryd: what its process does and is not wanted ends."""
        self._views = {view.container: view for view in views}
        self._members = {(m.network, m.container): m for m in members}
        try:
            self._hear()
            await self._attach()
        except (OSError, WherryError):
            self._lose()
            self._keep()
        if self._keeping is not None:
            # Whoever reaches the new daemon finds names answered; a process that does not start is no hindrance.
            await asyncio.wait([self._keeping], timeout=PATIENCE)
        self._look_wanted()

    def serve(self, view: View, descriptors: Sequence[int]) -> None:
        """Answer a container's queries by `descriptors`, which are taken: UDP, TCP, and maybe a pidfd."""
        self._views[view.container] = view
        self._look_wanted()
        self._refresh(view.container, list(descriptors))
        if self._channel is None:
            self._keep()
        else:
            self._say_serve(view)

    def watch(self, container: str, pid: int) -> None:
        """Have everything of a container let go when its first process ends, though wherryd be dead then.

        `serve` or `relay` is to have been called for it, else this does nothing. Where the process has ended
        already, all of it is forgotten: its end may have been told before what came to be just then.
        """
        if container in self._views or any(r.container == container for r in self._relays.values()):
            pidfd = open_running(pid)
            if pidfd < 0:
                self.forget(container)
                return
            self._watch_by(container, pidfd)
            self._say_watch(container)

    def update(self, view: View) -> None:
        """Let a container see something else from now on; nothing for one that is not served (any more)."""
        if view.container not in self._views:
            return
        self._views[view.container] = view
        self._say({"do": "update", "view": view.to_wire()})

    def forget(self, container: str) -> None:
        """Forget all of a container: view, members, relays. Again is fine."""
        self._views.pop(container, None)
        self._refresh(container, [])
        self._watch_by(container, -1)
        for key in [key for key in self._members if key[1] == container]:
            del self._members[key]
        for key in [key for key, one in self._relays.items() if one.container == container]:
            self._relays.pop(key).listener.close()
        self._say({"do": "forget", "container": container})
        self._look_wanted()

    def put(self, member: Member) -> None:
        """Add a member of a network or replace it; nothing for one that is not served (any more)."""
        if member.container not in self._views:
            return
        self._members[member.network, member.container] = member
        self._say({"do": "put", "member": member.to_wire()})

    def drop(self, network: str, container: str) -> None:
        """Remove a member of a network. Again is fine."""
        self._members.pop((network, container), None)
        self._say({"do": "drop", "network": network, "container": container})

    def relay(
        self,
        key: str,
        container: str,
        listener: socket.socket,
        target: tuple[str, int],
    ) -> None:
        """Carry what comes in by `listener`, which is taken, to `target`; `key` names it."""
        before = self._relays.pop(key, None)
        self._relays[key] = _Relay(container, listener, target)
        self._look_wanted()
        if self._channel is None:
            self._keep()
        else:
            self._say_relay(key)
        if before is not None:
            before.listener.close()

    def unrelay(self, key: str) -> None:
        """Stop listening. Again is fine."""
        before = self._relays.pop(key, None)
        if before is not None:
            before.listener.close()
        self._say({"do": "unrelay", "key": key})
        self._look_wanted()

    async def adopt(self) -> dict[str, socket.socket]:
        """Return copies of the sockets that a process listens on for relays, by key; before `open` or after.

        After a start, a port that seems taken may be one of these: give it to `relay` again under its
        key, and its connections go on; `unrelay` the keys that nobody wants.
        """
        found: dict[str, socket.socket] = {}
        after = ""
        try:
            self._hear()
        except OSError:
            return found
        while self._channel is not None:
            answer, fds = await self._ask({"do": "adopt", "after": after})
            rows = cast("list[list[str]]", answer.get("relays", []))
            if not rows:
                break
            for (key, _), fd in zip(rows, list(fds), strict=False):
                found[key] = socket.socket(fileno=fd)
                fds.remove(fd)
            close_all(fds)
            after = rows[-1][0]
        return found

    async def settled(self) -> None:
        """Return when all that was said is in force. Raises Unavailable when there is no process."""
        while self._keeping is not None:
            await asyncio.shield(self._keeping)
        if self._channel is not None:
            await self._ask({"do": "hello"})
        elif self._wanted:
            raise Unavailable("the name service does not run")

    async def pid(self) -> int:
        """Return the pid of the process, 0 when none is spoken to."""
        if self._channel is None:
            return 0
        hello, _ = await self._ask({"do": "hello"})
        return facts.number(hello, "pid")

    async def close(self) -> None:
        """Leave: the process goes on while it serves anything, else it ends."""
        self._closing = True
        self._look_wanted()
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.gather(self._keeping, return_exceptions=True)
        try:
            if self._channel is not None:
                async with asyncio.timeout(2):
                    await self._ask({"do": "shutdown"})
        except (WherryError, TimeoutError):
            pass
        self._lose()
        for container in list(self._fresh):
            self._refresh(container, [])
        for container in list(self._pidfds):
            self._watch_by(container, -1)
        for one in self._relays.values():
            one.listener.close()
        self._relays.clear()

    def _refresh(self, container: str, descriptors: list[int]) -> None:
        close_all(self._fresh.pop(container, []))
        if descriptors:
            self._fresh[container] = descriptors[:2]
        if len(descriptors) > 2:
            self._watch_by(container, descriptors[2])

    def _watch_by(self, container: str, pidfd: int) -> None:
        before = self._pidfds.pop(container, -1)
        if before >= 0:
            os.close(before)
        if pidfd >= 0:
            self._pidfds[container] = pidfd

    # -- a process that does it -----------------------------------------------------------------

    @property
    def _wanted(self) -> bool:
        return bool(self._views or self._relays)

    def _look_wanted(self) -> None:
        """Plan to leave the process while nothing is wanted."""
        if self._wanted or self._closing:
            if self._leaving is not None:
                self._leaving.cancel()
                self._leaving = None
        elif self._leaving is None:
            self._leaving = asyncio.get_running_loop().call_later(IDLE, self._leave)

    def _leave(self) -> None:
        """Let the process be, which ends without a wherryd that wants something."""
        self._leaving = None
        if self._answers or self._keeping is not None:
            self._look_wanted()  # it is spoken to
        else:
            self._pause = 0.0
            self._lose()

    def _keep(self) -> None:
        """See to it that a process runs, if one is wanted."""
        if self._wanted and not self._closing and self._channel is None and self._keeping is None:
            self._keeping = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        try:
            await self._restart()
        except Exception:
            # It would go on for ever with the same defect; the next thing said tries again.
            _log.exception("the name service cannot be kept")
            self._keeping = None
        else:
            self._keeping = None
            self._keep()

    async def _restart(self) -> None:
        """Start a process and tell it everything; again until that works."""
        found = True
        while self._wanted:
            await asyncio.sleep(self._pause)
            self._pause = min(max(_FIRST_PAUSE, self._pause * 2), _LONGEST_PAUSE)
            try:
                try:
                    self._hear()
                except OSError:
                    found = False
                    await self._start()
                    self._hear()
                await self._attach()
                return
            except (WherryError, OSError) as error:
                # One that was just ending may take a connection without answering.
                level = logging.INFO if found else logging.ERROR
                _log.log(level, "the name service does not start: %s", error)
                self._lose()

    async def _start(self) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        path = self._exec_root / channels.LOG
        log = os.open(path, flags, 0o600)
        try:
            process = await asyncio.create_subprocess_exec(
                *plan_process(self._source, str(self._exec_root)),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
            )
            status = await process.wait()
        finally:
            os.close(log)
        if status:
            raise Unavailable("the name service could not be started", hint=f"see {path}")

    def _hear(self) -> None:
        """Connect to the process that is there, unless that is done. Raises OSError when there is none."""
        if self._channel is None:
            self._channel = channels.connect(str(self._exec_root))
            loop = asyncio.get_running_loop()
            self._connected_at = loop.time()
            loop.add_reader(self._channel.fileno(), self._readable)

    async def _attach(self) -> None:
        """Tell the process everything."""
        hello, _ = await self._ask({"do": "hello"})
        if hello.get("version") != __version__:
            await self._ask({"do": "quit"})
            raise Unavailable("the name service was of another version")
        await self._ask({"do": "begin"})
        for member in list(self._members.values()):
            self._say({"do": "put", "member": member.to_wire()})
        for key in list(self._relays):
            self._say_relay(key)
        for container in list(self._views):
            await self._reattach(container)
        for container in list(self._pidfds):
            self._say_watch(container)
        await self._ask({"do": "sweep"})

    async def _reattach(self, container: str) -> None:
        """Have one container served by a process that may serve it already."""
        view = self._views.get(container)
        if view is None:
            return
        if container not in self._fresh:
            answer, _ = await self._ask({"do": "update", "view": view.to_wire()})
            if answer.get("known") or container in self._fresh:
                return
            try:
                descriptors = list(await self._sockets(container))
            except WherryError as error:
                # It has ended, or ends: whoever sees to that says `forget`.
                _log.warning("no sockets for the names of %s: %s", container[:12], error)
                return
            if container not in self._views or container in self._fresh:
                close_all(descriptors)
                return
            self._refresh(container, descriptors)
        self._say_serve(self._views[container])

    def _say_serve(self, view: View) -> None:
        descriptors = self._fresh.pop(view.container, [])
        if descriptors:
            self._say({"do": "serve", "view": view.to_wire()}, descriptors)
            close_all(descriptors)
            self._say_watch(view.container)

    def _say_watch(self, container: str) -> None:
        pidfd = self._pidfds.get(container, -1)
        if pidfd >= 0:
            self._say({"do": "watch", "container": container}, [pidfd])

    def _say_relay(self, key: str) -> None:
        one = self._relays.get(key)
        if one is None:
            return
        address, port = one.target
        message = {"container": one.container, "address": address, "port": port}
        self._say({"do": "relay", "key": key} | message, [one.listener.fileno()])

    def _say(self, message: Wire, descriptors: Sequence[int] = ()) -> None:
        """Send a request whose answer matters only when it is an error."""
        if self._channel is not None:
            self._send(message, descriptors).add_done_callback(_note)

    async def _ask(self, message: Wire) -> tuple[Wire, list[int]]:
        """Send a request and return its answer. Raises Unavailable, Invalid."""
        return await self._send(message, ())

    def _send(
        self, message: Wire, descriptors: Sequence[int]
    ) -> asyncio.Future[tuple[Wire, list[int]]]:
        answer: asyncio.Future[tuple[Wire, list[int]]] = asyncio.Future()
        channel = self._channel
        if channel is None:
            answer.set_exception(Unavailable("the name service is gone"))
            return answer
        self._number += 1
        self._answers[self._number] = answer
        try:
            channel.send({"id": self._number} | message, descriptors)
            self._await_room(channel)
        except (Closed, OSError):
            self._lost()
        return answer

    def _await_room(self, channel: Channel) -> None:
        loop = asyncio.get_running_loop()
        if channel.unsent:
            loop.add_writer(channel.fileno(), self._writable)
        else:
            loop.remove_writer(channel.fileno())

    def _writable(self) -> None:
        channel = self._channel
        if channel is not None:
            try:
                channel.flush()
                self._await_room(channel)
            except Closed:
                self._lost()

    def _readable(self) -> None:
        try:
            while self._channel is not None:
                received = self._channel.receive()
                if received is None:
                    return
                self._take(*received)
        except (Closed, Invalid):
            self._lost()

    def _take(self, message: Wire, fds: list[int]) -> None:
        answer = self._answers.pop(facts.number(message, "id"), None)
        if answer is None or answer.done():
            close_all(fds)
        elif "error" in message:
            close_all(fds)
            answer.set_exception(Invalid(str(message["error"])))
        else:
            answer.set_result((facts.as_table(message.get("ok")), fds))

    def _lost(self) -> None:
        """The process has gone: start one anew if it is wanted."""
        lived = asyncio.get_running_loop().time() - self._connected_at
        if lived > _STEADY or not self._wanted:
            self._pause = 0.0
        self._lose()
        self._keep()

    def _lose(self) -> None:
        channel, self._channel = self._channel, None
        if channel is not None:
            loop = asyncio.get_running_loop()
            loop.remove_reader(channel.fileno())
            loop.remove_writer(channel.fileno())
            channel.close()
        answers, self._answers = self._answers, {}
        for answer in answers.values():
            if not answer.done():
                answer.set_exception(Unavailable("the name service is gone"))


def _note(answer: asyncio.Future[tuple[Wire, list[int]]]) -> None:
    if not answer.cancelled() and (error := answer.exception()) is not None:
        if not isinstance(error, Unavailable):
            _log.error("the name service refuses: %s", error)
