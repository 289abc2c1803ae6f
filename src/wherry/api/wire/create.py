"""POST /containers/create: the body to a ContainerSpec. `spec` goes the other way.

Only what the body's shape decides, and what no ContainerSpec can hold, is refused here; whether a spec
makes sense is for `containers` to say.
"""

from __future__ import annotations

from wherry.api.versions import CURRENT, Version
from wherry.api.wire.bodies import Config, CreateBody, Health, HostConfig, Restart, Words
from wherry.api.wire.codec import decode, pairs_of, texts
from wherry.api.wire.mounts import parse_mounts
from wherry.api.wire.network import mapped_endpoints
from wherry.api.wire.older import adapt_create
from wherry.api.wire.resources import DeviceNumber, parse_devices, parse_limits, parse_ulimits
from wherry.api.wire.spec import NULLABLE
from wherry.model.containers import (
    ContainerSpec,
    HealthSpec,
    LogConfig,
    Namespaces,
    RestartPolicy,
    Security,
)
from wherry.model.errors import Invalid, Unsupported
from wherry.model.networks import parse_port


def parse_create(body: bytes, number_of: DeviceNumber) -> ContainerSpec:
    """Return what `body` asks for in the newest version; as `read_create`."""
    return read_create(body, number_of, CURRENT)[0]


def read_create(
    body: bytes, number_of: DeviceNumber, version: Version
) -> tuple[ContainerSpec, tuple[str, ...]]:
    """Return what `body` asks for in `version`, and warnings.

    Raises Invalid naming the field, Unsupported for what no spec holds.
    """
    wanted = decode(CreateBody, body)
    warnings = adapt_create(wanted, version)
    host = wanted.HostConfig or HostConfig()
    if (host.CpuPercent or 0) > 0:
        warnings = (*warnings, "linux does not support CPU percent. Percent discarded.")
    _refuse(wanted, host)
    spec = ContainerSpec(
        **_config_fields(wanted),  # pyright: ignore[reportArgumentType]
        **_host_fields(host, number_of),  # pyright: ignore[reportArgumentType]
        endpoints=mapped_endpoints(
            wanted.NetworkingConfig and wanted.NetworkingConfig.EndpointsConfig
        ),
        empties=tuple(
            name for where in (wanted, host) for name in NULLABLE if _is_empty(where, name)
        ),
    )
    return spec, warnings


def _is_empty(where: object, name: str) -> bool:
    value: object = getattr(where, name, None)
    return value in ([], {})


def parse_config(body: bytes) -> tuple[ContainerSpec | None, tuple[str, ...]]:
    """Return the configuration that commit's body puts over the container's, and its OnBuild.

    None for an empty body. ArgsEscaped, which it may have, is for Windows.
    """
    if body.strip() in (b"", b"null"):
        return None, ()
    config = decode(Config, body)
    spec = ContainerSpec(**_config_fields(config))  # pyright: ignore[reportArgumentType]
    return spec, tuple(config.OnBuild or ())


def _refuse(wanted: CreateBody, host: HostConfig) -> None:
    if wanted.OnBuild:
        raise Unsupported("OnBuild belongs to images: a container cannot have it")
    if wanted.ArgsEscaped:
        raise Unsupported("ArgsEscaped is for Windows containers")
    if host.Cgroup:
        raise Unsupported("HostConfig.Cgroup: a container cannot join another's cgroup")
    if host.Isolation not in (None, "", "default"):
        raise Invalid(f"invalid isolation ({host.Isolation}): linux only supports 'default'")


def _config_fields(config: Config) -> dict[str, object]:
    return {
        "image": config.Image or "",
        "command": parse_words(config.Cmd),
        "entrypoint": parse_words(config.Entrypoint),
        "env": texts(config.Env),
        "working_dir": config.WorkingDir or "",
        "user": config.User or "",
        "hostname": config.Hostname or "",
        "domainname": config.Domainname or "",
        "labels": pairs_of(config.Labels),
        "tty": bool(config.Tty),
        "open_stdin": bool(config.OpenStdin),
        "stdin_once": bool(config.StdinOnce),
        "attach_stdin": bool(config.AttachStdin),
        "attach_stdout": bool(config.AttachStdout),
        "attach_stderr": bool(config.AttachStderr),
        "stop_signal": config.StopSignal or "",
        "stop_timeout": config.StopTimeout,
        "health": parse_health(config.Healthcheck),
        "exposed_ports": tuple(_port(port) for port in config.ExposedPorts or {}),
        "image_volumes": tuple(config.Volumes or {}),
        "network_disabled": bool(config.NetworkDisabled),
        "mac_address": config.MacAddress or "",
        "shell": parse_words(config.Shell) or (),
    }


