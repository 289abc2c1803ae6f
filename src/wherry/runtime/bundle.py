"""A bundle's config.json to RuntimeSpec. Source: OCI runtime-spec 1.2, config.md and config-linux.md.

Nothing is passed over in silence: what the runtime does not do is Unsupported, with the property's name.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from typing import Any, cast

from wherry.model.errors import Invalid, NotFound, Unsupported
from wherry.model.oci import (
    HOST,
    PRIVATE,
    Device,
    IdMap,
    Mount,
    NamespaceSet,
    PathRoot,
    Process,
    Rlimit,
    RuntimeSpec,
    User,
)
from wherry.model.resources import DEFAULT_DEVICES, DeviceRate, DeviceRule, HugepageLimit, Limits
from wherry.runtime import seccomp
from wherry.runtime.capabilities import mask_of

Json = Mapping[str, Any]
_KINDS = {
    "user": "user",
    "pid": "pid",
    "mount": "mount",
    "network": "network",
    "ipc": "ipc",
    "uts": "uts",
    "cgroup": "cgroup",
}
_REFUSED = ("intelRdt", "personality", "timeOffsets")


def read_config(bundle: str) -> Json:
    """Return a bundle's configuration. Raises NotFound, Invalid."""
    path = os.path.join(bundle, "config.json")
    try:
        with open(path, encoding="utf-8") as file:
            data = json.load(file)
    except FileNotFoundError as error:
        raise NotFound("bundle", path, hint="make one with: wherry-runtime spec") from error
    except ValueError as error:
        raise Invalid(f"{path}: {error}") from error
    if not isinstance(data, dict):
        raise Invalid(f"{path}: not an object")
    return cast("Json", data)


def parse_spec(identifier: str, bundle: str, config: Json) -> RuntimeSpec:
    """Return the specification that a configuration writes. Raises Invalid, Unsupported."""
    try:
        return _parse(identifier, bundle, config)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Invalid(f"config.json is malformed: {type(error).__name__}: {error}") from error


def _parse(identifier: str, bundle: str, config: Json) -> RuntimeSpec:
    linux: Json = config.get("linux") or {}
    for name in _REFUSED:
        if linux.get(name):
            raise Unsupported(f"linux.{name} is not in this version of wherry-runtime")
    spaces = parse_namespaces(linux.get("namespaces") or ())
    root: Json = config["root"]
    maps = {name: _maps(linux.get(name) or ()) for name in ("uidMappings", "gidMappings")}
    return RuntimeSpec(
        id=identifier,
        process=parse_process(config["process"], linux),
        root=PathRoot(os.path.join(bundle, root["path"])),
        read_only_root=bool(root.get("readonly", False)),
        hostname=config.get("hostname") or "",
        domainname=config.get("domainname") or "",
        mounts=tuple(_mount(item, bundle) for item in config.get("mounts") or ()),
        devices=tuple(Device(item["path"], item["path"]) for item in linux.get("devices") or ()),
        namespaces=spaces,
        uid_maps=maps["uidMappings"],
        gid_maps=maps["gidMappings"],
        limits=parse_limits(linux.get("resources") or {}),
        cgroup_path=linux.get("cgroupsPath") or "",
        sysctls=_pairs(linux.get("sysctl")),
        masked_paths=tuple(linux.get("maskedPaths") or ()),
        readonly_paths=tuple(linux.get("readonlyPaths") or ()),
        root_propagation=linux.get("rootfsPropagation") or "rprivate",
        standard_mounts=False,
    )


def _pairs(data: Json | None) -> tuple[tuple[str, str], ...]:
    return tuple(data.items()) if data else ()


def _maps(items: Any) -> tuple[IdMap, ...]:
    return tuple(IdMap(item["containerID"], item["hostID"], item["size"]) for item in items)


def parse_namespaces(items: Any) -> NamespaceSet:
    """Return `linux.namespaces` as a set; a kind that is not listed is the host's."""
    found = dict.fromkeys(_KINDS.values(), HOST)
    for item in items:
        kind = item["type"]
        if kind == "time":
            raise Unsupported("the time namespace is not in this version of wherry-runtime")
        if kind not in _KINDS:
            raise Invalid(f"unknown namespace type {kind!r}")
        found[_KINDS[kind]] = item.get("path") or PRIVATE
    return NamespaceSet(**found)


