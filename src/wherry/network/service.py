"""The facade: networks made and removed, endpoints planned, ports published, all of it repaired.

In memory are only the addresses and ports in use, given again by `open` after a restart. What the
kernel holds (bridges, the table's elements) follows from them, so `repair` makes it all again.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
from collections.abc import Sequence
from dataclasses import replace

from wherry.kernel.failpoints import failpoint
from wherry.model.errors import Conflict, Forbidden, Invalid, NotFound, WherryError
from wherry.model.networks import (
    DEFAULT_BRIDGE,
    Attachments,
    BridgePlan,
    Driver,
    Endpoint,
    EndpointSpec,
    Network,
    NetworkSpec,
    Pool,
    PortWish,
    PublishedPort,
)
from wherry.model.wiring import Link
from wherry.network import naming, options, pools, rules
from wherry.network.addresses import Space, parse_address, parse_subnet
from wherry.network.endpoints import (
    Placing,
    gateway_of,
    make_spaces,
    parse_mac,
    plan_endpoint,
    plan_link,
    with_gateways,
)
from wherry.network.filter import Filter
from wherry.network.hostlinks import HostLinks, bridged_is_filtered
from wherry.network.hostrules import HostRules, RepairReport
from wherry.network.linking import Linking, Targets
from wherry.network.naming import Naming
from wherry.network.publisher import Publisher, Relay
from wherry.network.settings import NetworkSettings, sources, with_defaults

_HOST_DRIVERS = (Driver.HOST, Driver.NONE)
_OWN_KINDS = ("bridge", "dummy", "vlan")


class Networks:
    """All networks of the engine. Memory is touched in the event loop only, the kernel in one thread at a time."""

    def __init__(
        self, engine_id: str, settings: NetworkSettings, relay: Relay | None = None
    ) -> None:
        """No I/O; `open` first. Raises Invalid for settings that cannot be."""
        self._settings = settings
        self._sources = sources(settings, engine_id)
        pools.check_sources(self._sources)
        self._naming = Naming(engine_id)
        self._links = HostLinks(self._naming)
        self._filter = Filter(self._naming.table)
        self._rules = HostRules(self._filter, self._naming, settings)
        used = self._filter if settings.firewall else None
        self._networks: dict[str, Network] = {}
        self._spaces: dict[str, list[Space]] = {}
        self._publisher = Publisher(used, self._networks, relay, allow_direct=settings.allow_direct)
        self._linking = Linking(used)
        self._kernel = asyncio.Lock()
        self._warnings: tuple[str, ...] = ()
        self._ipv6 = False

    # -- the engine's life -------------------------------------------------------------------

    async def open(
        self, wanted: Sequence[Network], running: Sequence[tuple[str, str, Attachments]]
    ) -> RepairReport:
        """Take back what is wanted and in use (container id, name, attachments), and repair.

        What cannot be made is told, and hinders nothing else.
        """
        self._ipv6 = await asyncio.to_thread(self._links.has_ipv6)
        warnings: list[str] = []
        for network in wanted:
            self._networks[network.id] = network
            try:
                self._spaces[network.id] = make_spaces(network)
            except WherryError as error:
                warnings.append(f"network {network.name}: {error}")
        for container_id, name, attachments in running:
            for endpoint in attachments.endpoints:
                warnings += self._retake(name or container_id, endpoint)
            warnings += await self._publisher.restore(container_id, name, attachments)
        await self._publisher.restored()
        report = await self.repair()
        return RepairReport(report.done, (*warnings, *report.warnings))

    def _retake(self, holder: str, endpoint: Endpoint) -> list[str]:
        lost: list[str] = []
        for address in filter(None, (endpoint.ipv4, endpoint.ipv6)):
            try:
                self._space(endpoint.network_id, address).claim(address, holder)
            except WherryError as error:
                lost.append(f"container {holder}: {error}")
        return lost

    def warnings(self) -> tuple[str, ...]:
        """Return what `info` should say of this host's networks."""
        return self._warnings

    async def repair(self) -> RepairReport:
        """Make everything of the host's again that is missing or was changed; remove what is nobody's."""
        plans = self._plans()
        for plan in plans:
            self._filter.expect(rules.network_elements(plan))
        async with self._kernel:
            report = await asyncio.to_thread(self._repair, plans)
        self._linking.repair()
        self._warnings = report.warnings
        return report

    def _plans(self) -> list[BridgePlan]:
        return [
            self._plan(network)
            for network in self._networks.values()
            if network.spec.driver is Driver.BRIDGE
        ]

    def _plan(self, network: Network) -> BridgePlan:
        adopted = self._is_adopted(network)
        return options.plan_bridge(network, self._naming, adopted=adopted)

    def _is_adopted(self, network: Network) -> bool:
        chosen = self._settings.bridge
        return bool(chosen) and network.link == chosen and network.name == DEFAULT_BRIDGE

    def _repair(self, plans: list[BridgePlan]) -> RepairReport:
        done: list[str] = []
        warnings: list[str] = []
        seen = self._links.look()
        for plan in plans:
            try:
                if self._links.make_bridge(plan, seen):
                    done.append(f"made the bridge {plan.link}")
            except (WherryError, OSError) as error:
                warnings.append(f"network link {plan.link}: {error}")
        wanted = {network.link for network in self._networks.values() if network.link}
        for link in self._links.links():
            if self._links.owns(link) and link.kind in _OWN_KINDS and link.name not in wanted:
                with contextlib.suppress(OSError):
                    self._links.remove(link.name)
                    done.append(f"removed the link {link.name}, which is no network's")
        report = self._rules.settle(sorted(wanted), _versions(plans))
        return RepairReport((*done, *report.done), (*warnings, *report.warnings))

    async def close(self, *, remove: bool = False) -> None:
        """Let go of sockets; with `remove` take rules and bridges from the host."""
        if remove:
            async with self._kernel:
                await asyncio.to_thread(self._take_away)
        self._publisher.close()
        self._filter.close()

    def _take_away(self) -> None:
        own = [link.index for link in self._links.links() if self._links.owns(link)]
        with contextlib.suppress(OSError):
            self._links.remove_all(own)
        self._rules.withdraw()

    # -- networks ----------------------------------------------------------------------------

    def default_spec(self) -> NetworkSpec:
        """Return what the default bridge network is made from: the daemon's options as a network's."""
        s = self._settings
        found: list[Pool] = []
        for address, fixed, gateway in (
            (s.bip, s.fixed_cidr, s.default_gateway),
            (s.bip6, s.fixed_cidr6, s.default_gateway6),
        ):
            if address:
                try:
                    interface = ipaddress.ip_interface(address)
                except ValueError:
                    raise Invalid(f"invalid bip: {address}", hint="172.30.0.1/16") from None
                found.append(Pool(str(interface.network), fixed, gateway or str(interface.ip)))
            elif fixed:
                found.append(Pool(str(parse_subnet(fixed, "fixed-cidr")), "", gateway))
        chosen: list[tuple[str, str]] = [
            (options.DEFAULT, "true"),
            (options.ICC, str(s.icc).lower()),
            (options.MASQUERADE, str(s.ip_masq).lower()),
            (options.HOST_ADDRESS, s.ip or "0.0.0.0"),
            (options.NAME, s.bridge or naming.DEFAULT_LINK),
            (options.MTU, str(s.mtu or 1500)),
        ]
        return NetworkSpec(DEFAULT_BRIDGE, pools=tuple(found), ipv6=s.ipv6, options=tuple(chosen))

    async def make(self, spec: NetworkSpec, network_id: str, created: int) -> Network:
        """Return the network that `spec` asks for, with its pools chosen and its link made.

        Raises Invalid, Forbidden for an overlap, Full, Conflict, Unsupported, Unavailable. Nothing is
        left then.
        """
        if spec.name != DEFAULT_BRIDGE:
            spec = with_defaults(spec, self._settings)
        network = Network(network_id, spec, created)
        if spec.driver in _HOST_DRIVERS:
            self._networks[network_id] = network
            return network
        if spec.driver is Driver.BRIDGE:
            options.check_options(spec)
            link = await self._choose_link(spec, network_id)
        else:
            options.check_child(spec)
            link = self._check_parent(spec, network_id)
        routes = await asyncio.to_thread(self._links.foreign_routes)
        taken = [*pools.uses_of(self._networks.values()), *pools.uses_of_routes(routes)]
        ipv6 = spec.ipv6 if spec.ipv6 is not None else self._ipv6 and spec.driver is Driver.BRIDGE
        chosen = pools.choose_pools(spec, taken, self._sources, ipv6=ipv6)
        has6 = options.has_version([pool.subnet for pool in chosen], 6)
        network = Network(network_id, replace(spec, pools=chosen, ipv6=has6), created, link)
        network = with_gateways(network)
        # Taken before the kernel is asked: another network made meanwhile must not get the same.
        self._networks[network_id] = network
        try:
            self._spaces[network_id] = make_spaces(network)
            async with self._kernel:
                await asyncio.to_thread(self._make_link, network)
            failpoint("network.made")
        except BaseException:
            self._forget(network_id)
            raise
        return network

    async def _choose_link(self, spec: NetworkSpec, network_id: str) -> str:
        link = options.link_of(spec, network_id)
        for other in self._networks.values():
            if other.link == link:
                raise Forbidden(
                    f"cannot create network {network_id} ({link}): conflicts with network "
                    f"{other.id} ({other.link}): networks have same bridge name"
                )
        if spec.name == DEFAULT_BRIDGE and link == naming.DEFAULT_LINK:
            present = await asyncio.to_thread(self._links.find, link)
            if present is not None and not self._links.owns(present):
                return self._naming.own_default
        return link

    def _check_parent(self, spec: NetworkSpec, network_id: str) -> str:
        chosen = dict(spec.options).get("parent", "")
        if not chosen:
            return f"dm-{network_id[:12]}"
        name = naming.check_link_name(chosen, "parent interface")
        if name == "lo":
            raise Invalid(f"loopback interface is not a valid {spec.driver} parent link")
        for other in self._networks.values():
            shared = other.spec.driver in (Driver.MACVLAN, Driver.IPVLAN)
            if other.link == name and shared and other.spec.driver is not spec.driver:
                raise Conflict(f"network {other.name} already uses parent interface {name}")
        return name

    def _make_link(self, network: Network) -> None:
        if network.spec.driver is Driver.BRIDGE:
            plan = self._plan(network)
            self._links.make_bridge(plan)
            if self._settings.firewall:
                try:
                    self._filter.add(rules.network_elements(plan))
                except BaseException:
                    if not plan.adopted:
                        with contextlib.suppress(OSError):
                            self._links.remove(plan.link)
                    raise
            links = sorted(n.link for n in self._networks.values() if n.link)
            report = self._rules.include(links, plan.link, _versions([plan]))
            self._warnings = tuple(dict.fromkeys((*self._warnings, *report.warnings)))
            return
        if self._links.find(network.link) is not None:
            return
        alias = self._naming.alias(network.id, network.name)
        parent, dot, tag = network.link.rpartition(".")
        if network.link.startswith("dm-") and "parent" not in dict(network.spec.options):
            self._links.make_dummy(network.link, alias)
        elif dot and tag.isdecimal() and 0 < int(tag) < 4095:
            self._links.make_vlan(network.link, parent, int(tag), alias)
        else:
            raise NotFound("network link", network.link, hint="-o parent= names a link of the host")

    async def remove(self, network: Network) -> None:
        """Take a network from the host; again is fine. The caller knows that nobody is in it."""
        self._forget(network.id)
        if network.spec.driver in _HOST_DRIVERS:
            return
        async with self._kernel:
            await asyncio.to_thread(self._remove_link, network)

    def _remove_link(self, network: Network) -> None:
        if network.spec.driver is Driver.BRIDGE:
            plan = self._plan(network)
            self._filter.remove(rules.network_elements(plan))
            if not any(n.spec.driver is Driver.BRIDGE for n in self._networks.values()):
                self._rules.withdraw()
            if plan.adopted:
                return
        shared = any(other.link == network.link for other in self._networks.values())
        present = self._links.find(network.link)
        if present is not None and self._links.owns(present) and not shared:
            self._links.remove(network.link)

    def _forget(self, network_id: str) -> None:
        self._networks.pop(network_id, None)
        self._spaces.pop(network_id, None)

    # -- endpoints ---------------------------------------------------------------------------

    def _space(self, network_id: str, address: str) -> Space:
        version = parse_address(address).version
        some = [s for s in self._spaces.get(network_id, ()) if s.version == version]
        for space in some:
            if parse_address(address) in space.subnet:
                return space
        raise Invalid(f"no configured subnet contains IP address {address}")

    def _take(self, network: Network, version: int, wish: str, holder: str) -> str:
        if wish:
            if parse_address(wish).version != version:
                raise Invalid(f"invalid IPv{version} address: {wish}")
            return str(self._space(network.id, wish).claim(wish, holder))
        some = [space for space in self._spaces[network.id] if space.version == version]
        for space in some[:-1]:
            with contextlib.suppress(WherryError):
                return str(space.take(holder))
        return str(some[-1].take(holder)) if some else ""

    def attach(
        self,
        container_id: str,
        name: str,
        network: Network,
        wish: EndpointSpec,
        interface: str,
        *,
        default_way: bool,
        default_way6: bool | None = None,
    ) -> tuple[Endpoint, Link]:
        """Return the endpoint of a container in a network, its addresses taken, and the plan of its link.

        `default_way` is whether the container's default route leads here, of IPv6 too unless
        `default_way6` says otherwise. Raises Invalid, Conflict for an address that is taken, Full.
        """
        if network.id not in self._spaces:
            raise NotFound("network", network.name)
        naming.check_link_name(interface, "interface name")
        mac = parse_mac(wish.mac)
        holder = f"container {name or container_id[:12]}"
        ipv4 = self._take(network, 4, wish.ipv4, holder)
        try:
            ipv6 = self._take(network, 6, wish.ipv6, holder)
        except BaseException:
            if ipv4:
                self._space(network.id, ipv4).release(ipv4)
            raise
        if wish.ipv6 and not ipv6:
            raise Invalid(f"no configured subnet contains IP address {wish.ipv6}")
        gateways = gateway_of(network, ipv4), gateway_of(network, ipv6)
        endpoint = plan_endpoint(network, interface, mac, ipv4, ipv6, gateways=gateways)
        placing = Placing(
            alias=self._naming.alias(container_id, endpoint.id[:12]),
            default4=default_way,
            default6=default_way if default_way6 is None else default_way6,
            isolated=network.spec.driver is Driver.BRIDGE and _isolates(network),
        )
        try:
            link = plan_link(network, endpoint, wish, placing)
        except BaseException:
            self.detach(endpoint)
            raise
        return endpoint, link

    def detach(self, endpoint: Endpoint) -> None:
        """Give an endpoint's addresses back; again is fine."""
        for address in filter(None, (endpoint.ipv4, endpoint.ipv6)):
            with contextlib.suppress(WherryError):
                self._space(endpoint.network_id, address).release(address)

    def link(self, container_id: str, endpoint: Endpoint | None, targets: Targets) -> None:
        """Let a container reach these ports of others on its default bridge, and no more than these.

        `targets` are (address, protocol, port), none when it ends. Only where containers do not reach each
        other anyway (icc=false). Raises Unavailable.
        """
        network = self._networks.get(endpoint.network_id) if endpoint is not None else None
        if (
            endpoint is None
            or network is None
            or options.flag(network.spec.options, options.ICC, True)
        ):
            self._linking.link(container_id, "", "", ())
        else:
            self._linking.link(container_id, network.link, endpoint.ipv4, targets)

    # -- ports -------------------------------------------------------------------------------

    async def publish(
        self,
        container_id: str,
        name: str,
        wishes: Sequence[PortWish],
        endpoints: Sequence[Endpoint],
    ) -> tuple[PublishedPort, ...]:
        """Publish a container's ports, towards the first of the endpoints that can; return them.

        Raises Invalid, Conflict naming who has a port, Unavailable. Nothing is published then.
        """
        return await self._publisher.publish(
            container_id, name, wishes, endpoints, default_address=self._settings.ip
        )

    async def unpublish(self, container_id: str) -> None:
        """Take a container's ports back; again is fine. Raises Unavailable."""
        await self._publisher.unpublish(container_id)


def _isolates(network: Network) -> bool:
    """Whether ports of a bridge are kept apart by the bridge itself (enable_icc=false).

    Where br_netfilter is on the rules do it: the bridge would also stop what comes by a published
    port, since br_netfilter passes that on from port to port.
    """
    apart = not options.flag(network.spec.options, options.ICC, True)
    return apart and not bridged_is_filtered()


def _versions(plans: Sequence[BridgePlan]) -> tuple[int, ...]:
    """Return the families that bridges need forwarding of."""
    subnets = [subnet for plan in plans for subnet in plan.subnets]
    return tuple(version for version in (4, 6) if options.has_version(subnets, version))
