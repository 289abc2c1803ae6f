"""Networks: create's and connect's bodies to model, and networks and endpoints as inspect shows them.

Source: Engine API v1.51, Network, IPAM, EndpointSettings; answers of Docker Engine 28.5.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TypeVar

import msgspec

from wherry.api.swarm import NO_MANAGER
from wherry.api.wire.codec import decode, optional_pairs, pairs_of, render_time, texts
from wherry.model.containers import Container
from wherry.model.errors import Forbidden, Invalid, NotFound
from wherry.model.networks import (
    DEFAULT_BRIDGE,
    Driver,
    Endpoint,
    EndpointSpec,
    Network,
    NetworkSpec,
    Pool,
    PublishedPort,
    parse_port,
)
from wherry.model.views import NetworkView, Repaired

_HOST = "host"
T = TypeVar("T")


class PoolBody(msgspec.Struct):
    """One entry of IPAM.Config."""

    Subnet: str | None = None
    IPRange: str | None = None
    Gateway: str | None = None
    AuxiliaryAddresses: dict[str, str | None] | None = None


class IpamBody(msgspec.Struct):
    """IPAM."""

    Driver: str | None = None
    Config: list[PoolBody] | None = None
    Options: dict[str, str | None] | None = None


class ConfigFrom(msgspec.Struct):
    """ConfigReference."""

    Network: str | None = None


class NetworkBody(msgspec.Struct):
    """POST /networks/create."""

    Name: str | None = None
    CheckDuplicate: bool | None = None
    Driver: str | None = None
    Scope: str | None = None
    EnableIPv4: bool | None = None
    EnableIPv6: bool | None = None
    IPAM: IpamBody | None = None
    Internal: bool | None = None
    Attachable: bool | None = None
    Ingress: bool | None = None
    ConfigOnly: bool | None = None
    ConfigFrom: ConfigFrom | None = None
    Options: dict[str, str | None] | None = None
    Labels: dict[str, str | None] | None = None


class EndpointIpam(msgspec.Struct):
    """EndpointIPAMConfig."""

    IPv4Address: str | None = None
    IPv6Address: str | None = None
    LinkLocalIPs: list[str] | None = None


class EndpointBody(msgspec.Struct):
    """What of EndpointSettings is asked for; the rest is what was observed, and let pass."""

    IPAMConfig: EndpointIpam | None = None
    Links: list[str] | None = None
    Aliases: list[str] | None = None
    MacAddress: str | None = None
    DriverOpts: dict[str, str | None] | None = None
    GwPriority: int | None = None


class ConnectBody(msgspec.Struct):
    """POST /networks/{id}/connect."""

    Container: str | None = None
    EndpointConfig: EndpointBody | None = None


class DisconnectBody(msgspec.Struct):
    """POST /networks/{id}/disconnect."""

    Container: str | None = None
    Force: bool | None = None


class _NeedsSwarm(Forbidden):
    """Docker's overlay driver: it has one, which works in a swarm alone."""

    def __init__(self) -> None:
        super().__init__(NO_MANAGER)


class _NoPlugin(NotFound):
    def __init__(self, name: str) -> None:
        super().__init__("plugin", name)
        self.message = f'plugin "{name}" not found'


def parse_network(body: bytes) -> NetworkSpec:
    """Return what `body` asks for. Raises Invalid naming the field, NotFound for an unknown driver."""
    wanted = _decode(NetworkBody, body)
    ipam = wanted.IPAM or IpamBody()
    name = wanted.Driver or Driver.BRIDGE
    if name == "overlay":
        raise _NeedsSwarm
    if name not in tuple(Driver):
        raise _NoPlugin(name)
    return NetworkSpec(
        name=wanted.Name or "",
        driver=Driver(name),
        pools=tuple(
            Pool(
                pool.Subnet or "",
                pool.IPRange or "",
                pool.Gateway or "",
                pairs_of(pool.AuxiliaryAddresses),
            )
            for pool in ipam.Config or ()
        ),
        ipv4=wanted.EnableIPv4 is not False,
        ipv6=wanted.EnableIPv6,
        internal=bool(wanted.Internal),
        attachable=bool(wanted.Attachable),
        ingress=bool(wanted.Ingress),
        scope=wanted.Scope or "local",
        options=pairs_of(wanted.Options),
        labels=pairs_of(wanted.Labels),
        ipam_driver=ipam.Driver or "default",
        ipam_options=optional_pairs(ipam.Options),
        config_only=bool(wanted.ConfigOnly),
        config_from=(wanted.ConfigFrom and wanted.ConfigFrom.Network) or "",
    )


def parse_connect(body: bytes, network: str) -> tuple[str, EndpointSpec]:
    """Return the container and the endpoint that `body` asks for. Raises Invalid."""
    wanted = _decode(ConnectBody, body)
    return wanted.Container or "", parse_endpoint(network, wanted.EndpointConfig)


