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
import resource
import select
import signal
import socket
import stat
import struct
from collections.abc import Callable, Sequence
from typing import NoReturn

from wherry.kernel import abi, mount, paths
from wherry.kernel.calls import Kernel
from wherry.kernel.processes import wait_readable
from wherry.model.errors import StartFailed
from wherry.model.oci import Process, User
from wherry.runtime import handshake, wire
from wherry.runtime.plan import SlotProfile, plan_guard, plan_slot
from wherry.runtime.stage import CgroupMount, Stage, Step, place
from wherry.runtime.terminal import open_pty
from wherry.runtime.user import Identity, identify

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_MOST_CAPABILITIES = 64
_SYS_ADMIN = 1 << 21
_SAMPLE = 8192
"""About the bytes of a seccomp program."""
_NOT_RUN = 255
_HOME = b"/tmp"
"""Where the slot's tmpfs is mounted, in the slot's view of the host: every host has it, anyone may enter."""


class _Progress:
    """Which step is under way, for the report of a failure."""

    step = "begin"


def run_slot(
    k: Kernel, end: int, profile: SlotProfile, hierarchies: tuple[CgroupMount, ...]
) -> NoReturn:
    """Furnish a slot, wait for a plan, perform it and exec."""
    progress = _Progress()
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
    environment = _environment(process, who)
    with contextlib.suppress(StartFailed):
        find_command("sh", environment)


def run_exec(k: Kernel, end: int) -> NoReturn:
    """Wait for a process to run in a container that was joined already, and exec it."""
    progress = _Progress()
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
    progress: _Progress,
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


def _launch(stage: Stage, end: int, message: handshake.Message, progress: _Progress) -> NoReturn:
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


def become(
    k: Kernel, process: Process, progress: _Progress, wait: Callable[[], None] | None = None
) -> NoReturn:
    """Take on the process's identity and limits, wait where that is asked for, and exec."""
    progress.step = "look up the user"
    who = identify(process.user)
    environment = _environment(process, who)
    progress.step = f"enter the working directory {process.cwd}"
    entered = _enter(process.cwd, create=process.create_cwd)
    progress.step = "set resource limits"
    for limit in process.rlimits:
        _set_rlimit(limit.name, limit.soft, limit.hard)
    progress.step = "hand over standard input and output"
    _own_stdio(who)
    progress.step = "drop privileges"
    if process.no_new_privileges:
        k.prctl(abi.PR_SET_NO_NEW_PRIVS, 1)
    _change_identity(k, process, who)
    if not entered:
        progress.step = f"enter the working directory {process.cwd}"
        os.chdir(process.cwd)
    stay_inside(process.cwd)
    os.umask(0o022 if process.user.umask is None else process.user.umask)
    progress.step = "find the command"
    path = find_command(process.argv[0] if process.argv else "", environment)
    if wait is not None:
        wait()
    progress.step = f"exec {process.argv[0]}"
    if process.seccomp and process.no_new_privileges:
        _finish_capabilities(k, process)
        k.seccomp_filter(process.seccomp, process.seccomp_flags)
    else:
        if process.seccomp:
            k.seccomp_filter(process.seccomp, process.seccomp_flags)
        _finish_capabilities(k, process)
    try:
        os.execve(path, [os.fsencode(word) for word in process.argv], environment)
    except OSError as error:
        # As with runc, what was found and cannot be run is the container's own failure: a program for
        # another machine, a script whose interpreter is missing.
        os.write(2, f"exec {process.argv[0]}: {(error.strerror or '').lower()}\n".encode())
        os._exit(_NOT_RUN)


def _environment(process: Process, who: Identity) -> dict[bytes, bytes]:
    """Return the environment; a later entry of a name wins, HOME is the user's where not set."""
    environment: dict[bytes, bytes] = {}
    for entry in process.env:
        name, _, value = os.fsencode(entry).partition(b"=")
        environment[name] = value
    if not environment.get(b"HOME"):
        environment[b"HOME"] = os.fsencode(who.home)
    return environment


def _enter(cwd: str, *, create: bool) -> bool:
    """Change into `cwd`; False where only the user itself may (it is tried again as that user)."""
    if not cwd.startswith("/"):
        raise StartFailed("Cwd must be an absolute path")
    try:
        os.chdir(cwd)
    except FileNotFoundError as error:
        if not create:
            raise StartFailed(
                f'chdir to cwd ("{cwd}") set in config.json failed: no such file or directory',
                exit_code=127,
                errno=errno.ENOENT,
            ) from error
        root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            made = paths.make_dirs_in_root(root, cwd)
        finally:
            os.close(root)
        os.fchdir(made)
        os.close(made)
    except NotADirectoryError as error:
        if create:
            raise StartFailed(f"Cannot mkdir: {cwd} is not a directory") from error
        raise StartFailed(
            f'chdir to cwd ("{cwd}") set in config.json failed: not a directory',
            exit_code=127,
            errno=errno.ENOTDIR,
        ) from error
    except PermissionError:
        return False
    return True


