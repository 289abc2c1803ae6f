"""Addresses of one subnet: which are taken and by whom. In memory; the lowest free one is given out."""

from __future__ import annotations

import heapq
import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass

from wherry.model.errors import Conflict, Full, Invalid

Subnet = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

GATEWAY = "the gateway"


@dataclass(slots=True)
class Space:
    """The addresses of a subnet. `name` is the network's, for errors.

    Without `ip_range` all of the subnet is given out; a wish may always lie anywhere in the subnet.
    """

    name: str
    subnet: Subnet
    ip_range: Subnet
    _holders: dict[int, str]
    _freed: list[int]
    _next: int

    @classmethod
    def of(cls, name: str, subnet: Subnet, ip_range: Subnet | None = None) -> Space:
        """Return a space with nothing taken but what is nobody's: the network's own and the broadcast."""
        inner = ip_range or subnet
        self = cls(name, subnet, inner, {}, [], int(inner.network_address))
        for edge in _edges(subnet):
            self._holders[edge] = "the subnet itself"
        return self

    @property
    def version(self) -> int:
        """4 or 6."""
        return self.subnet.version

    def take(self, holder: str) -> Address:
        """Return the lowest free address, taken. Raises Full."""
        while self._freed:
            number = heapq.heappop(self._freed)
            if number not in self._holders and number < self._next:
                return self._hold(number, holder)
        last = int(self.ip_range.broadcast_address)
        while self._next <= last:
            number = self._next
            self._next += 1
            if number not in self._holders:
                return self._hold(number, holder)
        raise Full(
            f"no available IPv{self.version} addresses on this network's address pools: {self.name}",
            hint=f"{self.ip_range} is given out; its holders are {_shorten(self._holders.values())}",
        )

    def claim(self, address: str, holder: str) -> Address:
        """Return `address`, taken. Raises Invalid where it is none of the subnet, Conflict where it is taken."""
        wanted = parse_address(address)
        if wanted not in self.subnet:
            raise Invalid(f"no configured subnet contains IP address {address}")
        present = self._holders.get(int(wanted))
        if present is not None:
            raise Conflict(f"Address already in use: {address} belongs to {present}")
        return self._hold(int(wanted), holder)

    def claim_gateway(self, address: str) -> None:
        """Take the gateway's address. Raises Conflict where it is nobody's, in Docker's words."""
        if self.holder(address):
            raise Conflict(f"failed to allocate gateway ({address}): Address already in use")
        self.claim(address, GATEWAY)

    def claim_auxiliary(self, name: str, address: str) -> None:
        """Take an address that no container is to get. Raises Conflict."""
        if present := self.holder(address):
            raise Conflict(
                f"failed to allocate secondary ip address ({name}:{address}): Address already in use",
                hint=f"it belongs to {present}",
            )
        self.claim(address, f"auxiliary address {name}")

    def release(self, address: str) -> None:
        """Give an address back; again is fine."""
        number = int(parse_address(address))
        # A wish may have lain outside of the range that is given out.
        within = number >= int(self.ip_range.network_address)
        if self._holders.pop(number, None) is not None and within:
            heapq.heappush(self._freed, number)

    def holder(self, address: str) -> str:
        """Return who has an address; empty where nobody has."""
        return self._holders.get(int(parse_address(address)), "")

    def taken(self) -> int:
        """Return how many addresses are held, the subnet's own left out."""
        return len(self._holders) - len(set(_edges(self.subnet)))

    def _hold(self, number: int, holder: str) -> Address:
        self._holders[number] = holder
        kind = ipaddress.IPv4Address if self.version == 4 else ipaddress.IPv6Address
        return kind(number)


def _edges(subnet: Subnet) -> tuple[int, ...]:
    first, last = int(subnet.network_address), int(subnet.broadcast_address)
    if subnet.version == 6:
        # The subnet-router anycast address, RFC 4291 2.6.1.
        return (first,) if subnet.prefixlen < 127 else ()
    return (first, last) if subnet.prefixlen < 31 else ()


def _shorten(names: Iterable[str]) -> str:
    known = sorted(set(names))
    return ", ".join(known[:5]) + (f" and {len(known) - 5} more" if len(known) > 5 else "")


def parse_address(text: str) -> Address:
    """Return an address; raise Invalid."""
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        raise Invalid(f"invalid IP address: {text}") from None


def parse_subnet(text: str, what: str = "subnet") -> Subnet:
    """Return a prefix without host bits; raise Invalid, with the prefix that was perhaps meant."""
    try:
        interface = ipaddress.ip_interface(text)
    except ValueError:
        raise Invalid(f"invalid {what} {text}: invalid CIDR address") from None
    if "/" not in text:
        raise Invalid(f"invalid {what} {text}: invalid CIDR address")
    if interface.ip != interface.network.network_address:
        raise Invalid(f"invalid {what} {text}: it should be {interface.network}")
    return interface.network
