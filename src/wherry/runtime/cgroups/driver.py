"""One container's cgroups in every hierarchy: made, entered, limited, frozen, removed.

v1, v2 and hybrid differ in which hierarchies there are, not in the verbs; what each verb does is
chosen by the hierarchy that holds the controller. Single-threaded, blocking, without asyncio.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal as signals
from collections.abc import Generator
from dataclasses import dataclass

from wherry.model.errors import Conflict, Full, Invalid, NotFound, Unavailable, Unsupported
from wherry.model.resources import Limits
from wherry.model.stats import CgroupStats
from wherry.runtime.cgroups import freezer, stats
from wherry.runtime.cgroups.apply import Applier, LoadDevices
from wherry.runtime.cgroups.entrances import Entrances, open_entrances
from wherry.runtime.cgroups.files import (
    read_pids,
    read_table,
    read_text,
    remove_tree,
    subdirectories,
    walk,
    write_text,
)
from wherry.runtime.cgroups.hierarchies import Hierarchies, detect
from wherry.runtime.cgroups.tree import Tree, check_path

_KILL_ROUNDS = 20


@dataclass(frozen=True, slots=True)
class Handle:
    """A container's cgroups: `path` below each v1 base, `unified` below the v2 one.

    Both are the same until a rename, which v2 does not have. Plain text, so that it can be kept in
    a database; no descriptors.
    """

    path: str
    unified: str


def open_cgroups(
    parent: str,
    *,
    load_devices: LoadDevices | None = None,
    hierarchies: Hierarchies | None = None,
) -> CgroupDriver:
    """Return the driver for cgroups below `parent` (`wherry/<engine>`), which is made everywhere.

    `hierarchies` are this machine's where None. `load_devices` loads an eBPF program and attaches
    it to the cgroup of a descriptor; only v2's device rules need it. Raises Unsupported without
    cgroups, Unavailable where they may not be made.
    """
    if hierarchies is None:
        hierarchies = detect(read_text("/proc/self/mountinfo"), read_text("/proc/self/cgroup"))
        if hierarchies.unified is not None:
            file = f"{hierarchies.unified.mount_point}/cgroup.controllers"
            hierarchies = hierarchies.with_unified_controllers(read_text(file).split())
    return CgroupDriver(hierarchies, check_path(parent), load_devices)


class CgroupDriver:
    """The verbs. `mode` is `v1`, `v2` or `hybrid`; `version` what Docker calls CgroupVersion."""

    def __init__(
        self, hierarchies: Hierarchies, parent: str, load_devices: LoadDevices | None = None
    ) -> None:
        """Make `parent` in every hierarchy. Raises Unavailable."""
        self.mode = hierarchies.mode
        self.version = hierarchies.version
        self.parent = parent
        self._tree = Tree(hierarchies, parent)
        self._applier = Applier(self._tree, parent, load_devices)

    def create(self, path: str) -> Handle:
        """Make the cgroup `path` in every hierarchy, all or nothing.

        Raises Conflict when one is there already, Full when the kernel allows no more, Unavailable.
        """
        path = check_path(path)
        parent = path.rpartition("/")[0]
        self._tree.prepare(parent)
        try:
            self._make(path)
        except FileNotFoundError:
            self._tree.forget()
            self._tree.prepare(parent)
            self._make(path)
        return Handle(path, path)

    def entrances(self, handle: Handle) -> Entrances:
        """Return open descriptors by which a new process enters at once; the caller closes them.

        Raises NotFound when the cgroup is gone.
        """
        unified = self._directory(handle, "")
        with self._naming(handle):
            return open_entrances(
                (f"{base}/{handle.path}" for _, base in self._tree.v1),
                unified[1] if unified is not None else None,
            )

    def rename(self, handle: Handle, new_path: str) -> Handle:
        """Give the v1 directories the name `new_path`, under the same parent; v2's keeps its own.

        Returns the new handle. Raises Conflict when `new_path` exists, NotFound, Invalid.
        """
        new_path = check_path(new_path)
        if new_path.rpartition("/")[0] != handle.path.rpartition("/")[0]:
            raise Invalid(f"cgroup {handle.path} cannot move to {new_path}: another parent")
        done: list[str] = []
        try:
            for _, base in self._tree.v1:
                os.rename(f"{base}/{handle.path}", f"{base}/{new_path}")
                done.append(base)
        except OSError as error:
            for base in done:
                os.rename(f"{base}/{new_path}", f"{base}/{handle.path}")
            if error.errno == errno.ENOENT:
                raise NotFound("cgroup", handle.path) from None
            if error.errno == errno.EEXIST:
                raise Conflict(f"cgroup {new_path} exists already") from None
            raise
        return Handle(new_path, handle.unified)

    def apply(self, handle: Handle, limits: Limits) -> None:
        """Write `limits`; for a new cgroup and for an update alike.

        On an update pass all limits that hold, not the changed ones only: v2 has files for two of
        them at once. Raises Unsupported, Invalid or Conflict, naming the file and the value.
        """
        self._applier.apply(handle.path, handle.unified, limits)

    def check(self, limits: Limits) -> None:
        """Raise Unsupported or Invalid for what of `limits` this machine cannot honour."""
        try:
            self._applier.check(limits)
        except (FileNotFoundError, Unsupported):
            if all(os.path.isdir(f"{base}/{self.parent}") for base in self._tree.bases):
                raise
            # Someone removed it: what its files would say cannot be told without it.
            self._tree.forget()
            self._tree.prepare(self.parent)
            self._applier.check(limits)

    def remove(self, handle: Handle, patience: float = 1.0) -> None:
        """Remove the cgroups and those below them; missing ones are fine.

        Blocks up to `patience` seconds a hierarchy while processes are leaving, then raises Conflict.
        """
        for directory in self._directories(handle):
            remove_tree(directory, patience)

    def freeze(self, handle: Handle) -> None:
        """Stop every process; returns when all are. Raises Unavailable after 5 s, thawed again."""
        with self._naming(handle):
            freezer.set_frozen(*self._freezer(handle), True)

    def thaw(self, handle: Handle) -> None:
        """Let every process go on; returns when they may. Raises Unavailable after 5 s."""
        with self._naming(handle):
            freezer.set_frozen(*self._freezer(handle), False)

    def is_frozen(self, handle: Handle) -> bool:
        """Whether every process is stopped by `freeze`. Raises NotFound."""
        with self._naming(handle):
            return freezer.is_frozen(*self._freezer(handle))

    def pids(self, handle: Handle) -> list[int]:
        """Return the processes in the cgroup and below it, ascending. Raises NotFound."""
        with self._naming(handle):
            return self._read_pids(handle)

    def kill_all(self, handle: Handle, signal: int = signals.SIGKILL) -> None:
        """Send `signal` to every process in the cgroup and below it; none is fine.

        Repeated while new ones appear, for a process may fork meanwhile; does not wait for their end.
        """
        if signal == signals.SIGKILL and self._tree.unified is not None:
            with contextlib.suppress(FileNotFoundError):  # cgroup.kill: Linux 5.14
                write_text(f"{self._tree.unified}/{handle.unified}/cgroup.kill", "1")
                return
        seen: set[int] = set()
        for _ in range(_KILL_ROUNDS):
            try:
                new = set(self._read_pids(handle)) - seen
            except FileNotFoundError:
                return
            if not new:
                return
            for pid in new:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal)
            seen |= new

    def read_stats(self, handle: Handle) -> CgroupStats:
        """Return one reading of every controller there is. Raises NotFound when it is gone."""
        with self._naming(handle):
            return stats.read_stats(lambda name: self._directory(handle, name))

    def oom_kills(self, handle: Handle) -> int:
        """Return how many processes the kernel killed for want of memory in this cgroup so far.

        0 without a memory controller or before Linux 4.13. Raises NotFound.
        """
        memory = self._directory(handle, "memory")
        if memory is None:
            return 0
        version, directory = memory
        file = "memory.oom_control" if version == 1 else "memory.events"
        with self._naming(handle):
            return read_table(f"{directory}/{file}").get("oom_kill", 0)

    def directories(self, handle: Handle) -> dict[str, str]:
        """Return controller to absolute directory; `name=systemd` for a named one, `` for v2's."""
        found = {name: f"{base}/{handle.path}" for names, base in self._tree.v1 for name in names}
        if self._tree.unified is not None:
            found[""] = f"{self._tree.unified}/{handle.unified}"
        return found

    def adopt(self, path: str) -> list[str]:
        """Return the names of the cgroups right below `path` in any hierarchy, sorted."""
        names: set[str] = set()
        for base in self._tree.bases:
            with contextlib.suppress(FileNotFoundError):
                names |= {os.path.basename(found) for found in subdirectories(f"{base}/{path}")}
        return sorted(names)

    def close(self) -> None:
        """Remove the engine's own directories as far as no container is in them."""
        self._tree.discard(self.parent)

    def _make(self, path: str) -> None:
        made: list[str] = []
        try:
            for base in self._tree.bases:
                directory = f"{base}/{path}"
                os.mkdir(directory, 0o755)
                made.append(directory)
        except OSError as error:
            for directory in made:
                os.rmdir(directory)
            if error.errno == errno.EEXIST:
                raise Conflict(f"cgroup {path} exists already") from None
            if error.errno in (errno.EAGAIN, errno.ENOSPC, errno.ENOMEM):
                raise Full(
                    f"cannot make cgroup {path}: {error.strerror}",
                    hint="cgroup.max.descendants, or the number of memory cgroups, is used up",
                ) from error
            if error.errno == errno.ENOENT:
                raise
            raise Unavailable(f"cannot make cgroup {path}: {error}") from error

    def _directories(self, handle: Handle) -> list[str]:
        found = [f"{base}/{handle.path}" for _, base in self._tree.v1]
        if self._tree.unified is not None:
            found.append(f"{self._tree.unified}/{handle.unified}")
        return found

    def _directory(self, handle: Handle, controller: str) -> tuple[int, str] | None:
        if controller == "" and self._tree.unified is not None:
            return 2, f"{self._tree.unified}/{handle.unified}"
        if controller not in self._tree.controllers:
            return None
        version, base = self._tree.controllers[controller]
        return version, f"{base}/{handle.path if version == 1 else handle.unified}"

    def _freezer(self, handle: Handle) -> tuple[int, str]:
        v1 = self._directory(handle, "freezer")
        v2 = self._directory(handle, "")
        if v2 is not None and (v1 is None or freezer.has_v2_freezer(v2[1])):
            return v2
        if v1 is None:
            raise Unsupported("this machine has no freezer cgroup controller")
        return v1

    @contextlib.contextmanager
    def _naming(self, handle: Handle) -> Generator[None]:
        """Turn the kernel's ways of saying that a cgroup is gone into NotFound."""
        try:
            yield
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENODEV):
                raise NotFound("cgroup", handle.path) from None
            raise

    def _read_pids(self, handle: Handle) -> list[int]:
        found: set[int] = set()
        top = self._directories(handle)[-1]
        for directory in walk(top):
            try:
                found.update(read_pids(directory))
            except OSError as error:
                # ENODEV: removed while it was open. EOPNOTSUPP: a threaded cgroup (v2).
                gone = error.errno in (errno.ENOENT, errno.ENODEV) and directory != top
                if not gone and error.errno != errno.EOPNOTSUPP:
                    raise
        return sorted(found)