def _host_fields(host: HostConfig, number_of: DeviceNumber) -> dict[str, object]:
    size = host.ConsoleSize or [0, 0]
    if len(size) != 2 or any(not 0 <= number < 65536 for number in size):
        raise Invalid("invalid ConsoleSize: two numbers are expected, height and width")
    log = host.LogConfig
    return {
        "group_add": texts(host.GroupAdd),
        "annotations": pairs_of(host.Annotations),
        "init": host.Init,
        "auto_remove": bool(host.AutoRemove),
        "read_only": bool(host.ReadonlyRootfs),
        "shm_size": host.ShmSize or 0,
        "oom_score_adj": host.OomScoreAdj or 0,
        "sysctls": pairs_of(host.Sysctls),
        "ulimits": parse_ulimits(host),
        "devices": parse_devices(host),
        "device_cgroup_rules": texts(host.DeviceCgroupRules),
        "mounts": parse_mounts(host),
        "volumes_from": texts(host.VolumesFrom),
        "limits": parse_limits(host, number_of),
        "cgroup_parent": host.CgroupParent or "",
        "restart": parse_restart(host.RestartPolicy),
        "log": LogConfig(log.Type or "", pairs_of(log.Config)) if log else LogConfig(),
        "namespaces": Namespaces(
            user=host.UsernsMode or "",
            pid=host.PidMode or "",
            ipc=host.IpcMode or "",
            uts=host.UTSMode or "",
            cgroup=host.CgroupnsMode or "",
            network=host.NetworkMode or "",
        ),
        "security": Security(
            privileged=bool(host.Privileged),
            cap_add=parse_words(host.CapAdd) or (),
            cap_drop=parse_words(host.CapDrop) or (),
            options=texts(host.SecurityOpt),
            masked_paths=None if host.MaskedPaths is None else tuple(host.MaskedPaths),
            readonly_paths=None if host.ReadonlyPaths is None else tuple(host.ReadonlyPaths),
        ),
        "extra_hosts": texts(host.ExtraHosts),
        "dns": texts(host.Dns),
        "dns_search": texts(host.DnsSearch),
        "dns_options": texts(host.DnsOptions),
        "published": tuple(
            (_port(port), binding.HostIp or "", binding.HostPort or "")
            for port, bindings in (host.PortBindings or {}).items()
            for binding in bindings or ()
        ),
        "publish_all": bool(host.PublishAllPorts),
        "links": texts(host.Links),
        "runtime": host.Runtime or "",
        "storage_options": pairs_of(host.StorageOpt),
        "volume_driver": host.VolumeDriver or "",
        "console_size": (size[0], size[1]),
        "container_id_file": host.ContainerIDFile or "",
    }


def parse_words(words: Words) -> tuple[str, ...] | None:
    """Return a command; null stays None, which means the image's."""
    if words is None:
        return None
    return (words,) if isinstance(words, str) else tuple(words)


def _port(text: str) -> str:
    number, slash, protocol = text.partition("/")
    bounds = number.split("-")
    fine = len(bounds) <= 2 and all(parse_port(part) is not None for part in bounds)
    if not fine or (slash and protocol not in ("tcp", "udp", "sctp")):
        raise Invalid(f'invalid port specification: "{number}"')
    return text if slash else f"{text}/tcp"


def parse_restart(policy: Restart | None) -> RestartPolicy:
    """Return a restart policy, `no` where none is named."""
    if policy is None:
        return RestartPolicy()
    return RestartPolicy(policy.Name or "no", policy.MaximumRetryCount or 0)


def parse_health(health: Health | None) -> HealthSpec | None:
    """Return a health check; nanoseconds."""
    if health is None:
        return None
    return HealthSpec(
        test=texts(health.Test),
        interval=health.Interval or 0,
        timeout=health.Timeout or 0,
        start_period=health.StartPeriod or 0,
        start_interval=health.StartInterval or 0,
        retries=health.Retries or 0,
    )
