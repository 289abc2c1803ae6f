"""What wherry-runtime remembers of a container between two calls: one JSON file, replaced atomically.

Source: OCI runtime-spec 1.2, runtime.md, State.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from wherry.model.errors import Conflict, Invalid, NotFound

_ID = re.compile(r"[A-Za-z0-9+_.-]{1,1024}")
_ZOMBIE = "Z"


@dataclass(frozen=True, slots=True)
class State:
    """One container. `start_time` is the init's, in clock ticks since boot, so a reused pid is noticed."""

    id: str
    bundle: str
    pid: int
    start_time: int
    created: str
    started: bool = False
    annotations: dict[str, str] = field(default_factory=dict[str, str])
    facts: dict[str, Any] = field(default_factory=dict[str, Any])

    def status(self) -> str:
        """Return created, running or stopped."""
        if self.pid <= 0 or start_time(self.pid) != self.start_time:
            return "stopped"
        return "running" if self.started else "created"


def start_time(pid: int) -> int:
    """Return when a process started, in clock ticks since boot; -1 when it is gone (proc(5), stat)."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return -1
    return -1 if fields[0] == _ZOMBIE else int(fields[19])


class States:
    """All containers below one root, `/run/wherry-runtime` by default."""

    def __init__(self, root: str) -> None:
        self._root = root

    def folder(self, identifier: str) -> str:
        """Return a container's folder. Raises Invalid for an id that is not one."""
        if not _ID.fullmatch(identifier) or identifier in (".", ".."):
            raise Invalid(f"invalid container id {identifier!r}", hint="letters, digits and +_.-")
        return os.path.join(self._root, identifier)

    def reserve(self, identifier: str) -> str:
        """Make a new container's folder and return it. Raises Conflict."""
        folder = self.folder(identifier)
        os.makedirs(self._root, mode=0o700, exist_ok=True)
        try:
            os.mkdir(folder, 0o700)
        except FileExistsError as error:
            raise Conflict(
                f"container with id exists: {identifier}",
                hint=f"remove it with: wherry-runtime delete {identifier}",
            ) from error
        return folder

    def write(self, state: State) -> None:
        """Keep a container's state."""
        path = os.path.join(self.folder(state.id), "state.json")
        with open(path + ".new", "w", encoding="utf-8") as file:
            json.dump(asdict(state), file)
        os.rename(path + ".new", path)

    def read(self, identifier: str) -> State:
        """Return a container's state. Raises NotFound."""
        try:
            with open(
                os.path.join(self.folder(identifier), "state.json"), encoding="utf-8"
            ) as file:
                return State(**json.load(file))
        except FileNotFoundError as error:
            raise NotFound(
                "container", identifier, hint="list them: wherry-runtime list"
            ) from error

    def forget(self, identifier: str) -> None:
        """Remove all that is remembered; missing is fine."""
        shutil.rmtree(self.folder(identifier), ignore_errors=True)

    def all(self) -> Iterator[State]:
        """Yield every container, by id."""
        if not os.path.isdir(self._root):
            return
        for name in sorted(os.listdir(self._root)):
            try:
                yield self.read(name)
            except (NotFound, Invalid):
                continue
