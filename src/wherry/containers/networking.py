"""A container's part in networks while it runs: addresses and ports taken, told to all who ask, given back.

    start    reserve addresses > publish ports > the row says so > launch (links are made) > names
    exit     names, ports and addresses are given back > the row says so

What is reserved is in the row before anything uses it, so that a daemon that dies finds all of it again.
The caller holds the container's lock.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from wherry.containers import hostfiles, legacy_links
from wherry.containers.endpoints import (
    check_endpoint,
    check_together,
    connect_order,
    dns_names,
    exposed,
    gateway_order,
    has_names,
    interface_name,
    is_plain,
    port_wishes,
    without,
)
from wherry.containers.events import Recorder, network_event
from wherry.containers.fabric import Fabric, Supervisor
from wherry.containers.namefeed import Feed
from wherry.containers.network_store import NetworkStore, NoSuchNetwork
from wherry.containers.store import ContainerStore
from wherry.containers.transitions import ALIVE
from wherry.containers.undo import Undo
from wherry.containers.ways import is_way_out, one_way_out, rewished, ways_out
from wherry.kernel.failpoints import failpoint
from wherry.model.containers import Container, ContainerSpec
from wherry.model.errors import (
    Conflict,
    Forbidden,
    Full,
    Invalid,
    NotFound,
    Unavailable,
    WherryError,
)
from wherry.model.ids import new_id
from wherry.model.networks import (
    DEFAULT_BRIDGE,
    Attachments,
    Endpoint,
    EndpointSpec,
    Network,
    PublishedPort,
)
from wherry.model.wiring import Link, Wiring

_log = logging.getLogger("wherry.containers")
NETWORK_FAILED = "failed to set up container networking: "


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a start has of networks: the container as it is to be kept, and what is to be made."""

    container: Container
    wiring: Wiring


