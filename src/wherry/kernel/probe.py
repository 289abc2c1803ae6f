"""What this kernel and file system can do, measured once at the daemon's start instead of guessed."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from collections.abc import Callable

from wherry.kernel import abi, mount
from wherry.kernel.calls import Kernel
from wherry.kernel.linux import errno_of
from wherry.kernel.overlays import Overlay, open_overlay

OLDEST = "5.12"
"""The Linux that has all calls of `missing_calls`."""
# syscalls(2); numbers above 424 are the same on every architecture.
_NEEDED = {
    "open_tree": 428,
    "move_mount": 429,
    "fsopen": 430,
    "fsconfig": 431,
    "fsmount": 432,
    "pidfd_open": 434,
    "clone3": 435,
    "close_range": 436,
    "openat2": 437,
    "mount_setattr": 442,
}
_FIRST_ID = 0x7FFD0000
"""Held for a moment, by a process that does nothing."""


def missing_calls(call: Callable[[int], int] = errno_of) -> tuple[str, ...]:
    """Return the system calls that wherry cannot do without and that this kernel does not have.

    `call` makes one with arguments that can do nothing, and returns its errno.
    """
    return tuple(name for name, number in _NEEDED.items() if call(number) == errno.ENOSYS)


def user_namespaces(k: Kernel, data_root: str) -> str:
    """Return "" where a container under `data_root` can have a user namespace of its own, else why not.

    It needs user namespaces at all, a file system with id-mapped mounts and an overlay that takes
    such layers (Linux 5.19); all three are tried for real, in a child that does nothing.
    """
    waiting, release = os.pipe2(os.O_CLOEXEC)
    try:
        pid, pidfd = k.clone3(abi.CLONE_NEWUSER)
    except OSError as error:
        os.close(waiting)
        os.close(release)
        return f"user namespaces are not available: {(error.strerror or '').lower()}"
    if pid == 0:
        os.close(release)
        os.read(waiting, 1)
        os._exit(0)
    os.close(waiting)
    try:
        for name in ("uid_map", "gid_map"):
            with open(f"/proc/{pid}/{name}", "w", encoding="ascii") as file:
                file.write(f"0 {_FIRST_ID} 65536\n")
        userns = os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
        try:
            return _try_overlay(k, data_root, userns)
        finally:
            os.close(userns)
    except OSError as error:
        return (
            f"the id maps of a user namespace cannot be written: {(error.strerror or '').lower()}"
        )
    finally:
        os.close(release)
        os.close(pidfd)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)


def _try_overlay(k: Kernel, data_root: str, userns: int) -> str:
    with tempfile.TemporaryDirectory(dir=data_root, prefix="probe-") as folder:
        for name in ("lower", "upper", "work"):
            os.mkdir(f"{folder}/{name}")
        tree = mount.clone_tree(k, folder.encode())
        try:
            if not mount.idmap(k, tree, userns):
                return f"the file system of {data_root} has no id-mapped mounts"
            wanted = Overlay((b"lower",), b"upper", b"work", volatile=True, base=tree)
            os.close(open_overlay(k, wanted, owner=_FIRST_ID))
        except OSError as error:
            why = (error.strerror or "").lower()
            return f"overlay does not take id-mapped layers here ({why}); Linux 5.19 or newer does"
        finally:
            os.close(tree)
            with contextlib.suppress(FileNotFoundError):
                os.chmod(f"{folder}/work/work", 0o700)
    return ""
