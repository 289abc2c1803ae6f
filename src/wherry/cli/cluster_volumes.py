"""Cluster volumes: the flags that Docker's client has for them, and what it asks an engine for.

An engine that is in no swarm refuses them, which wherry's always is; help does not show them, as Docker's
does not to such an engine.
"""

from __future__ import annotations

from wherry.cli.flags import Flag, Options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Object = dict[str, Any]

_ACCESS = {"block": "BlockVolume", "mount": "MountVolume"}
AVAILABILITY = Flag(
    "availability",
    "string",
    'Cluster Volume availability ("active", "pause", "drain")',
    default="active",
    hidden=True,
)
CLUSTER_FLAGS = (
    AVAILABILITY,
    Flag("group", "string", "Cluster Volume group (cluster volumes)", hidden=True),
    Flag("limit-bytes", "bytes", "Minimum size of the Cluster Volume", hidden=True),
    Flag("required-bytes", "bytes", "Maximum size of the Cluster Volume", hidden=True),
    Flag(
        "scope",
        "string",
        'Cluster Volume access scope ("single", "multi")',
        default="single",
        hidden=True,
    ),
    Flag("secret", "string", "Cluster Volume secrets", many=True, label="map", hidden=True),
    Flag(
        "sharing",
        "string",
        'Cluster Volume access sharing ("none", "readonly", "onewriter", "all")',
        default="none",
        hidden=True,
    ),
    Flag(
        "topology-preferred",
        "string",
        "A topology that the Cluster Volume would be preferred in",
        many=True,
        hidden=True,
    ),
    Flag(
        "topology-required",
        "string",
        "A topology that the Cluster Volume must be accessible from",
        many=True,
        hidden=True,
    ),
    Flag(
        "type",
        "string",
        'Cluster Volume access type ("mount", "block")',
        default="block",
        hidden=True,
    ),
)


def cluster_spec(options: Options) -> Object | None:
    """Return ClusterVolumeSpec of `POST /volumes/create`; None where no flag asks for one."""
    if not any(options.given(flag.name) for flag in CLUSTER_FLAGS):
        return None
    access: Object = {"Scope": options.text("scope"), "Sharing": options.text("sharing")}
    kind = _ACCESS.get(options.text("type"))
    if kind:
        access[kind] = {}
    topology: Object = {}
    for key, flag in (("Requisite", "topology-required"), ("Preferred", "topology-preferred")):
        if options.given(flag):
            topology[key] = [{"Segments": _pairs(text)} for text in options.all(flag)]
    spec: Object = {"Group": options.text("group")} if options.text("group") else {}
    spec |= {
        "AccessMode": access,
        "AccessibilityRequirements": topology,
        "CapacityRange": {
            "RequiredBytes": options.number("required-bytes"),
            "LimitBytes": options.number("limit-bytes"),
        },
    }
    if options.given("secret"):
        secrets = (text.partition("=") for text in options.all("secret"))
        spec["Secrets"] = [{"Key": key, "Secret": value} for key, _, value in secrets]
    spec["Availability"] = options.text("availability")
    return spec


def _pairs(text: str) -> dict[str, str]:
    pairs = (part.partition("=") for part in text.split(","))
    return {key: value for key, _, value in pairs}
