"""Where an engine's cgroups lie: one directory in each hierarchy, and making its parents usable."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterable

from wherry.model.errors import Invalid, Unavailable
from wherry.runtime.cgroups.files import read_pids, read_text, write_text
from wherry.runtime.cgroups.hierarchies import Hierarchies, Hierarchy

# What a container's limits and figures come from. The rest (perf_event, rdma, misc) is not enabled:
# each costs every cgroup that is made.
_ENABLED = ("cpu", "cpuset", "memory", "pids", "io", "hugetlb")
_TRIES = 10
LEAF = "init"
"""Where processes go that are in the way, as in other engines' containers."""


def check_path(path: str) -> str:
    """Return `path` without outer slashes, or raise Invalid for one that leaves its hierarchy."""
    bare = path.strip("/")
    if not bare or any(part in ("", ".", "..") for part in bare.split("/")) or "\0" in bare:
        raise Invalid(f"invalid cgroup path: {path!r}")
    return bare


class Tree:
    """The base directory of each hierarchy, and the parents that have been made in them.

    `v1` are (controllers, base) pairs in the kernel's order; `unified` is the v2 base or None.
    """

    def __init__(self, hierarchies: Hierarchies, parent: str) -> None:
        """Make `parent` in every hierarchy. Raises Unavailable where that is not permitted."""
        self._hierarchies = hierarchies
        self.v1 = tuple((h.controllers, _base(h, parent)) for h in hierarchies.v1)
        self.unified = _base(hierarchies.unified, parent) if hierarchies.unified else None
        self.controllers: dict[str, tuple[int, str]] = {
            name: (1, base) for names, base in self.v1 for name in names
        }
        if self.unified is not None and hierarchies.unified is not None:
            for name in hierarchies.unified.controllers:
                known = "blkio" if name == "io" else name
                self.controllers.setdefault(known, (2, self.unified))
        self._prepared: set[str] = set()
        self._enabled: set[tuple[str, str]] = set()
        self.prepare(parent)

    @property
    def bases(self) -> tuple[str, ...]:
        """Every base, v1 first."""
        below = tuple(base for _, base in self.v1)
        return below if self.unified is None else (*below, self.unified)

    def prepare(self, parent: str) -> None:
        """Make `parent` in every hierarchy, such that a cgroup made below it takes processes.

        Raises Unavailable or OSError.
        """
        if parent in self._prepared:
            return
        for attempt in range(_TRIES):
            try:
                self._make(parent)
                break
            except OSError as error:
                # Another engine's `discard` came between two levels, or while a file was open.
                if error.errno not in (errno.ENOENT, errno.ENODEV) or attempt == _TRIES - 1:
                    raise
        self._prepared.add(parent)

    def _make(self, parent: str) -> None:
        parts = parent.split("/") if parent else []
        levels = ["/".join(parts[:depth]) for depth in range(1, len(parts) + 1)]
        for controllers, base in self.v1:
            for level in levels:
                directory = f"{base}/{level}"
                _mkdir(directory)
                if "cpuset" in controllers:
                    _inherit_cpuset(directory)
                if "memory" in controllers:
                    _use_hierarchy(directory)
        if self.unified is not None:
            for level in levels:
                _mkdir(f"{self.unified}/{level}")
            if self._hierarchies.mode == "v2":
                self._make_room()
                self.enable(parent, _ENABLED)

    def _make_room(self) -> None:
        """Move the processes beside this one out of the v2 base, which is to have cgroups with controllers below.

        That is how it is in a container, whose processes are in the root of its cgroup namespace: v2 gives
        controllers only to what is below a cgroup without processes. The machine's own root, which has no
        cgroup.type, is exempt. Raises OSError.
        """
        unified = self._hierarchies.unified
        base = self.unified
        if unified is None or base is None or unified.own_directory != base:
            return
        if not os.path.exists(f"{base}/cgroup.type"):
            return
        leaf = f"{base}/{LEAF}"
        _mkdir(leaf)
        for _ in range(_TRIES):
            # 0 is a process of an outer pid namespace.
            pids = [pid for pid in read_pids(base) if pid]
            if not pids:
                return
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    write_text(f"{leaf}/cgroup.procs", str(pid))

    def forget(self) -> None:
        """Make parents anew when next asked: someone may have removed them."""
        self._prepared.clear()
        self._enabled.clear()

    def enable(self, parent: str, wanted: Iterable[str]) -> None:
        """Give the v2 cgroups below `parent` the controllers `wanted` that this machine has.

        Raises Unavailable where the kernel refuses.
        """
        unified = self._hierarchies.unified
        if unified is None or self.unified is None:
            return
        for name in wanted:
            if name not in unified.controllers or (parent, name) in self._enabled:
                continue
            level = ""
            for part in ("", *(parent.split("/") if parent else [])):
                level = f"{level}/{part}" if part else level
                file = f"{self.unified}{level}/cgroup.subtree_control"
                try:
                    if name not in read_text(file).split():
                        write_text(file, f"+{name}")
                except OSError as error:
                    if error.errno in (errno.ENOENT, errno.ENODEV):
                        raise
                    raise Unavailable(
                        f"cannot enable the {name} controller in {file}: {error.strerror}",
                        hint="cgroup v2 wants no processes in a cgroup that has others below it",
                    ) from error
            self._enabled.add((parent, name))

    def discard(self, parent: str) -> None:
        """Remove `parent` and its parents as far as they are empty."""
        self.forget()
        for base in self.bases:
            level = parent
            with contextlib.suppress(OSError):
                while level:
                    os.rmdir(f"{base}/{level}")
                    level = level.rpartition("/")[0]


def _base(hierarchy: Hierarchy, parent: str) -> str:
    """The mount point where `parent` may be made there, as Docker does; else the own cgroup."""
    error: OSError | None = None
    for base in dict.fromkeys((hierarchy.mount_point, hierarchy.own_directory)):
        try:
            _mkdir(f"{base}/{parent.partition('/')[0]}")
        except OSError as failed:
            error = failed
        else:
            return base
    raise Unavailable(
        f"cannot make cgroups in {hierarchy.mount_point}: {error.strerror if error else ''}",
        hint="the engine needs a writable cgroup file system",
    )


def _mkdir(directory: str) -> None:
    with contextlib.suppress(FileExistsError):
        os.mkdir(directory, 0o755)


def _inherit_cpuset(directory: str) -> None:
    """Give a v1 cpuset its parent's processors and memory nodes, and its children its own.

    A v1 cpuset starts empty and refuses processes with ENOSPC; cgroup.clone_children makes the
    kernel copy both at mkdir (admin-guide/cgroup-v1/cpusets), which saves four calls at each start.
    """
    for name in ("cpuset.cpus", "cpuset.mems"):
        if not read_text(f"{directory}/{name}").strip():
            write_text(f"{directory}/{name}", read_text(f"{directory}/../{name}").strip())
    write_text(f"{directory}/cgroup.clone_children", "1")


def _use_hierarchy(directory: str) -> None:
    """Count descendants' memory too; the default since Linux 5.11, where 0 cannot be had."""
    file = f"{directory}/memory.use_hierarchy"
    with contextlib.suppress(FileNotFoundError):
        if read_text(file).strip() == "0":
            write_text(file, "1")
