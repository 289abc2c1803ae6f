"""All that wherry-names does, told by wherryd: containers served, members of networks, relays.

It lives as long as it serves something. A container whose first process has ended (its pidfd says so) is
forgotten at once, whether or not a wherryd is there to say so: an open socket would keep the container's
network namespace, and with it its interfaces.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable

from wherry import __version__
from wherry.kernel.reactor import READ, WRITE, Reactor, Timer
from wherry.model.errors import Invalid
from wherry.network.dns import facts
from wherry.network.dns.channel import Channel, Closed, close_all
from wherry.network.dns.facts import Member, View, Wire
from wherry.network.dns.relay import Relay, relay
from wherry.network.dns.server import Server
from wherry.network.dns.sockets import Doors
from wherry.network.dns.zone import Zones

IDLE = 3.0
"""Seconds without anything to serve and without a wherryd after which the process ends."""
_MOST_UNSENT = 4096
_A_PAGE = 32


class Service:
    """State and verbs; `listener` is the socket by which wherryd comes."""

    def __init__(self, reactor: Reactor, listener: socket.socket) -> None:
        self._reactor = reactor
        self._listener = listener
        self._doors = Doors()
        self._zones = Zones()
        self._servers: dict[str, Server] = {}
        self._relays: dict[str, tuple[str, Relay]] = {}
        self._pidfds: dict[str, int] = {}
        self._channels: set[Channel] = set()
        self._told: set[object] | None = None
        """What was told since `begin`; None outside of such a time."""
        self._idle: Timer | None = None
        self._ends_in = 0.0
        self._verbs: dict[str, Callable[[Wire, list[int]], Wire]] = {
            "hello": self._hello,
            "begin": self._begin,
            "sweep": self._sweep,
            "serve": self._serve,
            "update": self._update,
            "watch": self._watch_process,
            "forget": self._forget,
            "put": self._put,
            "drop": self._drop,
            "relay": self._relay,
            "unrelay": self._unrelay,
            "shutdown": self._shutdown,
            "quit": self._quit,
        }
        reactor.watch(listener.fileno(), READ, self._connection)
        self._look_idle()

    # -- wherryd's connections ----------------------------------------------------------------

    def _connection(self, mask: int) -> None:
        try:
            opened, _ = self._listener.accept()
        except OSError:
            return
        opened.setblocking(False)
        channel = Channel(opened)
        self._channels.add(channel)
        self._look_idle()
        self._reactor.watch(channel.fileno(), READ, lambda mask: self._ready(channel, mask))

    def _ready(self, channel: Channel, mask: int) -> None:
        try:
            if mask & WRITE:
                channel.flush()
            # A few at a time: queries are waiting meanwhile.
            for _ in range(16):
                received = channel.receive()
                if received is None:
                    break
                message, fds = received
                try:
                    self._handle(channel, message, fds)
                finally:
                    close_all(fds)
            self._watch(channel)
        except (Closed, Invalid):
            self._channels.discard(channel)
            self._reactor.unwatch(channel.fileno())
            channel.close()
            self._look_idle()

    def _handle(self, channel: Channel, message: Wire, fds: list[int]) -> None:
        number = facts.number(message, "id")
        verb = facts.text(message, "do")
        if verb == "adopt":
            self._adopt(channel, number, facts.text(message, "after"))
            return
        answer: Wire = {"id": number}
        try:
            handler = self._verbs.get(verb)
            if handler is None:
                raise Invalid(f"unknown verb: {verb[:80]}")
            answer["ok"] = handler(message, fds)
        except (Invalid, OSError) as error:
            answer["error"] = str(error)
        self._look_idle()
        channel.send(answer)

    def _watch(self, channel: Channel) -> None:
        if channel.unsent > _MOST_UNSENT:
            raise Closed  # it asks and does not read
        mask = READ | (WRITE if channel.unsent else 0)
        self._reactor.watch(channel.fileno(), mask, lambda mask: self._ready(channel, mask))

    # -- verbs --------------------------------------------------------------------------------

    def _hello(self, message: Wire, fds: list[int]) -> Wire:
        return {"version": __version__, "pid": os.getpid(), "serves": len(self._servers)}

    def _begin(self, message: Wire, fds: list[int]) -> Wire:
        """From now on it is noted what is told."""
        self._told = set()
        return {}

    def _sweep(self, message: Wire, fds: list[int]) -> Wire:
        """Forget the views and members that were not told since `begin`."""
        told, self._told = self._told, None
        if told is None:
            raise Invalid("sweep without begin")
        for container in [c for c in self._servers if c not in told]:
            self._let_go(container)
        for network, container in self._zones.members():
            if (network, container) not in told:
                self._zones.drop(network, container)
        return {}

    def _note(self, what: object) -> None:
        if self._told is not None:
            self._told.add(what)

    def _serve(self, message: Wire, fds: list[int]) -> Wire:
        view = View.from_wire(message.get("view"))
        if len(fds) != 2:
            raise Invalid(f"malformed message: {len(fds)} descriptors")
        udp, tcp = (socket.socket(fileno=os.dup(fd)) for fd in fds)
        try:
            if (udp.type, tcp.type) != (socket.SOCK_DGRAM, socket.SOCK_STREAM):
                raise Invalid("malformed message: not a datagram and a stream socket")
        except Invalid:
            udp.close()
            tcp.close()
            raise
        self._close_server(view.container)
        self._servers[view.container] = Server(
            self._reactor, self._doors, self._zones, view, udp, tcp
        )
        self._note(view.container)
        return {}

    def _update(self, message: Wire, fds: list[int]) -> Wire:
        view = View.from_wire(message.get("view"))
        server = self._servers.get(view.container)
        if server is not None:
            server.view = view
            self._note(view.container)
        return {"known": server is not None}

    def _forget(self, message: Wire, fds: list[int]) -> Wire:
        self._let_go(facts.text(message, "container"))
        return {}

    def _put(self, message: Wire, fds: list[int]) -> Wire:
        member = Member.from_wire(message.get("member"))
        self._zones.put(member)
        self._note((member.network, member.container))
        return {}

    def _drop(self, message: Wire, fds: list[int]) -> Wire:
        self._zones.drop(facts.text(message, "network"), facts.text(message, "container"))
        return {}

    def _relay(self, message: Wire, fds: list[int]) -> Wire:
        key, container = facts.text(message, "key"), facts.text(message, "container")
        target = facts.text(message, "address"), facts.number(message, "port")
        if len(fds) != 1:
            raise Invalid(f"malformed message: {len(fds)} descriptors")
        known = self._relays.get(key)
        if known is not None:
            _, present = known
            same = os.fstat(fds[0]).st_ino == os.fstat(present.listener.fileno()).st_ino
            if same and present.target == target:
                return {}  # told again by a new wherryd: connections go on
            present.close()
        listener = socket.socket(fileno=os.dup(fds[0]))
        self._relays[key] = container, relay(self._reactor, listener, target)
        return {}

    def _unrelay(self, message: Wire, fds: list[int]) -> Wire:
        known = self._relays.pop(facts.text(message, "key"), None)
        if known is not None:
            known[1].close()
        return {}

    def _adopt(self, channel: Channel, number: int, after: str) -> None:
        """Answer with a page of relays and copies of their sockets, by key."""
        page = sorted(key for key in self._relays if key > after)[:_A_PAGE]
        relays = [self._relays[key] for key in page]
        rows = [[key, container] for key, (container, _) in zip(page, relays, strict=True)]
        channel.send(
            {"id": number, "ok": {"relays": rows}},
            [one.listener.fileno() for _, one in relays],
        )

    def _shutdown(self, message: Wire, fds: list[int]) -> Wire:
        """End if nothing is served; say whether it does."""
        empty = not self._servers and not self._relays
        if empty:
            self._reactor.stop()
        return {"ends": empty}

    def _quit(self, message: Wire, fds: list[int]) -> Wire:
        """End whatever is served: a newer version takes over."""
        self._reactor.stop()
        return {}

    # -- containers that end ------------------------------------------------------------------

    def _watch_process(self, message: Wire, fds: list[int]) -> Wire:
        container = facts.text(message, "container")
        if len(fds) != 1:
            raise Invalid(f"malformed message: {len(fds)} descriptors")
        self._unwatch_process(container)
        pidfd = self._pidfds[container] = os.dup(fds[0])
        self._reactor.watch(pidfd, READ, lambda mask: self._ended(container))
        return {}

    def _unwatch_process(self, container: str) -> None:
        pidfd = self._pidfds.pop(container, -1)
        if pidfd >= 0:
            self._reactor.unwatch(pidfd)
            os.close(pidfd)

    def _ended(self, container: str) -> None:
        self._let_go(container)
        self._look_idle()

    def _let_go(self, container: str) -> None:
        """Forget everything of a container."""
        self._unwatch_process(container)
        self._close_server(container)
        for key in [k for k, (owner, _) in self._relays.items() if owner == container]:
            self._relays.pop(key)[1].close()
        self._zones.forget(container)

    def _close_server(self, container: str) -> None:
        server = self._servers.pop(container, None)
        if server is not None:
            server.close()

    # -- the end ------------------------------------------------------------------------------

    def _look_idle(self) -> None:
        """Plan the end when nothing is served, give the plan up when something is."""
        if self._servers or self._relays:
            self._plan_end(0.0)
        else:
            # A wherryd leaves when it has wanted nothing for a while.
            self._plan_end(0.0 if self._channels else IDLE)

    def _plan_end(self, seconds: float) -> None:
        if seconds == self._ends_in:
            return
        self._ends_in = seconds
        if self._idle is not None:
            self._idle.cancel()
        self._idle = self._reactor.later(seconds, self._reactor.stop) if seconds else None

    def close(self) -> None:
        """Close everything, answers on their way sent."""
        for container in list(self._servers):
            self._let_go(container)
        for _, one in self._relays.values():
            one.close()
        for channel in self._channels:
            channel.close()
        self._listener.close()
        self._doors.close()
