"""A specification held against Docker's rules and against what this engine can honour.

Everything that is wrong is said at create, so that a start fails only for what changed since.
Messages are those of Docker Engine 28.5 where it has one.
"""

from __future__ import annotations

import os
from typing import Protocol

from wherry.containers import hostfiles, namespaces
from wherry.model.containers import ContainerSpec, HealthSpec, RestartPolicy
from wherry.model.errors import Invalid, Unsupported
from wherry.model.oci import HOST
from wherry.model.resources import DeviceRule, Limits
from wherry.model.signals import parse_signal

RESTART_POLICIES = ("no", "always", "on-failure", "unless-stopped")
ULIMITS = (
    "core cpu data fsize locks memlock msgqueue nice nofile nproc rss rtprio rttime sigpending stack"
).split()
_SYSCTLS = frozenset(
    "kernel.msgmax kernel.msgmnb kernel.msgmni kernel.sem kernel.shmall kernel.shmmax kernel.shmmni "
    "kernel.shm_rmid_forced".split()
)
_IPC_PREFIX, _NET_PREFIX = "fs.mqueue.", "net."
_UTS = frozenset({"kernel.domainname"})
_OOM_UNBOUND = (
    "OOM killer is disabled for the container, but no memory limit is set, this can result in the "
    "system running out of resources."
)
_LEAST_HEALTH = 1_000_000  # nanoseconds
_RUNTIMES = frozenset({"", "runc", "wherry", "io.containerd.runc.v2"})


class Cgroups(Protocol):
    """What is asked of the cgroup driver before anything is made."""

    def check(self, limits: Limits) -> None: ...


def check_spec(spec: ContainerSpec) -> tuple[str, ...]:
    """Return warnings; raise Invalid or Unsupported for whatever cannot be done as it is written."""
    warnings = list(namespaces.check_modes(spec))
    _check_process(spec)
    hostfiles.check_names(spec)
    check_restart(spec.restart)
    if spec.auto_remove and spec.restart.name not in ("", "no"):
        raise Invalid("can't create 'AutoRemove' container with restart policy")
    if not -1000 <= spec.oom_score_adj <= 1000:
        raise Invalid(
            f"Invalid value {spec.oom_score_adj}, range for oom score adj is [-1000, 1000]"
        )
    if spec.limits.oom_kill_disable and not spec.limits.memory:
        warnings.append(_OOM_UNBOUND)
    if spec.shm_size < 0:
        raise Invalid("SHM size can not be less than 0")
    _check_devices(spec)
    _check_sysctls(spec)
    _check_ulimits(spec)
    if spec.runtime not in _RUNTIMES:
        raise Invalid(f"unknown or invalid runtime name: {spec.runtime}")
    for name, _ in spec.storage_options:
        if name != "size":
            raise Invalid(f"Unknown option {name}")
        raise Unsupported(
            "--storage-opt is supported only for overlay over xfs with 'pquota' mount option",
            hint="wherry gives no container's layer a limit of its own",
        )
    if any(not key for key, _ in spec.annotations):
        raise Invalid("invalid Annotations: the empty string is not permitted as an annotation key")
    if spec.cgroup_parent and ".." in spec.cgroup_parent.split("/"):
        raise Invalid(f"invalid cgroup parent: {spec.cgroup_parent}")
    if spec.health is not None:
        check_health(spec.health)
    return tuple(warnings)


def _check_process(spec: ContainerSpec) -> None:
    for entry in spec.env:
        if not entry.partition("=")[0] or "\0" in entry:
            raise Invalid(f"invalid environment variable: {entry}")
    if spec.working_dir and not spec.working_dir.startswith("/"):
        raise Invalid(
            f"the working directory '{spec.working_dir}' is invalid, it needs to be an absolute path"
        )
    if spec.stop_signal:
        parse_signal(spec.stop_signal)
    for text in (*(spec.command or ()), *(spec.entrypoint or ()), spec.working_dir, spec.user):
        if "\0" in text:
            raise Invalid("a NUL character in the command, the working directory or the user")


def check_restart(policy: RestartPolicy) -> None:
    """Raise Invalid for a restart policy that is none."""
    if policy.name not in ("", *RESTART_POLICIES):
        raise Invalid(
            f"invalid restart policy: unknown policy '{policy.name}'; use one of 'no', 'always', "
            "'on-failure', or 'unless-stopped'"
        )
    if policy.maximum_retries and policy.name != "on-failure":
        raise Invalid(
            "invalid restart policy: maximum retry count can only be used with 'on-failure'"
        )
    if policy.maximum_retries < 0:
        raise Invalid("invalid restart policy: maximum retry count cannot be negative")


def check_health(health: HealthSpec) -> None:
    """Raise Invalid for a health check out of range."""
    times = {
        "Interval": health.interval,
        "Timeout": health.timeout,
        "StartPeriod": health.start_period,
        "StartInterval": health.start_interval,
    }
    for name, value in times.items():
        if value != 0 and value < _LEAST_HEALTH:
            raise Invalid(f"{name} in Healthcheck cannot be less than 1ms")
    if health.retries < 0:
        raise Invalid("Retries in Healthcheck cannot be negative")
    if health.test and health.test[0] not in ("NONE", "CMD", "CMD-SHELL"):
        raise Invalid(f"Unknown type '{health.test[0]}' in Healthcheck (try 'CMD')")


def _check_devices(spec: ContainerSpec) -> None:
    for device in spec.devices:
        if not device.permissions or set(device.permissions) - set("rwm"):
            raise Invalid(f"invalid device mode: {device.permissions}")
        if not device.container.startswith("/"):
            raise Invalid(f"{device.container} is not an absolute path")
        if not os.path.exists(device.host):
            raise Invalid(
                f"error gathering device information while adding custom device "
                f'"{device.host}": no such file or directory'
            )
    for rule in spec.device_cgroup_rules:
        DeviceRule.parse(rule)


def _check_sysctls(spec: ContainerSpec) -> None:
    modes = spec.namespaces
    for key, value in spec.sysctls:
        name = key.replace("/", ".")
        if "\0" in value or ".." in name:
            raise Invalid(f"invalid sysctl: {key}")
        if name.startswith(_NET_PREFIX):
            if modes.network == HOST:
                raise Invalid(f'sysctl "{key}" not allowed in host network namespace')
        elif name in _SYSCTLS or name.startswith(_IPC_PREFIX):
            if modes.ipc == HOST:
                raise Invalid(f'sysctl "{key}" is not allowed in the hosts ipc namespace')
        elif name in _UTS:
            if modes.uts == HOST:
                raise Invalid(f"sysctl {key} is not allowed with the host's UTS namespace")
        else:
            raise Invalid(
                f"sysctl {key} is not in a separate kernel namespace",
                hint="kernel.shm*, kernel.msg*, kernel.sem, fs.mqueue.* and net.* are",
            )


def _check_ulimits(spec: ContainerSpec) -> None:
    for limit in spec.ulimits:
        if limit.name not in ULIMITS:
            raise Invalid(f"invalid ulimit type: {limit.name}")
        if limit.hard != -1 and (limit.soft == -1 or limit.soft > limit.hard):
            raise Invalid(
                f"ulimit {limit.name}: soft limit must be less than or equal to hard limit: "
                f"{limit.soft} > {limit.hard}"
            )
