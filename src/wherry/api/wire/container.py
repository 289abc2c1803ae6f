"""A container as `inspect` and `ps` show it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from wherry.api.versions import CURRENT, Version
from wherry.api.wire.codec import render_time
from wherry.api.wire.human import render_command
from wherry.api.wire.network import render_endpoints, render_port_list, render_settings
from wherry.api.wire.resources import DevicePath
from wherry.api.wire.spec import render_config, render_host_config
from wherry.model.containers import (
    Container,
    ContainerSpec,
    ContainerState,
    Health,
    HealthStatus,
    Status,
)
from wherry.model.literals import human_span
from wherry.model.views import ContainerView, MountPoint

_HEALTH_WORDS = {
    HealthStatus.NONE: "none",
    HealthStatus.STARTING: "health: starting",
    HealthStatus.HEALTHY: "healthy",
    HealthStatus.UNHEALTHY: "unhealthy",
}
_ALIVE = frozenset((Status.RUNNING, Status.PAUSED, Status.RESTARTING))
_SECOND = 1_000_000_000
DRIVER = "overlay2"


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What inspect shows of the engine rather than of the container."""

    default_log_driver: str
    path_of: DevicePath


def render_state(state: ContainerState) -> dict[str, object]:
    """Return inspect's State."""
    answer: dict[str, object] = {
        "Status": str(state.status),
        "Running": state.status in _ALIVE,
        "Paused": state.status is Status.PAUSED,
        "Restarting": state.status is Status.RESTARTING,
        "OOMKilled": state.oom_killed,
        "Dead": state.status is Status.DEAD,
        "Pid": state.pid,
        "ExitCode": state.exit_code,
        "Error": state.error,
        "StartedAt": render_time(state.started_at),
        "FinishedAt": render_time(state.finished_at),
    }
    if state.health is not None:
        answer["Health"] = render_health(state.health)
    return answer


def render_health(health: Health) -> dict[str, object]:
    """Return inspect's State.Health."""
    return {
        "Status": str(health.status),
        "FailingStreak": health.failing_streak,
        "Log": [
            {
                "Start": render_time(probe.start),
                "End": render_time(probe.end),
                "ExitCode": probe.exit_code,
                "Output": probe.output,
            }
            for probe in health.log
        ],
    }


def merged_spec(container: Container) -> ContainerSpec:
    """Return the spec as inspect's Config shows it: with what the image had when it was made from it."""
    spec = container.spec
    return replace(
        spec,
        env=container.env,
        working_dir=container.working_dir,
        user=container.user,
        labels=container.labels,
        mac_address=spec.mac_address or _main_mac(spec),
        hostname=container.hostname,
    )


def _main_mac(spec: ContainerSpec) -> str:
    return next((w.mac for w in spec.endpoints if w.network == spec.namespaces.network), "")


def render_container(view: ContainerView, around: Surroundings) -> dict[str, object]:
    """Return the answer to GET /containers/{id}/json, in Docker's order."""
    container = view.container
    spec = container.spec
    # Docker makes these files when it starts the container first.
    begun = bool(container.state.started_at)
    answer: dict[str, object] = {
        "Id": container.id,
        "Created": render_time(container.created),
        "Path": container.argv[0] if container.argv else "",
        "Args": list(container.argv[1:]),
        "State": render_state(container.state),
        "Image": str(view.image_id),
        "ResolvConfPath": view.resolv_conf_path if begun else "",
        "HostnamePath": view.hostname_path if begun else "",
        "HostsPath": view.hosts_path if begun else "",
        "LogPath": view.log_path if begun else "",
        "Name": f"/{container.name}",
        "RestartCount": container.state.restart_count,
        "Driver": DRIVER,
        "Platform": "linux",
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": "",
        "ExecIDs": (list(view.exec_ids) or None) if container.state.status in _ALIVE else None,
        "HostConfig": render_host_config(
            replace(spec, links=_links(view)),
            around.path_of,
            default_log_driver=around.default_log_driver,
        ),
        "GraphDriver": _graph(view),
    }
    if view.size_rw >= 0:
        answer["SizeRw"] = view.size_rw
        answer["SizeRootFs"] = view.size_root_fs
    answer["Mounts"] = [_mount_point(mount) for mount in view.mounts]
    answer["Config"] = render_config(merged_spec(container))
    answer["NetworkSettings"] = render_settings(container)
    return answer


