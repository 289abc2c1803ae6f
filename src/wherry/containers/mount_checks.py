"""`-v`, `--mount` and `--tmpfs` held against Docker's rules, and against the host where they name it."""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Iterable
from dataclasses import replace

from wherry.model.containers import ContainerSpec, MountKind, MountSpec
from wherry.model.errors import Invalid, StartFailed

_PROPAGATIONS = frozenset({"", "private", "rprivate", "shared", "rshared", "slave", "rslave"})
# tmpfs(5), and the flags of mount(8) that act on any file system.
_TMPFS_VALUES = frozenset("size mode uid gid nr_inodes nr_blocks huge mpol".split())
_TMPFS_FLAGS = frozenset(
    "ro rw nosuid suid nodev dev noexec exec noatime atime nodiratime diratime relatime norelatime "
    "strictatime nostrictatime sync async dirsync mand nomand remount defaults".split()
) | {f"{r}{word}" for r in ("", "r") for word in ("private", "shared", "slave", "unbindable")}
_NUMBER = re.compile(r"[0-9]+[kmg%]?", re.IGNORECASE)
_OCTAL = re.compile(r"\\([0-7]{3})")  # how mountinfo writes blanks


_OVER_ROOT = "invalid specification: destination can't be '/'"


def check_mounts(spec: ContainerSpec) -> tuple[MountSpec, ...]:
    """Return the mounts with clean targets; raise Invalid or Unsupported, in Docker's words."""
    checked = tuple(_check(mount) for mount in spec.mounts)
    _check_targets(checked)
    return checked


def _check(mount: MountSpec) -> MountSpec:
    kind = mount.kind
    if kind is MountKind.TMPFS and mount.legacy_tmpfs:
        # --tmpfs bears its options as text and is refused without naming the kind.
        if not mount.target.startswith("/"):
            raise Invalid(f"invalid mount path: '{mount.target}' mount path must be absolute")
        if _clean(mount) == "/":
            raise Invalid(_OVER_ROOT)
        check_tmpfs_options(mount.tmpfs_options)
        return replace(mount, target=_clean(mount))
    reason = _reason(mount)
    if reason:
        text = f'invalid mount config for type "{kind}": {reason}'
        if mount.legacy_bind:
            text = f"invalid volume specification: '{mount.bind_text}': {text}"
        raise Invalid(text)
    check_tmpfs_options(mount.tmpfs_options)
    return replace(mount, target=_clean(mount), source=_clean_source(mount))


def _reason(mount: MountSpec) -> str:
    if not mount.target:
        return "field Target must not be empty"
    if mount.kind is MountKind.TMPFS and mount.source:
        return "field Source must not be specified"
    if mount.kind in (MountKind.BIND, MountKind.IMAGE) and not mount.source:
        return "field Source must not be empty"
    if mount.subpath:
        if mount.kind is MountKind.VOLUME and not mount.source:
            return "must not set Subpath when using anonymous volumes"
        if not is_local(mount.subpath):
            return "subpath must be a relative path within the volume"
    for path in (mount.source, mount.target, mount.subpath):
        if "\0" in path:
            return "a path holds a NUL character"
    for path in (mount.source if mount.kind is MountKind.BIND else "", mount.target):
        if path and not path.startswith("/"):
            return f"invalid mount path: '{path}' mount path must be absolute"
    if posixpath.normpath(mount.target).lstrip("/") in ("", "."):
        return _OVER_ROOT
    if mount.propagation not in _PROPAGATIONS:
        return f"invalid propagation mode: {mount.propagation}"
    if mount.read_only_force_recursive and not mount.read_only:
        return "ReadOnlyForceRecursive must not be specified without ReadOnly"
    if mount.read_only_non_recursive and not mount.read_only:
        return "ReadOnlyNonRecursive must not be specified without ReadOnly"
    missing = mount.kind is MountKind.BIND and not os.path.lexists(mount.source)
    if missing and not (mount.create_source or mount.legacy_bind):
        return f"bind source path does not exist: {mount.source}"
    return ""


