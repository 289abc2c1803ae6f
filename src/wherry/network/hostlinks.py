"""Bridges and their addresses in the host's network namespace, made and found by netlink; and sysctls."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from wherry.kernel import links
from wherry.kernel.links import AddressFacts, LinkFacts, RouteFacts
from wherry.kernel.netlink import Netlink, NetlinkError
from wherry.model.errors import Conflict, NotFound, Unavailable, Unsupported
from wherry.model.networks import BridgePlan
from wherry.network.naming import Naming, bridge_mac
from wherry.network.options import has_version

_SYS = Path("/proc/sys/net")


@dataclass(frozen=True, slots=True)
class Seen:
    """What is there: links by name, and addresses of more than a link's reach by a link's index."""

    links: dict[str, LinkFacts]
    addresses: dict[int, set[str]]


class HostLinks:
    """The links of the namespace that this process is in; a socket is opened for each question."""

    def __init__(self, naming: Naming) -> None:
        self._naming = naming
        self._own: set[int] = set()
        """Indices of our links that were seen. An index is not used again before two thousand million are."""

    def _do(self, work: Callable[[Netlink], None]) -> None:
        with Netlink() as route:
            route.widen()
            work(route)

    def links(self) -> tuple[LinkFacts, ...]:
        """Return all links."""
        with Netlink() as route:
            route.widen()
            found = (links.parse_link(m) for m in route.dump(links.dump_links()))
            return tuple(link for link in found if link is not None)

    def addresses(self) -> tuple[AddressFacts, ...]:
        """Return all addresses."""
        with Netlink() as route:
            route.widen()
            found = (links.parse_address(m) for m in route.dump(links.dump_addresses()))
            return tuple(address for address in found if address is not None)

    def routes(self) -> tuple[RouteFacts, ...]:
        """Return the unicast routes of the main table."""
        with Netlink() as route:
            route.widen()
            found = (links.parse_route(m) for m in route.dump(links.dump_routes()))
            return tuple(item for item in found if item is not None)

    def find(self, name: str) -> LinkFacts | None:
        """Return the link called `name`, None where there is none."""
        with Netlink() as route:
            try:
                return links.parse_link(route.ask(links.get_link(name)))
            except NetlinkError as error:
                if error.errno == errno.ENODEV:
                    return None
                raise

    def owns(self, link: LinkFacts) -> bool:
        """Whether a link is this engine's."""
        return self._naming.owns(link.alias)

    def foreign_routes(self) -> tuple[str, ...]:
        """Return the prefixes of the host's routes that do not lead to our links."""
        routes = self.routes()
        with Netlink() as asked:
            for index in {route.index for route in routes} - self._own:
                try:
                    link = links.parse_link(asked.ask(links.get_link_at(index)))
                except NetlinkError:
                    continue  # gone, or a route of several links
                if link is not None and self.owns(link):
                    self._own.add(index)
        return tuple(route.to for route in routes if route.index not in self._own)

    def has_ipv6(self) -> bool:
        """Whether the host has IPv6: an address of more than a link's reach, besides our links'."""
        own = {link.index for link in self.links() if self.owns(link)}
        return any(
            address.index not in own
            and ":" in address.address
            and not ipaddress.ip_interface(address.address).ip.is_loopback
            and not ipaddress.ip_interface(address.address).ip.is_link_local
            for address in self.addresses()
        )

    def look(self) -> Seen:
        """Return all links and addresses, for `make_bridge` of many."""
        found: dict[int, set[str]] = {}
        for address in self.addresses():
            if address.scope == 0:
                found.setdefault(address.index, set()).add(address.address)
        return Seen({link.name: link for link in self.links()}, found)

    def make_bridge(self, plan: BridgePlan, seen: Seen | None = None) -> bool:
        """Have the bridge as planned; return whether it had to be made. Raises Conflict, NotFound, Unavailable.

        A link of that name that is not ours is taken only where the plan says `adopted`. `seen` is what was
        there a moment ago.
        """
        present = seen.links.get(plan.link) if seen is not None else self.find(plan.link)
        if plan.adopted:
            if present is None:
                raise NotFound("network link", plan.link, hint="--bridge names one that is there")
            if present.kind != "bridge":
                raise Conflict(f"{plan.link} is no bridge but a {present.kind or 'device'}")
        elif present is not None and not self.owns(present):
            raise Conflict(
                f"a link called {plan.link} is there and is not this engine's",
                hint="choose another name by -o com.docker.network.bridge.name, or remove the link",
            )
        try:
            with Netlink() as route:
                route.widen()
                have: set[str] = set()
                if present is not None:
                    have = (seen or self.look()).addresses.get(present.index, set())
                self._settle(route, plan, present, have)
        except NetlinkError as error:
            if present is None:
                with contextlib.suppress(OSError):
                    self.remove(plan.link)
            text = (error.strerror or "").lower()
            if error.errno == errno.EOPNOTSUPP:
                raise Unsupported("this kernel has no bridges", hint=text) from error
            raise Unavailable(f"cannot make the bridge {plan.link}: {text}") from error
        return present is None

    def _settle(
        self, route: Netlink, plan: BridgePlan, present: LinkFacts | None, have: set[str]
    ) -> None:
        if present is None:
            route.perform([links.make_bridge(plan.link, bridge_mac(plan.network_id))])
        ipv6 = has_version(plan.subnets, 6)
        if not plan.adopted:
            write_link_sysctl(6, plan.link, "disable_ipv6", "0" if ipv6 else "1")
            if ipv6:
                write_link_sysctl(6, plan.link, "accept_ra", "0")
        # Ports on 127.0.0.1 are sent to containers; the table keeps others from 127.0.0.0/8.
        write_link_sysctl(4, plan.link, "route_localnet", "1")
        found = present or links.parse_link(route.ask(links.get_link(plan.link)))
        assert found is not None
        requests = [
            links.set_link(
                plan.link,
                index=found.index,
                up=True,
                alias="" if plan.adopted else plan.alias,
                mtu=plan.mtu if plan.mtu != found.mtu and not plan.adopted else 0,
            )
        ]
        wanted = set(plan.gateways)
        if not plan.adopted:
            stale = sorted(have - wanted) if present is not None else []
            requests += [links.delete_address(found.index, address) for address in stale]
        requests += [links.add_address(found.index, address) for address in plan.gateways]
        route.perform(requests)

    def remove(self, name: str) -> None:
        """Remove a link; again is fine. Raises OSError."""
        try:
            self._do(lambda route: route.perform([links.delete_link(name)]))
        except NetlinkError as error:
            if error.errno != errno.ENODEV:
                raise

    def remove_all(self, indices: Sequence[int]) -> None:
        """Remove links by their indices, in one go. Raises OSError."""
        if not indices:
            return
        # One that nobody else uses: the kernel's are small numbers.
        group = 1 << 30 | secrets.randbits(30)
        with contextlib.suppress(NetlinkError):  # one of them has just gone by itself
            self._do(lambda route: route.perform([links.set_group(i, group) for i in indices]))
        self._do(lambda route: route.perform([links.delete_group(group)]))

    def make_dummy(self, name: str, alias: str) -> None:
        """Have a link that leads nowhere. Raises Unsupported, Unavailable."""
        self._make_parent(name, alias, lambda route: route.perform([links.make_dummy(name)]))

    def make_vlan(self, name: str, parent: str, tag: int, alias: str) -> None:
        """Have the 802.1q link `name` of a parent. Raises NotFound, Unsupported, Unavailable."""
        above = self.find(parent)
        if above is None:
            raise NotFound("network link", parent, hint=f"it would be the parent of {name}")
        request = links.make_vlan(name, above.index, tag)
        self._make_parent(name, alias, lambda route: route.perform([request]))

    def _make_parent(self, name: str, alias: str, make: Callable[[Netlink], None]) -> None:
        try:
            self._do(make)
            self._do(lambda route: route.perform([links.set_link(name, alias=alias)]))
        except NetlinkError as error:
            if error.errno == errno.EEXIST:
                return
            text = (error.strerror or "").lower()
            if error.errno == errno.EOPNOTSUPP:
                raise Unsupported(
                    f"this kernel cannot make the link {name}: {text}",
                    hint="-o parent= may name one that the host has",
                ) from error
            raise Unavailable(f"cannot make the link {name}: {text}") from error


def bridged_is_filtered() -> bool:
    """Whether frames that a bridge passes on run through the rules of both families (br_netfilter)."""
    names = ("bridge-nf-call-iptables", "bridge-nf-call-ip6tables")
    return all(read_sysctl(f"bridge/{name}") == "1" for name in names)


def read_sysctl(path: str) -> str:
    """Return a sysctl below net/, empty where the kernel has none of that name."""
    try:
        return (_SYS / path).read_text().strip()
    except OSError:
        return ""


def write_sysctl(path: str, value: str) -> bool:
    """Write a sysctl below net/ unless it says so already; return whether it now does."""
    if read_sysctl(path) == value:
        return True
    try:
        (_SYS / path).write_text(value)
    except OSError:
        return False
    return True


def write_link_sysctl(version: int, link: str, name: str, value: str) -> bool:
    """Write a sysctl of one link; names with a dot are one directory."""
    return write_sysctl(f"ipv{version}/conf/{link}/{name}", value)
