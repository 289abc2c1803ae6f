"""What the name service is told of containers: what each sees, and by what names the others find it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from wherry.containers.endpoints import gateway_order, has_names
from wherry.containers.hostfiles import DnsDefaults
from wherry.containers.network_store import NetworkStore
from wherry.model.containers import Container
from wherry.model.networks import Endpoint
from wherry.network.dns.facts import Member, View
from wherry.network.dns.resolvers import parse_resolv_conf, plan_upstreams


class Names(Protocol):
    """The name service: `network.dns.client.NameService`."""

    async def open(self, views: Sequence[View], members: Sequence[Member]) -> None: ...
    def serve(self, view: View, descriptors: Sequence[int]) -> None: ...
    def watch(self, container: str, pid: int) -> None: ...
    def update(self, view: View) -> None: ...
    def forget(self, container: str) -> None: ...
    def put(self, member: Member) -> None: ...
    def drop(self, network: str, container: str) -> None: ...


class Feed:
    """Turns containers into what the name service knows of them."""

    def __init__(
        self,
        *,
        names: Names,
        networks: NetworkStore,
        resolve: Callable[[str], Container | None],
        resolv_conf: Callable[[], str],
        dns: DnsDefaults,
    ) -> None:
        """`resolve` finds the containers that links name, `resolv_conf` is the host's, read anew."""
        self._names = names
        self._networks = networks
        self._resolve = resolve
        self._resolv_conf = resolv_conf
        self._dns = dns

    async def open(self, containers: Iterable[Container]) -> None:
        """Bring the service up to date with the containers that run."""
        running = tuple(containers)
        views = [self.view(container) for container in running if self.is_served(container)]
        members = [m for container in running for m in self.members(container)]
        await self._names.open(views, members)
        for container in running:
            self._names.watch(container.id, container.state.pid)

    def is_served(self, container: Container) -> bool:
        """Return whether the container asks 127.0.0.11: it is or was in a network with names."""
        attachments = container.state.attachments
        return attachments.served or any(
            self._named(endpoint) for endpoint in attachments.endpoints
        )

    def members(self, container: Container) -> list[Member]:
        """Return what others are to find of a container."""
        return [
            self._member(container, endpoint)
            for endpoint in container.state.attachments.endpoints
            if self._named(endpoint)
        ]

    def view(self, container: Container) -> View:
        """Return what a container sees."""
        endpoints = {e.network: e for e in container.state.attachments.endpoints}
        wishes = {wish.network: wish for wish in container.spec.endpoints}
        order = [
            name for name in gateway_order(wishes.values(), endpoints.values()) if name in endpoints
        ]
        order += [name for name in endpoints if name not in order]
        named = [endpoints[name] for name in order if self._named(endpoints[name])]
        links: list[tuple[str, str]] = []
        for wish in wishes.values():
            for link in wish.links:
                ref, _, alias = link.partition(":")
                other = self._resolve(ref)
                if other is not None:
                    links.append((alias or ref, other.id))
        return View(
            container.id,
            tuple((endpoint.network_id, endpoint.network) for endpoint in named),
            tuple(links),
            plan_upstreams(
                parse_resolv_conf(self._resolv_conf()), self._dns.applied(container.spec).dns
            ),
            internal=not any(e.gateway4 or e.gateway6 for e in endpoints.values()),
        )

    def started(self, container: Container, descriptors: Sequence[int]) -> None:
        """A container runs: serve it by `descriptors` (taken) where it has any, and let others find it."""
        if descriptors:
            self._names.serve(self.view(container), descriptors)
        self._names.watch(container.id, container.state.pid)
        self.changed(container)

    def changed(self, container: Container) -> None:
        """Its names, addresses or networks are others than before."""
        for member in self.members(container):
            self._names.put(member)

    def seen(self, container: Container) -> None:
        """What it sees is something else than before."""
        if self.is_served(container):
            self._names.update(self.view(container))

    def left(self, container: Container, endpoint: Endpoint) -> None:
        """It is not in that network any more."""
        self._names.drop(endpoint.network_id, container.id)

    def ended(self, container: Container) -> None:
        """It does not run any more."""
        self._names.forget(container.id)

    def _member(self, container: Container, endpoint: Endpoint) -> Member:
        addresses = tuple(text for text in (endpoint.ipv4, endpoint.ipv6) if text)
        return Member(endpoint.network_id, container.id, container.name, endpoint.names, addresses)

    def _named(self, endpoint: Endpoint) -> bool:
        network = self._networks.find(endpoint.network_id)
        return network is not None and has_names(network)
