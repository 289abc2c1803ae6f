"""A build as asked for, and what it tells while it goes on. No front end, no JSON.

Values of secrets are in none of these: they come through `SecretSource` when a step asks, and go no further.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from wherry.model.containers import Pairs, Ulimit
from wherry.model.images import Platform
from wherry.model.resources import Limits

MAIN_CONTEXT = ""
"""The name of the context that COPY without `--from` takes from."""


class ContextKind(StrEnum):
    """Where a context's files come from; `ContextRef.value` is read accordingly."""

    EMPTY = "empty"
    """No files: `docker build -`. The value is not read."""
    TREE = "tree"
    """A tree that was received: its id in the store of contexts."""
    GIT = "git"
    """`URL#ref:subdir`."""
    URL = "url"
    """An archive, or a lone Dockerfile, by HTTP."""
    IMAGE = "image"
    """An image's reference (`docker-image://…`)."""
    OCI_LAYOUT = "oci-layout"
    """`ID[:tag][@digest]` of a received tree that is an OCI layout."""


@dataclass(frozen=True, slots=True)
class ContextRef:
    """One context: the build's own or a named one."""

    kind: ContextKind = ContextKind.EMPTY
    value: str = ""
    ignore: tuple[str, ...] = ()
    """The lines of its .dockerignore, comments gone; for a TREE that was filtered already, ()."""
    epoch: int | None = None
    """Seconds: the time of the commit that a folder is a checkout of, where the asker knows it."""
    origin: str = ""
    """Where a TREE was fetched from: `URL#ref:subdir`, or an archive's URL; "" for what a client sent."""
    revision: str = ""
    """The commit, of one from git."""
    keep_git_dir: bool = False
    """Of one from git: `.git` is among its files."""
    by_platform: Pairs = ()
    """Of an IMAGE whose platforms are images of their own: platform as asked to `value`."""

    def image(self, platform: str) -> str:
        """Return the reference of an IMAGE for a platform (`linux/arm64`)."""
        return dict(self.by_platform).get(platform, self.value)


@dataclass(frozen=True, slots=True)
class CacheRef:
    """`--cache-from`, `--cache-to`: `inline`, `local` (src, dest), `registry` (ref), and attributes."""

    kind: str
    attributes: Pairs = ()

    def get(self, name: str, default: str = "") -> str:
        """Return one attribute."""
        return dict(self.attributes).get(name, default)


@dataclass(frozen=True, slots=True)
class OutputRef:
    """`--output`: `image`, `docker`, `oci`, `local`, `tar`, `registry`, `cacheonly`, and attributes."""

    kind: str
    attributes: Pairs = ()

    def get(self, name: str, default: str = "") -> str:
        """Return one attribute."""
        return dict(self.attributes).get(name, default)


@dataclass(frozen=True, slots=True)
class BuildRequest:
    """All that one build is asked with. Sizes in bytes; `source_date_epoch` in seconds."""

    dockerfile: bytes
    dockerfile_name: str = "Dockerfile"
    build_id: str = ""
    """By which it may be cancelled; "" for one that may not."""
    contexts: Mapping[str, ContextRef] = field(default_factory=dict[str, ContextRef])
    """By name; `MAIN_CONTEXT` is the build's own."""
    args: Mapping[str, str] = field(default_factory=dict[str, str])
    target: str = ""
    labels: Pairs = ()
    annotations: Pairs = ()
    """A name may say whose it is: `index:NAME`, `manifest[linux/arm64]:NAME`; see `build.annotations`."""
    platform: str = ""
    """As asked: `linux/arm64`; "" is the host's."""
    platforms: tuple[str, ...] = ()
    """Several, of which each becomes an image of its own; `platform` is not read then."""
    tags: tuple[str, ...] = ()
    no_cache: bool = False
    no_cache_filter: tuple[str, ...] = ()
    """Names of the stages whose steps are not looked up."""
    cache_from: tuple[CacheRef, ...] = ()
    cache_to: tuple[CacheRef, ...] = ()
    outputs: tuple[OutputRef, ...] = ()
    """() is an image in the store."""
    network: str = "default"
    """Of RUN: `default`, `none`, `host`, a network's name, `container:ID`."""
    extra_hosts: tuple[str, ...] = ()
    """`name:address`."""
    shm_size: int = 0
    limits: Limits = field(default_factory=Limits)
    ulimits: tuple[Ulimit, ...] = ()
    cgroup_parent: str = ""
    pull: bool = False
    """Ask the registry for base images even where they are here."""
    secrets: tuple[str, ...] = ()
    """Ids of what `SecretSource.secret` can give."""
    ssh: tuple[str, ...] = ()
    """Ids of what `SecretSource.agent` can reach."""
    entitlements: tuple[str, ...] = ()
    """`network.host`, `security.insecure`."""
    squash: bool = False
    source_date_epoch: int | None = None
    """None: `SOURCE_DATE_EPOCH` of `args`, else the time of the context's commit, else as the files have it."""
    provenance: str = ""
    """"", `min`, `max`."""
    provenance_version: str = ""
    """Of SLSA: `v1`, `v0.2`; "" is the latter."""
    builder_id: str = ""
    """What the provenance names as builder."""
    sbom: bool = False
    remove: bool = True
    force_remove: bool = False
    registry_auth: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    """Registry host to its X-Registry-Auth value, for base images, caches and pushes."""
    check_only: bool = False
    """Lint and do nothing else (`--check`)."""
    call: str = ""
    """`outline` or `targets`: only told what the Dockerfile offers, in the end's metadata."""