class Networking:
    """Attaches containers to networks and detaches them."""

    def __init__(
        self,
        *,
        store: ContainerStore,
        networks: NetworkStore,
        fabric: Fabric,
        feed: Feed,
        supervisor: Supervisor,
        events: Recorder,
        folder: Callable[[str], Path],
        dns: hostfiles.DnsDefaults,
    ) -> None:
        self._store = store
        self._networks = networks
        self._fabric = fabric
        self._feed = feed
        self._supervisor = supervisor
        self._events = events
        self._folder = folder
        self._dns = dns

    # -- start and exit ----------------------------------------------------------------------

    async def attach(self, container: Container) -> Prepared:
        """Reserve all that a start needs; `release` gives it back. Nothing is kept of it here.

        Raises NotFound for a network that is gone, Conflict for addresses and ports that are taken,
        Full where a network has no address left.
        """
        if not container.spec.endpoints:
            return Prepared(container, Wiring())
        # In a network of one's own a link is a name, which the name service answers.
        plain = container.spec.namespaces.network in (DEFAULT_BRIDGE, "default", "")
        for link in self.links_of(container.spec) if plain else ():
            held = link.container.state.attachments.endpoints
            if all(endpoint.network != DEFAULT_BRIDGE for endpoint in held):
                raise Invalid(
                    f"container {link.container.id} not attached to default bridge network"
                )
        try:
            async with Undo() as undo:
                prepared = await self._attach(container, undo)
                undo.keep()
        except WherryError as error:
            error.message = NETWORK_FAILED + error.message
            raise
        return prepared

    async def _attach(self, container: Container, undo: Undo) -> Prepared:
        spec = container.spec
        self._check_links(container)
        found = {wish.network: self._find(container, wish) for wish in spec.endpoints}
        check_together(found.values(), spec.namespaces.network)
        endpoints: list[Endpoint] = []
        links: list[Link] = []
        kept: dict[str, EndpointSpec] = {}
        for wish in connect_order(spec.endpoints, spec.namespaces.network):
            network = found[wish.network]
            endpoint, link = self._reserve(container, network, wish, endpoints)
            if link is not None:
                undo.push(self._fabric.detach, endpoint)
                links.append(link)
            endpoints.append(endpoint)
            kept[wish.network] = replace(wish, network=network.name, network_id=network.id)
        links = one_way_out(links, endpoints, gateway_order(kept.values(), endpoints))
        if spec.links:
            undo.push(self._fabric.link, container.id, None, ())
            self._open_links(spec, container.id, endpoints)
        ports: tuple[PublishedPort, ...] = ()
        wishes = port_wishes(spec)
        if wishes and links:
            undo.push(self._fabric.unpublish, container.id)
            ports = await self._fabric.publish(
                container.id, container.name, wishes, self._in_gateway_order(kept, endpoints)
            )
        spec = replace(spec, endpoints=tuple(kept[wish.network] for wish in spec.endpoints))
        served = any(has_names(found_one) for found_one in found.values())
        attachments = Attachments(tuple(endpoints), ports, served)
        state = replace(container.state, attachments=attachments)
        return Prepared(
            replace(container, spec=spec, state=state), Wiring(tuple(links), name_service=served)
        )

    def _check_links(self, container: Container) -> None:
        for link in container.spec.links:
            ref, _, alias = link.partition(":")
            other = self._store.find(ref)
            if other is not None and other.state.status not in ALIVE:
                raise Conflict(
                    f"Cannot link to a non running container: /{other.name} AS "
                    f"/{container.name}/{alias}"
                )

    def _find(self, container: Container, wish: EndpointSpec) -> Network:
        if wish.network_id:
            network = self._networks.find(wish.network_id)
            if network is not None:
                return network
            if container.state.started_at:
                raise NoSuchNetwork(wish.network_id)
        return self._networks.resolve(wish.network)

    def _reserve(
        self,
        container: Container,
        network: Network,
        wish: EndpointSpec,
        others: Iterable[Endpoint],
    ) -> tuple[Endpoint, Link | None]:
        if is_plain(network):
            return Endpoint(new_id(), network.id, network.name, ""), None
        if network.spec.config_only:
            raise Forbidden(f"network {network.name} is only a configuration for other networks")
        check_endpoint(wish, network)
        interface = interface_name(wish, network, (other.interface for other in others))
        if any(other.interface == interface for other in others):
            raise Conflict(f"two interfaces of {container.name} would be called {interface}")
        endpoint, link = self._fabric.attach(
            container.id, container.name, network, wish, interface, default_way=True
        )
        names = dns_names(container, wish) if has_names(network) else ()
        return replace(endpoint, names=names), link

    def attached(self, container: Container) -> None:
        """Tell that `container` is in its networks, before its start is told."""
        for endpoint in container.state.attachments.endpoints:
            self._tell(container, endpoint, "connect")

    def started(self, container: Container, descriptors: Sequence[int]) -> None:
        """A container runs: whoever asks for its names finds it. Takes the descriptors."""
        self._feed.started(container, descriptors)
        self._update_linked(container)

    async def release(self, container: Container) -> None:
        """Give back everything that the container's row says it has; again is fine."""
        attachments = container.state.attachments
        if not attachments.endpoints:
            return
        self._feed.ended(container)
        if container.spec.links:
            self._fabric.link(container.id, None, ())
        for other in self._linking_to(container):
            self.relink(other, gone=container.id)
        if attachments.ports:
            await self._fabric.unpublish(container.id)
        for endpoint in attachments.endpoints:
            if endpoint.interface:
                self._fabric.detach(endpoint)

    def ended(self, container: Container) -> None:
        """Tell that `container` has left its networks."""
        for endpoint in container.state.attachments.endpoints:
            self._tell(container, endpoint, "disconnect")

    def _tell(self, container: Container, endpoint: Endpoint, action: str) -> None:
        network = self._networks.find(endpoint.network_id)
        if network is not None:
            self._events.record(network_event(network, action, container=container.id))

    # -- while it runs -----------------------------------------------------------------------

    async def connect(self, container: Container, network: Network, wish: EndpointSpec) -> None:
        """Add a running container to a network. Raises Conflict, Full, StartFailed, Unavailable."""
        before = container.state.attachments
        endpoint, link = self._reserve(container, network, wish, before.endpoints)
        if link is None:
            raise Invalid(f"network {network.name} has nothing to connect to")
        kept = replace(wish, network=network.name, network_id=network.id)
        spec = replace(container.spec, endpoints=(*container.spec.endpoints, kept))
        named = has_names(network)
        # From then on it asks 127.0.0.11, whatever it leaves: its resolv.conf says so.
        served = named and not self._feed.is_served(container)
        unsettled = replace(endpoint, unsettled=True)
        attachments = replace(
            before, endpoints=(*before.endpoints, unsettled), served=before.served or named
        )
        after = replace(
            container, spec=spec, state=replace(container.state, attachments=attachments)
        )
        async with Undo() as undo:
            undo.push(self._fabric.detach, endpoint)
            self._store.save(after)
            undo.push(self._store.keep, container)
            failpoint("connect.kept")
            # The ways out are set below, for all links together.
            bare = replace(link, ways=tuple(w for w in link.ways if not is_way_out(w)))
            try:
                descriptors = await self._supervisor.connect_networks(
                    container.id, Wiring((bare,), name_service=served)
                )
            except Unavailable:
                # Nobody knows how far the supervisor had come; the next one does not either.
                await self._take_out(container.id, endpoint)
                raise
            undo.keep()
        self._feed.started(after, descriptors)
        if not served:
            self._feed.seen(after)
        self._write_files(after, added=endpoint, served=served)
        failpoint("connect.made")
        await self._move_way(container, after)
        after = await self._move_ports(container, after)
        endpoints = (
            *(e for e in after.state.attachments.endpoints if e.id != endpoint.id),
            endpoint,
        )
        attachments = replace(after.state.attachments, endpoints=endpoints)
        try:
            self._store.save_state(after.id, replace(after.state, attachments=attachments))
        except Full:
            # Unwritten it would be gone with this daemon, and so it is not acknowledged.
            await self._leave(after, endpoint)
            raise
        self._tell(after, endpoint, "connect")

    async def _take_out(self, container_id: str, endpoint: Endpoint) -> None:
        """Take away what may have been made of an endpoint; an ended container has nothing."""
        with contextlib.suppress(WherryError):
            await self._supervisor.disconnect(container_id, endpoint.interface)

    async def settle(self, container: Container) -> Container:
        """Return a running container without what a daemon was doing to its networks when it died."""
        lost = [e for e in container.state.attachments.endpoints if e.unsettled]
        if not lost:
            return container
        after = container
        for endpoint in lost:
            await self._take_out(container.id, endpoint)
            after = without(after, endpoint)
            self._write_files(after, removed=endpoint)
        with contextlib.suppress(WherryError):
            await self._move_way(container, after, anyway=True)
        self._store.keep(after)
        return after

    async def disconnect(self, container: Container, endpoint: Endpoint) -> None:
        """Take a running container out of a network. Raises Full, Unavailable.

        Written before it is done, so that a full disk refuses it whole; a daemon that dies finds the mark.
        """
        held = container.state.attachments
        marked = tuple(replace(e, unsettled=e.id == endpoint.id) for e in held.endpoints)
        state = replace(container.state, attachments=replace(held, endpoints=marked))
        # Without the wish: one that ends before the rest is written does not come back to it.
        self._store.save(replace(without(container, endpoint), state=state))
        failpoint("disconnect.kept")
        await self._leave(container, endpoint)
        self._tell(container, endpoint, "disconnect")

    async def _leave(self, container: Container, endpoint: Endpoint) -> None:
        """Take apart what an endpoint is made of; where the disk is full, it is written later."""
        after = without(container, endpoint)
        # The way out first: while a link goes, the kernel lets nobody change another.
        await self._move_way(container, after, anyway=endpoint.unsettled)
        try:
            await self._supervisor.disconnect(container.id, endpoint.interface)
        except NotFound:
            _log.warning("%s had no interface %s any more", container.name, endpoint.interface)
        self._store.keep(after)
        self._fabric.detach(endpoint)
        self._feed.left(container, endpoint)
        self._feed.seen(after)
        self._write_files(after, removed=endpoint)
        await self._move_ports(container, after)

    async def _move_way(self, before: Container, after: Container, *, anyway: bool = False) -> None:
        """Let the way out follow the networks that there are now; `anyway` where `before` may not tell."""
        old, new = (
            ways_out(
                one.state.attachments.endpoints,
                gateway_order(one.spec.endpoints, one.state.attachments.endpoints),
            )
            for one in (before, after)
        )
        if anyway or new != old:
            ways = [(interface, way) for interface, some in new.items() for way in some]
            await self._supervisor.set_ways(after.id, ways)

    async def _move_ports(self, before: Container, after: Container) -> Container:
        """Let the published ports follow the way out; return the container as it is kept then."""
        wishes = {wish.network: wish for wish in after.spec.endpoints}
        endpoints = after.state.attachments.endpoints
        held = before.state.attachments
        if not held.ports and not port_wishes(after.spec):
            return after
        # Each port keeps the number that it has.
        again = rewished(held.ports) or port_wishes(after.spec)
        await self._fabric.unpublish(after.id)
        ports: tuple[PublishedPort, ...] = ()
        if any(endpoint.interface for endpoint in endpoints):
            ports = await self._fabric.publish(
                after.id, after.name, again, self._in_gateway_order(wishes, endpoints)
            )
        attachments = replace(after.state.attachments, ports=ports)
        return self._store.observe(after.id, replace(after.state, attachments=attachments))

    def _in_gateway_order(
        self, wishes: dict[str, EndpointSpec], endpoints: Iterable[Endpoint]
    ) -> list[Endpoint]:
        by_name = {e.network: e for e in endpoints if e.interface}
        order = gateway_order(wishes.values(), by_name.values())
        return [by_name[name] for name in order if name in by_name]

    def renamed(self, container: Container) -> Container:
        """Return `container`, which has another name now, with the names that others find it by."""
        wishes = {wish.network: wish for wish in container.spec.endpoints}
        attachments = container.state.attachments
        endpoints = tuple(
            replace(e, names=dns_names(container, wishes[e.network]))
            if e.names and e.network in wishes
            else e
            for e in attachments.endpoints
        )
        state = replace(container.state, attachments=replace(attachments, endpoints=endpoints))
        container = replace(container, state=state)
        self._feed.changed(container)
        return container

    # -- files inside ------------------------------------------------------------------------

    def links_of(self, spec: ContainerSpec) -> list[legacy_links.Linked]:
        """Return the running containers that legacy links lead to, by alias."""
        found: list[legacy_links.Linked] = []
        for link in spec.links:
            ref, _, alias = link.partition(":")
            other = self._store.find(ref)
            if other is not None and other.state.status in ALIVE:
                found.append(legacy_links.Linked(alias, other))
        return found

    def _write_files(
        self,
        container: Container,
        *,
        added: Endpoint | None = None,
        removed: Endpoint | None = None,
        served: bool = False,
    ) -> None:
        hostfiles.change_hosts(
            self._folder(container.id),
            add=hostfiles.own_lines(container, (added,)) if added else (),
            remove=(removed.ipv4, removed.ipv6) if removed else (),
        )
        if served:
            hostfiles.write_resolv_conf(
                self._folder(container.id),
                self._dns.applied(container.spec),
                hostfiles.Resolving.SERVICE,
            )

    def _update_linked(self, container: Container) -> None:
        """A linked container may have another address than when those that link to it were started."""
        for other in self._linking_to(container):
            self.relink(other)
            for linked in self.links_of(other.spec):
                if linked.container.id == container.id:
                    hostfiles.change_hosts(
                        self._folder(other.id),
                        add=legacy_links.host_lines([linked]),
                        remove_names=(linked.alias,),
                    )

    def _linking_to(self, container: Container) -> list[Container]:
        """Return the running containers that have a legacy link to this one."""
        return [
            other
            for other in self._store
            if other.spec.links
            and other.id != container.id
            and other.state.status in ALIVE
            and any(link.partition(":")[0] == container.id for link in other.spec.links)
        ]

    def relink(self, container: Container, *, gone: str = "") -> None:
        """Let a running container reach the exposed ports of those that it links to; `gone` is none of them."""
        self._open_links(
            container.spec, container.id, container.state.attachments.endpoints, gone=gone
        )

    def _open_links(
        self,
        spec: ContainerSpec,
        container_id: str,
        endpoints: Iterable[Endpoint],
        *,
        gone: str = "",
    ) -> None:
        endpoint = next((e for e in endpoints if e.network == DEFAULT_BRIDGE), None)
        targets = [
            (linked.address, proto, port)
            for linked in self.links_of(spec)
            if linked.address and linked.container.id != gone
            for proto, port in exposed(linked.container.spec.exposed_ports)
        ]
        self._fabric.link(container_id, endpoint, targets)

    def checked(self, spec: ContainerSpec) -> ContainerSpec:
        """Return `spec` with the networks that it names and that exist looked up. Raises Invalid."""
        wishes: list[EndpointSpec] = []
        for wish in spec.endpoints:
            try:
                network = self._networks.resolve(wish.network)
            except NoSuchNetwork:
                # Said when it is started: until then the network may come.
                wishes.append(wish)
                continue
            try:
                check_endpoint(wish, network)
            except Invalid as error:
                raise Invalid(
                    f"invalid config for network {wish.network}: {error.message}", hint=error.hint
                ) from None
            wishes.append(replace(wish, network=network.name, network_id=network.id))
        return replace(spec, endpoints=tuple(wishes))
