"""`docker network …`: the workflows on networks, and what the daemon does of them when it starts."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import Protocol

from wherry.containers.endpoints import (
    ALONE,
    BUILT_IN,
    HOST,
    NONE,
    NOT_HOST,
    SHARED,
    check_endpoint,
    is_plain,
)
from wherry.containers.events import Recorder, network_event
from wherry.containers.live import Lives, Tasks
from wherry.containers.namefeed import Feed
from wherry.containers.network_checks import check_network
from wherry.containers.network_filters import compile_list_filters, compile_prune_filters
from wherry.containers.network_store import NetworkStore, NoSuchNetwork
from wherry.containers.networking import Networking
from wherry.containers.store import ContainerStore
from wherry.containers.transitions import ALIVE
from wherry.model.containers import Container
from wherry.model.errors import Forbidden, Invalid, NotFound, WherryError
from wherry.model.events import prune_event
from wherry.model.ids import new_id
from wherry.model.networks import (
    DEFAULT_BRIDGE,
    Attachments,
    Driver,
    Endpoint,
    EndpointSpec,
    Network,
    NetworkSpec,
)
from wherry.model.views import AttachedView, Filters, NetworkView, Repaired

_log = logging.getLogger("wherry.containers")


class _NoConfiguration(NotFound):
    def __init__(self, name: str) -> None:
        super().__init__("configuration network", name)
        self.message = f'configuration network "{name}" does not exist'


class _NoEndpoint(NotFound):
    def __init__(self, name: str) -> None:
        super().__init__("endpoint", name)
        self.message = f"endpoint {name} not found"


class Report(Protocol):
    """What a repair tells."""

    @property
    def done(self) -> tuple[str, ...]: ...
    @property
    def warnings(self) -> tuple[str, ...]: ...


class Fabric(Protocol):
    """What is used of the host's part: `network.service.Networks`."""

    async def open(
        self, wanted: Sequence[Network], running: Sequence[tuple[str, str, Attachments]]
    ) -> Report: ...
    async def make(self, spec: NetworkSpec, network_id: str, created: int) -> Network: ...
    async def remove(self, network: Network) -> None: ...
    async def repair(self) -> Report: ...


