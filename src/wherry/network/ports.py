"""Ports of the host that are given to containers: who has which, and the sockets that keep others off.

A published port is kept by a bound socket, so that no process of the host takes it and no other engine
does; nothing is ever read from it. Without such a socket a port would work twice, for whoever the rules favour.
"""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from wherry.model.errors import Conflict, Invalid, Unsupported
from wherry.model.networks import PublishedPort
from wherry.network import holders

EVERYWHERE = ("0.0.0.0", "::")
_TYPES = {
    "tcp": (socket.SOCK_STREAM, 0),
    "udp": (socket.SOCK_DGRAM, 0),
    "sctp": (socket.SOCK_STREAM, 132),
}
_NO_PROTOCOL = (errno.EPROTONOSUPPORT, errno.ESOCKTNOSUPPORT, errno.EAFNOSUPPORT)


@dataclass(slots=True)
class Held:
    """A port that a container has: its socket may be missing (sctp without a kernel that knows it)."""

    container_id: str
    name: str
    port: PublishedPort
    socket: socket.socket | None = None
    listens: bool = False
    """The socket takes connections that the rules do not see: of ::1, or for a container without IPv6."""

    def close(self) -> None:
        """Let go of the port."""
        if self.socket is not None:
            self.socket.close()
            self.socket = None


@dataclass(frozen=True, slots=True)
class Candidate:
    """What one wish comes to: the addresses to bind together, and the ports to try in order."""

    proto: str
    addresses: tuple[str, ...]
    ports: Iterable[int]
    container_port: int
    target: str = ""
    """The container's address, for messages."""
    listening: frozenset[str] = field(default_factory=frozenset[str])
    """Those of the addresses whose socket is to listen."""


class _Busy(Exception):
    """A port of an address is taken: by a container, or (no holder) by something of the host."""

    def __init__(self, address: str, port: int, holder: str = "") -> None:
        super().__init__(address, port, holder)
        self.address = address
        self.port = port
        self.holder = holder


