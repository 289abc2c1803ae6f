"""`--link` on the default bridge, where names are not looked up: lines in /etc/hosts and variables. Pure.

Source: Docker's documentation, "Legacy container links"; texts are those of Docker Engine 28.5.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from wherry.containers.endpoints import exposed
from wherry.model.containers import Container
from wherry.model.networks import DEFAULT_BRIDGE

_SHORT = 12


@dataclass(frozen=True, slots=True)
class Linked:
    """A running container, and what the one that links to it calls it."""

    alias: str
    container: Container

    @property
    def address(self) -> str:
        """Its address on the default bridge, if any."""
        for endpoint in self.container.state.attachments.endpoints:
            if endpoint.network == DEFAULT_BRIDGE:
                return endpoint.ipv4 or endpoint.ipv6
        return ""


def host_lines(links: Iterable[Linked]) -> list[str]:
    """Return lines of /etc/hosts, without their ends."""
    lines: list[str] = []
    for link in links:
        other = link.container
        hostname = other.hostname or other.id[:_SHORT]
        names = dict.fromkeys((link.alias, hostname, other.name))
        if link.address:
            lines.append(f"{link.address}\t{' '.join(names)}")
    return lines


def variables(name: str, links: Iterable[Linked]) -> list[str]:
    """Return the variables that tell the container called `name` of those it links to."""
    found: list[str] = []
    for link in links:
        if not link.address:
            continue
        alias = link.alias.replace("-", "_").upper()
        found += _ports(alias, link.address, exposed(link.container.spec.exposed_ports))
        found.append(f"{alias}_NAME=/{name}/{link.alias}")
        for entry in link.container.env:
            key, equals, value = entry.partition("=")
            if equals and key not in ("HOME", "PATH"):
                found.append(f"{alias}_ENV_{key}={value}")
    return found


def _ports(alias: str, address: str, ports: Sequence[tuple[str, int]]) -> list[str]:
    found: list[str] = []
    for proto, port in ports:
        url = f"{proto}://{address}:{port}"
        if not found:
            found.append(f"{alias}_PORT={url}")
        prefix = f"{alias}_PORT_{port}_{proto.upper()}"
        found += [
            f"{prefix}={url}",
            f"{prefix}_ADDR={address}",
            f"{prefix}_PORT={port}",
            f"{prefix}_PROTO={proto}",
        ]
    return found
