"""`wherry network …`."""

from __future__ import annotations

from wherry.cli.failure import Failure
from wherry.cli.files import pairs_to_map
from wherry.cli.flags import Command, Flag, Options
from wherry.cli.listing import FORMAT, Listing, filter_flag, filters_query
from wherry.cli.moments import go_string
from wherry.cli.pruning import FORCE, is_agreed, prune, prune_filter, show_removed
from wherry.cli.session import Session
from wherry.cli.template.values import Row
from wherry.cli.verbs.lifecycle import for_each
from wherry.client.engine import segment
from wherry.client.wire import one
from wherry.model.errors import Invalid, NotFound
from wherry.model.moments import parse_rfc3339

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Object = dict[str, Any]

_KIND = "*network.networkContext"
_COLUMNS = "{{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}"
_TITLES = {
    "ID": "NETWORK ID",
    "Name": "NAME",
    "Driver": "DRIVER",
    "Scope": "SCOPE",
    "IPv4": "IPV4",
    "IPv6": "IPV6",
    "Internal": "INTERNAL",
    "Labels": "LABELS",
    "Label": "",
    "CreatedAt": "CREATED AT",
}
_RAW = """network_id: {{.ID}}
name: {{.Name}}
driver: {{.Driver}}
scope: {{.Scope}}
"""


def _row(network: Object, truncate: bool) -> Row:
    labels: dict[str, str] = one(network, "Labels")
    identifier: str = network["Id"]

    def label(name: str) -> str:
        return labels.get(name, "")

    return Row(
        _KIND,
        {
            "CreatedAt": lambda: _moment(network.get("Created", "")),
            "Driver": lambda: network["Driver"],
            "ID": lambda: identifier[:12] if truncate else identifier,
            "IPv4": lambda: str(network.get("EnableIPv4", True)).lower(),
            "IPv6": lambda: str(network["EnableIPv6"]).lower(),
            "Internal": lambda: str(network["Internal"]).lower(),
            "Labels": lambda: ",".join(f"{name}={labels[name]}" for name in sorted(labels)),
            "Label": lambda: label,
            "Name": lambda: network["Name"],
            "Scope": lambda: network["Scope"],
        },
    )


def _moment(text: str) -> str:
    """Go's form of an RFC 3339 time."""
    try:
        seconds, rest = divmod(parse_rfc3339(text), 10**9)
    except Invalid:
        return text
    shown = go_string(seconds)
    fraction = f"{rest:09d}".rstrip("0")
    date, clock, zone = shown.split(" ", 2)
    return f"{date} {clock}.{fraction} {zone}" if fraction else shown


def _list(session: Session, options: Options, _arguments: list[str]) -> int:
    query = filters_query(options.all("filter"))
    found = sorted(session.engine.get("/networks", query), key=lambda network: network["Name"])
    rows = [_row(network, not options.on("no-trunc")) for network in found]
    listing = Listing(_KIND, _COLUMNS, _TITLES, raw=_RAW)
    text = listing.render(
        rows,
        session.listing_form(options, "networksFormat"),
        quiet=options.on("quiet"),
        style=session.style(),
    )
    session.write(text)
    return 0


def _create(session: Session, options: Options, arguments: list[str]) -> int:
    body: Object = {
        "Name": arguments[0],
        "Driver": options.text("driver"),
        "Scope": options.text("scope"),
        "IPAM": {
            "Driver": options.text("ipam-driver"),
            "Options": pairs_to_map(options.all("ipam-opt")),
            "Config": _pools(options),
        },
        "Internal": options.on("internal"),
        "Attachable": options.on("attachable"),
        "Ingress": options.on("ingress"),
        "ConfigOnly": options.on("config-only"),
        "ConfigFrom": {"Network": options.text("config-from")},
        "Options": pairs_to_map(options.all("opt")),
        "Labels": pairs_to_map(options.all("label")),
    }
    for family in ("ipv4", "ipv6"):
        if options.given(family):
            body[f"EnableIP{family[2:]}"] = options.on(family)
    session.line(session.engine.call("POST", "/networks/create", None, body)["Id"])
    return 0


def _several(options: Options, name: str) -> list[str]:
    return [part for text in options.all(name) for part in text.split(",") if part]


def _pools(options: Options) -> list[Object]:
    """IPAM.Config: each range, gateway and address with the subnet that it lies in."""
    import ipaddress

    subnets, ranges = _several(options, "subnet"), _several(options, "ip-range")
    gateways = _several(options, "gateway")
    if len(subnets) < len(ranges) or len(subnets) < len(gateways):
        raise Failure("every ip-range or gateway must have a corresponding subnet")
    nets: list[tuple[str, Any]] = []
    for text in subnets:
        try:
            net = ipaddress.ip_network(text, strict=False)
        except ValueError:
            continue  # the engine says what is wrong with it
        for _, known in nets:
            if net.version == known.version and net.overlaps(known):
                raise Failure("multiple overlapping subnet configuration is not supported")
        nets.append((text, net))
    pools: dict[str, Object] = {text: {"Subnet": text} for text in subnets}

    def place(text: str, noun: str) -> Object:
        try:
            address = ipaddress.ip_interface(text).ip
        except ValueError:
            raise Failure(f"invalid {noun}: {text}") from None
        for name, net in nets:
            if address in net:
                return pools[name]
        raise Failure(f"no matching subnet for {noun} {text}")

    for key, noun, texts in (("IPRange", "range", ranges), ("Gateway", "gateway", gateways)):
        for text in texts:
            pool = place(text, noun)
            if key in pool:
                found = pool[key]
                raise Failure(
                    f"cannot configure multiple {noun}s ({text}, {found}) on the same subnet "
                    f"({pool['Subnet']})"
                )
            pool[key] = text
    for name, text in pairs_to_map(options.all("aux-address")).items():
        place(text, "aux-address").setdefault("AuxiliaryAddresses", {})[name] = text
    return list(pools.values())


