"""The daemon about itself: what `info` and `version` tell."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Protocol, TypedDict

from wherry import __version__
from wherry.daemon.config import Config
from wherry.kernel.calls import Kernel
from wherry.model.containers import Container, Status
from wherry.model.errors import Invalid, WherryError
from wherry.model.events import Event
from wherry.model.resources import Limits
from wherry.model.views import INSECURE_NETWORKS, EngineFacts

# statfs(2), f_type, as Docker names the file systems.
_FILE_SYSTEMS = {
    0xEF53: "extfs",
    0x58465342: "xfs",
    0x9123683E: "btrfs",
    0x2FC12FC1: "zfs",
    0x01021994: "tmpfs",
    0x794C7630: "overlayfs",
    0xF2F52010: "f2fs",
}
_MEMORY = 64 << 20
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
_FEATURES = {
    "MemoryLimit": Limits(memory=_MEMORY),
    "SwapLimit": Limits(memory=_MEMORY, memory_swap=2 * _MEMORY),
    "CpuCfsPeriod": Limits(cpu_period=100_000),
    "CpuCfsQuota": Limits(cpu_quota=100_000),
    "CPUShares": Limits(cpu_shares=512),
    "CPUSet": Limits(cpuset_cpus="0"),
    "PidsLimit": Limits(pids_limit=100),
    "OomKillDisable": Limits(oom_kill_disable=True),
}
_WARNINGS = {
    "MemoryLimit": "WARNING: No memory limit support",
    "SwapLimit": "WARNING: No swap limit support",
    "CpuCfsQuota": "WARNING: No cpu cfs quota support",
    "CPUShares": "WARNING: No cpu shares support",
    "CPUSet": "WARNING: No cpuset support",
    "PidsLimit": "WARNING: No pids limit support",
}
INIT_PATHS = ("/usr/bin/tini-static", "/usr/bin/docker-init", "/usr/libexec/docker/docker-init")


class _Changing(TypedDict):
    """What SIGHUP may change of EngineFacts."""

    labels: tuple[str, ...]
    debug: bool
    live_restore: bool
    registry_mirrors: tuple[str, ...]
    insecure_registries: tuple[str, ...]


class Cgroups(Protocol):
    """What is asked of the cgroup driver."""

    version: int

    def check(self, limits: Limits) -> None: ...


def find_init(named: str = "") -> str:
    """Return the program that --init puts before a container's command; empty where there is none.

    Raises Invalid where `named`, the one that is asked for, is no program.
    """
    if named:
        if not os.path.isabs(named) or not os.access(named, os.X_OK):
            raise Invalid(f"invalid init-path: {named} is no program", hint="an absolute path")
        return named
    return next((path for path in INIT_PATHS if os.access(path, os.X_OK)), "")


def read_facts(
    config: Config, *, engine_id: str, cgroups: Cgroups, kernel: Kernel, userns_missing: str
) -> EngineFacts:
    """Return what does not change while the daemon runs; `userns_missing` says why there are none."""
    features = tuple((name, _can(cgroups, limits)) for name, limits in _FEATURES.items())
    have = dict(features)
    warnings = [text for name, text in _WARNINGS.items() if not have[name]]
    security = [f"name=seccomp,profile={config.seccomp_profile or 'builtin'}", "name=cgroupns"]
    if config.no_new_privileges:
        security.append("name=no-new-privileges")
    # Who has said that containers are to have none is not told that they cannot.
    if config.userns_remap == "host":
        pass
    elif userns_missing:
        warnings.append(f"WARNING: containers need --userns=host here: {userns_missing}")
    else:
        security.append("name=userns")
    release = read_os_release()
    system = os.uname()
    return EngineFacts(
        id=engine_id,
        name=system.nodename,
        version=__version__,
        built=int(os.stat(__file__).st_mtime),
        data_root=str(config.data_root),
        exec_root=str(config.exec_root),
        kernel=system.release,
        operating_system=release.get("PRETTY_NAME", "Linux"),
        os_version=release.get("VERSION_ID", ""),
        architecture=system.machine,
        cpus=len(os.sched_getaffinity(0)),
        memory=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        cgroup_version=cgroups.version,
        cgroup_driver="cgroupfs",
        storage_driver="overlay2",
        backing_fs=_file_system(config.data_root, kernel),
        default_log_driver=config.log_driver,
        security_options=tuple(security),
        warnings=tuple(warnings),
        init_path=os.path.basename(find_init(config.init_path)),
        features=features,
        proxies=read_proxies(config),
        experimental=config.experimental,
        **_changing(config),
    )


def _changing(config: Config) -> _Changing:
    return {
        "labels": config.labels,
        "debug": config.debug,
        "live_restore": config.live_restore,
        "registry_mirrors": config.registry_mirrors,
        "insecure_registries": config.insecure_registries,
    }


def reload_event(facts: EngineFacts, config: Config) -> Event:
    """Return Docker's `daemon reload`, with the settings as they are now."""
    attributes = {
        "debug": config.debug,
        "insecure-registries": [*INSECURE_NETWORKS, *config.insecure_registries],
        "labels": list(config.labels),
        "live-restore": config.live_restore,
        "max-concurrent-downloads": config.max_concurrent_downloads,
        "max-concurrent-uploads": config.max_concurrent_uploads,
        "max-download-attempts": config.max_download_attempts,
        "name": facts.name,
        "registry-mirrors": list(config.registry_mirrors),
        "shutdown-timeout": config.shutdown_timeout,
    }
    shown = tuple(
        (name, value if isinstance(value, str) else json.dumps(value, separators=(",", ":")))
        for name, value in attributes.items()
    )
    return Event("daemon", "reload", facts.id, shown)


