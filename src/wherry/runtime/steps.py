"""The steps of a plan: frozen facts that describe and perform themselves.

Steps are performed by the container's own first process (`child`), inside its namespaces, on a stage:
first the slot's tmpfs (`home`), where /proc, /sys and /dev are furnished while no hostile file is in
sight, then the container's root, onto which the furnished trees are moved. Paths are resolved with
openat2(RESOLVE_IN_ROOT) from the stage's root, whatever links an image holds.

All steps but `emulation.Emulate` are here, in one long module because each is read beside the others that
it relies on.
"""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass

from wherry.kernel import abi, mount, paths
from wherry.runtime.emulation import Emulate
from wherry.runtime.stage import (
    CgroupMount,
    Stage,
    is_directory,
    place,
    settle,
    telling_mount,
)
from wherry.runtime.wire import registered

_PLAIN_PATH = paths.RESOLVE_IN_ROOT | paths.RESOLVE_NO_SYMLINKS
# CVE-2019-19921, CVE-2023-27561: where these lie is relied upon by masks and sysctls.
_TRUSTED = frozenset({"proc", "sysfs"})
# What may be replaced in /proc, as lxcfs does: runc's list.
_PROC_FILES = frozenset(
    f"/proc/{name}"
    for name in (
        "cpuinfo",
        "diskstats",
        "loadavg",
        "meminfo",
        "net/dev",
        "slabinfo",
        "stat",
        "swaps",
        "sys/crypto/fips_enabled",
        "sys/kernel/ns_last_pid",
        "uptime",
    )
)


def _attach(stage: Stage, tree: int, target: str, resolve: int = paths.CONTAINED) -> None:
    spot = place(stage, target, directory=is_directory(tree), resolve=resolve)
    try:
        if is_directory(spot) != is_directory(tree):
            raise NotADirectoryError(errno.ENOTDIR, "not a directory", target)
        # CVE-2019-16884: a volume over /proc has the start write to files of its own choice. By what
        # the path leads to, since it may be a link.
        if (
            os.path.normpath(target) not in _PROC_FILES
            and stage.k.statfs_magic(spot) == abi.PROC_SUPER_MAGIC
            and stage.k.statfs_magic(tree) != abi.PROC_SUPER_MAGIC
        ):
            text = "cannot be mounted because it is inside /proc"
            raise OSError(errno.EPERM, text, target)
        mount.attach(stage.k, tree, spot)
    finally:
        os.close(spot)


@registered
@dataclass(frozen=True, slots=True)
class Directory:
    """Make a directory where there is none."""

    path: str

    def describe(self) -> str:
        return f"make the directory {self.path}"

    def perform(self, stage: Stage) -> None:
        os.close(place(stage, self.path, directory=True))


@registered
@dataclass(frozen=True, slots=True)
class Filesystem:
    """Mount a new file system; `options` are mount(8) words."""

    kind: str
    target: str
    options: tuple[str, ...] = ()
    source: str = ""

    def describe(self) -> str:
        words = f" ({','.join(self.options)})" if self.options else ""
        return f"mount a new {self.kind} on {self.target}{words}"

    def perform(self, stage: Stage) -> None:
        wanted = mount.parse_options(self.options)
        copy_up = ("tmpcopyup", None)
        options = tuple(option for option in wanted.data if option != copy_up)
        tree = mount.new_filesystem(stage.k, self.kind, options, wanted.set_, self.source)
        try:
            if self.kind in _TRUSTED:
                _attach(stage, tree, self.target, _PLAIN_PATH)
                return
            with telling_mount(self.source or self.kind, self.target):
                _attach(stage, tree, self.target)
        finally:
            os.close(tree)


