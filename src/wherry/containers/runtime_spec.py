"""A container as the runtime is given it: Container, root file system and facts to RuntimeSpec.

Pure but for `read_devices`, which looks at the host's /dev. Mount options are those of Docker Engine
28.5 (mountinfo of its containers).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from wherry.containers.hostfiles import HostFiles, targets
from wherry.containers.merge import process_env
from wherry.containers.namespaces import Resolved
from wherry.containers.security import SeccompProgram, SecurityPlan
from wherry.model.containers import Container, MountKind, MountSpec, Ulimit
from wherry.model.errors import Unsupported
from wherry.model.oci import (
    DEFAULT_PATH,
    HOST,
    Device,
    Emulator,
    IdMap,
    Mount,
    OverlayRoot,
    PathRoot,
    Process,
    Rlimit,
    RuntimeSpec,
    User,
)
from wherry.model.resources import ALL_DEVICES, DEFAULT_DEVICES, DeviceRule, with_defaults

DEFAULT_SHM = 64 << 20
INIT_TARGET = "/sbin/docker-init"
_RECURSIVE_READ_ONLY = "rro"


class View(Protocol):
    """Where a container's root file system lies: `storage.snapshots.OverlayView`."""

    @property
    def lowers(self) -> Iterable[os.PathLike[str]]: ...
    @property
    def upper(self) -> os.PathLike[str] | None: ...
    @property
    def work(self) -> os.PathLike[str] | None: ...


@dataclass(frozen=True, slots=True)
class HostFacts:
    """What of this machine and engine goes into every container."""

    cgroup_parent: str
    """Relative to each hierarchy's root, `wherry/<engine>`."""
    init_path: str = ""
    """A static init for --init; empty where there is none."""
    default_ulimits: tuple[Ulimit, ...] = ()
    default_shm: int = DEFAULT_SHM
    capabilities: int = 0
    """The engine's own bounding set, for containers in the host's user namespace."""


@dataclass(frozen=True, slots=True)
class HostDevice:
    """A device node of the host, to be seen as `path` inside."""

    path: str
    source: str
    rule: DeviceRule


def build_spec(
    container: Container,
    *,
    view: View,
    files: HostFiles,
    resolved: Resolved,
    owner_maps: tuple[tuple[IdMap, ...], tuple[IdMap, ...]],
    security: SecurityPlan,
    seccomp: SeccompProgram,
    facts: HostFacts,
    mounts: Sequence[Mount],
    devices: tuple[HostDevice, ...] = (),
    emulator: Emulator | None = None,
) -> RuntimeSpec:
    """Return everything that the runtime needs to start `container`.

    `mounts` are the container's own; `owner_maps` the uid and gid maps of the user namespace that is
    joined, else empty. Raises Unsupported for --init without an init on this machine.
    """
    spec = container.spec
    privileged = spec.security.privileged
    process = build_process(container, security=security, seccomp=seccomp, facts=facts)
    mounts = [*_file_mounts(files, container), *mounts]
    if spec.init:
        if not facts.init_path:
            raise Unsupported(
                "--init needs an init binary, and there is none here",
                hint="install tini (Debian: apt-get install tini)",
            )
        process = replace(process, argv=(INIT_TARGET, "--", *process.argv))
        mounts.append(Mount(INIT_TARGET, "bind", facts.init_path, ("bind", "ro", "rprivate")))
    # A deeper target is mounted after the one that it lies in.
    mounts.sort(key=lambda mount: mount.destination.rstrip("/").count("/"))
    rules = (
        ALL_DEVICES
        if privileged
        else (
            *DEFAULT_DEVICES,
            *(device.rule for device in devices),
            *(DeviceRule.parse(rule) for rule in spec.device_cgroup_rules),
        )
    )
    limits = replace(with_defaults(spec.limits), devices=rules)
    parent = spec.cgroup_parent.strip("/") or facts.cgroup_parent
    uid_maps, gid_maps = owner_maps
    ipc_shm, shm_size = "", spec.shm_size or facts.default_shm
    if spec.namespaces.ipc == "none":
        shm_size = 0
    if resolved.ipc is not None:
        ipc_shm = f"{resolved.ipc.pid}:/dev/shm"
    return RuntimeSpec(
        id=container.id,
        process=process,
        root=plan_root(view, volatile=spec.auto_remove),
        read_only_root=spec.read_only,
        hostname="" if resolved.namespaces.uts == HOST else container.hostname,
        domainname="" if resolved.namespaces.uts == HOST else spec.domainname,
        mounts=tuple(mounts),
        devices=tuple(Device(device.path, device.source) for device in devices),
        all_devices=privileged,
        namespaces=resolved.namespaces,
        uid_maps=uid_maps,
        gid_maps=gid_maps,
        limits=limits,
        cgroup_path=f"{parent}/{container.id}",
        sysctls=tuple((key.replace("/", "."), value) for key, value in spec.sysctls),
        masked_paths=security.masked_paths,
        readonly_paths=security.readonly_paths,
        shm_size=shm_size,
        shm_source=ipc_shm,
        root_propagation=_root_propagation(container.mounts),
        writable_sys=privileged,
        emulator=emulator,
    )


