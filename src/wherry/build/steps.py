"""What a Dockerfile comes to: stages, and steps with every variable resolved. Frozen facts."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from wherry.build.dockerfile.syntax import Heredoc, Instruction
from wherry.model.images import ImageConfig, Platform
from wherry.model.urls import is_web

# -- where files come from ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FromStage:
    """The result of another stage, by index."""

    index: int


@dataclass(frozen=True, slots=True)
class FromImage:
    """An image's root."""

    reference: str
    platform: str = ""


@dataclass(frozen=True, slots=True)
class FromContext:
    """The build's context, or a named one."""

    name: str = ""


@dataclass(frozen=True, slots=True)
class Scratch:
    """Nothing: `FROM scratch`."""


Source = FromStage | FromImage | FromContext | Scratch


# -- steps --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Common:
    """What every step has."""

    instruction: Instruction
    title: str
    """As it is shown, variables resolved: `RUN make`, `COPY a b`."""
    created_by: str
    """The history's text, as BuildKit writes it; "" for no entry."""
    config: ImageConfig
    """The image's configuration after this step."""
    from_base: bool = False
    """It is an ONBUILD trigger of the base image."""


class MountKind(StrEnum):
    """`RUN --mount=type=`."""

    BIND = "bind"
    CACHE = "cache"
    TMPFS = "tmpfs"
    SECRET = "secret"
    SSH = "ssh"


class Sharing(StrEnum):
    """How a cache mount is used by several steps at once."""

    SHARED = "shared"
    PRIVATE = "private"
    LOCKED = "locked"


@dataclass(frozen=True, slots=True)
class RunMount:
    """One `--mount` of RUN. `mode` is permission bits, None for the kind's own (0755; 0400 secret, 0600 ssh)."""

    kind: MountKind
    target: str = ""
    """Absolute. "" only for a secret that is a variable alone, and for ssh: its own place then."""
    source: str = ""
    """BIND, CACHE: a path below `origin`."""
    origin: Source | None = None
    """BIND: the context unless said; CACHE: what it is filled from first, None for nothing."""
    id: str = ""
    sharing: Sharing = Sharing.SHARED
    read_only: bool = False
    required: bool = False
    env: str = ""
    """SECRET: the variable that gets it."""
    size: int = 0
    """TMPFS: bytes, 0 for no limit."""
    uid: int = 0
    gid: int = 0
    mode: int | None = None


@dataclass(frozen=True, slots=True)
class RunStep:
    """RUN. `env` is the whole environment of the process, arguments included."""

    common: Common
    argv: tuple[str, ...]
    env: tuple[str, ...]
    working_dir: str
    user: str
    mounts: tuple[RunMount, ...] = ()
    network: str = "default"
    """`default`, `none`, `host`."""
    insecure: bool = False
    key_env: tuple[str, ...] = ()
    """The part of `env` that enters the key: proxies and the like do not."""
    scripts: tuple[Heredoc, ...] = ()
    """Files to be put below /dev/pipes while it runs."""
    architecture: str = ""
    """What its programs are for; empty for this machine."""


@dataclass(frozen=True, slots=True)
class CopyStep:
    """COPY. Paths are expanded; `destination` is absolute and keeps its last slash."""

    common: Common
    sources: tuple[str, ...]
    destination: str
    origin: Source
    files: tuple[Heredoc, ...] = ()
    """Here-documents, their variables resolved: each a file of its name."""
    chown: str = ""
    """`user[:group]`, names or numbers; "" is 0:0."""
    chmod: str = ""
    link: bool = False
    parents: bool = False
    excludes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AddStep:
    """ADD: as COPY from the context, and `sources` may be URLs and git repositories."""

    common: Common
    sources: tuple[str, ...]
    destination: str
    files: tuple[Heredoc, ...] = ()
    chown: str = ""
    chmod: str = ""
    link: bool = False
    excludes: tuple[str, ...] = ()
    checksum: str = ""
    keep_git_dir: bool = False
    unpack: bool | None = None
    """None: local archives are unpacked, remote ones are not."""
    origin: Source = FromContext()


def is_remote(source: str) -> bool:
    """Whether an ADD's source is fetched: a URL or a git repository."""
    return is_web(source) or source.startswith(("git://", "ssh://", "git@"))


@dataclass(frozen=True, slots=True)
class WorkdirStep:
    """WORKDIR: the directory is made where it is missing, owned by root."""

    common: Common
    path: str


@dataclass(frozen=True, slots=True)
class ConfigStep:
    """What changes the configuration alone: ENV, LABEL, CMD, USER, ARG and so on."""

    common: Common


Step = RunStep | CopyStep | AddStep | WorkdirStep | ConfigStep
LayerStep = RunStep | CopyStep | AddStep | WorkdirStep


@dataclass(frozen=True, slots=True)
class Stage:
    """One FROM and what follows it."""

    index: int
    name: str
    """As given by AS, else its number as text."""
    instruction: Instruction
    title: str
    """`FROM debian AS build`, variables resolved."""
    base: Source
    platform: Platform
    base_config: ImageConfig
    author: str
    """What MAINTAINER says, or the base's."""
    steps: tuple[Step, ...]
    needs: tuple[int, ...]
    """The stages whose results it uses, its base's first."""

    @property
    def config(self) -> ImageConfig:
        """The configuration at its end."""
        return self.steps[-1].common.config if self.steps else self.base_config


@dataclass(frozen=True, slots=True)
class Graph:
    """The stages that are to be built, in the file's order, and which of them is wanted."""

    stages: tuple[Stage, ...]
    target: int
    """The index (as in the file) of the stage that is wanted."""
    skipped: tuple[str, ...] = ()
    """Names of the stages that nothing needs."""

    def stage(self, index: int) -> Stage:
        """Return the stage that has this index in the file."""
        return next(stage for stage in self.stages if stage.index == index)
