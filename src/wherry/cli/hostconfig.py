"""The HostConfig of a create request, and the resources that `update` sends alone."""

from __future__ import annotations

from wherry.cli.failure import Failure
from wherry.cli.files import pairs_to_map, reason

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from wherry.cli.flags import Options

    Object = dict[str, Any]

_RATES = {
    "BlkioWeightDevice": "blkio-weight-device",
    "BlkioDeviceReadBps": "device-read-bps",
    "BlkioDeviceWriteBps": "device-write-bps",
    "BlkioDeviceReadIOps": "device-read-iops",
    "BlkioDeviceWriteIOps": "device-write-iops",
}


def host_config(
    options: Options, binds: list[str], bindings: dict[str, list[dict[str, str]]], mode: str
) -> Object:
    """Return the HostConfig. Raises Failure (125)."""
    _check_modes(options)
    policy = restart_policy(options.text("restart"))
    if options.on("rm") and policy["Name"] not in ("", "no"):
        raise Failure("conflicting options: cannot specify both --restart and --rm", 125)
    security, unmasked = _security(options.all("security-opt"))
    body: Object = {
        "Binds": binds or None,
        "ContainerIDFile": options.text("cidfile"),
        "LogConfig": _log_config(options),
        "NetworkMode": mode,
        "PortBindings": bindings,
        "RestartPolicy": policy,
        "AutoRemove": options.on("rm"),
        "VolumeDriver": options.text("volume-driver"),
        "VolumesFrom": options.all("volumes-from") or None,
        "ConsoleSize": [0, 0],
        "CapAdd": _capabilities(options.all("cap-add")),
        "CapDrop": _capabilities(options.all("cap-drop")),
        "CgroupnsMode": options.text("cgroupns"),
        "Dns": options.all("dns"),
        "DnsOptions": options.all("dns-option"),
        "DnsSearch": options.all("dns-search"),
        "ExtraHosts": options.all("add-host") or None,
        "GroupAdd": options.all("group-add") or None,
        "IpcMode": options.text("ipc"),
        "Cgroup": "",
        "Links": options.all("link") or None,
        "OomScoreAdj": options.number("oom-score-adj"),
        "PidMode": options.text("pid"),
        "Privileged": options.on("privileged"),
        "PublishAllPorts": options.on("publish-all"),
        "ReadonlyRootfs": options.on("read-only"),
        "SecurityOpt": security,
        "UTSMode": options.text("uts"),
        "UsernsMode": options.text("userns"),
        "ShmSize": options.number("shm-size"),
        "Isolation": options.text("isolation"),
        **resources(options),
        **_devices(options),
        "MaskedPaths": [] if unmasked else None,
        "ReadonlyPaths": [] if unmasked else None,
    }
    return body | _optional(options)


def _optional(options: Options) -> Object:
    """The fields that Docker's client leaves out when they are empty."""
    out: Object = {}
    if options.given("mount"):
        out["Mounts"] = options.all("mount")
    if options.given("tmpfs"):
        from wherry.cli.mounts import tmpfs_mounts

        out["Tmpfs"] = tmpfs_mounts(options.all("tmpfs"))
    if options.given("sysctl"):
        out["Sysctls"] = dict(options.all("sysctl"))
    if options.given("annotation"):
        out["Annotations"] = pairs_to_map(options.all("annotation"))
    if options.given("storage-opt"):
        if any("=" not in option for option in options.all("storage-opt")):
            raise Failure("invalid storage option", 125)
        out["StorageOpt"] = pairs_to_map(options.all("storage-opt"))
    if options.text("runtime"):
        out["Runtime"] = options.text("runtime")
    if options.given("init"):
        out["Init"] = options.on("init")
    return out


def resources(options: Options) -> Object:
    """Return the Resources of a create request."""
    swappiness = options.number("memory-swappiness") if options.given("memory-swappiness") else -1
    if not -1 <= swappiness <= 100:
        raise Failure(f"invalid value: {swappiness}. Valid memory swappiness range is 0-100", 125)
    by_name = {limit["Name"]: limit for limit in options.all("ulimit")}
    return {
        **limits(options),
        **{key: options.all(flag) for key, flag in _RATES.items()},
        "DeviceCgroupRules": options.all("device-cgroup-rule") or None,
        "MemorySwappiness": swappiness,
        "OomKillDisable": options.on("oom-kill-disable"),
        "PidsLimit": options.number("pids-limit"),
        "Ulimits": [by_name[name] for name in sorted(by_name)],
        "CgroupParent": options.text("cgroup-parent"),
    }


def limits(options: Options) -> Object:
    """Return the limits that `create` and `update` have in common."""
    return {
        "CpuShares": options.number("cpu-shares"),
        "Memory": options.number("memory"),
        "NanoCpus": options.number("cpus"),
        "BlkioWeight": options.number("blkio-weight"),
        "CpuPeriod": options.number("cpu-period"),
        "CpuQuota": options.number("cpu-quota"),
        "CpuRealtimePeriod": options.number("cpu-rt-period"),
        "CpuRealtimeRuntime": options.number("cpu-rt-runtime"),
        "CpusetCpus": options.text("cpuset-cpus"),
        "CpusetMems": options.text("cpuset-mems"),
        "MemoryReservation": options.number("memory-reservation"),
        "MemorySwap": options.number("memory-swap"),
        "CpuCount": 0,
        "CpuPercent": 0,
        "IOMaximumIOps": 0,
        "IOMaximumBandwidth": 0,
    }


