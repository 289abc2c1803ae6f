"""A ContainerSpec as inspect shows it: Config and HostConfig. The inverse of `create`."""

from __future__ import annotations

from collections.abc import Sequence

from wherry.api.wire.codec import listed, mapped
from wherry.api.wire.mounts import render_mounts
from wherry.api.wire.resources import DevicePath, render_limits
from wherry.model.containers import ContainerSpec, HealthSpec, Namespaces
from wherry.model.oci import DEFAULT_MASKED_PATHS, DEFAULT_READONLY_PATHS

DEFAULT_SHM_SIZE = 64 << 20
RUNTIME = "wherry"
NULLABLE = (
    *("OnBuild", "Binds", "PortBindings", "VolumesFrom", "CapAdd", "CapDrop", "Dns", "DnsOptions"),
    *("DnsSearch", "ExtraHosts", "GroupAdd", "SecurityOpt", "BlkioWeightDevice"),
    *("BlkioDeviceReadBps", "BlkioDeviceWriteBps", "BlkioDeviceReadIOps", "BlkioDeviceWriteIOps"),
    *("Devices", "DeviceCgroupRules", "DeviceRequests", "Ulimits"),
)
"""Fields that inspect shows as they were sent where they hold nothing: null, [] or {}."""


def render_health(health: HealthSpec) -> dict[str, object]:
    """Return a Healthcheck; what is 0 is left out, as Docker does."""
    answer: dict[str, object] = {}
    if health.test:
        answer["Test"] = list(health.test)
    for name, value in (
        ("Interval", health.interval),
        ("Timeout", health.timeout),
        ("StartPeriod", health.start_period),
        ("StartInterval", health.start_interval),
        ("Retries", health.retries),
    ):
        if value:
            answer[name] = value
    return answer


def words(values: Sequence[str] | None) -> list[str] | None:
    """Return a command, None where there is none."""
    return None if values is None else list(values)


def render_config(spec: ContainerSpec) -> dict[str, object]:
    """Return inspect's Config, in Docker's order."""
    answer: dict[str, object] = {
        "Hostname": spec.hostname,
        "Domainname": spec.domainname,
        "User": spec.user,
        "AttachStdin": spec.attach_stdin,
        "AttachStdout": spec.attach_stdout,
        "AttachStderr": spec.attach_stderr,
    }
    if spec.exposed_ports:
        answer["ExposedPorts"] = {port: {} for port in spec.exposed_ports}
    answer |= {
        "Tty": spec.tty,
        "OpenStdin": spec.open_stdin,
        "StdinOnce": spec.stdin_once,
        "Env": listed(spec.env),
        "Cmd": words(spec.command),
    }
    if spec.health is not None:
        answer["Healthcheck"] = render_health(spec.health)
    answer |= {
        "Image": spec.image,
        "Volumes": {path: {} for path in spec.image_volumes} or None,
        "WorkingDir": spec.working_dir,
        "Entrypoint": words(spec.entrypoint),
    }
    if spec.network_disabled:
        answer["NetworkDisabled"] = True
    if spec.mac_address:
        answer["MacAddress"] = spec.mac_address
    answer |= {"OnBuild": [] if "OnBuild" in spec.empties else None, "Labels": dict(spec.labels)}
    if spec.stop_signal:
        answer["StopSignal"] = spec.stop_signal
    if spec.stop_timeout is not None:
        answer["StopTimeout"] = spec.stop_timeout
    if spec.shell:
        answer["Shell"] = list(spec.shell)
    return answer


