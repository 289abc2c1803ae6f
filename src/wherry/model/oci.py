"""What the runtime is given: the OCI runtime specification's config, as frozen facts.

Both doors lead here: `containers` builds it from a ContainerSpec, `runtime.command` from a
bundle's config.json. Source: OCI runtime-spec 1.2, config.md and config-linux.md.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from wherry.model.resources import Limits

if TYPE_CHECKING:
    from wherry.model.containers import Pairs

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Where a command is looked for when nobody says PATH, as with Docker."""


@dataclass(frozen=True, slots=True)
class User:
    """Who a process runs as. `name` is Docker's `user[:group]` text, resolved inside the root file
    system at start; numbers are used where it is empty."""

    name: str = ""
    uid: int = 0
    gid: int = 0
    additional_gids: tuple[int, ...] = ()
    additional_groups: tuple[str, ...] = ()
    umask: int | None = None


@dataclass(frozen=True, slots=True)
class Rlimit:
    """One resource limit; `name` as in RLIMIT_NOFILE; -1 is unlimited."""

    name: str
    soft: int
    hard: int


@dataclass(frozen=True, slots=True)
class Process:
    """The process to run."""

    argv: tuple[str, ...]
    env: tuple[str, ...] = ()
    cwd: str = "/"
    user: User = field(default_factory=User)
    terminal: bool = False
    rows: int = 0
    columns: int = 0
    bounding: int = 0
    """Capability sets as bit masks."""
    effective: int = 0
    permitted: int = 0
    inheritable: int = 0
    ambient: int = 0
    rlimits: tuple[Rlimit, ...] = ()
    no_new_privileges: bool = False
    oom_score_adj: int | None = None
    seccomp: bytes = b""
    """A compiled filter (struct sock_filter[]); empty for none."""
    seccomp_flags: int = 0
    """SECCOMP_FILTER_FLAG_* for seccomp(2)."""
    create_cwd: bool = True
    """Docker creates a missing working directory; the OCI specification does not."""


@dataclass(frozen=True, slots=True)
class OverlayRoot:
    """A root file system made of layers; lowers are top first."""

    lowers: tuple[str, ...]
    upper: str = ""
    work: str = ""
    volatile: bool = False
    """No sync at the end: for containers that are removed when they exit."""


@dataclass(frozen=True, slots=True)
class PathRoot:
    """A root file system that is a directory already."""

    path: str


@dataclass(frozen=True, slots=True)
class Mount:
    """One mount below the root. `kind` is a file system type, or `bind`.

    `options` are mount(8)'s (ro, nosuid, rbind, rprivate, size=…). `source_is_ours` marks files that
    wherry wrote for the container (hosts, resolv.conf, hostname). A bind of `held` shows the mount of
    that name which is handed over with the plan; one of `layers` (top first) an image. Of either, or of
    the directory `source`, only `subpath` is shown where that is set.
    """

    destination: str
    kind: str
    source: str = ""
    options: tuple[str, ...] = ()
    source_is_ours: bool = False
    subpath: str = ""
    held: str = ""
    layers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Device:
    """A device node to be shown in the container; `source` is the host's path."""

    path: str
    source: str


@dataclass(frozen=True, slots=True)
class Emulator:
    """A program of the host's that runs programs of another machine: `runtime.emulation`."""

    architecture: str
    """As images name it: arm64."""
    path: str
    """On the host; static."""
    magic: bytes
    """How executables begin, of which `mask` has the bits that count."""
    mask: bytes


PRIVATE = "private"
HOST = "host"


@dataclass(frozen=True, slots=True)
class NamespaceSet:
    """Each is `private` (new), `host`, or a path such as /proc/PID/ns/net to be joined."""

    user: str = PRIVATE
    pid: str = PRIVATE
    mount: str = PRIVATE
    network: str = PRIVATE
    ipc: str = PRIVATE
    uts: str = PRIVATE
    cgroup: str = PRIVATE


@dataclass(frozen=True, slots=True)
class IdMap:
    """One line of uid_map/gid_map."""

    inside: int
    outside: int
    size: int


@dataclass(frozen=True, slots=True)
class RuntimeSpec:
    """Everything the runtime needs to know of one container."""

    id: str
    process: Process
    root: OverlayRoot | PathRoot
    read_only_root: bool = False
    hostname: str = ""
    domainname: str = ""
    mounts: tuple[Mount, ...] = ()
    devices: tuple[Device, ...] = ()
    """Beyond the default ones (null, zero, full, random, urandom, tty)."""
    all_devices: bool = False
    """--privileged: the host's /dev nodes are shown."""
    namespaces: NamespaceSet = field(default_factory=NamespaceSet)
    uid_maps: tuple[IdMap, ...] = ()
    """Empty with a private user namespace: wherry picks a free range of 65,536."""
    gid_maps: tuple[IdMap, ...] = ()
    limits: Limits = field(default_factory=Limits)
    cgroup_path: str = ""
    sysctls: Pairs = ()
    masked_paths: tuple[str, ...] = ()
    readonly_paths: tuple[str, ...] = ()
    shm_size: int = 64 << 20
    """Bytes of /dev/shm; 0 for none."""
    shm_source: str = ""
    """`PID:/dev/shm` when ipc is shared with the container of that process; empty for a tmpfs of its own."""
    root_propagation: str = "rprivate"
    writable_sys: bool = False
    """--privileged: /sys and cgroups are writable."""
    standard_mounts: bool = True
    """/proc, /dev, /sys and the rest as Docker makes them; wherry-runtime clears it and lists `mounts` itself."""
    emulator: Emulator | None = None
    """For an image of another machine; the container has a user namespace of its own then."""


DEFAULT_MASKED_PATHS = (
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
)
DEFAULT_READONLY_PATHS = (
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
)
