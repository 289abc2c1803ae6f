"""From wherryd to a keeper: lock, listen, become a subreaper, detach, and exec the keeper.

    wherryd starts boot (-I -S) > boot forks > the child locks, listens, writes one byte, execs keeper
                                > boot reads the byte and ends with 0 (1: it failed; see supervisor.log)

The child execs so that what only the start needs (ctypes above all) costs the keeper no memory;
PR_SET_CHILD_SUBREAPER survives execve, prctl(2). When another keeper holds the lock the child ends
and boot succeeds: somebody serves. `connect` is the other end: how a client reaches the socket.
"""

from __future__ import annotations

import os
import resource
import socket
import sys

from wherry.kernel import rendezvous

SOCKET = "supervisor.sock"
LOCK = "keeper.lock"
_BACKLOG = 64
_OOM_SCORE = -999
_KEEPER = (
    "import sys; sys.path.insert(0, sys.argv[1]);"
    " from wherry.supervisor.keeper import main; main(sys.argv[2:])"
)
_SUPERVISOR = (
    "import sys; sys.path.insert(0, sys.argv[1]);"
    " from wherry.kernel.deferred import defer; defer('inspect', 'traceback', 'ipaddress');"
    " from wherry.supervisor.main import main; main(sys.argv[2:])"
)
_BOOT = (
    "import sys; sys.path.insert(0, sys.argv[1]);"
    " from wherry.supervisor.boot import main; main(sys.argv[1:])"
)


def plan_supervisor(source: str, exec_root: str, data_root: str) -> list[str]:
    """Return the argument vector of a supervisor whose code is below `source`."""
    return [sys.executable, "-I", "-S", "-c", _SUPERVISOR, source, exec_root, data_root]


def plan_boot(source: str, exec_root: str, program: list[str]) -> list[str]:
    """Return the argument vector that starts a keeper which runs `program` as its supervisor."""
    return [sys.executable, "-I", "-S", "-c", _BOOT, source, exec_root, *program]


def connect(exec_root: str, kind: int) -> socket.socket:
    """Return a socket connected to the supervisor; raise OSError when nobody listens.

    `kind` adds to SOCK_SEQPACKET (SOCK_NONBLOCK).
    """
    return rendezvous.connect(exec_root, SOCKET, kind)


def _become_keeper(source: str, exec_root: str, program: list[str], ready: int) -> None:
    from wherry.kernel.processes import lower_oom_score, read_only_program, set_subreaper
    from wherry.supervisor.ranges import LOCK_PATH

    os.setsid()
    root = os.open(exec_root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    lock = rendezvous.lock(root, LOCK)
    if lock < 0:
        os.write(ready, b"1")
        os._exit(0)
    os.set_inheritable(lock, True)
    os.makedirs(os.path.join(exec_root, "exits"), mode=0o700, exist_ok=True)
    listener = rendezvous.listen(root, SOCKET, _BACKLOG).detach()
    os.set_inheritable(listener, True)
    # Held by the keeper: the locks on id ranges outlive a supervisor.
    ids = os.open(LOCK_PATH, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    os.set_inheritable(ids, True)
    # CVE-2019-5736: supervisors are run from it, so a container that makes its process run
    # /proc/self/exe has no way to the host's binary.
    program_fd = read_only_program(sys.executable)
    os.set_inheritable(program_fd, True)
    set_subreaper()
    # Without them containers run on, but nobody sees their end; the supervisor inherits it.
    lower_oom_score(_OOM_SCORE)
    # The keeper holds some six descriptors for every process.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    os.write(ready, b"1")
    keeper = [sys.executable, "-I", "-S", "-c", _KEEPER, source, exec_root]
    descriptors = map(str, (lock, listener, ids, program_fd))
    os.execv(keeper[0], [*keeper, *descriptors, *program])


def main(arguments: list[str]) -> None:
    """Start a keeper: source folder, exec root, and the supervisor's argument vector."""
    source, exec_root, *program = arguments
    ready, ready_end = os.pipe()
    if os.fork() == 0:
        os.close(ready)
        try:
            _become_keeper(source, exec_root, program, ready_end)
        finally:
            sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
            os._exit(1)
    os.close(ready_end)
    os._exit(0 if os.read(ready, 1) else 1)
