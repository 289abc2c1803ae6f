"""What containers' networking is given: the host's part of networks, and the supervisor for what is inside."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from wherry.model.networks import Endpoint, EndpointSpec, Network, PortWish, PublishedPort
from wherry.model.wiring import Link, Way, Wiring


class Fabric(Protocol):
    """What is used of the host's part: `network.service.Networks`."""

    def attach(
        self,
        container_id: str,
        name: str,
        network: Network,
        wish: EndpointSpec,
        interface: str,
        *,
        default_way: bool,
    ) -> tuple[Endpoint, Link]: ...
    def detach(self, endpoint: Endpoint) -> None: ...
    def link(
        self, container_id: str, endpoint: Endpoint | None, targets: Sequence[tuple[str, str, int]]
    ) -> None: ...
    async def publish(
        self,
        container_id: str,
        name: str,
        wishes: Sequence[PortWish],
        endpoints: Sequence[Endpoint],
    ) -> tuple[PublishedPort, ...]: ...
    async def unpublish(self, container_id: str) -> None: ...


class Supervisor(Protocol):
    """What is used of the supervisor's client."""

    async def connect_networks(self, key: str, wiring: Wiring) -> tuple[int, ...]: ...
    async def disconnect(self, key: str, interface: str) -> None: ...
    async def set_ways(self, key: str, ways: Sequence[tuple[str, Way]]) -> None: ...
