"""A container as wanted (`ContainerSpec`) and as observed (`ContainerState`).

The spec holds what `POST /containers/create` asks for, parsed; fields bear Docker's names in
snake case, and a value of None or an empty tuple means that the caller did not say. Units: bytes,
seconds for stop_timeout, nanoseconds for times. Source: Engine API v1.51, ContainerConfig and
HostConfig.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from wherry.model.ids import Digest
from wherry.model.networks import Attachments, EndpointSpec
from wherry.model.resources import Limits
from wherry.model.wiring import Pairs as Pairs


class MountKind(StrEnum):
    """Where a mount's content comes from."""

    BIND = "bind"
    TMPFS = "tmpfs"
    VOLUME = "volume"
    IMAGE = "image"


@dataclass(frozen=True, slots=True)
class VolumeOptions:
    """What a `--mount type=volume` says of the volume beside its name. Source: Engine API, VolumeOptions."""

    no_copy: bool = False
    subpath: str = ""
    labels: Pairs | None = None
    driver: str = ""
    driver_options: Pairs | None = None
    driver_named: bool = False
    """Whether DriverConfig was there at all, for showing it again."""


@dataclass(frozen=True, slots=True)
class MountSpec:
    """One `-v`, `--mount` or `--tmpfs`. `legacy_bind` marks `-v`, which creates a missing source.

    The last five fields are filled in when a container is made: see `Container.points`.
    """

    kind: MountKind
    target: str
    source: str = ""
    read_only: bool = False
    propagation: str = "rprivate"
    non_recursive: bool = False
    read_only_non_recursive: bool = False
    read_only_force_recursive: bool = False
    create_source: bool = False
    legacy_bind: bool = False
    bind_text: str = ""
    tmpfs_size: int = 0
    tmpfs_mode: int = 0
    tmpfs_options: str = ""
    legacy_tmpfs: bool = False
    options: VolumeOptions | None = None
    image_subpath: str = ""
    volume: str = ""
    """The name of the volume that is mounted, an anonymous one's too."""
    driver: str = ""
    """The driver of that volume."""
    mode: str = ""
    """What inspect shows as Mode."""
    chain: tuple[Digest, ...] = ()
    """The layers of the image that is mounted, base first."""
    image_id: Digest | None = None

    @property
    def subpath(self) -> str:
        """What of the volume or image is mounted; empty for the whole."""
        return self.options.subpath if self.options is not None else self.image_subpath


@dataclass(frozen=True, slots=True)
class DeviceSpec:
    """One `--device host:container:rwm`."""

    host: str
    container: str
    permissions: str = "rwm"


@dataclass(frozen=True, slots=True)
class Ulimit:
    """One `--ulimit name=soft:hard`; -1 is unlimited."""

    name: str
    soft: int
    hard: int


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """`--restart`: no, always, unless-stopped, on-failure with an optional count."""

    name: str = "no"
    maximum_retries: int = 0


@dataclass(frozen=True, slots=True)
class LogConfig:
    """`--log-driver` and `--log-opt`; an empty driver means the daemon's default."""

    driver: str = ""
    options: Pairs = ()


@dataclass(frozen=True, slots=True)
class Namespaces:
    """`--userns --pid --ipc --uts --cgroupns --network`, each as written: "", host, private, container:X, none, …"""

    user: str = ""
    pid: str = ""
    ipc: str = ""
    uts: str = ""
    cgroup: str = ""
    network: str = ""


@dataclass(frozen=True, slots=True)
class Security:
    """Capabilities, seccomp and the rest of `--security-opt`."""

    privileged: bool = False
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    """`--security-opt` entries as sent: `seccomp={json}`, `no-new-privileges`, …"""
    masked_paths: tuple[str, ...] | None = None
    """None: Docker's default list."""
    readonly_paths: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class HealthSpec:
    """HEALTHCHECK as asked for; nanoseconds, 0 for Docker's defaults."""

    test: tuple[str, ...] = ()
    interval: int = 0
    timeout: int = 0
    start_period: int = 0
    start_interval: int = 0
    retries: int = 0


