"""Which cgroup hierarchies this machine has, read from /proc/self/mountinfo and /proc/self/cgroup.

Source: cgroups(7), proc_pid_mountinfo(5). Pure: the texts are arguments.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from wherry.model.errors import Unsupported

_ESCAPE = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """One mounted hierarchy.

    `controllers` are those it holds; a named one has a single `name=…`. `mount_root` is the cgroup
    that appears at `mount_point`, `own` the cgroup of the process that looked, both from the
    hierarchy's root.
    """

    version: int
    controllers: tuple[str, ...]
    mount_point: str
    mount_root: str
    own: str

    @property
    def own_directory(self) -> str:
        """Where the looking process's own cgroup is seen; the mount point if it lies outside."""
        inside = self.own.removeprefix("/" if self.mount_root == "/" else self.mount_root)
        if not self.own.startswith(self.mount_root) or ".." in self.own.split("/"):
            return self.mount_point
        return f"{self.mount_point}/{inside.strip('/')}".rstrip("/")


@dataclass(frozen=True, slots=True)
class Hierarchies:
    """All of them: the v1 ones in the kernel's order, and the v2 one."""

    v1: tuple[Hierarchy, ...]
    unified: Hierarchy | None

    @property
    def mode(self) -> str:
        """`v1`, `v2` or `hybrid` (controllers on v1, and v2 mounted beside them)."""
        if self.unified is None:
            return "v1"
        on_v1 = any(not c.startswith("name=") for h in self.v1 for c in h.controllers)
        return "hybrid" if on_v1 else "v2"

    @property
    def version(self) -> int:
        """2 where every controller is on v2, else 1; what Docker calls CgroupVersion."""
        return 2 if self.mode == "v2" else 1

    def by_controller(self, name: str) -> Hierarchy | None:
        """Return the hierarchy that has controller `name`; `blkio` is v2's `io`."""
        for hierarchy in self.v1:
            if name in hierarchy.controllers:
                return hierarchy
        wanted = "io" if name == "blkio" else name
        if self.unified is not None and wanted in self.unified.controllers:
            return self.unified
        return None

    def with_unified_controllers(self, controllers: Iterable[str]) -> Hierarchies:
        """Return these, v2 having `controllers` (its cgroup.controllers, which no text of /proc tells)."""
        if self.unified is None:
            return self
        return replace(self, unified=replace(self.unified, controllers=tuple(controllers)))


def detect(mountinfo: str, self_cgroup: str) -> Hierarchies:
    """Return the mounted hierarchies that the two texts of /proc/self describe.

    v2's controllers are empty until `with_unified_controllers`. Of a hierarchy that is mounted more
    than once, a mount of its root is taken before one of a part. Raises Unsupported without any.
    """
    own = _own_cgroups(self_cgroup)
    found: dict[tuple[str, ...], Hierarchy] = {}
    for line in mountinfo.splitlines():
        before, separator, after = line.partition(" - ")
        fields, kind = before.split(), after.split()
        if not separator or len(fields) < 5 or not kind or kind[0] not in ("cgroup", "cgroup2"):
            continue
        options = kind[2].split(",") if len(kind) > 2 else []
        controllers: tuple[str, ...] = ()
        if kind[0] == "cgroup":
            controllers = next((held for held in own if held and set(held) <= set(options)), ())
            if not controllers:
                continue
        hierarchy = Hierarchy(
            version=2 if kind[0] == "cgroup2" else 1,
            controllers=controllers,
            mount_point=_unescape(fields[4]).rstrip("/"),
            mount_root=_unescape(fields[3]),
            own=own.get(controllers, "/"),
        )
        known = found.get(controllers)
        if known is None or (known.mount_root != "/" and hierarchy.mount_root == "/"):
            found[controllers] = hierarchy
    if not found:
        raise Unsupported(
            "no cgroup hierarchy is mounted", hint="mount -t cgroup2 cgroup2 /sys/fs/cgroup"
        )
    unified = found.pop((), None)
    return Hierarchies(v1=tuple(found[held] for held in own if held in found), unified=unified)


def _own_cgroups(text: str) -> dict[tuple[str, ...], str]:
    """Controllers (none for v2) to the process's own cgroup, from `4:cpu,cpuacct:/path` lines."""
    own: dict[tuple[str, ...], str] = {}
    for line in text.splitlines():
        number, _, rest = line.partition(":")
        controllers, colon, path = rest.partition(":")
        if number.isdecimal() and colon:
            own[tuple(controllers.split(",")) if controllers else ()] = path
    return own


def _unescape(text: str) -> str:
    return _ESCAPE.sub(lambda match: chr(int(match[1], 8)), text)
