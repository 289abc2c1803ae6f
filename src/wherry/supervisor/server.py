"""Connections from wherryd: requests in, answers and exits out. Several at once are fine.

A malformed message ends its own connection and nothing else; so does a peer that does not read.
"""

from __future__ import annotations

import os
import socket
import sys
import traceback
from collections import deque
from collections.abc import Callable
from typing import Protocol

from wherry.kernel.reactor import READ, WRITE, Reactor
from wherry.model.errors import Internal, Invalid, WherryError
from wherry.supervisor import protocol
from wherry.supervisor.attach import Client
from wherry.supervisor.messages import (
    Attachment,
    ExecLaunch,
    Exit,
    Fields,
    Launch,
    Started,
    Wire,
    error_to_wire,
    ways_from_wire,
    wiring_from_wire,
)
from wherry.supervisor.table import Table

_MOST_UNSENT = 10_000


class _Answer(Protocol):
    """Sends the answer of a request, and with it descriptors that are closed then."""

    def __call__(self, result: Wire | WherryError, fds: tuple[int, ...] = (), /) -> None: ...


class Connection:
    """One wherryd. Answers wait in a queue when its socket is full."""

    def __init__(self, reactor: Reactor, channel: socket.socket, server: Server) -> None:
        self._reactor = reactor
        self._channel = channel
        self._server = server
        self._unsent: deque[tuple[bytes, list[int]]] = deque()
        channel.setblocking(False)
        reactor.watch(channel.fileno(), READ, self._ready)

    def send(self, message: Wire, fds: tuple[int, ...] = ()) -> None:
        """Send or queue a message; `fds` go with it and are closed here."""
        if self._channel.fileno() < 0:
            _close(list(fds))
            return
        self._unsent.append((protocol.encode(message), list(fds)))
        if len(self._unsent) > _MOST_UNSENT:
            self.close()
        elif len(self._unsent) == 1:
            self._flush()

    def close(self) -> None:
        """Drop the connection."""
        if self._channel.fileno() >= 0:
            self._reactor.unwatch(self._channel.fileno())
            self._channel.close()
            for _, fds in self._unsent:
                _close(fds)
            self._unsent.clear()
            self._server.connections.discard(self)

    def _flush(self) -> None:
        try:
            while self._unsent:
                text, fds = self._unsent[0]
                protocol.send(self._channel, text, fds)
                self._unsent.popleft()
                _close(fds)
        except BlockingIOError:
            self._reactor.watch(self._channel.fileno(), READ | WRITE, self._ready)
        except (protocol.Closed, OSError):
            self.close()
        else:
            self._reactor.watch(self._channel.fileno(), READ, self._ready)

    def _ready(self, mask: int) -> None:
        if mask & WRITE:
            self._flush()
        if self._channel.fileno() < 0 or not mask & ~WRITE:
            return
        fds: list[int] = []
        try:
            message, fds = protocol.receive(self._channel)
            self._server.handle(self, Fields(message), fds)
        except BlockingIOError:
            return
        except protocol.Closed:
            self.close()
        except Exception as error:
            if not isinstance(error, Invalid):
                traceback.print_exc()
            print(f"supervisor: connection closed: {error}", file=sys.stderr, flush=True)
            self.close()
        finally:
            _close(fds)


def _close(fds: list[int]) -> None:
    while fds:
        os.close(fds.pop())


