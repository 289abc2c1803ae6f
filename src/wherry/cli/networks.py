"""`--network` and its company: the Engine API's NetworkMode and EndpointsConfig."""

from __future__ import annotations

from wherry.cli.failure import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from wherry.cli.options import Options

    Object = dict[str, Any]

_BUILT_IN = ("bridge", "host", "none", "default")


def parse_attachment(text: str) -> Object:
    """Return one `--network` as a dictionary with `name` and what else it says. Raises ValueError."""
    attachment: Object = {"name": text, "aliases": [], "local": [], "options": {}, "priority": 0}
    attachment |= {"ip": "", "ip6": "", "mac": ""}
    if "=" not in text:
        return attachment
    attachment["name"] = ""
    from wherry.cli.csv import fields

    for field in fields(text):
        key, _, value = field.lower().partition("=")
        key, value = key.strip(), value.strip()
        match key:
            case "name":
                attachment["name"] = value
            case "alias":
                attachment["aliases"].append(value)
            case "ip" | "ip6":
                attachment[key] = value
            case "mac-address":
                attachment["mac"] = value
            case "link-local-ip":
                attachment["local"].append(value)
            case "driver-opt":
                name, equals, content = field.partition("=")[2].partition("=")
                if not equals:
                    raise ValueError("invalid key value pair format in driver options")
                attachment["options"][name.strip().lower()] = content.strip().lower()
            case "gw-priority":
                try:
                    attachment["priority"] = int(value)
                except ValueError:
                    raise ValueError(f"invalid gw-priority ({value}): invalid syntax") from None
            case _:
                raise ValueError(f"invalid field key {key}")
    if not attachment["name"]:
        raise ValueError("network name/id is not specified")
    return attachment


def network_config(options: Options) -> tuple[str, dict[str, Object]]:
    """Return the NetworkMode and the EndpointsConfig. Raises Failure (125)."""
    attachments: list[Object] = options.all("network") or [parse_attachment("default")]
    _add_flags(attachments[0], options)
    given = bool(options.all("network"))
    user_defined = sum(_is_user_defined(a["name"]) for a in attachments)
    if len(attachments) > 1 and 0 < user_defined < len(attachments):
        raise Failure(
            "conflicting options: cannot attach both user-defined and non-user-defined network-modes",
            125,
        )
    endpoints: dict[str, Object] = {}
    for attachment in attachments:
        name: str = attachment["name"]
        if not name:
            raise Failure("no name set for network", 125)
        if attachment["aliases"] and not _is_user_defined(name):
            raise Failure(
                "network-scoped aliases are only supported for user-defined networks", 125
            )
        if attachment["mac"]:
            _check_mac(attachment["mac"])
        if name in endpoints:
            raise Failure(f'network "{name}" is specified multiple times', 125)
        endpoints[name] = _endpoint(attachment, options.all("link"))
    mode: str = attachments[0]["name"]
    # A mode of the engine's own needs an endpoint only for what is said about it.
    first = endpoints[mode]
    said = first["IPAMConfig"] or first["MacAddress"] or first["DriverOpts"] or first["GwPriority"]
    if given and len(endpoints) == 1 and not _is_user_defined(mode) and not said:
        return mode, {}
    return mode, endpoints


def _add_flags(first: Object, options: Options) -> None:
    pairs = (
        ("network-alias", "aliases", "--network-alias", "per-network alias"),
        ("ip", "ip", "--ip", "per-network IPv4 address"),
        ("ip6", "ip6", "--ip6", "per-network IPv6 address"),
        ("mac-address", "mac", "--mac-address", "per-network MAC address"),
        ("link-local-ip", "local", "--link-local-ip", "per-network link-local IP addresses"),
    )
    for flag, key, spelling, other in pairs:
        value = options.values.get(flag)
        if not value:
            continue
        if first[key]:
            raise Failure(f"conflicting options: cannot specify both {spelling} and {other}", 125)
        first[key] = value


def _is_user_defined(name: str) -> bool:
    return name not in _BUILT_IN and not name.startswith("container:")


def _check_mac(text: str) -> None:
    for separator in (":", "-"):
        parts = text.split(separator)
        if len(parts) in (6, 8, 20) and all(
            len(part) == 2 and not part.strip("0123456789abcdefABCDEF") for part in parts
        ):
            return
    raise Failure(f"{text} is not a valid mac address", 125)


def _endpoint(attachment: Object, links: list[str]) -> Object:
    ipam: Object = {}
    if attachment["ip"]:
        ipam["IPv4Address"] = attachment["ip"]
    if attachment["ip6"]:
        ipam["IPv6Address"] = attachment["ip6"]
    if attachment["local"]:
        ipam["LinkLocalIPs"] = attachment["local"]
    linked = _is_user_defined(attachment["name"]) and links
    return {
        "IPAMConfig": ipam or None,
        "Links": list(links) if linked else None,
        "Aliases": attachment["aliases"] or None,
        "MacAddress": attachment["mac"],
        "DriverOpts": attachment["options"] or None,
        "GwPriority": attachment["priority"],
        "NetworkID": "",
        "EndpointID": "",
        "Gateway": "",
        "IPAddress": "",
        "IPPrefixLen": 0,
        "IPv6Gateway": "",
        "GlobalIPv6Address": "",
        "GlobalIPv6PrefixLen": 0,
        "DNSNames": None,
    }
