"""The supervisor's entry: takes over from its predecessor, then serves until told to leave.

keeper spawns it > HAVE… READY: everything kept is adopted > the listener is served
"""

from __future__ import annotations

import gc
import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable

from wherry.kernel.linux import LINUX
from wherry.kernel.memory import release_program_pages
from wherry.kernel.reactor import READ, Reactor
from wherry.kernel.saying import never_fail
from wherry.model.errors import WherryError
from wherry.supervisor.announcer import Announcer
from wherry.supervisor.keeping import HandedBack, Keeping
from wherry.supervisor.launcher import Launcher
from wherry.supervisor.messages import Exit
from wherry.supervisor.server import Server
from wherry.supervisor.table import Table
from wherry.supervisor.wiring import Wirer

_COLLECT_AFTER = 1.0
MakeLauncher = Callable[[int], Launcher]
"""Makes the launcher; the argument is the descriptor of the id locks."""


class Supervisor:
    """Wires reactor, keeper, table and server together."""

    def __init__(self, keeper: int, listener: int, launcher: Launcher) -> None:
        self._launcher = launcher
        self._reactor = Reactor(self._idle)
        self._keeping = Keeping(socket.socket(fileno=keeper))
        self._announcer = Announcer(self._keeping.watch)
        listening = socket.socket(fileno=listener)
        self._server = Server(self._reactor, listening, self._shut_down, self._change_program)
        self._wirer = Wirer(LINUX)
        self._table = Table(
            self._reactor, self._keeping, self._announcer, launcher, self._report, self._wirer
        )
        self._leaving: list[Callable[[bool], None]] = []
        self._collecting = False

    def run(self) -> None:
        """Take over, serve, leave."""
        kept_before = self._keeping.take_over()
        self._keeping.share(self._announcer.fd)
        for kept in kept_before:
            try:
                self._table.adopt(kept)
            except Exception:
                # One that cannot be read is left with the keeper: the others matter more.
                _report(f"{kept.key} could not be taken over")
        self._reactor.watch(self._keeping.fileno(), READ, self._keeper_ready)
        self._server.serve(self._table)
        self._keeping.now_serving()
        # A fork copies what is touched: the collector must not write into every object's header.
        gc.collect()
        gc.freeze()
        release_program_pages()
        try:
            self._reactor.run()
        finally:
            self._launcher.close()
            self._wirer.close()

    def _idle(self) -> bool:
        """A quiet moment: another warm slot, and before long the garbage of those that ended."""
        if self._launcher.refill():
            return True
        if not self._collecting:
            self._collecting = True
            self._reactor.later(_COLLECT_AFTER, self._collect)
        return False

    def _collect(self) -> None:
        # Half a millisecond and more, so not between the end of one container and the next one's start.
        self._collecting = False
        gc.collect()
        release_program_pages()

    def _report(self, outcome: Exit) -> None:
        self._server.report(outcome)

    def _keeper_ready(self, mask: int) -> None:
        try:
            seen = self._keeping.receive()
        except WherryError:
            # What is lost of a message comes again to the next one.
            _report("a message of the keeper was cut short: making room for another supervisor")
            self._reactor.stop()
            return
        if isinstance(seen, HandedBack):
            self._announcer.close(seen.fds)
            return
        if seen is not None:
            try:
                self._table.exited(seen)
            except Exception:
                _report(f"the end of {seen.key} could not be handled")
            return
        self._reactor.unwatch(self._keeping.fileno())
        if self._leaving:
            for answer in self._leaving:
                answer(True)
        else:
            print("supervisor: the keeper is gone", file=sys.stderr, flush=True)
            self._table.end_everything()
        self._reactor.stop()

    def _shut_down(self, answer: Callable[[bool], None]) -> None:
        if not self._table.empty:
            answer(False)
            return
        self._leaving.append(answer)
        self._table.close()
        self._launcher.close()
        self._keeping.shut_down()

    def _change_program(self, argv: list[str]) -> None:
        """Have the keeper start `argv`, and make room for it: nothing is lost by leaving."""
        self._keeping.set_program(argv)
        self._reactor.stop()


def _report(what: str) -> None:
    print(f"supervisor: {what}", file=sys.stderr)
    traceback.print_exc()
    sys.stderr.flush()


def serve(arguments: list[str], make_launcher: MakeLauncher) -> None:
    """Run a supervisor; the last three arguments are the keeper's socket, the listener, the id locks."""
    never_fail()
    keeper, listener, ids = (int(word) for word in arguments[-3:])
    for fd in (keeper, listener, ids):
        os.set_inheritable(fd, False)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    Supervisor(keeper, listener, make_launcher(ids)).run()


def main(arguments: list[str]) -> None:
    """Run the real supervisor: exec root, data root, …, and the keeper's three descriptors."""
    from wherry.supervisor.pool import open_pool

    exec_root, data_root = arguments[:2]
    serve(arguments, lambda ids: open_pool(exec_root, data_root, ids))
