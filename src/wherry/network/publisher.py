"""Publishes containers' ports: takes them, has the rules know them, has listeners served. Performs `publishing`."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from wherry.kernel.failpoints import failpoint
from wherry.model.errors import WherryError
from wherry.model.networks import Attachments, Endpoint, Network, PortWish, PublishedPort
from wherry.network import publishing, rules
from wherry.network.filter import Filter
from wherry.network.ports import Held, Ports


class Relay(Protocol):
    """Carries connections that no rule can: from a listening socket to a container's address."""

    async def relay(self, key: str, listener: int, proto: str, address: str, port: int) -> None:
        """Serve what comes in on a descriptor (copied) until `stop`."""
        ...

    async def stop(self, key: str) -> None:
        """Stop all that was served under a key; again is fine."""
        ...

    async def adopt(self, key: str, port: PublishedPort) -> socket.socket | None:
        """Return the socket that serves a port since before this daemon began, or None."""
        ...

    async def sweep(self) -> None:
        """Stop what served before this daemon began and was not adopted."""
        ...


class Publisher:
    """Ports of all containers. Used in the event loop; the kernel is told in some tenths of a millisecond."""

    def __init__(
        self,
        filter_: Filter | None,
        networks: Mapping[str, Network],
        relay: Relay | None,
        *,
        allow_direct: bool = False,
    ) -> None:
        """Without `filter_` the administrator sees to the rules; `networks` are looked at when needed."""
        self._filter = filter_
        self._networks = networks
        self._relay = relay
        self._ports = Ports()
        self._allow_direct = allow_direct
        self._elements: dict[str, tuple[rules.Element, ...]] = {}

    async def publish(
        self,
        container_id: str,
        name: str,
        wishes: Sequence[PortWish],
        endpoints: Sequence[Endpoint],
        *,
        default_address: str,
    ) -> tuple[PublishedPort, ...]:
        """Publish ports; all or none. Raises Invalid, Conflict naming who has a port, Unavailable."""
        if not wishes:
            return ()
        way = publishing.reaches(endpoints, self._networks)
        taken: list[Held] = []
        routed: list[PublishedPort] = []
        try:
            for wish in publishing.in_order(wishes):
                plan = publishing.plan_publication(
                    wish,
                    way,
                    default_address=default_address,
                    ipv6=has_ipv6(),
                    ports=self._ports.ephemeral(),
                )
                if plan.candidate is not None:
                    taken += self._ports.take(container_id, name, plan.candidate)
                routed += plan.routed
            failpoint("network.ports-taken")
            ports = (*routed, *(held.port for held in taken))
            elements = self._note(container_id, ports, way)
            if self._filter is not None:
                self._filter.add(elements)
                self._filter.forget_flows(_datagrams(taken))
            await self._listen(container_id, taken, way)
        except BaseException:
            await self.unpublish(container_id)
            raise
        return ports

    def _note(
        self, container_id: str, ports: Sequence[PublishedPort], way: publishing.Reaches
    ) -> tuple[rules.Element, ...]:
        elements = publishing.port_elements(ports, way, allow_direct=self._allow_direct)
        self._elements[container_id] = elements
        return elements

    async def _listen(
        self, container_id: str, taken: Sequence[Held], way: publishing.Reaches
    ) -> None:
        target = publishing.listener_target(way)
        if self._relay is None or not target:
            return
        for held in taken:
            if held.listens and held.socket is not None:
                fd, port = held.socket.fileno(), held.port.container_port
                await self._relay.relay(container_id, fd, held.port.proto, target, port)

    async def unpublish(self, container_id: str) -> None:
        """Take a container's ports back; again is fine. Raises Unavailable."""
        released = self._ports.release(container_id)
        gone = self._elements.pop(container_id, ())
        if gone and self._filter is not None:
            self._filter.remove(gone)
            self._filter.forget_flows(_datagrams(released))
        if self._relay is not None and any(held.listens for held in released):
            await self._relay.stop(container_id)

    async def restore(self, container_id: str, name: str, kept: Attachments) -> list[str]:
        """Take back what a running container has, for the rules to be loaded; return what could not be."""
        lost: list[str] = []
        way = publishing.reaches(kept.endpoints, self._networks)
        for port in kept.ports:
            if not port.host_port:
                continue
            listen = publishing.needs_listener(port.host_address, way)
            served = None
            if listen and self._relay is not None:
                served = await self._relay.adopt(container_id, port)
            try:
                self._ports.restore(container_id, name, port, listen=listen, kept=served)
            except WherryError as error:
                lost.append(f"container {name}: {error}")
        held = self._ports.of(container_id)
        if self._filter is not None:
            self._filter.expect(self._note(container_id, kept.ports, way))
        await self._listen(container_id, held, way)
        return lost

    async def restored(self) -> None:
        """All containers that run were told of: what else is served for ports ends."""
        if self._relay is not None:
            await self._relay.sweep()

    def close(self) -> None:
        """Close the sockets that keep ports."""
        self._ports.close()


def _datagrams(ports: Sequence[Held]) -> list[tuple[str, int, int]]:
    """A sender of datagrams that goes on is a connection to the kernel, which looks at no rule again."""
    return [
        (held.port.host_address, rules.PROTOCOLS["udp"], held.port.host_port)
        for held in ports
        if held.port.proto == "udp"
    ]


def has_ipv6() -> bool:
    """Whether sockets of IPv6 can be bound here: ports are published on [::] then."""
    path = Path("/proc/sys/net/ipv6/conf/lo/disable_ipv6")
    try:
        return path.read_text().strip() == "0"
    except OSError:
        return False