def _connect(session: Session, options: Options, arguments: list[str]) -> int:
    ipam: Object = {}
    for key, flag in (("IPv4Address", "ip"), ("IPv6Address", "ip6")):
        if options.text(flag):
            ipam[key] = options.text(flag)
    if local := _several(options, "link-local-ip"):
        ipam["LinkLocalIPs"] = local
    wish: Object = {
        "IPAMConfig": ipam,
        "Links": options.all("link") or None,
        "Aliases": _several(options, "alias") or None,
        "DriverOpts": pairs_to_map(_several(options, "driver-opt")),
        "GwPriority": options.number("gw-priority"),
    }
    path = f"/networks/{segment(arguments[0])}/connect"
    session.engine.call("POST", path, None, {"Container": arguments[1], "EndpointConfig": wish})
    return 0


def _disconnect(session: Session, options: Options, arguments: list[str]) -> int:
    path = f"/networks/{segment(arguments[0])}/disconnect"
    body = {"Container": arguments[1], "Force": options.on("force")}
    session.engine.call("POST", path, None, body)
    return 0


def _remove(session: Session, options: Options, arguments: list[str]) -> int:
    forced = options.on("force")

    gone: set[str] = set()
    if forced:
        for name in arguments:
            try:
                session.engine.get(f"/networks/{segment(name)}")
            except NotFound:
                gone.add(name)

    def act(name: str) -> str:
        session.engine.call("DELETE", f"/networks/{segment(name)}")
        return name

    return for_each(session, [name for name in arguments if name not in gone], act)


def _prune(session: Session, options: Options, _arguments: list[str]) -> int:
    warning = "WARNING! This will remove all custom networks not used by at least one container."
    if is_agreed(session, options, warning):
        answer = prune(session, "networks", options.all("filter"))
        show_removed(session, answer, "NetworksDeleted", "Deleted Networks:")
    return 0


def _repair(session: Session, _options: Options, _arguments: list[str]) -> int:
    answer: Object = session.engine.call("POST", "/wherry/networks/repair")
    for line in answer["Done"]:
        session.line(line)
    for line in answer["Warnings"]:
        session.error(f"WARNING: {line}")
    if not answer["Done"] and not answer["Warnings"]:
        session.line("Nothing was amiss.")
    return 1 if answer["Warnings"] else 0


def _flag(name: str, text: str, *, short: str = "") -> Flag:
    return Flag(name, "string", text, short=short, many=True)


_FILTER = filter_flag("Provide filter values (driver=bridge)")
LIST = Command(
    _list,
    "[OPTIONS]",
    "List networks",
    (
        _FILTER,
        FORMAT,
        Flag("no-trunc", "bool", "Do not truncate the output"),
        Flag("quiet", "bool", "Only display network IDs", short="q"),
    ),
    most=0,
)
CREATE = Command(
    _create,
    "[OPTIONS] NETWORK",
    "Create a network",
    (
        Flag("attachable", "bool", "Enable manual container attachment"),
        _flag("aux-address", "Addresses that no container gets (name=address)"),
        Flag("config-from", "string", "The network from which to copy the configuration"),
        Flag("config-only", "bool", "Create a configuration only network"),
        Flag("driver", "string", "Driver to manage the network", short="d", default="bridge"),
        _flag("gateway", "IPv4 or IPv6 gateway for the subnet"),
        Flag("ingress", "bool", "Create swarm routing-mesh network"),
        Flag("internal", "bool", "Restrict external access to the network"),
        _flag("ip-range", "Allocate container addresses from a sub-range"),
        Flag("ipam-driver", "string", "IP address management driver", default="default"),
        _flag("ipam-opt", "Set IPAM driver specific options"),
        Flag("ipv4", "bool", "Enable or disable IPv4 address assignment", default=True),
        Flag("ipv6", "bool", "Enable or disable IPv6 address assignment"),
        Flag("label", "label", "Set metadata on a network", many=True),
        _flag("opt", "Set driver specific options", short="o"),
        Flag("scope", "string", "Control the network's scope"),
        _flag("subnet", "Subnet in CIDR format that represents a network segment"),
    ),
    least=1,
    most=1,
)
CONNECT = Command(
    _connect,
    "[OPTIONS] NETWORK CONTAINER",
    "Connect a container to a network",
    (
        _flag("alias", "Add network-scoped alias for the container"),
        _flag("driver-opt", "Driver options for the network"),
        Flag("gw-priority", "int", "Highest gw-priority provides the default gateway"),
        Flag("ip", "address", "IPv4 address (172.30.100.104)"),
        Flag("ip6", "address", "IPv6 address (2001:db8::33)"),
        Flag("link", "link", "Add link to another container", many=True),
        _flag("link-local-ip", "Add a link-local address for the container"),
    ),
    least=2,
    most=2,
)
DISCONNECT = Command(
    _disconnect,
    "[OPTIONS] NETWORK CONTAINER",
    "Disconnect a container from a network",
    (Flag("force", "bool", "Force the container to disconnect from a network", short="f"),),
    least=2,
    most=2,
)
REMOVE = Command(
    _remove,
    "[OPTIONS] NETWORK [NETWORK...]",
    "Remove one or more networks",
    (Flag("force", "bool", "Do not error if the network does not exist", short="f"),),
    least=1,
)
PRUNE = Command(
    _prune,
    "[OPTIONS]",
    "Remove all unused networks",
    (prune_filter("until=24h"), FORCE),
    most=0,
)
REPAIR = Command(
    _repair,
    "",
    "Make rules and links anew that somebody took away",
    (),
    most=0,
)
