"""RuntimeSpec to Plan: what will be done to start a container, in order, decided before anything is done.

A plan has three parts: the slot it needs (namespaces and furnished API file systems, made ahead when
the profile is the usual one), what the supervisor does on the host (trees to open, nodes to make,
limits), and what the container's first process does (steps), which ends in execve.
"""

from __future__ import annotations

import posixpath
from dataclasses import dataclass, field, replace
from typing import Any, cast

from wherry.model.errors import Invalid
from wherry.model.oci import (
    DEFAULT_MASKED_PATHS,
    DEFAULT_READONLY_PATHS,
    HOST,
    PRIVATE,
    Device,
    IdMap,
    Mount,
    NamespaceSet,
    OverlayRoot,
    PathRoot,
    Process,
    RuntimeSpec,
)
from wherry.model.resources import Limits
from wherry.runtime import steps, wire
from wherry.runtime.emulation import Emulate
from wherry.runtime.steps import AnyStep
from wherry.runtime.wire import registered

SHM_SIZE = 64 << 20
DEFAULT_NODES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty")
DEVICE_LINKS = (
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
    ("/dev/ptmx", "pts/ptmx"),
)


@registered
@dataclass(frozen=True, slots=True)
class SlotProfile:
    """What a slot is made with. The default one is kept warm."""

    namespaces: NamespaceSet = field(default_factory=NamespaceSet)
    uid_maps: tuple[IdMap, ...] = ()
    gid_maps: tuple[IdMap, ...] = ()
    masked_paths: tuple[str, ...] = DEFAULT_MASKED_PATHS
    readonly_paths: tuple[str, ...] = DEFAULT_READONLY_PATHS
    writable_sys: bool = False
    all_devices: bool = False
    furnished: bool = True
    shm_source: str = ""


@registered
@dataclass(frozen=True, slots=True)
class Tree:
    """A mount that the supervisor clones from the host and makes ready; options are mount(8) words.

    See `oci.Mount` for `subpath`, `held` and `layers`. What is `foreign` keeps the host's owners, whom the
    container does not know.
    """

    source: str
    options: tuple[str, ...] = ()
    ours: bool = False
    subpath: str = ""
    held: str = ""
    layers: tuple[str, ...] = ()
    foreign: bool = False

    def describe(self) -> str:
        """Return what it is, for people."""
        below = f"{self.subpath} in " if self.subpath else ""
        if self.layers:
            return f"{below}image {self.source} of {len(self.layers)} layers"
        return below + (f"the mounted volume {self.held}" if self.held else self.source)


@registered
@dataclass(frozen=True, slots=True)
class Plan:
    """How one container is started."""

    id: str
    profile: SlotProfile
    cgroup_path: str
    limits: Limits
    root: OverlayRoot | PathRoot
    trees: tuple[Tree, ...]
    devices: tuple[Device, ...]
    steps: tuple[AnyStep, ...]
    process: Process

    def to_wire(self) -> dict[str, Any]:
        """Return the plan as JSON data."""
        return cast("dict[str, Any]", wire.encode(self))

    @classmethod
    def from_wire(cls, data: dict[str, Any]) -> Plan:
        """Return the plan that `to_wire` gave. Raises Invalid."""
        plan = wire.decode(data)
        if not isinstance(plan, Plan):
            raise Invalid("this is not a plan")
        return plan

    def describe(self) -> str:
        """Return the plan as text, a step a line."""
        spaces = self.profile.namespaces
        named = (spaces.user, spaces.pid, spaces.mount, spaces.network, spaces.ipc, spaces.uts)
        kinds = ("user", "pid", "mount", "network", "ipc", "uts", "cgroup")
        lines = [
            "slot: "
            + ", ".join(
                f"{kind} {what}" for kind, what in zip(kinds, (*named, spaces.cgroup), strict=True)
            )
        ]
        lines += [
            f"slot: {step.describe()}"
            for step in (*plan_slot(self.profile), *plan_guard(self.profile))
        ]
        lines.append(f"host: cgroup {self.cgroup_path}")
        match self.root:
            case OverlayRoot(lowers=lowers, upper=upper):
                lines.append(f"host: overlay of {len(lowers)} layers, upper {upper or 'none'}")
            case PathRoot(path=path):
                lines.append(f"host: root {path}")
        lines += [f"host: open {tree.describe()} ({','.join(tree.options)})" for tree in self.trees]
        lines += [f"host: device {device.path} as {device.source}" for device in self.devices]
        lines += [f"child: {step.describe()}" for step in self.steps]
        user = self.process.user
        lines.append(f"child: become {user.name or f'{user.uid}:{user.gid}'} in {self.process.cwd}")
        if self.process.seccomp:
            lines.append(
                f"child: load a seccomp filter of {len(self.process.seccomp) // 8} instructions"
            )
        lines.append(f"child: exec {' '.join(self.process.argv)}")
        return "\n".join(lines) + "\n"