def _mount(item: Json, bundle: str) -> Mount:
    options = tuple(item.get("options") or ())
    if item.get("uidMappings") or item.get("gidMappings") or {"idmap", "ridmap"} & set(options):
        raise Unsupported(f"id-mapped mount {item['destination']} is not in this version")
    kind = item.get("type") or ("bind" if {"bind", "rbind"} & set(options) else "none")
    source = item.get("source") or ""
    if kind == "bind" and not {"bind", "rbind"} & set(options):
        options = ("rbind", *options)
    if "bind" in options or "rbind" in options:
        source = os.path.join(bundle, source)
    return Mount(item["destination"], kind, source, options)


def parse_process(data: Json, linux: Json) -> Process:
    """Return `process` (with the seccomp filter of `linux`). Raises Invalid."""
    user: Json = data.get("user") or {}
    sets: Json = data.get("capabilities") or {}

    def mask(name: str) -> int:
        return mask_of(sets.get(name) or ())

    size: Json = data.get("consoleSize") or {}
    program, flags = b"", 0
    if linux.get("seccomp"):
        machine = os.uname().machine
        wanted = seccomp.parse_oci(linux["seccomp"])
        program, flags = seccomp.compile_filter(wanted, arch=machine), wanted.flag_bits
    return Process(
        argv=tuple(data["args"]),
        env=tuple(data.get("env") or ()),
        cwd=data["cwd"],
        user=User(
            uid=user.get("uid", 0),
            gid=user.get("gid", 0),
            additional_gids=tuple(user.get("additionalGids") or ()),
            umask=user.get("umask"),
        ),
        terminal=bool(data.get("terminal", False)),
        rows=size.get("height", 0),
        columns=size.get("width", 0),
        bounding=mask("bounding"),
        effective=mask("effective"),
        permitted=mask("permitted"),
        inheritable=mask("inheritable"),
        ambient=mask("ambient"),
        rlimits=tuple(
            Rlimit(item["type"], _limit(item["soft"]), _limit(item["hard"]))
            for item in data.get("rlimits") or ()
        ),
        no_new_privileges=bool(data.get("noNewPrivileges", False)),
        oom_score_adj=data.get("oomScoreAdj"),
        seccomp=program,
        seccomp_flags=flags,
        create_cwd=False,
    )


def _limit(value: int) -> int:
    return -1 if value >= 1 << 63 else value


def _rates(items: Any) -> tuple[DeviceRate, ...]:
    return tuple(
        DeviceRate(item["major"], item["minor"], item.get("rate", item.get("weight", 0)))
        for item in items or ()
    )


def parse_limits(data: Json) -> Limits:
    """Return `linux.resources`. Source: config-linux.md, control groups."""
    memory: Json = data.get("memory") or {}
    cpu: Json = data.get("cpu") or {}
    block: Json = data.get("blockIO") or {}
    pids: Json = data.get("pids") or {}
    get: Callable[[str], Any] = memory.get
    return Limits(
        memory=get("limit"),
        memory_swap=get("swap"),
        memory_reservation=get("reservation"),
        memory_swappiness=get("swappiness"),
        oom_kill_disable=get("disableOOMKiller"),
        cpu_shares=cpu.get("shares"),
        cpu_quota=cpu.get("quota"),
        cpu_period=cpu.get("period"),
        cpu_rt_period=cpu.get("realtimePeriod"),
        cpu_rt_runtime=cpu.get("realtimeRuntime"),
        cpuset_cpus=cpu.get("cpus"),
        cpuset_mems=cpu.get("mems"),
        pids_limit=pids.get("limit"),
        blkio_weight=block.get("weight"),
        blkio_weight_devices=_rates(block.get("weightDevice")),
        blkio_device_read_bps=_rates(block.get("throttleReadBpsDevice")),
        blkio_device_write_bps=_rates(block.get("throttleWriteBpsDevice")),
        blkio_device_read_iops=_rates(block.get("throttleReadIOPSDevice")),
        blkio_device_write_iops=_rates(block.get("throttleWriteIOPSDevice")),
        # The usual nodes are allowed whatever the list says (config-linux.md, default devices).
        devices=(
            *(_device_rule(item) for item in data.get("devices") or ()),
            *(rule for rule in DEFAULT_DEVICES if rule.allow),
        ),
        hugepages=tuple(
            HugepageLimit(item["pageSize"], item["limit"])
            for item in data.get("hugepageLimits") or ()
        ),
        unified=_pairs(data.get("unified")),
    )


def _device_rule(item: Json) -> DeviceRule:
    def number(name: str) -> int | None:
        value = item.get(name)
        return None if value is None or value < 0 else value

    return DeviceRule(
        bool(item["allow"]),
        item.get("type") or "a",
        number("major"),
        number("minor"),
        item.get("access") or "rwm",
    )