def stay_inside(cwd: str) -> None:
    """Raise StartFailed where this process's working directory is not below its root."""
    # CVE-2024-21626: a working directory that lies outside the root is a way out.
    try:
        here = os.getcwdb()
    except OSError as error:
        raise StartFailed(f"the working directory {cwd} cannot be told: {error}") from error
    if not here.startswith(b"/"):
        raise StartFailed(
            f"the working directory {cwd} is outside of the container's root", exit_code=128
        )


def _set_rlimit(name: str, soft: int, hard: int) -> None:
    number: int | None = getattr(resource, name, None)
    if number is None:
        raise StartFailed(f"unknown resource limit {name}")
    try:
        resource.setrlimit(number, (soft, hard))
    except (ValueError, OSError) as error:
        _, highest = resource.getrlimit(number)
        raise StartFailed(
            f"cannot set the limit {name} to {soft}:{hard}: {error}",
            hint=f"the engine itself may have at most {highest}, and raising it needs CAP_SYS_RESOURCE",
        ) from error


def _own_stdio(who: Identity) -> None:
    """Give pipes and the terminal to the user, so that /dev/stdout can be opened again by name.

    Files and devices that were handed in keep their owner.
    """
    for fd in (0, 1, 2):
        found = os.fstat(fd)
        if found.st_uid == who.uid or not (stat.S_ISFIFO(found.st_mode) or os.isatty(fd)):
            continue
        # EPERM, EINVAL: a terminal of the host's that was handed in.
        with contextlib.suppress(OSError):
            os.fchown(fd, who.uid, -1)


def _change_identity(k: Kernel, process: Process, who: Identity) -> None:
    for capability in range(_MOST_CAPABILITIES):
        if not process.bounding >> capability & 1:
            try:
                k.prctl(abi.PR_CAPBSET_DROP, capability)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                break  # the kernel's last one was before it; it may know more than this program
    k.prctl(abi.PR_SET_KEEPCAPS, 1)
    try:
        os.setgroups(who.groups)
        os.setresgid(who.gid, who.gid, who.gid)
        os.setresuid(who.uid, who.uid, who.uid)
    except OSError as error:
        raise StartFailed(
            f"cannot become user {who.uid}:{who.gid}: {(error.strerror or '').lower()}",
            hint="a container with its own user namespace has the ids 0 to 65535",
        ) from error
    k.prctl(abi.PR_SET_KEEPCAPS, 0)
    if process.seccomp and not process.no_new_privileges and who.uid:
        # Loading a filter needs CAP_SYS_ADMIN in effect where new privileges stay possible.
        held = process.permitted | process.bounding | _SYS_ADMIN
        k.capset(held, held, process.inheritable)


def _finish_capabilities(k: Kernel, process: Process) -> None:
    # A user other than root gets its capabilities at execve from the ambient set alone, as with Docker.
    permitted = process.permitted
    k.capset(process.effective & permitted, permitted, process.inheritable)
    for capability in range(_MOST_CAPABILITIES):
        if process.ambient >> capability & 1:
            k.prctl(abi.PR_CAP_AMBIENT, abi.PR_CAP_AMBIENT_RAISE, capability)


def find_command(name: str, environment: dict[bytes, bytes]) -> bytes:
    """Return the path that `name` stands for, by the container's own PATH. Raises StartFailed (126, 127)."""
    if not name:
        raise StartFailed('exec: "": executable file not found in $PATH', exit_code=127)
    wanted = os.fsencode(name)
    if b"/" in wanted:
        _check_executable(wanted, name)
        return wanted
    denied = False
    for folder in environment.get(b"PATH", DEFAULT_PATH.encode()).split(b":"):
        candidate = (folder or b".") + b"/" + wanted
        try:
            if os.path.isfile(candidate):
                if os.access(candidate, os.X_OK):
                    return candidate
                denied = True
        except OSError:
            continue
    if denied:
        raise StartFailed(f'exec: "{name}": permission denied', exit_code=126)
    raise StartFailed(f'exec: "{name}": executable file not found in $PATH', exit_code=127)


def _check_executable(path: bytes, name: str) -> None:
    try:
        found = os.stat(path)
    except OSError as error:
        code = 127 if error.errno in (errno.ENOENT, errno.ENOTDIR) else 126
        text = (error.strerror or "").lower()
        raise StartFailed(f'exec: "{name}": stat {name}: {text}', exit_code=code) from error
    if os.path.isdir(path):
        raise StartFailed(f'exec: "{name}": is a directory: permission denied', exit_code=126)
    if not found.st_mode & 0o111 or not os.access(path, os.X_OK):
        raise StartFailed(f'exec: "{name}": permission denied', exit_code=126)
