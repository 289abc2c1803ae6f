"""`--mount` and `-v`: the Engine API's Mount and Binds from a user's words."""

from __future__ import annotations

import os

from wherry.cli.csv import fields
from wherry.cli.failure import Failure
from wherry.cli.figures import boolean, size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Object = dict[str, Any]

_ALONE = ("readonly", "ro", "volume-nocopy", "bind-nonrecursive")


def parse_mount(text: str) -> Object:
    """Return the Engine API's Mount. Raises ValueError."""
    mount: Object = {"Type": "volume"}
    groups: dict[str, Object] = {}
    for field in fields(text):
        key, equals, value = field.partition("=")
        key = key.lower()
        if not equals:
            if key not in _ALONE:
                raise ValueError(f"invalid field '{field}' must be a key=value pair")
            value = "true"
        _set(mount, groups, key, value, field)
    return _checked(mount, groups)


def _set(mount: Object, groups: dict[str, Object], key: str, value: str, field: str) -> None:
    match key:
        case "type":
            mount["Type"] = value.lower()
        case "source" | "src":
            relative = value == "." or value.startswith(("./", "../"))
            mount["Source"] = os.path.abspath(value) if relative else value
        case "target" | "dst" | "destination":
            mount["Target"] = value
        case "readonly" | "ro":
            mount["ReadOnly"] = _bool(key, value)
        case "consistency":
            mount["Consistency"] = value.lower()
        case _:
            group, _, option = key.partition("-")
            if (group, option) not in _OPTIONS:
                raise ValueError(f"unexpected key '{key}' in '{field}'")
            _set_option(groups.setdefault(group, {}), group, option, value)


_OPTIONS = {
    *(("bind", option) for option in ("propagation", "nonrecursive", "recursive")),
    *(("volume", option) for option in ("subpath", "nocopy", "label", "driver", "opt")),
    *(("image", option) for option in ("subpath",)),
    *(("tmpfs", option) for option in ("size", "mode")),
}


def _set_option(options: Object, group: str, option: str, value: str) -> None:
    match group, option:
        case "bind", "propagation":
            options["Propagation"] = value.lower()
        case "bind", "nonrecursive":
            options["NonRecursive"] = _bool("bind-nonrecursive", value)
        case "bind", "recursive":
            _set_recursion(options, value)
        case _, "subpath":
            options["Subpath"] = value
        case "volume", "nocopy":
            options["NoCopy"] = _bool("volume-nocopy", value)
        case "volume", "label":
            name, _, content = value.partition("=")
            options.setdefault("Labels", {})[name] = content
        case "volume", "driver":
            options.setdefault("DriverConfig", {})["Name"] = value
        case "volume", "opt":
            name, _, content = value.partition("=")
            options.setdefault("DriverConfig", {}).setdefault("Options", {})[name] = content
        case _, "size":
            try:
                options["SizeBytes"] = size(value)
            except ValueError:
                raise ValueError(f"invalid value for tmpfs-size: {value}") from None
        case _:
            if not value or value.strip("01234567"):
                raise ValueError(f"invalid value for tmpfs-mode: {value}")
            options["Mode"] = int(value, 8)


def _set_recursion(options: Object, value: str) -> None:
    match value:
        case "enabled":
            pass
        case "disabled":
            options["NonRecursive"] = True
        case "writable":
            options["ReadOnlyNonRecursive"] = True
        case "readonly":
            options["ReadOnlyForceRecursive"] = True
        case _:
            raise ValueError(
                f"invalid value for bind-recursive: {value} "
                '(must be "enabled", "disabled", "writable", or "readonly")'
            )


def _bool(key: str, value: str) -> bool:
    try:
        return boolean(value)
    except ValueError:
        raise ValueError(f"invalid value for {key}: {value}") from None


def _checked(mount: Object, groups: dict[str, Object]) -> Object:
    if not mount.get("Target"):
        raise ValueError("target is required")
    kind = mount["Type"]
    for group in ("volume", "image", "bind", "tmpfs"):
        if group in groups and group != kind:
            raise ValueError(f"cannot mix '{group}-*' options with mount type '{kind}'")
    bind = groups.get("bind", {})
    if "ReadOnlyNonRecursive" in bind and not mount.get("ReadOnly"):
        raise ValueError(
            "option 'bind-recursive=writable' requires 'readonly' to be specified in conjunction"
        )
    if "ReadOnlyForceRecursive" in bind:
        if not mount.get("ReadOnly"):
            raise ValueError(
                "option 'bind-recursive=readonly' requires 'readonly' to be specified in conjunction"
            )
        if bind.get("Propagation") != "rprivate":
            raise ValueError(
                "option 'bind-recursive=readonly' requires 'bind-propagation=rprivate' "
                "to be specified in conjunction"
            )
    volume = groups.get("volume")
    if volume is not None and not volume.get("Subpath"):
        volume.setdefault("DriverConfig", {})
    names = {"bind": "BindOptions", "volume": "VolumeOptions", "image": "ImageOptions"}
    for group, options in groups.items():
        kept = {key: value for key, value in options.items() if value is not False and value != ""}
        if kept or group == "volume":
            mount[names.get(group, "TmpfsOptions")] = kept
    return {key: value for key, value in mount.items() if value is not False and value != ""}


def split_volumes(specs: list[str]) -> tuple[list[str], dict[str, Object]]:
    """Return the Binds and the anonymous Volumes that `-v` asks for. Raises Failure (125)."""
    binds: list[str] = []
    volumes: dict[str, Object] = {}
    for spec in dict.fromkeys(specs):
        source = _source(spec)
        if source is None:
            volumes[spec] = {}
        elif source == "." or source.startswith("."):
            binds.append(os.path.abspath(source) + spec[len(source) :])
        else:
            binds.append(spec)
    return binds, volumes


def _source(spec: str) -> str | None:
    """The part of a volume's spec before the target, or None for a target alone."""
    if not spec:
        raise Failure("invalid empty volume spec", 125)
    if len(spec) <= 2:
        return None
    # A single letter before a colon is a drive to Docker's client, whatever the platform.
    start = 2 if spec[1] == ":" and spec[0].isalpha() else 0
    parts = spec[start:].split(":")
    if start:
        parts[0] = spec[:start] + parts[0]
    if "" in parts:
        raise Failure(f"invalid spec: {spec}: empty section between colons", 125)
    return parts[0] if len(parts) > 1 else None


def tmpfs_mounts(specs: list[str]) -> dict[str, str]:
    """Return `--tmpfs` entries as target to options."""
    out: dict[str, str] = {}
    for spec in specs:
        target, _, options = spec.partition(":")
        out[target] = options
    return out
