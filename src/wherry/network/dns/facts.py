"""What the name service is told: who is in which network, and what one container sees.

Frozen facts with their wire forms, JSON objects; what is read is checked, and Invalid is raised.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, cast

from wherry.model.errors import Invalid

Wire = dict[str, Any]


class Side(StrEnum):
    """From which network namespace an upstream is asked."""

    HOST = "host"
    CONTAINER = "container"


@dataclass(frozen=True, slots=True)
class Upstream:
    """A server that is asked about what is nobody's name here; `address` may have a `%scope`."""

    address: str
    side: Side
    port: int = 53

    def to_wire(self) -> Wire:
        """Return the wire form."""
        return {"address": self.address, "side": self.side.value, "port": self.port}

    @classmethod
    def from_wire(cls, wire: object) -> Upstream:
        """Return the fact; raise Invalid."""
        table = as_table(wire)
        side = text(table, "side")
        if side not in set(Side):
            raise Invalid(f"malformed message: side is {side[:80]!r}")
        return cls(text(table, "address"), Side(side), number(table, "port"))


@dataclass(frozen=True, slots=True)
class Member:
    """One running container in one network: what others there resolve.

    `name` is the container's, for reverse look-ups (NAME.NETWORK); `names` are all that lead to
    `addresses`, which are of both families and without a prefix length. Case does not matter.
    """

    network: str
    container: str
    name: str
    names: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()

    def to_wire(self) -> Wire:
        """Return the wire form."""
        return {
            "network": self.network,
            "container": self.container,
            "name": self.name,
            "names": self.names,
            "addresses": self.addresses,
        }

    @classmethod
    def from_wire(cls, wire: object) -> Member:
        """Return the fact; raise Invalid."""
        table = as_table(wire)
        return cls(
            text(table, "network"),
            text(table, "container"),
            text(table, "name"),
            texts(table, "names"),
            texts(table, "addresses"),
        )


@dataclass(frozen=True, slots=True)
class View:
    """What one container sees: its networks (id, name) in the order in which they are asked.

    `links` are (alias, container id) that only it sees. With `internal` no way leads out of its
    networks, and servers on the host's side are not asked (CVE-2024-29018: data got out that way).
    """

    container: str
    networks: tuple[tuple[str, str], ...]
    links: tuple[tuple[str, str], ...] = ()
    upstreams: tuple[Upstream, ...] = ()
    internal: bool = False

    def to_wire(self) -> Wire:
        """Return the wire form."""
        return {
            "container": self.container,
            "networks": self.networks,
            "links": self.links,
            "upstreams": [upstream.to_wire() for upstream in self.upstreams],
            "internal": self.internal,
        }

    @classmethod
    def from_wire(cls, wire: object) -> View:
        """Return the fact; raise Invalid."""
        table = as_table(wire)
        return cls(
            text(table, "container"),
            _pairs(table, "networks"),
            _pairs(table, "links"),
            tuple(Upstream.from_wire(item) for item in _list(table, "upstreams")),
            table.get("internal") is True,
        )


def as_table(wire: object) -> Wire:
    """Return a JSON object; raise Invalid for anything else."""
    if not isinstance(wire, dict):
        raise Invalid(f"malformed message: {str(wire)[:80]!r} is not an object")
    return cast("Wire", wire)


def text(wire: Wire, name: str) -> str:
    """Return the string called `name`; raise Invalid."""
    value = wire.get(name)
    if not isinstance(value, str):
        raise Invalid(f"malformed message: {name} is {str(value)[:80]}")
    return value


def number(wire: Wire, name: str) -> int:
    """Return the integer called `name`; raise Invalid."""
    value = wire.get(name)
    if not isinstance(value, int) or isinstance(value, bool):
        raise Invalid(f"malformed message: {name} is {str(value)[:80]}")
    return value


def _list(wire: Wire, name: str) -> list[object]:
    value = wire.get(name)
    if not isinstance(value, list):
        raise Invalid(f"malformed message: {name} is {str(value)[:80]}")
    return cast("list[object]", value)


def texts(wire: Wire, name: str) -> tuple[str, ...]:
    """Return the list of strings called `name`; raise Invalid."""
    values = _list(wire, name)
    if not all(isinstance(value, str) for value in values):
        raise Invalid(f"malformed message: {name} is {str(values)[:80]}")
    return tuple(cast("list[str]", values))


def _pairs(wire: Wire, name: str) -> tuple[tuple[str, str], ...]:
    pairs: list[tuple[str, str]] = []
    for item in _list(wire, name):
        match item:
            case [str(first), str(second)]:
                pairs.append((first, second))
            case _:
                raise Invalid(f"malformed message: {name} has {str(item)[:80]}")
    return tuple(pairs)