class SecretSource(Protocol):
    """Gives what the asker keeps to himself. What it returns is never stored, logged or put into a key."""

    async def secret(self, name: str) -> bytes | None:
        """Return a secret's value, None where the asker has none of that id."""
        ...

    async def agent(self, name: str) -> str | None:
        """Return the path of a socket that reaches the asker's ssh agent `name`, None for none."""
        ...


class NoSecrets:
    """A SecretSource that has nothing."""

    async def secret(self, name: str) -> bytes | None:
        """Return None."""
        del name

    async def agent(self, name: str) -> str | None:
        """Return None."""
        del name


# -- what it tells ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StepRef:
    """Which step an event is about. `id` is unique in its build."""

    id: int
    title: str
    """The instruction as it is shown, variables resolved: `RUN make`."""
    written: str = ""
    """The instruction as it stands in the file, on one line."""
    stage: str = ""
    """The stage's name, or its number as text."""
    number: int = 0
    """`Step 3/7` of the classic stream: every instruction of the stages that are built counts; 0 for
    what is no instruction (loading a context, exporting)."""
    total: int = 0
    stage_number: int = 0
    """`[build 2/4]`: FROM, RUN, COPY, ADD and WORKDIR count; 0 for others."""
    stage_total: int = 0
    platform: Platform | None = None
    """Where several are built for at once."""


@dataclass(frozen=True, slots=True)
class StepStarted:
    """Work on a step began; `at` is nanoseconds since the epoch."""

    step: StepRef
    at: int
    container: str = ""
    """The id of the container it runs in, where that is known already (` ---> Running in …`)."""


@dataclass(frozen=True, slots=True)
class StepCached:
    """A step's result was there. It comes in place of StepStarted and StepDone."""

    step: StepRef
    at: int
    result: str = ""
    """An id for the state after the step, as ` ---> 0123456789ab` shows."""


@dataclass(frozen=True, slots=True)
class StepOutput:
    """What a RUN wrote; `fd` is 1 or 2."""

    step: StepRef
    data: bytes
    fd: int = 1


@dataclass(frozen=True, slots=True)
class StepDone:
    """A step came to its end."""

    step: StepRef
    at: int
    result: str = ""
    container: str = ""
    """The id of the container it ran in, if any (` ---> Running in …`)."""


@dataclass(frozen=True, slots=True)
class StepFailed:
    """A step failed, and with it the build; BuildFailed is raised after it."""

    step: StepRef
    at: int
    message: str
    canceled: bool = False
    excerpt: str = ""
    """Where it stands: `Dockerfile:3`, and the lines around it, the step's marked."""


@dataclass(frozen=True, slots=True)
class BuildWarning:
    """One finding of the checks, or a notice."""

    rule: str
    """`StageNameCasing`; "" for a notice."""
    message: str
    description: str = ""
    url: str = ""
    line: int = 0
    """1-based; 0 for none."""
    last_line: int = 0
    excerpt: str = ""


@dataclass(frozen=True, slots=True)
class Transfer:
    """Bytes on their way: a layer of a base image, a context, an export."""

    step: StepRef | None
    name: str
    current: int
    total: int
    """0 where it is not known."""
    done: bool = False


@dataclass(frozen=True, slots=True)
class Finished:
    """The end of a build that came to one."""

    image_id: str = ""
    """`sha256:…`; "" where no image was made (`--output=local`, `--check`)."""
    manifest: str = ""
    """The manifest's digest."""
    manifest_size: int = 0
    stored: bool = True
    """It is in the store; else `image_id` is what an output told of it."""
    names: tuple[str, ...] = ()
    """Familiar names that it got."""
    metadata: Mapping[str, object] = field(default_factory=dict[str, object])
    """For `--metadata-file`."""


Progress = (
    StepStarted
    | StepCached
    | StepOutput
    | StepDone
    | StepFailed
    | BuildWarning
    | Transfer
    | Finished
)