def build_process(
    container: Container, *, security: SecurityPlan, seccomp: SeccompProgram, facts: HostFacts
) -> Process:
    """Return the first process of `container`."""
    spec = container.spec
    rows, columns = spec.console_size
    return Process(
        argv=container.argv,
        env=base_env(container, tty=spec.tty),
        cwd=container.working_dir or "/",
        user=user_of(container.user, spec.group_add),
        terminal=spec.tty,
        rows=rows if spec.tty else 0,
        columns=columns if spec.tty else 0,
        # Docker leaves inheritable and ambient empty (CVE-2022-24769).
        bounding=security.capabilities,
        effective=security.capabilities,
        permitted=security.capabilities,
        rlimits=_rlimits(spec.ulimits, facts.default_ulimits),
        no_new_privileges=security.no_new_privileges,
        oom_score_adj=spec.oom_score_adj or None,
        seccomp=seccomp.code,
        seccomp_flags=seccomp.flags,
    )


def base_env(container: Container, *, tty: bool, extra: Iterable[str] = ()) -> tuple[str, ...]:
    """Return the environment of a process in `container`; `extra` is an exec's own."""
    defaults = [f"PATH={DEFAULT_PATH}"]
    if container.image_name:  # A build's steps are of no image, and are not told: as with BuildKit.
        defaults.append(f"HOSTNAME={container.hostname}")
    if tty:
        defaults.append("TERM=xterm")
    return process_env(defaults, container.env, extra)


def user_of(text: str, groups: tuple[str, ...] = ()) -> User:
    """Return who `user[:group]` is; numbers and names alike are looked up inside, at start."""
    return User(name=text or "0", additional_groups=groups)


def _rlimits(wanted: tuple[Ulimit, ...], defaults: tuple[Ulimit, ...]) -> tuple[Rlimit, ...]:
    merged = {limit.name: limit for limit in (*defaults, *wanted)}
    return tuple(
        Rlimit(f"RLIMIT_{limit.name.upper()}", limit.soft, limit.hard) for limit in merged.values()
    )


def plan_root(view: View, *, volatile: bool) -> OverlayRoot | PathRoot:
    """Return the root file system that `view` describes."""
    lowers = tuple(os.fspath(path) for path in view.lowers)
    upper = os.fspath(view.upper) if view.upper else ""
    if not lowers:
        return PathRoot(upper)
    work = os.fspath(view.work) if view.work else ""
    return OverlayRoot(lowers, upper, work, volatile)


def _file_mounts(files: HostFiles, container: Container) -> list[Mount]:
    taken = {mount.target for mount in container.mounts}
    options = ("bind", "rprivate", *(("ro",) if container.spec.read_only else ()))
    return [
        Mount(target, "bind", source, options, source_is_ours=True)
        for target, source in targets(files)
        if target not in taken
    ]


def plan_mount(mount: MountSpec) -> Mount:
    """Return a `-v`, `--mount` or `--tmpfs` as mount(8) would be told it."""
    if mount.kind is MountKind.TMPFS:
        return Mount(mount.target, "tmpfs", "tmpfs", _tmpfs_options(mount))
    options = ["bind" if mount.non_recursive else "rbind"]
    if mount.read_only:
        # Since Docker 25 a read-only bind is read-only all the way down, unless told otherwise.
        plain = mount.non_recursive or mount.read_only_non_recursive
        options.append("ro" if plain else _RECURSIVE_READ_ONLY)
    options.append(mount.propagation or "rprivate")
    return Mount(mount.target, "bind", mount.source, tuple(options))


def _tmpfs_options(mount: MountSpec) -> tuple[str, ...]:
    options: dict[str, str] = {word: word for word in ("nosuid", "nodev", "noexec")}
    for word in filter(None, mount.tmpfs_options.split(",")):
        options.pop(f"no{word}", None)
        options[word.partition("=")[0]] = word
    if mount.tmpfs_size:
        options["size"] = f"size={mount.tmpfs_size}"
    if mount.tmpfs_mode:
        options["mode"] = f"mode={mount.tmpfs_mode:o}"
    if mount.read_only:
        options["ro"] = "ro"
    options.setdefault("mode", "mode=1777")
    return tuple(options.values())


def _root_propagation(mounts: tuple[MountSpec, ...]) -> str:
    """Return what the root must be for the widest propagation that a bind asks for (runc's rule)."""
    kinds = {mount.propagation for mount in mounts}
    if kinds & {"shared", "rshared"}:
        return "rshared"
    return "rslave" if kinds & {"slave", "rslave"} else "rprivate"


def read_devices(container: Container) -> tuple[HostDevice, ...]:
    """Return the nodes that `--device` names, each below a directory that it names. Raises Unsupported."""
    found: list[HostDevice] = []
    for wanted in container.spec.devices:
        source = os.path.realpath(wanted.host)
        if not os.path.isdir(source):
            found.append(_device(source, wanted.container, wanted.permissions))
            continue
        for folder, _, names in os.walk(source):
            for name in sorted(names):
                path = os.path.join(folder, name)
                inside = wanted.container.rstrip("/") + path[len(source) :]
                if stat.S_IFMT(os.lstat(path).st_mode) in (stat.S_IFCHR, stat.S_IFBLK):
                    found.append(_device(path, inside, wanted.permissions))
    return tuple(found)


def _device(source: str, path: str, permissions: str) -> HostDevice:
    try:
        status = os.stat(source)
    except OSError as error:
        raise Unsupported(
            f'error gathering device information while adding custom device "{source}": '
            f"{(error.strerror or '').lower()}"
        ) from error
    match stat.S_IFMT(status.st_mode):
        case stat.S_IFCHR:
            kind = "c"
        case stat.S_IFBLK:
            kind = "b"
        case _:
            raise Unsupported(
                f'error gathering device information while adding custom device "{source}": '
                "not a device node"
            )
    number = status.st_rdev
    rule = DeviceRule(True, kind, os.major(number), os.minor(number), permissions)
    return HostDevice(path, source, rule)
