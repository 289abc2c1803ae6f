"""`--gpus`: the Engine API's DeviceRequest."""

from __future__ import annotations

from wherry.cli.csv import fields

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def parse_gpus(text: str) -> dict[str, Any]:
    """Return the DeviceRequest for `all`, a count, or `key=value,…`. Raises ValueError."""
    request: dict[str, Any] = {
        "Driver": "",
        "Count": 0,
        "DeviceIDs": None,
        "Capabilities": None,
        "Options": None,
    }
    seen: set[str] = set()
    for field in fields(text):
        key, equals, value = field.partition("=")
        if not equals:
            key, value = "count", field
        if key in seen:
            raise ValueError(f"gpu request key '{key}' can be specified only once")
        seen.add(key)
        match key:
            case "driver":
                request["Driver"] = value
            case "count":
                request["Count"] = _count(value)
            case "device":
                request["DeviceIDs"] = value.split(",")
            case "capabilities":
                request["Capabilities"] = [[*value.split(","), "gpu"]]
            case "options":
                request["Options"] = dict(_pair(option) for option in value.split(","))
            case _:
                raise ValueError(f"unexpected key '{key}' in '{field}'")
    if "count" not in seen and request["DeviceIDs"] is None:
        request["Count"] = 1
    if request["Options"] is None:
        request["Options"] = {}
    if request["Capabilities"] is None:
        request["Capabilities"] = [["gpu"]]
    return request


def _count(text: str) -> int:
    if text == "all":
        return -1
    try:
        return int(text)
    except ValueError:
        raise ValueError(
            f'invalid count ({text}): value must be either "all" or an integer: invalid syntax'
        ) from None


def _pair(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    return name, value