@registered
@dataclass(frozen=True, slots=True)
class BindHost:
    """Show a path of the host as it is seen before the root is entered."""

    source: str
    target: str
    options: tuple[str, ...] = ("rbind",)
    optional: bool = False

    def describe(self) -> str:
        return f"bind the host's {self.source} on {self.target} ({','.join(self.options)})"

    def perform(self, stage: Stage) -> None:
        if self.optional and not os.path.exists(self.source):
            return
        wanted = mount.parse_options(self.options)
        tree = mount.clone_tree(stage.k, self.source.encode(), recursive=wanted.recursive)
        try:
            if not wanted.propagation:
                mount.change(stage.k, tree, propagation=abi.MS_PRIVATE, recursive=wanted.recursive)
            settle(stage.k, tree, wanted)
            with telling_mount(self.source, self.target):
                _attach(stage, tree, self.target)
        finally:
            os.close(tree)


@registered
@dataclass(frozen=True, slots=True)
class AttachTree:
    """Attach a mount that the supervisor made ready; `what` is for people."""

    index: int
    target: str
    what: str

    def describe(self) -> str:
        return f"attach {self.what} on {self.target}"

    def perform(self, stage: Stage) -> None:
        with telling_mount(self.what, self.target):
            _attach(stage, stage.trees[self.index], self.target)


@registered
@dataclass(frozen=True, slots=True)
class MoveFurnished:
    """Move a tree that was furnished in the slot onto the container's root."""

    path: str

    def describe(self) -> str:
        return f"move the furnished {self.path} onto the root"

    def perform(self, stage: Stage) -> None:
        name = self.path.lstrip("/").encode()
        # An image whose /proc or /dev is a link would have it mounted elsewhere: refused, as the
        # specification demands a directory (CVE-2019-19921, CVE-2023-27561).
        try:
            spot = paths.open_in_root(
                stage.root,
                name,
                os.O_PATH | os.O_NOFOLLOW | os.O_DIRECTORY,
                resolve=_PLAIN_PATH,
            )
        except FileNotFoundError:
            spot = paths.make_dirs_in_root(stage.root, name)
        try:
            stage.k.move_mount(stage.home, name, spot, b"", abi.MOVE_MOUNT_T_EMPTY_PATH)
        finally:
            os.close(spot)


@registered
@dataclass(frozen=True, slots=True)
class Unmount:
    """Take away a mount that was furnished, so that another takes its place and hides nothing.

    With `remove` the folder that it was on goes too.
    """

    path: str
    remove: bool = False

    def describe(self) -> str:
        return f"unmount {self.path}{' and remove it' if self.remove else ''}"

    def perform(self, stage: Stage) -> None:
        spot = paths.open_in_root(stage.root, self.path, os.O_PATH, resolve=_PLAIN_PATH)
        try:
            os.fchdir(spot)
        finally:
            os.close(spot)
        stage.k.umount2(b".", abi.MNT_DETACH)
        os.chdir("/")
        if self.remove:
            parent, _, name = self.path.rpartition("/")
            holder = paths.open_in_root(stage.root, parent, os.O_PATH, resolve=_PLAIN_PATH)
            try:
                os.rmdir(name, dir_fd=holder)
            finally:
                os.close(holder)


@registered
@dataclass(frozen=True, slots=True)
class MoveNode:
    """Show a device node of the furnished /dev at another place, and there alone."""

    source: str
    target: str

    def describe(self) -> str:
        return f"move the device node {self.source} to {self.target}"

    def perform(self, stage: Stage) -> None:
        parent, _, name = self.source.rpartition("/")
        holder = paths.open_in_root(stage.root, parent, os.O_PATH, resolve=_PLAIN_PATH)
        try:
            node = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=holder)
            try:
                tree = mount.clone_tree(stage.k, b"", dir_fd=node)
            finally:
                os.close(node)
            try:
                _attach(stage, tree, self.target)
            finally:
                os.close(tree)
            os.unlink(name, dir_fd=holder)
        finally:
            os.close(holder)


