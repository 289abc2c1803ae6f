"""What the API needs from the rest of the house, as Protocols.

`containers` and `images` satisfy them; `daemon.wiring` hands them in. A name given by a user (an id,
a unique prefix of one, or a name) is called `ref` and resolved by the service, which raises NotFound
(or Conflict where a prefix is ambiguous).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from wherry.api.contexts import BuildContexts
from wherry.model.containers import Container, ContainerSpec, ExecSpec, RestartPolicy
from wherry.model.events import Event
from wherry.model.ids import Digest
from wherry.model.images import Image, Platform
from wherry.model.manifest_lists import ManifestList
from wherry.model.networks import EndpointSpec, NetworkSpec
from wherry.model.resources import Limits
from wherry.model.views import (
    AttachOptions,
    ByteSource,
    Change,
    CommitOptions,
    ContainerView,
    Created,
    DistributionView,
    EngineFacts,
    ExecView,
    Exited,
    Filters,
    ImageDeletion,
    LogOptions,
    NetworkView,
    PathStat,
    Progress,
    Pruned,
    RegistryStatus,
    Repaired,
    SearchResult,
    StatsSample,
)
from wherry.model.volumes import VolumeRequest, VolumeView
from wherry.registry.credentials import Credentials

if TYPE_CHECKING:
    from wherry.build.service import Builds


class Containers(Protocol):
    """Everything that can be asked of containers."""

    async def create(self, spec: ContainerSpec, name: str) -> Created: ...
    async def start(self, ref: str) -> bool:
        """Return False when it ran already (304)."""
        ...

    async def stop(self, ref: str, timeout: int | None, signal: str) -> bool:
        """Return False when it did not run (304); timeout in seconds, -1 waits for ever, None the default."""
        ...

    async def restart(self, ref: str, timeout: int | None, signal: str) -> None: ...
    async def kill(self, ref: str, signal: str) -> None: ...
    async def pause(self, ref: str) -> None: ...
    async def unpause(self, ref: str) -> None: ...
    async def rename(self, ref: str, name: str) -> None: ...
    async def remove(self, ref: str, *, force: bool, volumes: bool, link: bool) -> None: ...
    async def wait(self, ref: str, condition: str) -> Awaitable[Exited]:
        """Resolve `ref` and return what completes when the condition (not-running, next-exit, removed) holds."""
        ...

    async def attach(self, ref: str, options: AttachOptions, fd: int, initial: bytes) -> None:
        """Hand the client's socket over: `fd` is owned by the callee from here on, `initial` was read already."""
        ...

    async def check_attach(self, ref: str, options: AttachOptions) -> Container:
        """Return the container (its tty flag tells the framing), or raise what makes an attach impossible."""
        ...

    async def resize(self, ref: str, rows: int, columns: int) -> None: ...
    async def logs(self, ref: str, options: LogOptions) -> tuple[bool, AsyncIterator[bytes]]:
        """Return whether the stream is raw (a terminal's) and the rendered pieces, framed where it is not raw."""
        ...

    async def top(self, ref: str, ps_args: str) -> tuple[list[str], list[list[str]]]: ...
    async def stats(self, ref: str) -> StatsSample: ...
    async def update(
        self, ref: str, limits: Limits, restart: RestartPolicy | None
    ) -> tuple[str, ...]:
        """Change what `limits` sets (None fields stay); return warnings."""
        ...

    async def list(
        self, *, everything: bool, limit: int, size: bool, filters: Filters
    ) -> list[ContainerView]: ...
    async def inspect(self, ref: str, *, size: bool) -> ContainerView: ...
    def inspect_nowait(self, ref: str) -> ContainerView:
        """Return what `inspect` does without sizes: the same object again while nothing has changed."""
        ...

    async def plan(self, ref: str) -> str:
        """Return the start plan as text, a step a line."""
        ...

    async def changes(self, ref: str) -> list[Change]: ...
    async def stat_path(self, ref: str, path: str) -> PathStat: ...
    async def read_archive(self, ref: str, path: str) -> tuple[PathStat, AsyncIterator[bytes]]: ...
    async def write_archive(
        self,
        ref: str,
        path: str,
        body: ByteSource,
        *,
        no_overwrite_dir_non_dir: bool,
        copy_uid_gid: bool,
    ) -> None: ...
    async def export(self, ref: str) -> AsyncIterator[bytes]: ...
    async def commit(
        self, ref: str, options: CommitOptions, config: ContainerSpec | None
    ) -> Digest: ...
    async def prune(self, filters: Filters) -> Pruned: ...
    async def exec_create(self, ref: str, spec: ExecSpec) -> str: ...
    async def exec_check(self, exec_id: str) -> None:
        """Raise what is known to keep an exec from starting, before its connection is given away."""
        ...

    async def exec_start(
        self,
        exec_id: str,
        *,
        detach: bool,
        tty: bool,
        console_size: tuple[int, int],
        fd: int,
        initial: bytes,
    ) -> None:
        """Start; `fd` is the client's socket (owned by the callee), -1 when detached.

        Raises before the socket is used where the exec or its container is not there or not running.
        """
        ...

    async def exec_inspect(self, exec_id: str) -> ExecView: ...
    async def exec_resize(self, exec_id: str, rows: int, columns: int) -> None: ...