def parse_disconnect(body: bytes) -> tuple[str, bool]:
    """Return the container, and whether it may be gone already. Raises Invalid."""
    wanted = _decode(DisconnectBody, body)
    return wanted.Container or "", bool(wanted.Force)


def _decode(kind: type[T], body: bytes) -> T:
    return decode(kind, body) if body.strip() else kind()


def parse_endpoint(network: str, body: EndpointBody | None) -> EndpointSpec:
    """Return one entry of EndpointsConfig. Raises Invalid."""
    if body is None:
        return EndpointSpec(network)
    ipam = body.IPAMConfig or EndpointIpam()
    priority = body.GwPriority or 0
    if not -(2**63) <= priority < 2**63:
        raise Invalid("GwPriority is out of range")
    return EndpointSpec(
        network,
        aliases=texts(body.Aliases),
        links=texts(body.Links),
        ipv4=ipam.IPv4Address or "",
        ipv6=ipam.IPv6Address or "",
        link_local=texts(ipam.LinkLocalIPs),
        mac=(body.MacAddress or "").lower(),
        gateway_priority=priority,
        options=pairs_of(body.DriverOpts),
    )


def render_network(view: NetworkView) -> dict[str, object]:
    """Return the answer to GET /networks/{id}, in Docker's order."""
    network = view.network
    spec = network.spec
    return {
        "Name": network.name,
        "Id": network.id,
        "Created": render_time(network.created),
        "Scope": spec.scope,
        "Driver": str(spec.driver),
        "EnableIPv4": spec.ipv4,
        "EnableIPv6": bool(spec.ipv6),
        "IPAM": {
            "Driver": spec.ipam_driver,
            "Options": _ipam_options(network),
            "Config": [_pool(pool) for pool in _shown_pools(network)] or None,
        },
        "Internal": spec.internal,
        "Attachable": spec.attachable,
        "Ingress": spec.ingress,
        "ConfigFrom": {"Network": spec.config_from},
        "ConfigOnly": spec.config_only,
        "Containers": {
            one.container_id: {
                "Name": one.name,
                "EndpointID": one.endpoint.id,
                "MacAddress": one.endpoint.mac,
                "IPv4Address": _with_prefix(one.endpoint.ipv4, one.endpoint.prefix4),
                "IPv6Address": _with_prefix(one.endpoint.ipv6, one.endpoint.prefix6),
            }
            for one in view.attached
        },
        "Options": dict(spec.options),
        "Labels": dict(spec.labels),
    }


def _ipam_options(network: Network) -> dict[str, str] | None:
    options = network.spec.ipam_options
    if not options and network.name in (DEFAULT_BRIDGE, _HOST, "none"):
        return None
    return None if options is None else dict(options)


def _shown_pools(network: Network) -> Iterable[Pool]:
    """The pools as asked, of each family; where none was asked, those in use."""
    asked = {":" in pool.subnet for pool in network.asked}
    chosen = [pool for pool in network.spec.pools if (":" in pool.subnet) not in asked]
    if network.name == DEFAULT_BRIDGE:
        return network.spec.pools
    return (*network.asked, *chosen)


def _pool(pool: Pool) -> dict[str, object]:
    answer: dict[str, object] = {"Subnet": pool.subnet}
    if pool.ip_range:
        answer["IPRange"] = pool.ip_range
    if pool.gateway:
        answer["Gateway"] = pool.gateway
    if pool.auxiliary:
        answer["AuxiliaryAddresses"] = dict(pool.auxiliary)
    return answer


def _with_prefix(address: str, length: int) -> str:
    return f"{address}/{length}" if address else ""


def render_repaired(repaired: Repaired) -> dict[str, object]:
    """Return the answer to POST /wherry/networks/repair."""
    return {"Done": list(repaired.done), "Warnings": list(repaired.warnings)}


def render_wish(wish: EndpointSpec) -> dict[str, object]:
    """Return one entry of create's EndpointsConfig."""
    return _endpoint(wish, None, shown=False, listed=False)


def render_endpoints(container: Container, *, listed: bool = False) -> dict[str, object]:
    """Return NetworkSettings.Networks, by name as Go orders maps; listings leave names and aliases out."""
    held = {endpoint.network: endpoint for endpoint in container.state.attachments.endpoints}
    was = container.state.started_at > 0 or bool(held)
    return {
        wish.network: _endpoint(
            wish, held.get(wish.network), shown=was, listed=listed, of=container
        )
        for wish in sorted(container.spec.endpoints, key=lambda wish: wish.network)
    }