@registered
@dataclass(frozen=True, slots=True)
class Mask:
    """Hide a path: /dev/null over a file, an empty read-only tmpfs over a directory."""

    path: str

    def describe(self) -> str:
        return f"mask {self.path}"

    def perform(self, stage: Stage) -> None:
        try:
            spot = paths.open_in_root(stage.root, self.path, os.O_PATH)
        except (FileNotFoundError, NotADirectoryError):
            return
        try:
            if is_directory(spot):
                options = (("size", "0"), ("nr_inodes", "1"), ("mode", "555"))
                tree = mount.new_filesystem(stage.k, "tmpfs", options, abi.MOUNT_ATTR_RDONLY)
            else:
                tree = _null(stage)
            try:
                mount.attach(stage.k, tree, spot)
            finally:
                os.close(tree)
        finally:
            os.close(spot)


def _null(stage: Stage) -> int:
    # CVE-2025-31133: a /dev/null that is something else would be bound, writable, in its place.
    source = paths.open_in_root(stage.root, b"dev/null", os.O_PATH | os.O_NOFOLLOW)
    try:
        found = os.fstat(source)
        if not stat.S_ISCHR(found.st_mode) or found.st_rdev != os.makedev(1, 3):
            raise OSError(errno.EINVAL, "not the null device", "/dev/null")
        return mount.clone_tree(stage.k, b"", dir_fd=source)
    finally:
        os.close(source)


@registered
@dataclass(frozen=True, slots=True)
class ReadOnly:
    """Make what lies at a path read-only, with all below it."""

    path: str

    def describe(self) -> str:
        return f"make {self.path} read-only"

    def perform(self, stage: Stage) -> None:
        try:
            spot = paths.open_in_root(stage.root, self.path, os.O_PATH)
        except (FileNotFoundError, NotADirectoryError):
            return
        try:
            tree = mount.clone_tree(stage.k, b"", dir_fd=spot, recursive=True)
            try:
                mount.change(stage.k, tree, set_=abi.MOUNT_ATTR_RDONLY, recursive=True)
                mount.attach(stage.k, tree, spot)
            finally:
                os.close(tree)
        finally:
            os.close(spot)


@registered
@dataclass(frozen=True, slots=True)
class KeepSysctls:
    """Keep a way to /proc/sys for the sysctls that a plan sets later."""

    def describe(self) -> str:
        return "keep a descriptor of /proc/sys"

    def perform(self, stage: Stage) -> None:
        flags = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
        found = paths.open_in_root(stage.root, b"proc/sys", flags)
        # CVE-2025-52881: what a volume put in its place is not written to.
        if stage.k.statfs_magic(found) != abi.PROC_SUPER_MAGIC:
            os.close(found)
            raise OSError(errno.EINVAL, "not a proc file system", "/proc/sys")
        stage.sysctls = found


@registered
@dataclass(frozen=True, slots=True)
class Sysctl:
    """Set one sysctl: `net.ipv4.ip_forward` = 1."""

    key: str
    value: str
    optional: bool = False

    def describe(self) -> str:
        return f"set the sysctl {self.key} to {self.value}"

    def perform(self, stage: Stage) -> None:
        try:
            resolve = paths.RESOLVE_BENEATH | paths.RESOLVE_NO_SYMLINKS | paths.RESOLVE_NO_XDEV
            name = self.key.replace(".", "/")
            fd = paths.open_in_root(stage.sysctls, name, os.O_WRONLY, resolve=resolve)
        except OSError:
            if self.optional:
                return
            raise
        try:
            os.write(fd, self.value.encode())
        except OSError as error:
            if not self.optional:
                raise OSError(error.errno, error.strerror, self.key) from error
        finally:
            os.close(fd)


@registered
@dataclass(frozen=True, slots=True)
class Hostname:
    """Set the host and domain name of the UTS namespace."""

    name: str
    domain: str = ""

    def describe(self) -> str:
        return f"set the host name {self.name}"

    def perform(self, stage: Stage) -> None:
        if self.name:
            stage.k.sethostname(self.name.encode())
        if self.domain:
            stage.k.setdomainname(self.domain.encode())