def is_local(path: str) -> bool:
    """Return whether a path stays below where it begins, by its words alone."""
    clean = posixpath.normpath(path)
    return not clean.startswith("/") and clean != ".." and not clean.startswith("../")


def _clean(mount: MountSpec) -> str:
    # normpath keeps two leading slashes (POSIX lets them mean something; Linux does not).
    return "/" + posixpath.normpath(mount.target).lstrip("/")


def _clean_source(mount: MountSpec) -> str:
    if not mount.source or mount.kind is not MountKind.BIND:
        return mount.source
    return "/" + posixpath.normpath(mount.source).lstrip("/")


def _check_targets(mounts: Iterable[MountSpec]) -> None:
    seen: set[str] = set()
    for mount in mounts:
        if mount.target in seen:
            raise Invalid(f"Duplicate mount point: {mount.target}")
        seen.add(mount.target)


def check_tmpfs_options(text: str) -> None:
    """Raise Invalid for an option that tmpfs or mount(8) does not know."""
    for word in filter(None, text.split(",")):
        name, equals, value = word.partition("=")
        known = name in _TMPFS_VALUES if equals else name in _TMPFS_FLAGS
        if not known:
            raise Invalid(f'invalid tmpfs option "{name}"')
        if name in ("size", "mode", "uid", "gid", "nr_inodes", "nr_blocks"):
            if not _NUMBER.fullmatch(value):
                raise Invalid(f'invalid tmpfs option "{name}"')


def check_propagation(mounts: Iterable[MountSpec], mountinfo: str) -> None:
    """Raise StartFailed where a bind asks for shared or slave and its source's mount is neither.

    Nothing would ever propagate there. `mountinfo` is the engine's own: proc_pid_mountinfo(5).
    """
    wanting = [mount for mount in mounts if mount.kind is MountKind.BIND and mount.propagation]
    for mount in wanting:
        kind = mount.propagation.removeprefix("r")
        if kind == "private":
            continue
        point, peers = _mount_of(os.path.realpath(mount.source), mountinfo)
        if "shared" in peers or (kind == "slave" and "master" in peers):
            continue
        needed = "shared mount" if kind == "shared" else "shared or slave mount"
        raise StartFailed(
            f"path {mount.source} is mounted on {point} but it is not a {needed}",
            hint=f"mount --make-shared {point}",
        )


def _mount_of(path: str, mountinfo: str) -> tuple[str, frozenset[str]]:
    """Return where the mount that holds `path` is mounted, and its optional fields' names."""
    point, peers = "/", frozenset[str]()
    for line in mountinfo.splitlines():
        fields = line.partition(" - ")[0].split(" ")
        if len(fields) < 6:
            continue
        target = _OCTAL.sub(lambda found: chr(int(found[1], 8)), fields[4])
        inside = f"{path}/".startswith(f"{target.rstrip('/')}/")
        # Of mounts on one place the last lies on top.
        if inside and len(target) >= len(point):
            point, peers = target, frozenset(field.partition(":")[0] for field in fields[6:])
    return point, peers


def create_missing_sources(mounts: Iterable[MountSpec]) -> None:
    """Make the directories that `-v` binds and that are not there, as Docker does. Raises Invalid."""
    for mount in mounts:
        if mount.kind is not MountKind.BIND or os.path.lexists(mount.source):
            continue
        if not (mount.create_source or mount.legacy_bind):
            raise Invalid(
                f'invalid mount config for type "bind": bind source path does not exist: {mount.source}'
            )
        try:
            os.makedirs(mount.source, 0o755, exist_ok=True)
        except OSError as error:
            raise Invalid(
                f"error while creating mount source path '{mount.source}': mkdir "
                f"{error.filename or mount.source}: {(error.strerror or '').lower()}"
            ) from error