def _endpoint(
    wish: EndpointSpec,
    endpoint: Endpoint | None,
    *,
    shown: bool,
    listed: bool,
    of: Container | None = None,
) -> dict[str, object]:
    ipam: dict[str, object] = {}
    if wish.ipv4:
        ipam["IPv4Address"] = wish.ipv4
    if wish.ipv6:
        ipam["IPv6Address"] = wish.ipv6
    if wish.link_local:
        ipam["LinkLocalIPs"] = list(wish.link_local)
    held = endpoint or Endpoint("", wish.network_id if shown else "", wish.network, "")
    names: list[str] | None = list(held.names) or None
    if (
        names is None
        and shown
        and of is not None
        and wish.network not in (DEFAULT_BRIDGE, _HOST, "none")
    ):
        names = list(dict.fromkeys((of.name, *wish.aliases, of.id[:12])))
    return {
        "IPAMConfig": ipam or None,
        "Links": list(wish.links) or None,
        "Aliases": None if listed else list(wish.aliases) or None,
        "MacAddress": held.mac or wish.mac,
        "DriverOpts": dict(wish.options) or None,
        "GwPriority": wish.gateway_priority,
        "NetworkID": held.network_id,
        "EndpointID": held.id,
        "Gateway": held.gateway4,
        "IPAddress": held.ipv4,
        "IPPrefixLen": held.prefix4,
        "IPv6Gateway": held.gateway6,
        "GlobalIPv6Address": held.ipv6,
        "GlobalIPv6PrefixLen": held.prefix6,
        "DNSNames": None if listed else names,
    }


def with_old_aliases(container: Container) -> Container:
    """Return the container as it was shown before API 1.45: its short id and host name among its aliases."""
    own = (container.id[:12], container.hostname)
    wishes = tuple(
        wish
        if wish.network in (DEFAULT_BRIDGE, _HOST, "none")
        else replace(wish, aliases=tuple(dict.fromkeys((*wish.aliases, *own))))
        for wish in container.spec.endpoints
    )
    return replace(container, spec=replace(container.spec, endpoints=wishes))


def render_settings(container: Container) -> dict[str, object]:
    """Return inspect's NetworkSettings; the fields outside Networks are those of the default bridge."""
    state = container.state
    own = bool(state.pid) and not container.spec.namespaces.network.startswith("container:")
    host = container.spec.namespaces.network == _HOST
    first = next(
        (e for e in state.attachments.endpoints if e.network == DEFAULT_BRIDGE),
        Endpoint("", "", "", ""),
    )
    sandbox = hashlib.sha256(f"{container.id} {state.started_at}".encode()).hexdigest()
    return {
        "Bridge": "",
        "SandboxID": sandbox if own else "",
        "SandboxKey": ("/proc/1/ns/net" if host else f"/proc/{state.pid}/ns/net") if own else "",
        "Ports": render_ports(container) if own and not host else {},
        "HairpinMode": False,
        "LinkLocalIPv6Address": "",
        "LinkLocalIPv6PrefixLen": 0,
        "SecondaryIPAddresses": None,
        "SecondaryIPv6Addresses": None,
        "EndpointID": first.id,
        "Gateway": first.gateway4,
        "GlobalIPv6Address": first.ipv6,
        "GlobalIPv6PrefixLen": first.prefix6,
        "IPAddress": first.ipv4,
        "IPPrefixLen": first.prefix4,
        "IPv6Gateway": first.gateway6,
        "MacAddress": first.mac,
        "Networks": render_endpoints(container),
    }


def render_ports(container: Container) -> dict[str, object]:
    """Return inspect's Ports: what is published, and null for what is exposed only."""
    made = any(endpoint.interface for endpoint in container.state.attachments.endpoints)
    if not made:
        return {}
    found: dict[str, list[dict[str, str]] | None] = dict.fromkeys(container.spec.exposed_ports)
    for port in _ordered(container.state.attachments.ports):
        name = f"{port.container_port}/{port.proto}"
        bindings = found.get(name) or []
        bindings.append({"HostIp": port.host_address, "HostPort": str(port.host_port or "")})
        found[name] = bindings
    return dict(sorted(found.items()))


def render_port_list(container: Container) -> list[dict[str, object]]:
    """Return a listing's Ports."""
    if not any(endpoint.interface for endpoint in container.state.attachments.endpoints):
        return []
    answer: list[dict[str, object]] = []
    published: set[str] = set()
    for port in _ordered(container.state.attachments.ports):
        published.add(f"{port.container_port}/{port.proto}")
        public = {"PublicPort": port.host_port} if port.host_port else {}
        answer.append(
            {
                "IP": port.host_address,
                "PrivatePort": port.container_port,
                **public,
                "Type": port.proto,
            }
        )
    for name in container.spec.exposed_ports:
        number, _, proto = name.partition("/")
        # An image may expose anything; one port out of range and Docker's client shows no container at all.
        if name not in published and (port := parse_port(number)) is not None:
            answer.append({"PrivatePort": port, "Type": proto or "tcp"})
    return answer


def _ordered(ports: Iterable[PublishedPort]) -> list[PublishedPort]:
    return sorted(
        ports, key=lambda p: (p.container_port, p.proto, p.host_port, ":" in p.host_address)
    )


def mapped_endpoints(config: Mapping[str, EndpointBody | None] | None) -> tuple[EndpointSpec, ...]:
    """Return NetworkingConfig.EndpointsConfig of create. Raises Invalid."""
    return tuple(parse_endpoint(name, body) for name, body in (config or {}).items())