@registered
@dataclass(frozen=True, slots=True)
class Cgroups:
    """Mount the cgroup hierarchies as this cgroup namespace sees them."""

    target: str
    read_only: bool = True
    private: bool = True
    """Whether the process has a cgroup namespace; without one it is shown its own cgroups by binds."""

    def describe(self) -> str:
        return f"mount cgroups on {self.target}{' read-only' if self.read_only else ''}"

    def perform(self, stage: Stage) -> None:
        words = ("nosuid", "nodev", "noexec", *(("ro",) if self.read_only else ()))
        pure = any(not hierarchy.name for hierarchy in stage.hierarchies)
        if not pure:
            shelf = ("nosuid", "nodev", "noexec", "mode=755", "size=64k")
            Filesystem("tmpfs", self.target, shelf).perform(stage)
        mine = {} if self.private else _own_cgroups()
        for hierarchy in stage.hierarchies:
            folder = f"/sys/fs/cgroup/{hierarchy.name}{mine.get(_words_of(hierarchy), '')}"
            if not self.private and os.path.isdir(folder):
                spot = f"{self.target}/{hierarchy.name}".rstrip("/")
                BindHost(folder, spot, ("bind", *words)).perform(stage)
                continue
            target = f"{self.target}/{hierarchy.name}" if hierarchy.name else self.target
            kind, options = hierarchy.kind, hierarchy.options
            Filesystem(kind, target, (*words, *options)).perform(stage)
        if not pure and self.read_only:
            spot = paths.open_in_root(stage.root, self.target, os.O_PATH)
            try:
                mount.change(stage.k, spot, set_=abi.MOUNT_ATTR_RDONLY)
            finally:
                os.close(spot)


def _own_cgroups() -> dict[str, str]:
    """Return v1 controllers, "" for v2, to the path of this process: cgroups(7)."""
    with open("/proc/self/cgroup", encoding="utf-8", errors="surrogateescape") as file:
        rows = (line.rstrip("\n").split(":", 2) for line in file)
        return {words: path for _, words, path in rows}


def _words_of(hierarchy: CgroupMount) -> str:
    return ",".join(word for word in hierarchy.options if word != "none")


@registered
@dataclass(frozen=True, slots=True)
class Link:
    """Make a symbolic link, replacing nothing."""

    path: str
    target: str

    def describe(self) -> str:
        return f"link {self.path} to {self.target}"

    def perform(self, stage: Stage) -> None:
        parent, _, name = self.path.rpartition("/")
        holder = place(stage, parent, directory=True)
        try:
            os.symlink(self.target, name, dir_fd=holder)
        except FileExistsError:
            pass
        finally:
            os.close(holder)


@registered
@dataclass(frozen=True, slots=True)
class EnterRoot:
    """Make the container's root the root, and let go of the host's."""

    read_only: bool = False
    propagation: str = "rprivate"

    def describe(self) -> str:
        return f"enter the root{' read-only' if self.read_only else ''} ({self.propagation})"

    def perform(self, stage: Stage) -> None:
        k = stage.k
        old = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fchdir(stage.root)
            k.pivot_root(b".", b".")
            # Here "." would be the new root: mount(2), unlike umount(2), does not go up to what is
            # stacked on it.
            os.fchdir(old)
            k.mount(None, b".", None, abi.MS_REC | abi.MS_PRIVATE, None)
            k.umount2(b".", abi.MNT_DETACH)
        finally:
            os.close(old)
        os.chdir("/")
        if self.propagation in ("rprivate", "private", ""):
            k.mount(None, b"/", None, abi.MS_REC | abi.MS_PRIVATE, None)
        else:
            # The root alone: what is mounted below it has been told its own.
            wanted = mount.parse_options((self.propagation,)).propagation
            k.mount(None, b"/", None, wanted & ~abi.MS_REC, None)
        if self.read_only:
            mount.change(k, stage.root, set_=abi.MOUNT_ATTR_RDONLY)


AnyStep = (
    Directory
    | Filesystem
    | BindHost
    | AttachTree
    | MoveFurnished
    | Unmount
    | MoveNode
    | Mask
    | ReadOnly
    | KeepSysctls
    | Sysctl
    | Hostname
    | Cgroups
    | Emulate
    | Link
    | EnterRoot
)
