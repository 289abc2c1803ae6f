"""What carries out a RUN, as the solver sees it. `containers.building` does it with a container."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from wherry.model.containers import Ulimit
from wherry.model.ids import Digest
from wherry.model.resources import Limits

Output = Callable[[int, bytes], None]
"""Called with 1 or 2 and what was written, on the event loop's thread."""


@dataclass(frozen=True, slots=True)
class DirectoryMount:
    """A directory or file of the host, seen at `target`."""

    target: str
    source: str
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class LayersMount:
    """What is at `path` in the tree of the layers `chain`, read-only."""

    target: str
    chain: tuple[Digest, ...]
    path: str = ""


@dataclass(frozen=True, slots=True)
class MemoryMount:
    """An empty tmpfs."""

    target: str
    size: int = 0
    """Bytes; 0 for no limit."""


@dataclass(frozen=True, slots=True)
class FileMount:
    """A file whose content never touches a disk: secrets, scripts."""

    target: str
    content: bytes = field(repr=False)
    mode: int = 0o400
    uid: int = 0
    gid: int = 0


HostMount = DirectoryMount | LayersMount | MemoryMount | FileMount


@dataclass(frozen=True, slots=True)
class RunSpec:
    """One process to run over `chain`; what it writes is left in the writable tree `key`."""

    key: str
    chain: tuple[Digest, ...]
    argv: tuple[str, ...]
    env: tuple[str, ...]
    working_dir: str
    user: str
    mounts: tuple[HostMount, ...] = ()
    network: str = "default"
    insecure: bool = False
    limits: Limits = field(default_factory=Limits)
    ulimits: tuple[Ulimit, ...] = ()
    shm_size: int = 0
    cgroup_parent: str = ""
    extra_hosts: tuple[str, ...] = ()
    architecture: str = ""
    """What its programs are for; empty for this machine."""


class Runner(Protocol):
    """Runs commands in containers."""

    async def run(self, spec: RunSpec, output: Output) -> int:
        """Return the exit code. Cancelling it kills the container, and waits for its end.

        Raises StartFailed for a command that cannot be executed, Unavailable, Full.
        """
        ...

    def discard(self, key: str) -> None:
        """Take away all that is left of `key`; it returns at once, and missing is fine."""
        ...
