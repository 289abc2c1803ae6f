"""The container's /dev: a tmpfs whose nodes the supervisor makes, since mknod is EPERM in a user namespace.

Nodes and the directory belong to the container's root; a node keeps the host's mode and, shifted, its
group. What may really be opened is up to the device cgroup.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

from wherry.kernel import abi, mount, paths
from wherry.kernel.calls import Kernel
from wherry.model.errors import StartFailed
from wherry.model.oci import Device

_DEFAULT_NODES = (
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
)
_FOLDERS = ("pts", "shm", "mqueue")
_HIGHEST_INSIDE = 65_535
_NOT_SHOWN = frozenset({"pts", "shm", "mqueue", "console", "fd", "core", "ptmx"})


def make_dev(k: Kernel, owner: int, group: int) -> int:
    """Return a detached tmpfs with the six usual nodes; `owner` and `group` are host ids of its root."""
    options = (("mode", "755"), ("size", "65536k"))
    attributes = abi.MOUNT_ATTR_NOSUID | abi.MOUNT_ATTR_STRICTATIME
    tree = mount.new_filesystem(k, "tmpfs", options, attributes)
    mask = os.umask(0)
    try:
        _fill(tree, owner, group)
    except BaseException:
        os.close(tree)
        raise
    finally:
        os.umask(mask)
    return tree


def _fill(tree: int, owner: int, group: int) -> None:
    for name, major, minor in _DEFAULT_NODES:
        os.mknod(name, stat.S_IFCHR | 0o666, os.makedev(major, minor), dir_fd=tree)
        if owner:
            os.chown(name, owner, group, dir_fd=tree)
    for name in _FOLDERS:
        os.mkdir(name, 0o755, dir_fd=tree)
        if owner:
            os.chown(name, owner, group, dir_fd=tree)
    if owner:
        os.chown(".", owner, group, dir_fd=tree)


def add_device(tree: int, device: Device, owner: int, group: int) -> None:
    """Make the node of one `--device` below the tmpfs `tree`. Raises StartFailed."""
    try:
        found = os.stat(device.source)
    except OSError as error:
        raise StartFailed(
            f'error gathering device information while adding custom device "{device.source}": '
            f"{(error.strerror or '').lower()}"
        ) from error
    kind = stat.S_IFMT(found.st_mode)
    if kind not in (stat.S_IFCHR, stat.S_IFBLK):
        raise StartFailed(
            f'error gathering device information while adding custom device "{device.source}": '
            "not a device node"
        )
    parent, _, name = device.path.removeprefix("/dev").strip("/").rpartition("/")
    holder = paths.make_dirs_in_root(tree, parent, owner=(owner, group))
    try:
        folder = os.open(f"/proc/self/fd/{holder}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    finally:
        os.close(holder)
    try:
        try:
            os.unlink(name, dir_fd=folder)
        except FileNotFoundError:
            pass
        os.mknod(name, kind | 0o600, found.st_rdev, dir_fd=folder)
        shifted = group + found.st_gid if found.st_gid <= _HIGHEST_INSIDE else group
        os.chown(name, owner, shifted, dir_fd=folder)
        os.chmod(name, stat.S_IMODE(found.st_mode), dir_fd=folder)
    finally:
        os.close(folder)


def host_devices() -> Iterator[Device]:
    """Yield every device node of the host, for --privileged."""
    for folder, folders, names in os.walk("/dev"):
        if folder == "/dev":
            folders[:] = [name for name in folders if name not in _NOT_SHOWN]
            names = [name for name in names if name not in _NOT_SHOWN]
        for name in names:
            path = f"{folder}/{name}"
            mode = os.lstat(path).st_mode
            if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
                yield Device(path, path)
