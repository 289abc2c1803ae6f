"""The last steps of a container's process: user, working directory, limits, capabilities, filter, execve.

For the first process (`child.run_slot`) and for those that join (`child.run_exec`); the root is the
container's own by now, and what lies in it is hostile input.
"""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import stat
from collections.abc import Callable
from typing import NoReturn

from wherry.kernel import abi, paths
from wherry.kernel.calls import Kernel
from wherry.model.errors import StartFailed
from wherry.model.oci import DEFAULT_PATH, Process
from wherry.runtime.user import Identity, identify

_MOST_CAPABILITIES = 64
_SYS_ADMIN = 1 << 21
_NOT_RUN = 255


class Progress:
    """Which step is under way, for the report of a failure."""

    step = "begin"


def become(
    k: Kernel, process: Process, progress: Progress, wait: Callable[[], None] | None = None
) -> NoReturn:
    """Take on the process's identity and limits, wait where that is asked for, and exec."""
    progress.step = "look up the user"
    who = identify(process.user)
    environment = environment_of(process, who)
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


def environment_of(process: Process, who: Identity) -> dict[bytes, bytes]:
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
