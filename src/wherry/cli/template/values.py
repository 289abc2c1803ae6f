"""Values as templates see them: rows of a listing, maps and records of JSON, and how Go prints them."""

from __future__ import annotations

from wherry.cli.gojson import Map, NoList, NoMap, number

__all__ = ["Map", "NoMap"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


class Row:
    """A line of a listing: named fields, computed when asked for. `kind` is Go's type, for errors."""

    __slots__ = ("fields", "kind")

    def __init__(self, kind: str, fields: dict[str, Callable[[], Any]]) -> None:
        self.kind = kind
        self.fields = fields

    def values(self) -> dict[str, Any]:
        """Every field that is no function of its own, by name in order."""
        out = {name: get() for name, get in self.fields.items()}
        return {name: out[name] for name in sorted(out) if not callable(out[name])}


class Titles(Map):
    """The titles of a table's columns, as its template sees them."""

    @staticmethod
    def label(name: str) -> str:
        """Return the title of the column of one label: the end of its name, in words."""
        return name.rpartition(".")[2].replace("-", " ").replace("_", " ")


class Missing:
    """What a map has not: `<no value>`."""


MISSING = Missing()
# Members of the API's objects that are maps by its own definition.
_MAPS = frozenset(
    (
        *("Labels", "Annotations", "Sysctls", "Tmpfs", "StorageOpt", "Options", "DriverOpts"),
        *("Networks", "Ports", "PortBindings", "ExposedPorts", "Volumes", "Data", "Headers"),
    )
)
# Members that are lists: null there is an empty list to Go.
_LISTS = frozenset(
    (
        *("Binds", "VolumesFrom", "CapAdd", "CapDrop", "Dns", "DnsOptions", "DnsSearch", "Links"),
        *("ExtraHosts", "GroupAdd", "SecurityOpt", "Devices", "DeviceRequests", "Ulimits", "Cmd"),
        *("DeviceCgroupRules", "BlkioWeightDevice", "BlkioDeviceReadBps", "BlkioDeviceWriteBps"),
        *("BlkioDeviceReadIOps", "BlkioDeviceWriteIOps", "Entrypoint", "Env", "OnBuild", "Aliases"),
        *("DNSNames", "ExecIDs", "RepoTags", "RepoDigests", "Layers", "Args", "Mounts"),
    )
)
# Members that the API leaves out when they are empty.
OPTIONAL = frozenset(
    (
        *("Health", "Healthcheck", "SizeRw", "SizeRootFs", "Mounts", "StopSignal", "StopTimeout"),
        *("Init", "Annotations", "Sysctls", "Tmpfs", "StorageOpt", "ExposedPorts", "Runtime"),
        *("NetworkDisabled", "MacAddress", "Shell", "ArgsEscaped", "Variant", "OsVersion"),
        *("ImageManifestDescriptor", "Descriptor", "Manifests", "Config", "KernelMemoryTCP"),
    )
)


def wrap(value: Any, name: str = "") -> Any:
    """Return a JSON value with the API's maps as Map."""
    if isinstance(value, dict):
        inner: dict[str, Any] = {key: wrap(item, key) for key, item in value.items()}  # pyright: ignore
        texts = name == "Config" and all(isinstance(item, str) for item in inner.values())
        return Map(inner) if name in _MAPS or texts else inner
    if value is None and name in _MAPS:
        return NoMap()
    if value is None and name in _LISTS:
        return NoList()
    if isinstance(value, list):
        return [wrap(item) for item in value]  # pyright: ignore
    return value


def show(value: Any, top: bool = True) -> str:
    """Return the value as Go's %v prints it."""
    if isinstance(value, str):
        return value
    if value is True or value is False:
        return "true" if value else "false"
    if value is None:
        return "<no value>" if top else "<nil>"
    if value is MISSING:
        return "<no value>"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return show_float(value)
    if isinstance(value, Map):
        return "map[" + " ".join(f"{k}:{show(value[k], False)}" for k in sorted(value)) + "]"
    if isinstance(value, dict):
        return "{" + " ".join(show(item, False) for item in value.values()) + "}"  # pyright: ignore
    if isinstance(value, (list, tuple)):
        return "[" + " ".join(show(item, False) for item in value) + "]"  # pyright: ignore
    if isinstance(value, Row):
        return "{" + " ".join(show(item, False) for item in value.values().values()) + "}"
    return str(value)


def show_float(value: float) -> str:
    """Return a float as Go's %v prints it: shortest, with an exponent below 1e-4 and from 1e6 on."""
    if value != 0 and abs(value) < 1e21 and not 1e-4 <= abs(value) < 1e6:
        mantissa, _, exponent = f"{value:.16e}".partition("e")
        for digits in range(17):
            mantissa, _, exponent = f"{value:.{digits}e}".partition("e")
            if float(f"{mantissa}e{exponent}") == value:
                break
        return f"{mantissa}e{exponent[0]}{exponent[1:].rjust(2, '0')}"
    return number(value)


def true(value: Any) -> bool:
    """Whether Go's `if` takes the value for true: not empty, not zero."""
    if isinstance(value, Row):
        return True
    return value is not MISSING and bool(value)


def type_name(value: Any) -> str:
    """Return Go's name for the type, for errors."""
    if isinstance(value, Row):
        return value.kind
    names = {str: "string", bool: "bool", int: "int", float: "float64", list: "[]interface {}"}
    return names.get(type(value), "interface {}")  # pyright: ignore