def update_body(options: Options) -> Object:
    """Return the body of `POST /containers/{id}/update`."""
    return {
        **limits(options),
        **dict.fromkeys(_RATES),
        "CgroupParent": "",
        "Devices": None,
        "DeviceCgroupRules": None,
        "DeviceRequests": None,
        "MemorySwappiness": None,
        "OomKillDisable": None,
        "PidsLimit": options.number("pids-limit") or None,
        "Ulimits": None,
        "RestartPolicy": restart_policy(options.text("restart")),
    }


def restart_policy(text: str) -> Object:
    """Return the RestartPolicy of `name[:count]`. Raises Failure (125)."""
    name, _, count = text.partition(":")
    if text and not name:
        raise Failure("invalid restart policy format: no policy provided before colon", 125)
    try:
        return {"Name": name, "MaximumRetryCount": int(count) if count else 0}
    except ValueError:
        raise Failure(
            "invalid restart policy format: maximum retry count must be an integer", 125
        ) from None


def _check_modes(options: Options) -> None:
    allowed: dict[str, tuple[str, ...]] = {
        **dict.fromkeys(("pid", "uts", "userns"), ("", "host")),
        "cgroupns": ("", "host", "private"),
    }
    names = {"pid": "PID", "uts": "UTS", "userns": "USER", "cgroupns": "CGROUP"}
    for flag, modes in allowed.items():
        mode = options.text(flag)
        shared = flag == "pid" and mode.startswith("container:") and mode != "container:"
        if mode not in modes and not shared:
            raise Failure(f"--{flag}: invalid {names[flag]} mode", 125)


def _log_config(options: Options) -> Object:
    driver = options.text("log-driver")
    if driver == "none" and options.all("log-opt"):
        raise Failure("invalid logging opts for driver none", 125)
    return {"Type": driver, "Config": pairs_to_map(options.all("log-opt"))}


def _capabilities(names: list[str]) -> list[str] | None:
    """Return the capabilities in the kernel's spelling, each once, in order of name."""
    if not names:
        return None
    wanted: set[str] = set()
    for name in names:
        upper = name.strip().upper()
        wanted.add(upper if upper == "ALL" or upper.startswith("CAP_") else f"CAP_{upper}")
    return sorted(wanted)


def _security(entries: list[str]) -> tuple[list[str] | None, bool]:
    """The options with seccomp profiles read in, and whether the system paths are to be open."""
    if not entries:
        return None, False
    out: list[str] = []
    unmasked = False
    for entry in entries:
        name, separator, value = entry.partition("=")
        if not separator:
            name, separator, value = entry.partition(":")
        if not separator and entry != "no-new-privileges":
            raise Failure(f'Invalid --security-opt: "{entry}"', 125)
        if entry == "systempaths=unconfined":
            unmasked = True
        elif name == "seccomp" and value not in ("unconfined", "builtin"):
            out.append(f"seccomp={_profile(value)}")
        else:
            out.append(entry)
    return out, unmasked


def _profile(path: str) -> str:
    from wherry.client import wire

    try:
        with open(path, encoding="utf-8") as file:
            return wire.encode(wire.decode(file.read()))
    except OSError as error:
        raise Failure(f"opening seccomp profile ({path}) failed: {reason(error)}", 125) from None
    except ValueError as error:
        raise Failure(
            f"compacting json for seccomp profile ({path}) failed: {error}", 125
        ) from None


def _devices(options: Options) -> Object:
    devices: list[Object] = []
    cdi: list[str] = []
    for entry in options.all("device"):
        if "/" in entry and not entry.startswith("/") and "=" in entry and ":" not in entry:
            cdi.append(entry)
        else:
            devices.append(_device(entry))
    requests: list[Object] = options.all("gpus")
    if cdi:
        blank: Object = {"Count": 0, "Capabilities": None, "Options": None}
        requests = [*requests, {"Driver": "cdi", "DeviceIDs": cdi, **blank}]
    return {"Devices": devices, "DeviceRequests": requests or None}


def _device(entry: str) -> Object:
    words = entry.split(":")
    if not words[0] or len(words) > 3:
        raise Failure(f"bad format for path: {entry}", 125)
    source, target, mode = words[0], words[0], "rwm"
    if len(words) == 3:
        target, mode = words[1], words[2]
        if not _is_mode(mode):
            raise Failure(f"bad mode specified: {mode}", 125)
    elif len(words) == 2:
        if _is_mode(words[1]):
            mode = words[1]
        else:
            target = words[1]
    for path in (source, target):
        if not path.startswith("/"):
            raise Failure(f"{path} is not an absolute path", 125)
    return {"PathOnHost": source, "PathInContainer": target, "CgroupPermissions": mode}


def _is_mode(text: str) -> bool:
    return bool(text) and not text.strip("rwm") and len(set(text)) == len(text)