def plan_slot(profile: SlotProfile) -> tuple[AnyStep, ...]:
    """Return how a slot of this profile is furnished, below its own tmpfs."""
    if not profile.furnished:
        return ()
    out: list[AnyStep] = [
        steps.Filesystem("proc", "/proc", ("nosuid", "nodev", "noexec")),
        steps.AttachTree(0, "/dev", "a tmpfs with the device nodes"),
        steps.Filesystem(
            "devpts",
            "/dev/pts",
            ("nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"),
        ),
    ]
    spaces = profile.namespaces
    read_only = () if profile.writable_sys else ("ro",)
    if spaces.network == HOST and spaces.user != HOST:
        # sysfs belongs to the network namespace's owner: a new one is EPERM here.
        out.append(steps.BindHost("/sys", "/sys", ("rbind", "rro")))
    else:
        out.append(steps.Filesystem("sysfs", "/sys", ("nosuid", "nodev", "noexec", *read_only)))
    private = spaces.cgroup == PRIVATE
    out.append(steps.Cgroups("/sys/fs/cgroup", not profile.writable_sys, private))
    if spaces.ipc == HOST:
        out.append(steps.BindHost("/dev/mqueue", "/dev/mqueue", optional=True))
        out.append(steps.BindHost("/dev/shm", "/dev/shm", optional=True))
    else:
        out.append(steps.Filesystem("mqueue", "/dev/mqueue", ("nosuid", "noexec", "nodev")))
        if profile.shm_source:
            out.append(steps.AttachTree(1, "/dev/shm", profile.shm_source))
        else:
            out.append(shm(SHM_SIZE))
    out += [steps.Link(path, target) for path, target in DEVICE_LINKS]
    out.append(steps.KeepSysctls())
    if spaces.network == PRIVATE:
        # Docker's own defaults since 20.10: low ports and ping need no privilege inside.
        out.append(steps.Sysctl("net.ipv4.ip_unprivileged_port_start", "0", optional=True))
        out.append(steps.Sysctl("net.ipv4.ping_group_range", "0 65535", optional=True))
    return tuple(out)


def plan_guard(profile: SlotProfile) -> tuple[AnyStep, ...]:
    """Return the masks and read-only paths, made after cgroups are mounted and before anything hostile is near."""
    if not profile.furnished:
        return ()
    masks = (steps.Mask(path) for path in profile.masked_paths)
    return (*masks, *(steps.ReadOnly(path) for path in profile.readonly_paths))


def shm(size: int) -> steps.Filesystem:
    """Return the step that mounts /dev/shm of `size` bytes."""
    options = ("nosuid", "noexec", "nodev", "mode=1777", f"size={size}")
    return steps.Filesystem("tmpfs", "/dev/shm", options, "shm")


