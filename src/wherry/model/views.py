"""What services answer and are asked with: tier 5 and `images` give these, `api` renders them.

They are facts like the rest of `model`, but shaped for a question (an inspect, a listing, a log request)
rather than for the database.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from wherry.model.containers import Container, ExecSpec
from wherry.model.ids import Digest
from wherry.model.networks import Endpoint, Network
from wherry.model.stats import LinkStats

INSECURE_NETWORKS = ("::1/128", "127.0.0.0/8")
"""Registries there may be spoken to without TLS, as Docker does: nobody is on the way."""
Filters = Mapping[str, Sequence[str]]
"""Docker's `filters` parameter: {"label": ["a=b"], "status": ["running"]}."""


@dataclass(frozen=True, slots=True)
class MountPoint:
    """One entry of an inspect's `Mounts`."""

    kind: str
    source: str
    destination: str
    mode: str = ""
    read_write: bool = True
    propagation: str = ""
    name: str = ""
    driver: str = ""


@dataclass(frozen=True, slots=True)
class ContainerView:
    """A container with what inspect and ps show beside the row; sizes are -1 where not asked for."""

    container: Container
    image_id: Digest
    mounts: tuple[MountPoint, ...] = ()
    image_name: str = ""
    """What the image was called at create; empty in a list where that is another one's name by now."""
    exec_ids: tuple[str, ...] = ()
    log_path: str = ""
    hostname_path: str = ""
    hosts_path: str = ""
    resolv_conf_path: str = ""
    upper_dir: str = ""
    lower_dirs: tuple[str, ...] = ()
    work_dir: str = ""
    links: tuple[tuple[str, str], ...] = ()
    """Legacy links as (name of the linked container, alias)."""
    linked_as: tuple[str, ...] = ()
    """The names that other containers' legacy links give it: `web/db`."""
    size_rw: int = -1
    size_root_fs: int = -1


@dataclass(frozen=True, slots=True)
class AttachedView:
    """A running container in a network's inspect."""

    container_id: str
    name: str
    endpoint: Endpoint


@dataclass(frozen=True, slots=True)
class NetworkView:
    """A network with the running containers in it."""

    network: Network
    attached: tuple[AttachedView, ...] = ()


@dataclass(frozen=True, slots=True)
class Repaired:
    """What a repair of the networks did, a line each, and what it could not do."""

    done: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Created:
    """The answer to create."""

    id: str
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Exited:
    """How a wait ended; `error` is set where the container could not be started or was removed badly."""

    code: int
    error: str = ""


@dataclass(frozen=True, slots=True)
class AttachOptions:
    """`logs` replays what was logged, `stream` goes on live; `multiplexed` frames as the API documents."""

    stdin: bool = False
    stdout: bool = False
    stderr: bool = False
    logs: bool = False
    stream: bool = True
    detach_keys: str = ""
    multiplexed: bool = True


@dataclass(frozen=True, slots=True)
class LogOptions:
    """Times are nanoseconds since the epoch, 0 for open; `tail` -1 is all."""

    stdout: bool = True
    stderr: bool = True
    since: int = 0
    until: int = 0
    tail: int = -1
    timestamps: bool = False
    details: bool = False
    follow: bool = False


@dataclass(frozen=True, slots=True)
class ExecView:
    """What `GET /exec/{id}/json` shows."""

    id: str
    container_id: str
    spec: ExecSpec
    running: bool
    exit_code: int | None
    pid: int


@dataclass(frozen=True, slots=True)
class PathStat:
    """`X-Docker-Container-Path-Stat`; `mode` is Go's os.FileMode bits, `mtime` nanoseconds."""

    name: str
    size: int
    mode: int
    mtime: int
    link_target: str = ""


@dataclass(frozen=True, slots=True)
class Change:
    """One line of `docker diff`: kind 0 changed, 1 added, 2 deleted."""

    path: str
    kind: int


@dataclass(frozen=True, slots=True)
class StatsSample:
    """One reading: the raw counters as the cgroup module gives them, rendered by `api.wire`."""

    id: str
    name: str
    read_at: int
    """Nanoseconds since the epoch."""
    counters: object
    """`runtime.cgroups` CgroupStats, or None when the container does not run."""
    online_cpus: int
    system_cpu_ns: int
    pids_limit: int = 0
    links: Mapping[str, LinkStats] = field(default_factory=dict[str, LinkStats])
    """By the interface's name inside; empty where it has the host's network, or none."""


@dataclass(frozen=True, slots=True)
class CommitOptions:
    """`POST /commit`; `changes` are Dockerfile instructions, `config` overrides parts of the image's."""

    name: str = ""
    author: str = ""
    comment: str = ""
    pause: bool = True
    changes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Pruned:
    """What a prune took away, and the bytes it gave back."""

    deleted: tuple[str, ...]
    space: int


@dataclass(frozen=True, slots=True)
class ImageDeletion:
    """One line of rmi's answer."""

    untagged: str = ""
    deleted: str = ""


@dataclass(frozen=True, slots=True)
class Progress:
    """One line of a progress stream, as pull's: {"status", "id", "progressDetail": {"current","total"}}.

    `stream` is load's form; `aux` a final {"aux": {...}}; `error` ends the stream.
    """

    status: str = ""
    id: str = ""
    current: int = 0
    total: int = 0
    stream: str = ""
    aux: tuple[tuple[str, str | int], ...] = ()
    error: str = ""


@dataclass(frozen=True, slots=True)
class SearchResult:
    """One repository that a search found."""

    name: str
    description: str = ""
    stars: int = 0
    official: bool = False
    automated: bool = False


@dataclass(frozen=True, slots=True)
class DistributionView:
    """What a registry has under a name; platforms as (os, architecture, variant, os.version)."""

    media_type: str
    digest: Digest
    size: int
    platforms: tuple[tuple[str, str, str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class EngineFacts:
    """What `info` and `version` tell that does not change while the daemon runs."""

    id: str
    name: str
    version: str
    data_root: str
    exec_root: str
    kernel: str
    operating_system: str
    os_version: str
    architecture: str
    cpus: int
    memory: int
    cgroup_version: int
    cgroup_driver: str
    storage_driver: str
    backing_fs: str
    default_log_driver: str
    security_options: tuple[str, ...]
    labels: tuple[str, ...]
    warnings: tuple[str, ...]
    init_path: str
    built: int = 0
    """Seconds since the epoch: when the program's files were written; 0 is not known."""
    features: tuple[tuple[str, bool], ...] = ()
    """MemoryLimit, SwapLimit, CpuCfsPeriod, … as info names them."""
    experimental: bool = False
    debug: bool = False
    live_restore: bool = True
    registry_mirrors: tuple[str, ...] = ()
    insecure_registries: tuple[str, ...] = ()
    proxies: tuple[str, str, str] = ("", "", "")
    """HTTP, HTTPS, and the hosts without."""


class ByteSource(Protocol):
    """A request body as it comes in."""

    async def read(self) -> bytes:
        """Return the next piece, b"" at the end."""
        ...


@dataclass(frozen=True, slots=True)
class RegistryStatus:
    """The registry that the engine keeps: where it is reached (URLs), and the folder that holds it."""

    running: bool
    root: str
    addresses: tuple[str, ...] = ()
    pid: int = 0