class Images(Protocol):
    """Everything that can be asked of images."""

    async def list(self, *, everything: bool, filters: Filters) -> list[Image]: ...
    async def inspect(self, ref: str) -> Image: ...
    async def history(self, ref: str) -> tuple[Image, ...]: ...
    async def tag(self, ref: str, repository: str, tag: str) -> None: ...
    async def remove(self, ref: str, *, force: bool, prune: bool) -> list[ImageDeletion]: ...
    async def prune(self, filters: Filters) -> tuple[list[ImageDeletion], int]: ...
    def load(
        self, body: ByteSource, *, quiet: bool, platform: Platform | None = None
    ) -> AsyncIterator[Progress]: ...
    def import_archive(
        self,
        body: ByteSource,
        *,
        repository: str,
        tag: str,
        message: str,
        changes: Sequence[str],
        platform: str,
        source: str = "-",
    ) -> AsyncIterator[Progress]:
        """Make an image of the archive in `body`, or at `source` where that is a URL."""
        ...

    async def save(
        self, refs: Sequence[str], *, form: str, compression: str
    ) -> AsyncIterator[bytes]:
        """Return the archive; form is `docker` (an archive that is also an OCI layout, as Docker 28's) or `oci`."""
        ...

    def bootstrap(self, name: str, options: Mapping[str, str]) -> AsyncIterator[Progress]: ...
    async def disk_usage(self) -> int:
        """Return the bytes of all layers."""
        ...

    async def container_counts(self) -> dict[str, int]:
        """Return how many containers use each image id."""
        ...


class Networks(Protocol):
    """Everything that can be asked of networks."""

    async def list(self, filters: Filters) -> list[NetworkView]: ...
    async def inspect(self, ref: str, scope: str = "") -> NetworkView: ...
    async def create(self, spec: NetworkSpec) -> tuple[str, str]:
        """Return the id and a warning."""
        ...

    async def remove(self, ref: str) -> None: ...
    async def prune(self, filters: Filters) -> list[str]: ...
    async def connect(self, ref: str, container_ref: str, wish: EndpointSpec) -> None: ...
    async def disconnect(self, ref: str, container_ref: str, *, force: bool) -> None: ...
    async def repair(self) -> Repaired: ...


class Volumes(Protocol):
    """Everything that can be asked of volumes."""

    async def create(self, request: VolumeRequest) -> VolumeView: ...
    async def list(self, filters: Filters) -> list[VolumeView]: ...
    async def inspect(self, name: str) -> VolumeView: ...
    async def remove(self, name: str, *, force: bool) -> None: ...
    async def prune(self, filters: Filters, *, everything: bool) -> Pruned: ...
    async def usage(self) -> list[VolumeView]:
        """Return the volumes that lie on this engine's disk, with sizes and the containers that use them."""
        ...


class Registries(Protocol):
    """Everything that is asked of registries. A name is as people write it, `debian:bookworm`."""

    def pull(
        self, name: str, tag: str, platform: str, credentials: Credentials
    ) -> AsyncIterator[Progress]:
        """Pull; `tag` may be a digest, and is empty for all tags where `name` has none either."""
        ...

    def push(
        self, name: str, tag: str, platform: str, credentials: Credentials
    ) -> AsyncIterator[Progress]:
        """Push; no `tag` is all tags."""
        ...

    async def login(self, server: str, credentials: Credentials) -> str:
        """Return an identity token, or "" where name and password are to be kept."""
        ...

    async def distribution(self, name: str, credentials: Credentials) -> DistributionView: ...
    async def manifest(
        self, name: str, credentials: Credentials, insecure: bool = False
    ) -> tuple[str, Digest, bytes]:
        """Return a manifest's media type, digest and bytes."""
        ...

    async def image_config(
        self, name: str, credentials: Credentials, insecure: bool = False
    ) -> bytes:
        """Return an image's configuration."""
        ...

    async def push_list(
        self, name: str, wanted: ManifestList, credentials: Credentials, insecure: bool = False
    ) -> tuple[list[Digest], Digest]:
        """Store a manifest list and all it names; return the digests of the manifests, and its own."""
        ...

    async def referrers(self, name: str, credentials: Credentials) -> bytes:
        """Return an index of the manifests that refer to `name`'s."""
        ...

    async def search(
        self, term: str, limit: int, filters: Filters, credentials: Credentials
    ) -> Sequence[SearchResult]: ...


class Events(Protocol):
    """What happened, past and to come."""

    def subscribe(self, *, since: int, until: int, filters: Filters) -> AsyncIterator[Event]:
        """Yield events; nanoseconds since the epoch; `until` 0 goes on for ever."""
        ...


class Engine(Protocol):
    """The daemon about itself."""

    def facts(self) -> EngineFacts: ...
    async def counts(self) -> dict[str, int]:
        """Return containers, running, paused, stopped, images."""
        ...


class Registry(Protocol):
    """The registry that the engine keeps."""

    def status(self) -> RegistryStatus: ...
    async def start(self, arguments: tuple[str, ...]) -> RegistryStatus:
        """Start it with these flags, now and whenever the engine starts.

        Raises Conflict where it runs with others, Invalid, Unavailable.
        """
        ...

    async def stop(self) -> bool:
        """Stop it for good; return False where it did not run."""
        ...


@dataclass(frozen=True, slots=True)
class Services:
    """What a route may use."""

    containers: Containers
    images: Images
    networks: Networks
    volumes: Volumes
    registries: Registries
    events: Events
    engine: Engine
    registry: Registry
    builds: Builds
    contexts: BuildContexts
