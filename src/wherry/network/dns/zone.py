"""What names mean: the members of every network, and how one container's view of them is asked.

The rules are Docker 28.5's, found by asking it: a name is looked for whole in each network of the container,
then as NAME.NETWORK; links come before names; case does not matter; the first network that knows a name
answers alone. A name that exists has no data of another family (NODATA); one that does not is somebody
else's to answer (None).
"""

from __future__ import annotations

import socket

from wherry.network.dns.facts import Member, View
from wherry.network.dns.message import lower

_IP4 = ".in-addr.arpa"
_IP6 = ".ip6.arpa"
_NIBBLES = "0123456789abcdef"


class _Network:
    """The members of one network, by container, by name and by address."""

    __slots__ = ("members", "names", "reverse")

    def __init__(self) -> None:
        self.members: dict[str, Member] = {}
        self.names: dict[str, dict[str, Member]] = {}
        self.reverse: dict[bytes, Member] = {}

    def put(self, member: Member) -> None:
        self.drop(member.container)
        self.members[member.container] = member
        for name in member.names:
            self.names.setdefault(lower(name), {})[member.container] = member
        for address in packed(member.addresses):
            self.reverse[address] = member

    def drop(self, container: str) -> None:
        member = self.members.pop(container, None)
        if member is None:
            return
        for name in {lower(name) for name in member.names}:
            sharing = self.names[name]
            del sharing[container]
            if not sharing:
                del self.names[name]
        for address in packed(member.addresses):
            if self.reverse.get(address) is member:
                del self.reverse[address]


class Zones:
    """All networks. `version` changes with every change: what was computed before is then stale."""

    def __init__(self) -> None:
        self._networks: dict[str, _Network] = {}
        self.version = 0

    def put(self, member: Member) -> None:
        """Add a member or replace it."""
        self.version += 1
        self._networks.setdefault(member.network, _Network()).put(member)

    def drop(self, network: str, container: str) -> None:
        """Remove a member; one that is not there is fine."""
        self.version += 1
        found = self._networks.get(network)
        if found is not None:
            found.drop(container)
            if not found.members:
                del self._networks[network]

    def forget(self, container: str) -> None:
        """Remove a container from every network."""
        for network in [n for n, found in self._networks.items() if container in found.members]:
            self.drop(network, container)

    def members(self) -> list[tuple[str, str]]:
        """Return (network, container) of every member."""
        return [(n, c) for n, found in self._networks.items() for c in found.members]

    def resolve(self, view: View, name: str) -> list[bytes] | None:
        """Return the packed addresses of both families that `name` has for `view`, or None."""
        for network, _ in view.networks:
            if found := self._named(network, view, name):
                return found
        for network, title in view.networks:
            stem = name.removesuffix(f".{lower(title)}")
            if stem and stem != name and (found := self._named(network, view, stem)):
                return found
        return None

    def _named(self, network: str, view: View, name: str) -> list[bytes] | None:
        zone = self._networks.get(network)
        if zone is None:
            return None
        linked = next((c for alias, c in view.links if lower(alias) == name), None)
        if linked is not None and linked in zone.members:
            return packed(zone.members[linked].addresses)
        sharing = zone.names.get(name)
        if not sharing:
            return None
        return [address for member in sharing.values() for address in packed(member.addresses)]

    def reverse(self, view: View, name: str) -> str | None:
        """Return NAME.NETWORK of the address that the PTR name `name` writes, or None."""
        address = parse_reverse(name)
        if address is None:
            return None
        for network, title in view.networks:
            zone = self._networks.get(network)
            member = zone.reverse.get(address) if zone else None
            if member is not None:
                return f"{member.name}.{title}"
        return None


def packed(addresses: tuple[str, ...]) -> list[bytes]:
    """Return the addresses as 4 or 16 bytes each; what is none is left out."""
    result: list[bytes] = []
    for address in addresses:
        try:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            result.append(socket.inet_pton(family, address))
        except (OSError, ValueError):
            continue
    return result


def parse_reverse(name: str) -> bytes | None:
    """Return the address, 4 or 16 bytes, that a name in in-addr.arpa or ip6.arpa writes, or None."""
    if name.endswith(_IP4):
        parts = name[: -len(_IP4)].split(".")
        if len(parts) == 4 and all(_is_octet(part) for part in parts):
            return bytes(int(part) for part in reversed(parts))
    elif name.endswith(_IP6):
        parts = name[: -len(_IP6)].split(".")
        if len(parts) == 32 and all(len(part) == 1 and part in _NIBBLES for part in parts):
            return bytes.fromhex("".join(reversed(parts)))
    return None


def _is_octet(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 4 and int(text) < 256