class Ports:
    """The engine's ports, by (family, protocol, number)."""

    def __init__(self, find_holder: Callable[[str, int], str] = holders.find_holder) -> None:
        self._held: dict[tuple[int, str, int], list[Held]] = {}
        self._by_container: dict[str, list[Held]] = {}
        self._find_holder = find_holder
        self._last = 0

    def of(self, container_id: str) -> tuple[Held, ...]:
        """Return a container's ports."""
        return tuple(self._by_container.get(container_id, ()))

    def take(self, container_id: str, name: str, wanted: Candidate) -> list[Held]:
        """Return one port on each of the addresses, the same number on all, kept.

        Raises Conflict naming who has it, Invalid for an address that is not the host's.
        """
        busy: list[_Busy] = []
        for port in wanted.ports:
            try:
                return self._take_one(container_id, name, wanted, port)
            except _Busy as reason:
                busy.append(reason)
        if not busy:
            raise Conflict(f"no port is free for {wanted.container_port}/{wanted.proto}")
        first = self._explain(busy[0], wanted)
        if len(busy) > 1:
            said = f"none of {busy[0].port}-{busy[-1].port} is free; {first}"
            raise Conflict("all ports are allocated", hint=said)
        raise first

    def _explain(self, busy: _Busy, wanted: Candidate) -> Conflict:
        if busy.holder:
            return Conflict(
                f"Bind for {_bracket(busy.address)}:{busy.port} failed: port is already allocated",
                hint=f"container {busy.holder} has it",
            )
        holder = self._find_holder(wanted.proto, busy.port) or "another process of this host"
        where = f"{_bracket(busy.address)}:{busy.port}{_target(wanted)}/{wanted.proto}"
        return Conflict(
            f"failed to bind host port for {where}: address already in use", hint=f"{holder} has it"
        )

    def ephemeral(self) -> Iterator[int]:
        """Return ports that the kernel gives out by itself, from behind the last one that was taken."""
        first, last = holders.ephemeral_range()
        start = self._last + 1 if first <= self._last < last else first
        for port in (*range(start, last + 1), *range(first, start)):
            self._last = port
            yield port

    def restore(
        self,
        container_id: str,
        name: str,
        port: PublishedPort,
        *,
        listen: bool,
        kept: socket.socket | None = None,
    ) -> Held:
        """Keep a port that a running container has already, by the socket `kept` (taken) if there is one.

        Raises Conflict, Invalid; it is noted all the same.
        """
        held = Held(container_id, name, port, kept, listen)
        self._note(held)
        if kept is not None:
            return held
        try:
            held.socket = self._bind(port.proto, port.host_address, port.host_port, listen, "")
        except _Busy as busy:
            wanted = Candidate(port.proto, (), (), port.container_port)
            raise self._explain(busy, wanted) from busy
        return held

    def release(self, container_id: str) -> tuple[Held, ...]:
        """Let go of all of a container's ports and return them; again is fine."""
        found = tuple(self._by_container.pop(container_id, ()))
        for held in found:
            self._forget(held)
        return found

    def close(self) -> None:
        """Let go of all sockets; the ports stay noted."""
        for some in self._by_container.values():
            for held in some:
                held.close()

    def _take_one(self, container_id: str, name: str, wanted: Candidate, port: int) -> list[Held]:
        taken: list[Held] = []
        try:
            for address in wanted.addresses:
                self._check(wanted.proto, address, port)
                listen = address in wanted.listening
                end = self._bind(wanted.proto, address, port, listen, _target(wanted))
                published = PublishedPort(wanted.proto, wanted.container_port, address, port)
                held = Held(container_id, name, published, end, listen)
                self._note(held)
                taken.append(held)
        except BaseException:
            for held in taken:
                self._by_container[container_id].remove(held)
                self._forget(held)
            raise
        return taken

    def _check(self, proto: str, address: str, port: int) -> None:
        for held in self._held.get((_family(address), proto, port), ()):
            there = held.port.host_address
            if address == there or address in EVERYWHERE or there in EVERYWHERE:
                raise _Busy(address, port, held.name)

    def _bind(
        self, proto: str, address: str, port: int, listen: bool, target: str
    ) -> socket.socket | None:
        kind, number = _TYPES[proto]
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        try:
            end = socket.socket(family, kind | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, number)
        except OSError as error:
            if error.errno in _NO_PROTOCOL:
                if proto == "sctp":
                    return None
                raise Unsupported(f"this host has no {proto} over IPv{_family(address)}") from error
            raise
        with contextlib.ExitStack() as undo:
            undo.callback(end.close)
            if family == socket.AF_INET6:
                end.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            try:
                try:
                    end.bind((address, port))
                except OSError as error:
                    if error.errno != errno.EADDRINUSE or proto != "tcp":
                        raise
                    # Connections that ended lately (TIME_WAIT) are no holders: a listener may have the port.
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    end.bind((address, port))
                    end.listen(1)
                if listen and proto == "tcp":
                    # What it takes inherits this: ended connections then do not hold the port.
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    end.listen(1024)
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    raise _Busy(address, port) from error
                text = (error.strerror or str(error)).lower()
                where = f"{_bracket(address)}:{port}{target}/{proto}"
                raise Invalid(f"failed to bind host port for {where}: {text}") from error
            undo.pop_all()
        return end

    def _note(self, held: Held) -> None:
        port = held.port
        key = (_family(port.host_address), port.proto, port.host_port)
        self._held.setdefault(key, []).append(held)
        self._by_container.setdefault(held.container_id, []).append(held)

    def _forget(self, held: Held) -> None:
        held.close()
        port = held.port
        key = (_family(port.host_address), port.proto, port.host_port)
        left = [other for other in self._held.get(key, ()) if other is not held]
        if left:
            self._held[key] = left
        else:
            self._held.pop(key, None)


def _family(address: str) -> int:
    return 6 if ":" in address else 4


def _bracket(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def _target(wanted: Candidate) -> str:
    return f":{_bracket(wanted.target)}:{wanted.container_port}" if wanted.target else ""