def plan_launch(spec: RuntimeSpec) -> Plan:
    """Return how the container that `spec` wants is started. Pure."""
    profile = SlotProfile(
        namespaces=spec.namespaces,
        uid_maps=spec.uid_maps,
        gid_maps=spec.gid_maps,
        masked_paths=spec.masked_paths,
        readonly_paths=spec.readonly_paths,
        writable_sys=spec.writable_sys,
        all_devices=spec.all_devices,
        furnished=spec.standard_mounts,
        shm_source=spec.shm_source,
    )
    trees: list[Tree] = []
    out: list[AnyStep] = []
    if spec.standard_mounts:
        out += [steps.MoveFurnished(path) for path in ("/proc", "/sys", "/dev")]
        if spec.shm_size != SHM_SIZE and spec.namespaces.ipc != HOST and not spec.shm_source:
            out.append(steps.Unmount("/dev/shm", remove=not spec.shm_size))
            out += [shm(spec.shm_size)] if spec.shm_size else []
    for wanted in spec.mounts:
        out.append(_plan_mount(wanted, trees, spec.namespaces.cgroup == PRIVATE))
    devices = spec.devices
    if spec.standard_mounts:
        devices, shown = _plan_devices(spec.devices)
        out += shown
    if spec.emulator is not None:
        if spec.namespaces.user == HOST:
            raise Invalid("the host's user namespace is not given an emulator")
        # CVE-2019-5736: the container sees it as /proc/self/exe, which neither owner nor mount let it write.
        trees.append(Tree(spec.emulator.path, ("ro",), foreign=True))
        out.append(Emulate(spec.emulator, len(trees) - 1))
    if not spec.standard_mounts:
        if spec.sysctls:
            out.append(steps.KeepSysctls())
        out += [steps.BindHost(path, path, ("bind",)) for path in DEFAULT_NODES]
        out += [steps.BindHost(device.source, device.path, ("bind",)) for device in spec.devices]
        out += [steps.Link(path, target) for path, target in DEVICE_LINKS]
    if (spec.hostname or spec.domainname) and spec.namespaces.uts != HOST:
        out.append(steps.Hostname(spec.hostname, spec.domainname))
    out += [steps.Sysctl(key, value) for key, value in spec.sysctls]
    if not spec.standard_mounts:
        out += [steps.Mask(path) for path in spec.masked_paths]
        out += [steps.ReadOnly(path) for path in spec.readonly_paths]
        profile = replace(profile, masked_paths=(), readonly_paths=())
    out.append(steps.EnterRoot(spec.read_only_root, spec.root_propagation))
    return Plan(
        id=spec.id,
        profile=profile,
        cgroup_path=spec.cgroup_path,
        limits=spec.limits,
        root=spec.root,
        trees=tuple(trees),
        devices=devices if spec.standard_mounts else (),
        steps=tuple(out),
        process=spec.process,
    )


def _plan_devices(wanted: tuple[Device, ...]) -> tuple[tuple[Device, ...], list[AnyStep]]:
    """Return the nodes to make below /dev, and the steps that show those that belong elsewhere.

    Only in /dev, a tmpfs of the host's user namespace, does a node made for a container open.
    """
    nodes: list[Device] = []
    shown: list[AnyStep] = []
    for device in wanted:
        path = "/" + posixpath.normpath(device.path).lstrip("/")
        if not path.startswith("/dev/"):
            made = f"/dev/.elsewhere-{len(nodes)}"
            shown.append(steps.MoveNode(made, path))
            path = made
        nodes.append(Device(path, device.source))
    return tuple(nodes), shown


def _plan_mount(wanted: Mount, trees: list[Tree], private_cgroups: bool) -> AnyStep:
    if wanted.kind == "bind" or "bind" in wanted.options or "rbind" in wanted.options:
        tree = Tree(
            wanted.source,
            wanted.options,
            wanted.source_is_ours,
            wanted.subpath,
            wanted.held,
            wanted.layers,
        )
        trees.append(tree)
        return steps.AttachTree(len(trees) - 1, wanted.destination, wanted.source)
    if wanted.kind in ("cgroup", "cgroup2"):
        return steps.Cgroups(wanted.destination, "ro" in wanted.options, private_cgroups)
    return steps.Filesystem(wanted.kind, wanted.destination, wanted.options, wanted.source)
