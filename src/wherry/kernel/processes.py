"""Calls about processes that the standard library does not have."""

from __future__ import annotations

import os
import select
import sys

from wherry.kernel import abi, mount
from wherry.kernel.linux import LINUX

_PF_FORKNOEXEC = 0x40


def wait_readable(fd: int, seconds: float) -> bool:
    """Whether `fd` becomes readable, or comes to its end, within `seconds`.

    By poll(2): a descriptor above 1023 does not fit select(2), and a supervisor of 200 containers has those.
    """
    waiting = select.poll()
    waiting.register(fd, select.POLLIN)
    return bool(waiting.poll(max(0, round(seconds * 1000))))


def runs_program(pid: int, pidfd: int) -> bool:
    """Whether the process lives and has called execve(2) since its fork: the lack of PF_FORKNOEXEC,
    linux/sched.h, in field 9 of proc(5)'s stat.

    The flag goes before descriptors are closed on exec, and stays when they are closed by the end.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            flags = int(file.read().rpartition(b")")[2].split()[6])
    except (FileNotFoundError, ProcessLookupError):
        return False
    return not flags & _PF_FORKNOEXEC and not wait_readable(pidfd, 0)


def read_only_program(path: str) -> int:
    """Return a descriptor of the program at `path` as a read-only mount shows it. Raises OSError.

    What is reached by such a mount cannot be opened for writing, whoever tries (CVE-2019-5736).
    """
    tree = mount.clone_tree(LINUX, os.path.realpath(path).encode())
    mount.change(LINUX, tree, set_=abi.MOUNT_ATTR_RDONLY)
    return tree


def run_from_read_only_view() -> None:
    """Replace this process by itself, its interpreter reached through a read-only mount; once.

    CVE-2019-5736: a container that has the runtime exec /proc/self/exe holds the host's own binary, and
    with the host's root could write to it. Raises OSError.
    """
    if os.statvfs("/proc/self/exe").f_flag & os.ST_RDONLY:
        return
    tree = read_only_program(sys.executable)
    os.execv(f"/proc/self/fd/{tree}", [sys.executable, *sys.orig_argv[1:]])


def read_oom_score() -> int:
    """Return this process's oom_score_adj, proc(5)."""
    with open("/proc/self/oom_score_adj", encoding="ascii") as file:
        return int(file.read())


def lower_oom_score(score: int) -> None:
    """Have the kernel spare this process as `score` says, where it has less and that is permitted."""
    if read_oom_score() > score:
        try:
            with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
                file.write(str(score))
        except PermissionError:
            pass  # without CAP_SYS_RESOURCE, in another engine's container


def set_oom_score(pid: int, pidfd: int, score: int) -> None:
    """Set a living process's oom_score_adj; nothing when it is gone. Raises PermissionError.

    Written with CAP_SYS_RESOURCE it is also the least that the process may give itself later.
    """
    try:
        with open(f"/proc/{pid}/oom_score_adj", "w", encoding="ascii") as file:
            # Opened before, so it is the same process.
            if not wait_readable(pidfd, 0):
                file.write(str(score))
    except (FileNotFoundError, ProcessLookupError):
        pass


def set_subreaper() -> None:
    """Make this process the one that orphaned descendants fall to; kept across execve, prctl(2)."""
    LINUX.prctl(abi.PR_SET_CHILD_SUBREAPER, 1)