class NetworkService:
    """Everything that can be asked of networks."""

    def __init__(
        self,
        *,
        networks: NetworkStore,
        containers: ContainerStore,
        networking: Networking,
        fabric: Fabric,
        feed: Feed,
        lives: Lives,
        tasks: Tasks,
        events: Recorder,
        default_bridge: Callable[[], NetworkSpec | None],
        ending: bool = False,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        """`default_bridge` says what the network `bridge` is to be, or None for no such network.

        `ending` is for a daemon that only ends containers: it makes nothing.
        """
        self._networks = networks
        self._containers = containers
        self._networking = networking
        self._fabric = fabric
        self._feed = feed
        self._lives = lives
        self._tasks = tasks
        self._events = events
        self._default_bridge = default_bridge
        self._ending = ending
        self._clock = clock

    # -- the daemon's start ------------------------------------------------------------------

    async def open(self, alive: Collection[str]) -> None:
        """Make the host's networks what they are to be; `alive` are the containers that run."""
        running = [
            await self._networking.settle(container)
            for container in self._containers
            if container.id in alive and container.state.attachments.endpoints
        ]
        if self._ending:
            await self._feed.open(running)
            return
        for name, driver in ((HOST, Driver.HOST), (NONE, Driver.NONE)):
            if self._networks.named(name) is None:
                spec = NetworkSpec(name, driver)
                self._networks.save(Network(new_id(), spec, self._clock()))
        wanted = self._default_bridge()
        stored = self._networks.named(DEFAULT_BRIDGE)
        used = stored is not None and any(
            endpoint.network_id == stored.id
            for container in running
            for endpoint in container.state.attachments.endpoints
        )
        if stored is not None and not used and not _is_as_wanted(stored, wanted):
            self._networks.remove(stored.id)
        elif stored is not None and not _is_as_wanted(stored, wanted):
            _log.warning("the default bridge is in use: its new settings wait for another start")
        report = await self._fabric.open(
            [network for network in self._networks if _is_made(network)],
            [
                (container.id, container.name, made)
                for container in running
                if (made := _made(container.state.attachments)).endpoints
            ],
        )
        for container in running:
            if container.spec.links:
                self._networking.relink(container)
        for line in report.done:
            _log.info("networks: %s", line)
        for line in report.warnings:
            _log.warning("networks: %s", line)
        if wanted is not None and self._networks.named(DEFAULT_BRIDGE) is None:
            network_id = stored.id if stored is not None else new_id()
            await self._make(wanted, network_id)
        await self._feed.open(running)

    async def _make(self, spec: NetworkSpec, network_id: str) -> Network:
        network = await self._fabric.make(spec, network_id, self._clock())
        network = replace(network, asked=spec.pools)
        try:
            self._networks.save(network)
        except BaseException:
            await self._fabric.remove(network)
            raise
        return network

    # -- questions ---------------------------------------------------------------------------

    async def list(self, filters: Filters) -> list[NetworkView]:
        """Return networks, without the containers in them. Raises Invalid."""
        wanted = compile_list_filters(filters, self._in_use)
        return [NetworkView(network) for network in self._networks if wanted(network)]

    async def inspect(self, ref: str, scope: str = "") -> NetworkView:
        """Return one network and what runs in it. Raises NotFound."""
        network = self._networks.resolve(ref)
        if scope not in ("", "local"):
            raise NoSuchNetwork(ref)
        return NetworkView(network, tuple(self._attached(network)))

    def _attached(self, network: Network) -> list[AttachedView]:
        return [
            AttachedView(container.id, container.name, endpoint)
            for container in self._containers
            for endpoint in container.state.attachments.endpoints
            if endpoint.network_id == network.id and container.state.status in ALIVE
        ]

    def _in_use(self, network: Network) -> bool:
        return any(
            endpoint.network_id == network.id
            for container in self._containers
            for endpoint in container.state.attachments.endpoints
        )

    # -- making and removing -----------------------------------------------------------------

    async def create(self, spec: NetworkSpec) -> tuple[str, str]:
        """Make a network and return its id and a warning. Raises Conflict, Invalid, Forbidden, Full."""
        return await self._tasks.finish(self._create(spec))

    async def _create(self, spec: NetworkSpec) -> tuple[str, str]:
        check_network(spec)
        self._networks.check_name(spec.name)
        if spec.config_from:
            spec = self._configured(spec)
        if spec.config_only:
            network = Network(new_id(), replace(spec, driver=Driver.NONE), self._clock())
            network = replace(network, asked=spec.pools)
            self._networks.save(network)
        else:
            network = await self._make(spec, new_id())
        self._events.record(network_event(network, "create"))
        return network.id, ""

    def _configured(self, spec: NetworkSpec) -> NetworkSpec:
        other = self._networks.named(spec.config_from)
        if other is None or not other.spec.config_only:
            raise _NoConfiguration(spec.config_from)
        if spec.pools or spec.options:
            raise Forbidden(
                "user specified configurations are not supported if the network depends on a "
                "configuration network"
            )
        return replace(
            spec,
            pools=other.asked,
            options=other.spec.options,
            ipv4=other.spec.ipv4,
            ipv6=other.spec.ipv6,
            internal=other.spec.internal,
            ipam_options=other.spec.ipam_options,
        )

    async def remove(self, ref: str) -> None:
        """Remove a network. Raises NotFound, Forbidden where it is built in or in use."""
        network = self._networks.resolve(ref)
        await self._tasks.finish(self._remove(network))

    async def _remove(self, network: Network) -> None:
        if network.name in BUILT_IN:
            raise Forbidden(f"{network.name} is a pre-defined network and cannot be removed")
        if holders := self._attached(network):
            named = " ".join(f'name:"{one.name}" id:"{one.endpoint.id[:12]}"' for one in holders)
            raise Forbidden(
                f"error while removing network: network {network.name} has active endpoints ({named})"
            )
        users = [n.name for n in self._networks if n.spec.config_from == network.name]
        if network.spec.config_only and users:
            raise Forbidden(
                f'error while removing network: configuration network "{network.name}" is in use '
                f"by {users[0]}"
            )
        # The row first: whatever of the host's part is left then goes at the next start or repair.
        self._networks.remove(network.id)
        if _is_made(network):
            await self._fabric.remove(network)
        self._events.record(network_event(network, "destroy"))

    async def prune(self, filters: Filters) -> list[str]:
        """Remove all networks that users made and nothing runs in; return their names. Raises Invalid."""
        return await self._tasks.finish(self._prune(filters))

    async def _prune(self, filters: Filters) -> list[str]:
        wanted = compile_prune_filters(filters)
        removed: list[str] = []
        for network in self._networks:
            if network.name in BUILT_IN or self._in_use(network) or not wanted(network):
                continue
            try:
                await self._remove(network)
            except WherryError as error:
                _log.warning("prune: %s", error)
                continue
            removed.append(network.name)
        self._events.record(prune_event("network", 0))
        return removed

    async def repair(self) -> Repaired:
        """Make rules and links anew that somebody took away."""
        report = await self._tasks.finish(self._fabric.repair())
        return Repaired(report.done, report.warnings)

    # -- connecting --------------------------------------------------------------------------

    async def connect(self, ref: str, container_ref: str, wish: EndpointSpec) -> None:
        """Add a container to a network. Raises NotFound, Invalid, Forbidden, Conflict, Full."""
        if not container_ref:
            raise Invalid('invalid name or ID supplied: ""')
        container = self._containers.resolve(container_ref)
        network = self._networks.resolve(ref)
        await self._tasks.finish(self._connect(network, container.id, wish))

    async def _connect(self, network: Network, container_id: str, wish: EndpointSpec) -> None:
        async with self._lives.get(container_id).lock:
            container = self._containers.get(container_id)
            mode = container.spec.namespaces.network
            if mode.startswith("container:") or mode == HOST:
                raise Invalid(SHARED)
            if network.spec.driver is Driver.HOST:
                raise Invalid(NOT_HOST)
            present = {one.network for one in container.spec.endpoints}
            if (network.spec.driver is Driver.NONE and present) or (
                NONE in present and network.name != NONE
            ):
                raise Invalid(ALONE)
            check_endpoint(wish, network)
            kept = replace(wish, network=network.name, network_id=network.id)
            if container.state.status in ALIVE and not is_plain(network):
                if network.name in present:
                    raise Forbidden(
                        f"endpoint with name {container.name} already exists in network {network.name}"
                    )
                await self._networking.connect(container, network, kept)
                return
            others = (w for w in container.spec.endpoints if w.network != network.name)
            spec = replace(container.spec, endpoints=(*others, kept))
            self._containers.save(replace(container, spec=spec))

    async def disconnect(self, ref: str, container_ref: str, *, force: bool) -> None:
        """Take a container out of a network. Raises NotFound, Forbidden."""
        network = self._networks.resolve(ref) if force else None
        try:
            container = self._containers.resolve(container_ref)
        except NotFound:
            if network is not None and container_ref:
                raise _NoEndpoint(container_ref) from None
            raise
        network = network or self._networks.resolve(ref)
        await self._tasks.finish(self._disconnect(network, container.id))

    async def _disconnect(self, network: Network, container_id: str) -> None:
        async with self._lives.get(container_id).lock:
            container = self._containers.get(container_id)
            if network.spec.driver is Driver.HOST and container.spec.namespaces.network == HOST:
                raise Invalid(
                    "cannot disconnect container from host network - container was created in host "
                    "network mode"
                )
            held = _find(container, network)
            if held is None and all(w.network != network.name for w in container.spec.endpoints):
                the = "" if container.state.status in ALIVE else "the "
                raise Forbidden(
                    f"container {container.id} is not connected to {the}network {network.name}"
                )
            if held is not None and held.interface:
                await self._networking.disconnect(container, held)
                return
            wishes = tuple(w for w in container.spec.endpoints if w.network != network.name)
            others = container.state.attachments
            others = replace(
                others, endpoints=tuple(e for e in others.endpoints if e.network_id != network.id)
            )
            self._containers.save(
                replace(
                    container,
                    spec=replace(container.spec, endpoints=wishes),
                    state=replace(container.state, attachments=others),
                )
            )


def _find(container: Container, network: Network) -> Endpoint | None:
    for endpoint in container.state.attachments.endpoints:
        if endpoint.network_id == network.id:
            return endpoint
    return None


def _made(attachments: Attachments) -> Attachments:
    """What of `attachments` the host has a part of."""
    return replace(attachments, endpoints=tuple(e for e in attachments.endpoints if e.interface))


def _is_made(network: Network) -> bool:
    return not is_plain(network)


def _is_as_wanted(stored: Network, wanted: NetworkSpec | None) -> bool:
    if wanted is None:
        return False
    return (stored.asked, stored.spec.options, stored.spec.internal) == (
        wanted.pools,
        wanted.options,
        wanted.internal,
    )
