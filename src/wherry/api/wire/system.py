"""`docker info`, `docker version` and `docker system df`."""

from __future__ import annotations

import time
from collections.abc import Mapping

from wherry.api.versions import CURRENT, OLDEST, render_version
from wherry.api.wire.codec import render_time
from wherry.api.wire.spec import RUNTIME
from wherry.model.views import INSECURE_NETWORKS, EngineFacts

_MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}
_FEATURES = (
    "MemoryLimit",
    "SwapLimit",
    "CpuCfsPeriod",
    "CpuCfsQuota",
    "CPUShares",
    "CPUSet",
    "PidsLimit",
    "OomKillDisable",
)


def render_version_answer(facts: EngineFacts) -> dict[str, object]:
    """Return the answer to GET /version."""
    architecture = _MACHINES.get(facts.architecture, facts.architecture)
    current, oldest = render_version(CURRENT), render_version(OLDEST)
    built = time.strftime("%Y-%m-%dT%H:%M:%S.000000000+00:00", time.gmtime(facts.built))
    experimental = "true" if facts.experimental else "false"
    return {
        "Platform": {"Name": "wherry"},
        "Components": [
            {
                "Name": "Engine",
                "Version": facts.version,
                "Details": {
                    "ApiVersion": current,
                    "Arch": architecture,
                    "BuildTime": built,
                    "Experimental": experimental,
                    "GitCommit": "",
                    "GoVersion": "",
                    "KernelVersion": facts.kernel,
                    "MinAPIVersion": oldest,
                    "Os": "linux",
                },
            },
            {
                "Name": "wherry-runtime",
                "Version": facts.version,
                "Details": {"GitCommit": ""},
            },
        ],
        "Version": facts.version,
        "ApiVersion": current,
        "MinAPIVersion": oldest,
        "GitCommit": "",
        "GoVersion": "",
        "Os": "linux",
        "Arch": architecture,
        "KernelVersion": facts.kernel,
        "BuildTime": built,
    }


def render_info(facts: EngineFacts, counts: Mapping[str, int], listeners: int) -> dict[str, object]:
    """Return the answer to GET /info, in Docker's order; `listeners` is how many follow the events."""
    features = dict(facts.features)
    return {
        "ID": facts.id,
        "Containers": counts.get("containers", 0),
        "ContainersRunning": counts.get("running", 0),
        "ContainersPaused": counts.get("paused", 0),
        "ContainersStopped": counts.get("stopped", 0),
        "Images": counts.get("images", 0),
        "Driver": facts.storage_driver,
        "DriverStatus": [["Backing Filesystem", facts.backing_fs], ["Supports d_type", "true"]],
        "Plugins": {
            "Volume": ["local"],
            "Network": ["bridge", "host", "ipvlan", "macvlan", "null"],
            "Authorization": None,
            "Log": ["fluentd", "gelf", "journald", "json-file", "local", "syslog"],
        },
        **{name: features.get(name, False) for name in _FEATURES},
        **{name: value for name, value in features.items() if name not in _FEATURES},
        "Debug": facts.debug,
        "NFd": 0,
        "NGoroutines": 0,
        "SystemTime": render_time(time.time_ns()),
        "LoggingDriver": facts.default_log_driver,
        "CgroupDriver": facts.cgroup_driver,
        "CgroupVersion": str(facts.cgroup_version),
        "NEventsListener": listeners,
        "KernelVersion": facts.kernel,
        "OperatingSystem": facts.operating_system,
        "OSVersion": facts.os_version,
        "OSType": "linux",
        "Architecture": facts.architecture,
        "IndexServerAddress": "https://index.docker.io/v1/",
        "RegistryConfig": _registry_config(facts),
        "NCPU": facts.cpus,
        "MemTotal": facts.memory,
        "GenericResources": None,
        "DockerRootDir": facts.data_root,
        "HttpProxy": _without_password(facts.proxies[0]),
        "HttpsProxy": _without_password(facts.proxies[1]),
        "NoProxy": facts.proxies[2],
        "Name": facts.name,
        "Labels": list(facts.labels),
        "ExperimentalBuild": facts.experimental,
        "ServerVersion": facts.version,
        "Runtimes": {RUNTIME: {"path": "wherry-runtime"}},
        "DefaultRuntime": RUNTIME,
        "Swarm": {
            "NodeID": "",
            "NodeAddr": "",
            "LocalNodeState": "inactive",
            "ControlAvailable": False,
            "Error": "",
            "RemoteManagers": None,
        },
        "LiveRestoreEnabled": facts.live_restore,
        "Isolation": "",
        "InitBinary": facts.init_path,
        "ContainerdCommit": {"ID": ""},
        "RuncCommit": {"ID": ""},
        "InitCommit": {"ID": ""},
        "SecurityOptions": list(facts.security_options),
        "FirewallBackend": {"Driver": "nftables"},
        "CDISpecDirs": [],
        "Warnings": list(facts.warnings) or None,
    }


def _registry_config(facts: EngineFacts) -> dict[str, object]:
    networks = [entry for entry in facts.insecure_registries if "/" in entry]
    hosts = [entry for entry in facts.insecure_registries if "/" not in entry]
    mirrors = [
        mirror if mirror.endswith("/") else f"{mirror}/" for mirror in facts.registry_mirrors
    ]
    hub = {"Mirrors": mirrors, "Name": "docker.io", "Official": True, "Secure": True}
    others: dict[str, object] = {
        host: {"Mirrors": [], "Name": host, "Official": False, "Secure": False} for host in hosts
    }
    return {
        "IndexConfigs": {"docker.io": hub, **others},
        "InsecureRegistryCIDRs": [*INSECURE_NETWORKS, *networks],
        "Mirrors": mirrors or None,
    }


def _without_password(proxy: str) -> str:
    scheme, colons, rest = proxy.partition("://")
    if "@" not in rest:
        return proxy
    return f"{scheme}{colons}xxxxx:xxxxx@{rest.rpartition('@')[2]}"