class Server:
    """Accepts connections and turns messages into calls on the table.

    `on_shutdown` and `on_program` do what concerns the supervisor itself.
    """

    def __init__(
        self,
        reactor: Reactor,
        listener: socket.socket,
        on_shutdown: Callable[[Callable[[bool], None]], None],
        on_program: Callable[[list[str]], None],
    ) -> None:
        self._reactor = reactor
        self._listener = listener
        self._on_shutdown = on_shutdown
        self._on_program = on_program
        self._table: Table | None = None
        self.connections: set[Connection] = set()
        listener.setblocking(False)

    def serve(self, table: Table) -> None:
        """Begin to accept."""
        self._table = table
        self._reactor.watch(self._listener.fileno(), READ, self._accept)

    def report(self, outcome: Exit) -> None:
        """Tell every wherryd of an exit."""
        message: Wire = {"event": "exit", "exit": outcome.to_wire()}
        for connection in list(self.connections):
            connection.send(message)

    def _accept(self, mask: int) -> None:
        try:
            channel, _ = self._listener.accept()
        except OSError:
            return
        connection = Connection(self._reactor, channel, self)
        self.connections.add(connection)
        assert self._table is not None
        for outcome in self._table.exits():
            connection.send({"event": "exit", "exit": outcome.to_wire()})

    def handle(self, connection: Connection, request: Fields, fds: list[int]) -> None:
        """Do what a request asks and answer it. Takes what it needs out of `fds`.

        Raises Invalid when the request is malformed.
        """
        number = request.number("id")

        def answer(result: Wire | WherryError, fds: tuple[int, ...] = ()) -> None:
            failed = isinstance(result, WherryError)
            body = {"error": error_to_wire(result)} if failed else {"ok": result}
            connection.send({"id": number} | body, fds)

        try:
            result = self._perform(request, fds, answer)
        except Invalid:
            raise
        except WherryError as error:
            answer(error)
        except OSError as error:
            traceback.print_exc()
            answer(Internal(f"{request.text('do')}: {error}"))
        else:
            if result is not None:
                answer(result)

    def _perform(self, request: Fields, fds: list[int], answer: _Answer) -> Wire | None:
        """Return the answer, or None when it comes later through `answer`."""
        table = self._table
        assert table is not None

        def decided(result: Started | WherryError) -> None:
            if isinstance(result, Started):
                told: Wire = {"pid": result.pid, "started_at": result.started_at}
                descriptors = result.descriptors
                if result.root >= 0:
                    told["root"] = True
                    descriptors += (result.root,)
                answer(told, descriptors)
            else:
                answer(result)

        match request.text("do"):
            case "start":
                table.start(Launch.from_wire(request.table("launch")), decided, fds)
                return None
            case "execute":
                launch = ExecLaunch.from_wire(request.table("launch"))
                client = self._client(request, fds, launch.stdin) if fds else None
                try:
                    table.execute(launch, client, decided)
                except BaseException:
                    if client is not None:
                        client.drop()
                    raise
                return None
            case "attach":
                wanted = Attachment.from_wire(request.table("attachment"))
                key = request.key("key")
                client = self._client(request, fds, wanted.stdin)
                try:
                    table.attach(key, client, wanted)
                except BaseException:
                    client.close()
                    raise
            case "signal":
                table.signal(request.key("key"), request.number("signal"))
            case "resize":
                size = request.number("rows"), request.number("columns")
                table.resize(request.key("key"), *size)
            case "connect":
                wiring = wiring_from_wire(request.table("wiring"))
                answer({}, table.connect(request.key("key"), wiring))
                return None
            case "disconnect":
                finish = table.disconnect(request.key("key"), request.text("interface"))
                answer({})
                finish()
                return None
            case "ways":
                table.set_ways(request.key("key"), ways_from_wire(request.table("ways")))
            case "names":
                answer({}, table.name_sockets(request.key("key")))
                return None
            case "forget":
                table.forget(request.key("key"))
            case "survivors":
                return {"survivors": [survivor.to_wire() for survivor in table.survivors()]}
            case "shutdown":
                self._on_shutdown(lambda done: answer({"done": done}))
                return None
            case "program":
                self._on_program(list(request.texts("program")))
            case other:
                raise Invalid(f"malformed message: do is {other[:80]!r}")
        return {}

    def _client(self, request: Fields, fds: list[int], wants_input: bool) -> Client:
        initial = request.data("initial")
        if not fds:
            raise Invalid("malformed message: the client's socket is missing")
        try:
            client = Client(self._reactor, fds[0], initial, wants_input)
        except OSError as error:
            raise Invalid(f"malformed message: not a socket: {error}") from error
        del fds[0]
        return client
