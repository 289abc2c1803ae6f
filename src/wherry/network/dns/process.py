"""The process: lock, listen, detach, serve until there is nothing left to serve.

    wherryd runs it (-I -S) > it locks and listens > forks > the child serves
                                                   > the parent ends with 0 (also when another has the lock)

So wherryd can connect as soon as what it started has ended, and is not its parent.
"""

from __future__ import annotations

import gc
import os
import resource
import signal
import socket
import sys

from wherry.kernel import rendezvous
from wherry.kernel.memory import release_program_pages
from wherry.kernel.reactor import Reactor
from wherry.kernel.saying import never_fail
from wherry.network.dns import channel
from wherry.network.dns.service import Service

_BACKLOG = 16
_MAIN = (
    "import sys; sys.path.insert(0, sys.argv[1]);"
    " from wherry.kernel.deferred import defer; defer('inspect', 'traceback');"
    " from wherry.network.dns.process import main; main(sys.argv[2:])"
)


def plan_process(source: str, exec_root: str) -> list[str]:
    """Return the argument vector of a name service whose code is below `source`."""
    return [sys.executable, "-I", "-S", "-c", _MAIN, source, exec_root]


def main(arguments: list[str]) -> None:
    """Serve below the exec root given as the only argument; returns in the parent, never in the child."""
    never_fail()
    os.chdir("/")
    root = os.open(arguments[0], os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    if rendezvous.lock(root, channel.LOCK) < 0:
        return
    listener = rendezvous.listen(root, channel.SOCKET, _BACKLOG, socket.SOCK_NONBLOCK)
    if os.fork():
        os._exit(0)
    os.setsid()
    with open("/proc/self/comm", "wb") as comm:
        comm.write(b"wherry-names")
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    reactor = Reactor(name="wherry-names")
    service = Service(reactor, listener)
    gc.collect()
    gc.freeze()
    release_program_pages()
    reactor.run()
    # Nobody may find the socket between the last look and the end: who comes now starts another one.
    for name in (channel.SOCKET, channel.LOCK):
        try:
            os.unlink(name, dir_fd=root)
        except FileNotFoundError:
            pass
    service.close()
    os._exit(0)