def _links(view: ContainerView) -> tuple[str, ...]:
    """Legacy links in Docker's form, `/db:/web/alias`."""
    return tuple(f"/{name}:/{view.container.name}/{alias}" for name, alias in view.links)


def _graph(view: ContainerView) -> dict[str, object]:
    pid = view.container.state.pid
    return {
        "Data": {
            "ID": view.container.id,
            "LowerDir": ":".join(view.lower_dirs),
            # The root is mounted in the container only; this is the way to it from outside.
            "MergedDir": f"/proc/{pid}/root" if pid else "",
            "UpperDir": view.upper_dir,
            "WorkDir": view.work_dir,
        },
        "Name": DRIVER,
    }


def _mount_point(mount: MountPoint) -> dict[str, object]:
    answer: dict[str, object] = {"Type": mount.kind}
    if mount.name:
        answer["Name"] = mount.name
    answer |= {"Source": mount.source, "Destination": mount.destination}
    if mount.driver:
        answer["Driver"] = mount.driver
    return answer | {
        "Mode": mount.mode,
        "RW": mount.read_write,
        "Propagation": mount.propagation,
    }


def render_status(state: ContainerState, now: int) -> str:
    """Return ps's Status; `now` in nanoseconds since the epoch."""
    match state.status:
        case Status.RUNNING:
            up = f"Up {human_span((now - state.started_at) / _SECOND)}"
            return up if state.health is None else f"{up} ({_HEALTH_WORDS[state.health.status]})"
        case Status.PAUSED:
            return f"Up {human_span((now - state.started_at) / _SECOND)} (Paused)"
        case Status.RESTARTING:
            ago = human_span((now - state.finished_at) / _SECOND)
            return f"Restarting ({state.exit_code}) {ago} ago"
        case Status.REMOVING:
            return "Removal In Progress"
        case Status.DEAD:
            return "Dead"
        case Status.CREATED:
            return "Created"
        case Status.EXITED:
            if not state.finished_at:
                return f"Exited ({state.exit_code})"
            ago = human_span((now - state.finished_at) / _SECOND)
            return f"Exited ({state.exit_code}) {ago} ago"


def render_item(view: ContainerView, now: int, version: Version = CURRENT) -> dict[str, object]:
    """Return one entry of GET /containers/json."""
    container = view.container
    answer: dict[str, object] = {
        "Id": container.id,
        "Names": [f"/{container.name}", *(f"/{name}" for name in view.linked_as)],
        "Image": view.image_name or str(view.image_id),
        "ImageID": str(view.image_id),
        "Command": render_command(container.argv),
        "Created": container.created // _SECOND,
        "Ports": render_port_list(container),
    }
    if view.size_rw > 0:
        answer["SizeRw"] = view.size_rw
    if view.size_root_fs > 0:
        answer["SizeRootFs"] = view.size_root_fs
    mode = container.spec.namespaces.network
    host: dict[str, object] = {"NetworkMode": "bridge" if mode in ("", "default") else mode}
    if container.spec.annotations and version >= (1, 46):
        host["Annotations"] = dict(container.spec.annotations)
    answer |= {
        "Labels": dict(container.labels),
        "State": str(container.state.status),
        "Status": render_status(container.state, now),
        "HostConfig": host,
        "NetworkSettings": {"Networks": render_endpoints(container, listed=True)},
        "Mounts": [_mount_point(mount) for mount in view.mounts],
    }
    return answer
