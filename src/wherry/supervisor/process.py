"""One process that the keeper holds: its identity, its input, its signals and its end.

What differs is where output goes: `logged` (a container's process) and `executed` (docker exec).

    running > the keeper's EXIT > output read to its end, or what is there and two seconds more where a
    descendant holds the pipe open (as Docker) > Exit reported > wherryd has stored it and says forget >
    clients see their end, the keeper drops everything
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from wherry.kernel.reactor import Reactor, Timer
from wherry.model.errors import NotFound
from wherry.supervisor import stdio
from wherry.supervisor.announcer import Announcer
from wherry.supervisor.attach import Client
from wherry.supervisor.keeping import Ended, Keeping
from wherry.supervisor.messages import Exit
from wherry.supervisor.sink import InputSink

_GRACE = 2.0
_ACKNOWLEDGE = 1.0
BLOCKED = "killed: it blocked the engine's end of its standard streams"
PIDFD = "pidfd"
SOCKET = "socket"
VOLUME = "volume:"
"""Before the name of a volume: its mount, held as long as the process runs."""


@dataclass(slots=True)
class Meta:
    """What the keeper remembers of a process for the next supervisor."""

    names: list[str]
    """What each stored descriptor is."""
    container_id: str = ""
    """Of an exec; empty for a container's own process."""
    running: bool = False
    """Whether its start was completed."""
    started_at: int = 0
    tty: bool = False
    stdin_once: bool = False
    log: dict[str, Any] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)

    def to_wire(self) -> dict[str, Any]:
        """Return the JSON object that is stored."""
        # Not asdict, which copies all that is in them: this is on the way of every start.
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class House:
    """What a process needs of the supervisor."""

    reactor: Reactor
    keeping: Keeping
    announcer: Announcer
    on_finished: Callable[[Process], None]
    """The process has ended and its output is where it belongs."""


class Process:
    """Base of both kinds. `fds` are ours by name, the pidfd among them; owned from here on."""

    def __init__(self, house: House, key: str, pid: int, meta: Meta, fds: dict[str, int]) -> None:
        self.house = house
        self.at_pipe = house.announcer.at(key, meta.container_id)
        self.key = key
        self.pid = pid
        self.meta = meta
        self.fds = fds
        self.ended: Ended | None = None
        self.exit: Exit | None = None
        self.clients: list[Client] = []
        self.sink: InputSink | None = None
        self._grace: Timer | None = None
        self._closed = False

    def store(self) -> None:
        """Hand copies of everything to the keeper."""
        fds = [self.fds[name] for name in self.meta.names]
        self.house.keeping.store(self.key, self.pid, self.meta.to_wire(), fds)

    def let_go(self, name: str) -> None:
        """Close a descriptor here and at the keeper."""
        fd = self.fds.pop(name, -1)
        if fd >= 0:
            os.close(fd)
            self.house.keeping.close(self.key, self.meta.names.index(name))

    def run(self) -> None:
        """The process runs: begin to serve its streams."""
        if "stdin" in self.fds:
            fd = os.dup(self.fds["stdin"])
            closing = lambda: self.let_go("stdin")  # noqa: E731
            self.sink = InputSink(self.house.reactor, fd, closing, self.at_pipe)
        elif "master" in self.fds:
            fd = os.dup(self.fds["master"])
            self.sink = InputSink(self.house.reactor, fd, lambda: None, self.at_pipe)

    def resume(self) -> None:
        """Serve again what a dead supervisor served."""
        self.run()

    def signal(self, number: int) -> None:
        """Send a signal; raise NotFound when the process has ended."""
        try:
            signal.pidfd_send_signal(self.fds[PIDFD], number)
        except (ProcessLookupError, KeyError):
            raise NotFound("process", self.key) from None

    def resize(self, rows: int, columns: int) -> None:
        """Set the terminal's size; nothing where there is none."""
        if "master" in self.fds:
            stdio.set_size(self.fds["master"], rows, columns)

    def exited(self, ended: Ended) -> None:
        """The keeper has reaped it: see to the rest of its output."""
        self.ended = ended
        if self.drain():
            self.finish()
        elif self.exit is None and self._grace is None:
            self._grace = self.house.reactor.later(_GRACE, self.finish)

    def drain(self) -> bool:
        """Take all output that is there; return whether its end was reached."""
        raise NotImplementedError

    def check_end(self) -> None:
        """Finish when the process has ended and so has its output."""
        if self.ended is not None and (self.exit is not None or self.output_ended()):
            self.finish()

    def output_ended(self) -> bool:
        """Whether no more output can come."""
        raise NotImplementedError

    def output_waits(self) -> bool:
        """Whether output was read, or is there to be read, that a slow client has yet to take."""
        return False

    def stop_output(self) -> None:
        """Watch the output no more: the descriptors are about to be closed."""
        raise NotImplementedError

    def finish(self) -> None:
        """Have the exit reported, and close the streams unless a client has yet to read them."""
        if self.ended is None or self._closed:
            return
        if self._grace is not None:
            self._grace.cancel()
            self._grace = None
        if self.exit is None:
            reason = BLOCKED if self.ended.blocked else ""
            self.exit = Exit(self.key, self.ended.code, self.ended.at, False, reason)
            self.house.on_finished(self)
        if self.output_waits():
            return
        self._closed = True
        self.close_streams()
        for client in list(self.clients):
            client.finish()
        self.house.reactor.later(_ACKNOWLEDGE, self.release_clients)

    def close_streams(self) -> None:
        """Close everything of ours."""
        self.stop_output()
        # The keeper closes its copies when it drops the process; its input need not be told first.
        fds, self.fds = self.fds, {}
        if self.sink is not None:
            self.sink.close()
            self.sink = None
        for fd in fds.values():
            os.close(fd)

    def release_clients(self) -> None:
        """The exit is stored: clients may see the end of the stream."""
        for client in list(self.clients):
            client.release()

    def input_ended(self, client: Client) -> None:
        """A client will send no more (attach.Owner)."""
        if self.sink is not None and self.meta.stdin_once and not self.meta.tty:
            self.sink.finish()

    def client_gone(self, client: Client) -> None:
        """A client's socket is closed (attach.Owner)."""
        if client in self.clients:
            self.clients.remove(client)
