"""The process that becomes the container: it performs a plan inside its own namespaces, then execs.

It is a fork of the supervisor that never returns into it: every way out of `run_slot` and `run_exec`
is execve or _exit. All descriptors but its socket are closed first, so nothing of the host can leak
(CVE-2024-21626). See `handshake` for what is said on the socket.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import gc
import json
import os
import select
import signal
import socket
import struct
from collections.abc import Sequence
from typing import NoReturn

from wherry.kernel import abi, mount, paths
from wherry.kernel.calls import Kernel
from wherry.kernel.processes import wait_readable
from wherry.model.errors import StartFailed
from wherry.model.oci import Process, User
from wherry.runtime import handshake, wire
from wherry.runtime.becoming import Progress, become, environment_of, find_command
from wherry.runtime.plan import SlotProfile, plan_guard, plan_slot
from wherry.runtime.stage import CgroupMount, Stage, Step, place
from wherry.runtime.terminal import open_pty
from wherry.runtime.user import identify

_SAMPLE = 8192
"""About the bytes of a seccomp program."""
_HOME = b"/tmp"
"""Where the slot's tmpfs is mounted, in the slot's view of the host: every host has it, anyone may enter."""


def run_slot(
    k: Kernel, end: int, profile: SlotProfile, hierarchies: tuple[CgroupMount, ...]
) -> NoReturn:
    """Furnish a slot, wait for a plan, perform it and exec."""
    progress = Progress()
    try:
        # Nothing lives long enough here to be garbage that matters, and to look for it writes to many pages.
        gc.disable()
        forget_the_parent(k, end)
        go = handshake.receive(end)
        if go is None:
            os._exit(0)
        stage = _prepare(k, profile, hierarchies, go.descriptors, progress)
        if go.body == handshake.TELL:
            handshake.send(end, handshake.READY)
            if not wait_readable(end, 0):
                _rehearse(profile)
        message = handshake.receive(end)
        if message is None:
            os._exit(0)
        _launch(stage, end, message, progress)
    except BaseException as error:
        _report(end, error, progress.step)
    os._exit(128)


def _rehearse(profile: SlotProfile) -> None:
    """Read a plan, and look a user and a command up, while nobody waits.

    The pages that this writes to are shared with the process that forked this one, and the first write
    to each costs 2.6 µs.
    """
    sample = json.dumps(
        {
            "process": wire.encode(Process(("",), env=("A=",), seccomp=bytes(_SAMPLE))),
            "steps": wire.encode(plan_slot(profile)),
        }
    )
    body = json.loads(sample)
    process = _decoded_process(body["process"])
    steps: Sequence[Step] = wire.decode(body["steps"])
    for step in steps:
        step.describe()
    who = identify(User(), "root:x:0:0::/root:/bin/sh", "root:x:0:")
    environment = environment_of(process, who)
    with contextlib.suppress(StartFailed):
        find_command("sh", environment)


def run_exec(k: Kernel, end: int) -> NoReturn:
    """Wait for a process to run in a container that was joined already, and exec it."""
    progress = Progress()
    try:
        gc.disable()
        _forget_signals(k)
        message = handshake.receive(end)
        if message is None:
            os._exit(0)
        become_root(k)
        process = _decoded_process(json.loads(message.body))
        _take_stdio(message.descriptors[:3], terminal=process.terminal)
        _join_keyring(k)
        _close_between(k, 0, 1, 2, end)
        become(k, process, progress)
    except BaseException as error:
        _report(end, error, progress.step)
    os._exit(128)


def _report(end: int, error: BaseException, step: str) -> NoReturn:
    with contextlib.suppress(OSError):
        handshake.send(end, handshake.FAILED, handshake.describe_failure(error, step))
    os._exit(error.exit_code if isinstance(error, StartFailed) else 128)


def forget_the_parent(k: Kernel, keep: int) -> None:
    """Close every descriptor but `keep`, and drop signal handling that the supervisor set up."""
    close_all_but(k, keep)
    # A process of the container must not read the supervisor's memory through /proc (ptrace(2)).
    k.prctl(abi.PR_SET_DUMPABLE, 0)
    _forget_signals(k)


def _forget_signals(k: Kernel) -> None:
    # What is ignored stays so across execve, and Python ignores SIGPIPE and SIGXFSZ.
    signal.set_wakeup_fd(-1)
    k.default_signals()
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _close_between(k: Kernel, *keep: int) -> None:
    last = -1
    for fd in sorted(keep):
        if fd > last + 1:
            k.close_range(last + 1, fd - 1)
        last = fd
    k.close_range(last + 1, 0x7FFFFFFF)


def close_all_but(k: Kernel, *keep: int) -> None:
    """Close every descriptor that is not in `keep`, all above 2; the first three become the null device."""
    _close_between(k, *keep)
    # Numbers 0 to 2 stay taken until the container's own streams come.
    while os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC) < 2:
        pass


def become_root(k: Kernel) -> None:
    """Become root of the present user namespace, with no groups besides."""
    with contextlib.suppress(PermissionError):
        os.setgroups(())
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    k.prctl(abi.PR_SET_DUMPABLE, 0)


def _prepare(
    k: Kernel,
    profile: SlotProfile,
    hierarchies: tuple[CgroupMount, ...],
    trees: tuple[int, ...],
    progress: Progress,
) -> Stage:
    """Furnish the slot: everything of a start that does not depend on the container."""
    progress.step = "become root of the namespaces"
    become_root(k)
    if profile.namespaces.cgroup == "private":
        progress.step = "make the cgroup namespace"
        k.unshare(abi.CLONE_NEWCGROUP)
    os.umask(0o022)
    progress.step = "make the mounts private"
    k.mount(None, b"/", None, abi.MS_REC | abi.MS_SLAVE, None)
    progress.step = "mount the slot's tmpfs"
    tree = mount.new_filesystem(k, "tmpfs", (("mode", "755"), ("size", "1m")))
    target = os.open(_HOME, os.O_PATH | os.O_CLOEXEC)
    mount.attach(k, tree, target)
    os.close(target)
    k.mount(None, _HOME, None, abi.MS_PRIVATE, None)
    home = os.open(_HOME, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    os.close(tree)
    os.mkdir(b"root", 0o755, dir_fd=home)
    if profile.namespaces.network == "private":
        progress.step = "bring up the loopback"
        _loopback_up()
    stage = Stage(k, home, home, trees, hierarchies=hierarchies)
    for step in (*plan_slot(profile), *plan_guard(profile)):
        progress.step = step.describe()
        step.perform(stage)
    for fd in trees:
        os.close(fd)
    stage.trees = ()
    return stage


def _loopback_up() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as control:
        flags = abi.IFF_UP | abi.IFF_LOOPBACK | abi.IFF_RUNNING
        fcntl.ioctl(control, abi.SIOCSIFFLAGS, struct.pack("16sh22x", b"lo", flags))


def _launch(stage: Stage, end: int, message: handshake.Message, progress: Progress) -> NoReturn:
    """Perform a plan: descriptors are the root, the plan's trees, then stdin, stdout, stderr."""
    k = stage.k
    progress.step = "read the plan"
    body = json.loads(message.body)
    process = _decoded_process(body["process"])
    steps: Sequence[Step] = wire.decode(body["steps"])
    root, *trees = message.descriptors[:-3]
    gate = trees.pop() if body["gate"] else -1
    progress.step = "attach the root"
    spot = os.open(b"root", os.O_PATH | os.O_CLOEXEC, dir_fd=stage.home)
    mount.attach(k, root, spot)
    os.close(spot)
    # The mount as it is attached, not the empty directory below it.
    stage.root = os.open(b"root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=stage.home)
    stage.trees = tuple(trees)
    opens = bool(body["terminal"])
    _take_stdio(message.descriptors[-3:], terminal=process.terminal and not opens)
    for step in steps:
        progress.step = step.describe()
        step.perform(stage)
    if opens:
        progress.step = "open a terminal"
        _open_terminal(k, end, process)
    if process.terminal:
        progress.step = "show the terminal as /dev/console"
        _attach_console(stage)
    _join_keyring(k)
    # CVE-2024-21626: what stays open until execve has a name in /proc/self/fd, and the working directory
    # comes from the image. /proc/sys as it was before it became read-only is among it.
    _close_between(k, 0, 1, 2, end, *((gate,) if gate >= 0 else ()))

    def wait_at_gate() -> None:
        progress.step = "wait at the gate"
        handshake.send(end, handshake.READY)
        os.close(end)
        select.select([gate], [], [])

    become(k, process, progress, wait_at_gate if gate >= 0 else None)


def _join_keyring(k: Kernel) -> None:
    # The supervisor's session keyring would be the process's otherwise, with a possessor's rights.
    # EDQUOT, ENOSYS: a kernel without keys has none to give away.
    with contextlib.suppress(OSError):
        k.join_session_keyring()


def _attach_console(stage: Stage) -> None:
    # CVE-2025-52565: by descriptor, before anything of the container runs. A /dev of the user's may have
    # a link there: the terminal would lie over what it leads to.
    try:
        spot = place(
            stage,
            "/dev/console",
            directory=False,
            resolve=paths.RESOLVE_IN_ROOT | paths.RESOLVE_NO_SYMLINKS,
        )
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise StartFailed("the container's /dev/console is a symbolic link") from error
    try:
        tree = mount.clone_tree(stage.k, b"", dir_fd=0)
        try:
            mount.attach(stage.k, tree, spot)
        finally:
            os.close(tree)
    finally:
        os.close(spot)


def _decoded_process(data: object) -> Process:
    process = wire.decode(data)
    if not isinstance(process, Process):
        raise StartFailed("the plan has no process")
    return process


def _take_stdio(descriptors: Sequence[int], *, terminal: bool) -> None:
    os.setsid()
    for number, fd in enumerate(descriptors):
        os.dup2(fd, number, inheritable=True)
    if terminal:
        fcntl.ioctl(0, abi.TIOCSCTTY, 0)


def _open_terminal(k: Kernel, end: int, process: Process) -> None:
    master, slave = open_pty(k, "/")
    if process.rows or process.columns:
        fcntl.ioctl(slave, abi.TIOCSWINSZ, struct.pack("4H", process.rows, process.columns, 0, 0))
    handshake.send(end, handshake.TERMINAL, b"", (master,))
    for number in (0, 1, 2):
        os.dup2(slave, number, inheritable=True)
    fcntl.ioctl(0, abi.TIOCSCTTY, 0)
