"""An engine's networks without the engine: the real facade on a host of the test's, and boxes.

A box is a process in a network namespace of its own, wired by the supervisor's own code: a container
as far as packets are concerned.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import uuid
from collections.abc import Coroutine
from typing import Any, TypeVar

from tests.harness.hosts import Host, Site
from wherry.kernel.abi import CLONE_NEWNET, CLONE_NEWUSER
from wherry.kernel.linux import LINUX
from wherry.model.networks import (
    Attachments,
    Driver,
    Endpoint,
    EndpointSpec,
    Network,
    NetworkSpec,
    Pool,
    PortWish,
    PublishedPort,
)
from wherry.model.wiring import Wiring
from wherry.network.service import Networks, RepairReport
from wherry.network.settings import NetworkSettings
from wherry.supervisor.wiring import Wirer

T = TypeVar("T")


class Box(Host):
    """A container's namespace, and what it has of networks."""

    def __init__(self, name: str) -> None:
        self.container_id = secrets.token_hex(32)
        self.pid, self.pidfd = LINUX.clone3(CLONE_NEWNET | CLONE_NEWUSER)
        if self.pid == 0:
            # Ports are kept by this process's sockets: a copy would keep them too.
            LINUX.close_range(3, 0x7FFFFFFF)
            while True:
                signal.pause()
        super().__init__(name, os.open(f"/proc/{self.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC))
        self.endpoints: list[Endpoint] = []
        self.ports: tuple[PublishedPort, ...] = ()
        self.names: tuple[int, ...] = ()

    @property
    def ipv4(self) -> str:
        """The first address."""
        return self.endpoints[0].ipv4

    @property
    def ipv6(self) -> str:
        """The first IPv6 address."""
        return self.endpoints[0].ipv6

    @property
    def attachments(self) -> Attachments:
        """What the engine would have written down."""
        return Attachments(tuple(self.endpoints), self.ports)

    def end(self) -> None:
        """Kill the process; the namespace goes when nobody holds it."""
        if self.pidfd < 0:
            return
        signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self.pidfd)
        self.pidfd = -1
        for fd in self.names:
            os.close(fd)
        self.close()


class Rig:
    """A site, networks on its host, boxes."""

    def __init__(self, site: Site, **settings: Any) -> None:
        self.site = site
        self.engine_id = str(uuid.uuid4())
        self.settings = settings
        self.networks = Networks(self.engine_id, NetworkSettings(**settings))
        self.wirer = Wirer(LINUX, parent=0)
        self.boxes: list[Box] = []
        self.made: list[Network] = []

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        """Run something on the host."""
        with self.site.host.inside():
            return asyncio.run(work)

    def close(self) -> None:
        """End everything."""
        for box in self.boxes:
            box.end()
        self.do(self.networks.close())
        for pid in self.wirer.helpers:
            os.waitpid(pid, 0)
        self.wirer.close()

    def open(self) -> RepairReport:
        """Open the networks with what there is, as a daemon that starts."""
        running = [(b.container_id, b.name, b.attachments) for b in self.boxes if b.endpoints]
        return self.do(self.networks.open(self.made, running))

    def reopen(self) -> RepairReport:
        """Forget all that is in memory, and open again: a daemon that was killed."""
        self.do(self.networks.close())
        self.networks = Networks(self.engine_id, NetworkSettings(**self.settings))
        return self.open()

    def network(
        self, name: str, *options: tuple[str, str], subnet: str = "", **more: Any
    ) -> Network:
        """Make a network."""
        if subnet:
            more["pools"] = (Pool(subnet),)
        spec = NetworkSpec(name, options=options, **more)
        return self._made(spec)

    def default(self) -> Network:
        """Make the default network."""
        return self._made(self.networks.default_spec())

    def _made(self, spec: NetworkSpec) -> Network:
        made = self.do(self.networks.make(spec, secrets.token_hex(32), 0))
        self.made.append(made)
        return made

    def box(
        self,
        name: str,
        *networks: Network,
        ports: tuple[PortWish, ...] = (),
        names: bool = False,
        **wish: Any,
    ) -> Box:
        """Start a box in networks, with ports."""
        box = Box(name)
        self.boxes.append(box)
        links = []
        for number, network in enumerate(networks):
            asked = EndpointSpec(network.name, **wish)
            with self.site.host.inside():
                endpoint, link = self.networks.attach(
                    box.container_id, name, network, asked, f"eth{number}", default_way=number == 0
                )
            box.endpoints.append(endpoint)
            links.append(link)
        with self.site.host.inside():
            box.names = self.wirer.wire(box.pid, box.pidfd, Wiring(tuple(links), names))
        if ports:
            box.ports = self.do(self.networks.publish(box.container_id, name, ports, box.endpoints))
        return box

    def asked(self, network: Network) -> EndpointSpec:
        """Return a wish for nothing in particular."""
        return EndpointSpec(network.name)

    def connect(self, box: Box, network: Network, **wish: Any) -> None:
        """Connect a running box."""
        asked = EndpointSpec(network.name, **wish)
        endpoint, link = self.networks.attach(
            box.container_id,
            box.name,
            network,
            asked,
            f"eth{len(box.endpoints)}",
            default_way=not box.endpoints,
        )
        box.endpoints.append(endpoint)
        with self.site.host.inside():
            self.wirer.wire(box.pid, box.pidfd, Wiring((link,)), fresh=False)

    def disconnect(self, box: Box, network: Network) -> None:
        """Disconnect a running box."""
        (endpoint,) = (e for e in box.endpoints if e.network_id == network.id)
        with self.site.host.inside():
            self.wirer.unwire(box.pid, box.pidfd, endpoint.interface)()
        self.networks.detach(endpoint)
        box.endpoints.remove(endpoint)

    def stop(self, box: Box) -> None:
        """End a box and give back what it had."""
        box.end()
        self.do(self.networks.unpublish(box.container_id))
        for endpoint in box.endpoints:
            self.networks.detach(endpoint)
        self.boxes.remove(box)


def tcp(container: int, host: int = 0, address: str = "", end: int = 0) -> PortWish:
    """Return `-p address:host-end:container/tcp`."""
    return PortWish("tcp", container, address, host, end)


def udp(container: int, host: int = 0, address: str = "") -> PortWish:
    """Return `-p address:host:container/udp`."""
    return PortWish("udp", container, address, host)


__all__ = ["Box", "Driver", "Rig", "tcp", "udp"]