@dataclass(frozen=True, slots=True)
class ContainerSpec:
    """What is wanted of one container, as asked (before the image's configuration is merged in)."""

    image: str
    command: tuple[str, ...] | None = None
    entrypoint: tuple[str, ...] | None = None
    """None: the image's; () : none."""
    env: tuple[str, ...] = ()
    working_dir: str = ""
    user: str = ""
    group_add: tuple[str, ...] = ()
    hostname: str = ""
    domainname: str = ""
    labels: Pairs = ()
    annotations: Pairs = ()
    tty: bool = False
    open_stdin: bool = False
    stdin_once: bool = False
    attach_stdin: bool = False
    attach_stdout: bool = False
    attach_stderr: bool = False
    stop_signal: str = ""
    stop_timeout: int | None = None
    init: bool | None = None
    auto_remove: bool = False
    read_only: bool = False
    shm_size: int = 0
    oom_score_adj: int = 0
    sysctls: Pairs = ()
    ulimits: tuple[Ulimit, ...] = ()
    devices: tuple[DeviceSpec, ...] = ()
    device_cgroup_rules: tuple[str, ...] = ()
    mounts: tuple[MountSpec, ...] = ()
    image_volumes: tuple[str, ...] = ()
    """`Volumes` of the create body: anonymous volumes asked for."""
    volumes_from: tuple[str, ...] = ()
    limits: Limits = field(default_factory=Limits)
    cgroup_parent: str = ""
    restart: RestartPolicy = field(default_factory=RestartPolicy)
    log: LogConfig = field(default_factory=LogConfig)
    namespaces: Namespaces = field(default_factory=Namespaces)
    security: Security = field(default_factory=Security)
    health: HealthSpec | None = None
    extra_hosts: tuple[str, ...] = ()
    dns: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    dns_options: tuple[str, ...] = ()
    exposed_ports: tuple[str, ...] = ()
    published: tuple[tuple[str, str, str], ...] = ()
    """(container port/proto, host address, host port or range of them)."""
    publish_all: bool = False
    network_disabled: bool = False
    mac_address: str = ""
    runtime: str = ""
    storage_options: Pairs = ()
    volume_driver: str = ""
    console_size: tuple[int, int] = (0, 0)
    """(rows, columns)."""
    container_id_file: str = ""
    shell: tuple[str, ...] = ()
    platform: str = ""
    links: tuple[str, ...] = ()
    """`--link` on the default bridge: NAME:ALIAS as asked, the linked container's full id for NAME once kept."""
    endpoints: tuple[EndpointSpec, ...] = ()
    """One for each network it is to be in."""
    empties: tuple[str, ...] = field(default=(), compare=False)
    """Fields of the API that were sent as [] or {}: inspect shows them so, and null where nothing was sent."""


@dataclass(frozen=True, slots=True)
class ExecSpec:
    """What `POST /containers/{id}/exec` asks for."""

    argv: tuple[str, ...]
    env: tuple[str, ...] = ()
    working_dir: str = ""
    user: str = ""
    tty: bool = False
    attach_stdin: bool = False
    attach_stdout: bool = False
    attach_stderr: bool = False
    privileged: bool = False
    detach_keys: str = ""
    console_size: tuple[int, int] = (0, 0)


class Status(StrEnum):
    """Docker's words for a container's state."""

    CREATED = "created"
    RUNNING = "running"
    PAUSED = "paused"
    RESTARTING = "restarting"
    REMOVING = "removing"
    EXITED = "exited"
    DEAD = "dead"


class HealthStatus(StrEnum):
    """Docker's words for what the checks say."""

    NONE = "none"
    STARTING = "starting"
    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"


@dataclass(frozen=True, slots=True)
class Probe:
    """One run of a health check: nanoseconds since the epoch; -1 for one that was cut off."""

    start: int
    end: int
    exit_code: int
    output: str


@dataclass(frozen=True, slots=True)
class Health:
    """What the last checks said; `failing_streak` counts failures in a row."""

    status: HealthStatus = HealthStatus.STARTING
    failing_streak: int = 0
    log: tuple[Probe, ...] = ()


@dataclass(frozen=True, slots=True)
class ContainerState:
    """What was last observed; times are nanoseconds since the epoch, 0 for never."""

    status: Status = Status.CREATED
    pid: int = 0
    exit_code: int = 0
    oom_killed: bool = False
    error: str = ""
    started_at: int = 0
    finished_at: int = 0
    restart_count: int = 0
    stopped_by_user: bool = False
    """`docker stop` or `kill` came since the last start: restart policies other than always keep quiet."""
    attachments: Attachments = field(default_factory=Attachments)
    """What it holds of networks: addresses, links and ports. Kept before they are used."""
    health: Health | None = None
    """None where there is no check, or it never ran."""


@dataclass(frozen=True, slots=True)
class Container:
    """One container, whole: the row that the database keeps."""

    id: str
    name: str
    created: int
    """Nanoseconds since the epoch."""
    spec: ContainerSpec
    image_id: Digest
    image_name: str
    """As written by the user, for listings."""
    argv: tuple[str, ...]
    """Entrypoint and command, merged with the image's."""
    env: tuple[str, ...]
    working_dir: str
    user: str
    stop_signal: str
    labels: Pairs
    hostname: str
    chain: tuple[Digest, ...]
    """The image's layers as chain ids, base first."""
    architecture: str = ""
    """What the image says its programs are for; empty for this machine."""
    state: ContainerState = field(default_factory=ContainerState)
    points: tuple[MountSpec, ...] | None = None
    """What is mounted where that is more than what was asked for: with the names of anonymous volumes,
    what --volumes-from and the image bring, and the layers of mounted images. None: as in `spec`."""

    @property
    def mounts(self) -> tuple[MountSpec, ...]:
        """Everything that is mounted when it runs."""
        return self.spec.mounts if self.points is None else self.points