def read_proxies(config: Config) -> tuple[str, str, str]:
    """Return the proxies to use, HTTP, HTTPS and the hosts without: as configured, else as the
    environment says."""
    configured = dict(config.proxies)

    def one(name: str, own: str) -> str:
        variable = name.replace("-", "_")
        environment = os.environ.get(variable.upper()) or os.environ.get(variable) or ""
        return own or configured.get(name) or environment

    return (
        one("http-proxy", config.http_proxy),
        one("https-proxy", config.https_proxy),
        one("no-proxy", config.no_proxy),
    )


def export_proxies(config: Config) -> None:
    """Have the configured proxies hold for all that this process fetches or starts, as Docker has it."""
    for name, value in zip(_PROXIES, read_proxies(config), strict=True):
        if value:
            os.environ[name] = os.environ[name.lower()] = value


def _can(cgroups: Cgroups, limits: Limits) -> bool:
    try:
        cgroups.check(limits)
    except WherryError:
        return False
    return True


def _file_system(path: Path, kernel: Kernel) -> str:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return _FILE_SYSTEMS.get(kernel.statfs_magic(fd) & 0xFFFFFFFF, "unknown")
    finally:
        os.close(fd)


def read_os_release() -> dict[str, str]:
    """Return the fields of os-release(5), without quotes; none where there is no such file."""
    for path in ("/etc/os-release", "/usr/lib/os-release"):
        try:
            lines = Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            continue
        pairs = (line.partition("=") for line in lines if "=" in line and line[:1] != "#")
        return {name: value.strip().strip("\"'") for name, _, value in pairs}
    return {}


def _forwards() -> bool:
    try:
        return Path("/proc/sys/net/ipv4/ip_forward").read_text().strip() == "1"
    except OSError:
        return False


class Engine:
    """Answers for `info` and `version`."""

    def __init__(
        self,
        facts: EngineFacts,
        containers: Callable[[], Iterable[Container]],
        images: Callable[[], int],
        network_warnings: Callable[[], tuple[str, ...]] = tuple,
    ) -> None:
        self._network_warnings = network_warnings
        self._facts = facts
        self._containers = containers
        self._images = images

    def reload(self, config: Config) -> None:
        """Tell from now on what `config` says of what may change while the daemon runs."""
        self._facts = replace(self._facts, **_changing(config))

    def facts(self) -> EngineFacts:
        """Return what hardly changes while the daemon runs."""
        found = tuple(f"WARNING: {text}" for text in self._network_warnings())
        features = (*self._facts.features, ("IPv4Forwarding", _forwards()))
        return replace(self._facts, warnings=(*self._facts.warnings, *found), features=features)

    async def counts(self) -> dict[str, int]:
        """Return how many containers there are, running, paused and stopped, and images."""
        counts = {"containers": 0, "running": 0, "paused": 0, "stopped": 0}
        for container in self._containers():
            counts["containers"] += 1
            match container.state.status:
                case Status.RUNNING | Status.RESTARTING:
                    counts["running"] += 1
                case Status.PAUSED:
                    counts["paused"] += 1
                case _:
                    counts["stopped"] += 1
        counts["images"] = self._images()
        return counts