def render_host_config(
    spec: ContainerSpec, path_of: DevicePath, *, default_log_driver: str = "", shown: bool = True
) -> dict[str, object]:
    """Return HostConfig in Docker's order.

    `shown` fills defaults in as inspect does; without it, `create.parse_create` gives the same spec back.
    """
    ports: dict[str, list[dict[str, str]]] = {}
    for port, address, number in spec.published:
        ports.setdefault(port, []).append({"HostIp": address, "HostPort": number})
    limits = render_limits(spec.limits, path_of)
    first = ("CpuShares", "Memory", "NanoCpus")
    security = spec.security
    mounts = render_mounts(spec.mounts)
    answer: dict[str, object] = {
        "Binds": mounts.pop("Binds"),
        "ContainerIDFile": spec.container_id_file,
        "LogConfig": {
            "Type": spec.log.driver or (default_log_driver if shown else ""),
            "Config": dict(spec.log.options),
        },
        "NetworkMode": _network_mode(spec.namespaces, shown=shown),
        "PortBindings": ports,
        "RestartPolicy": {
            "Name": spec.restart.name,
            "MaximumRetryCount": spec.restart.maximum_retries,
        },
        "AutoRemove": spec.auto_remove,
        "VolumeDriver": spec.volume_driver,
        "VolumesFrom": listed(spec.volumes_from),
        "ConsoleSize": list(spec.console_size),
    }
    if spec.annotations:
        answer["Annotations"] = dict(spec.annotations)
    answer |= {
        "CapAdd": listed(security.cap_add),
        "CapDrop": listed(security.cap_drop),
        "CgroupnsMode": spec.namespaces.cgroup or ("private" if shown else ""),
        "Dns": list(spec.dns),
        "DnsOptions": list(spec.dns_options),
        "DnsSearch": list(spec.dns_search),
        "ExtraHosts": listed(spec.extra_hosts),
        "GroupAdd": listed(spec.group_add),
        "IpcMode": spec.namespaces.ipc or ("private" if shown else ""),
        "Cgroup": "",
        "Links": listed(spec.links),
        "OomScoreAdj": spec.oom_score_adj,
        "PidMode": spec.namespaces.pid,
        "Privileged": security.privileged,
        "PublishAllPorts": spec.publish_all,
        "ReadonlyRootfs": spec.read_only,
        "SecurityOpt": listed(security.options),
    }
    if spec.storage_options:
        answer["StorageOpt"] = dict(spec.storage_options)
    if "Tmpfs" in mounts:
        answer["Tmpfs"] = mounts.pop("Tmpfs")
    answer |= {
        "UTSMode": spec.namespaces.uts,
        "UsernsMode": spec.namespaces.user,
        "ShmSize": spec.shm_size or (DEFAULT_SHM_SIZE if shown else 0),
    }
    if spec.sysctls:
        answer["Sysctls"] = mapped(spec.sysctls)
    answer |= {"Runtime": spec.runtime or (RUNTIME if shown else ""), "Isolation": ""}
    answer |= {name: limits.pop(name) for name in first}
    answer["CgroupParent"] = spec.cgroup_parent
    answer |= limits
    answer |= {
        "Devices": [
            {
                "PathOnHost": device.host,
                "PathInContainer": device.container,
                "CgroupPermissions": device.permissions,
            }
            for device in spec.devices
        ],
        "DeviceCgroupRules": listed(spec.device_cgroup_rules),
        "DeviceRequests": None,
        "Ulimits": [
            {"Name": limit.name, "Hard": limit.hard, "Soft": limit.soft} for limit in spec.ulimits
        ],
        "CpuCount": 0,
        "CpuPercent": 0,
        "IOMaximumIOps": 0,
        "IOMaximumBandwidth": 0,
    }
    answer |= mounts
    masked, readonly = security.masked_paths, security.readonly_paths
    if shown and not security.privileged:
        masked = DEFAULT_MASKED_PATHS if masked is None else masked
        readonly = DEFAULT_READONLY_PATHS if readonly is None else readonly
    answer |= {"MaskedPaths": words(masked), "ReadonlyPaths": words(readonly)}
    if spec.init is not None:
        answer["Init"] = spec.init
    if shown:
        _show_nothings(answer, spec)
    return answer


def _show_nothings(answer: dict[str, object], spec: ContainerSpec) -> None:
    modes, options = spec.namespaces, spec.security.options
    if spec.security.privileged or "host" in (modes.pid, modes.ipc):
        # Docker adds it whether there is SELinux or not.
        if not any(option.startswith("label") for option in options):
            answer["SecurityOpt"] = [*options, "label=disable"]
    for name in NULLABLE:
        if name in answer and not answer[name]:
            empty: object = {} if name == "PortBindings" else []
            answer[name] = empty if name in spec.empties else None


def _network_mode(modes: Namespaces, *, shown: bool) -> str:
    # Docker shows the network that `default` stands for.
    return "bridge" if shown and modes.network in ("", "default") else modes.network
