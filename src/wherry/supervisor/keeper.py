"""The keeper: holds descriptors, reaps, records exits, restarts the supervisor. Nothing else.

It is the child subreaper and the parent of every container process, so an exit status always
arrives here; and it holds a copy of every pidfd, pipe and terminal, so a supervisor that dies loses
none. Messages are SEQPACKET datagrams, `VERB field …` up to a newline and then opaque bytes:

    supervisor > keeper: STORE key pid\\nmeta (+ descriptors, the pidfd first), UPDATE key\\nmeta,
                         CLOSE key index, DROP key, SERVING (the take-over went well),
                         PROGRAM\\nargv joined by NUL, SHUTDOWN, PAGE (+ its descriptor), WATCH
    keeper > supervisor: HAVE key pid exit indexes\\nmeta (+ descriptors) for each, READY,
                         then EXIT key pid status at_ns words (a wait status; blocked, unstarted),
                         BACK (+ descriptors): pipes that are done with, to be closed over there

A STORE is sent before its process may exec. Therefore, when an exit is seen, the message is in the
socket already: exits are looked at first, then the socket is drained, then the process is reaped.
PAGE and WATCH, and why the keeper closes no pipe itself, are of `watchdog`.
Imports are few on purpose: resident memory stays under 9 MB.
"""

from __future__ import annotations

import _socket
import os
import select
import sys
import time

from wherry.kernel.rights import passed, passing
from wherry.kernel.saying import never_fail
from wherry.supervisor.watchdog import Watchdog

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
else:
    import _signal  # signal itself imports enum and with it half a megabyte

_MESSAGE = 1 << 20
_DESCRIPTORS = 253  # SCM_MAX_FD, net/scm.h
_ANY_CHILD = 0x40000000  # __WALL: also children whose exit signal is not SIGCHLD
_LOOK = os.WEXITED | os.WNOWAIT | os.WNOHANG | _ANY_CHILD
_LONGEST_DELAY = 5.0
_UNKNOWN_EXITS = 256
_FORKNOEXEC = 0x40  # linux/sched.h
_BACK = b"BACK\n"
_KIND, _FIFO = 0o170000, 0o010000  # inode(7)


class Entry:
    """One kept process: `exit` is empty while it runs, then `status:at_ns` and words after colons."""

    __slots__ = ("pid", "meta", "fds", "exit", "blocked")

    def __init__(self, pid: int, meta: bytes, fds: list[int]) -> None:
        self.pid = pid
        self.meta = meta
        self.fds = fds
        self.exit = ""
        self.blocked = False


class Keeper:
    """All state of the keeper.

    `program` is the argument vector of the supervisor; three descriptor numbers are added to it: the
    socket to the keeper, the listener and the id locks.
    """

    def __init__(
        self, exec_root: str, listener: int, ids: int, image: int, program: list[str]
    ) -> None:
        self.root = os.open(exec_root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self.listener = listener
        self.ids = ids
        self.image = image
        """The interpreter on a read-only mount; a program that names another one is run by its path."""
        self.program = program
        self.entries: dict[str, Entry] = {}
        self.unknown: dict[int, str] = {}
        self.outbox: list[tuple[bytes, list[int]]] = []
        self.socket: _socket.socket | None = None
        self.returned: list[int] = []
        self.watchdog = Watchdog(self.held, self.blocked)
        self.supervisor = 0
        self.served = False
        self.delay = 0.0
        self.due = 0.0
        self.leaving = False
        self.wake, wake_end = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        _signal.set_wakeup_fd(wake_end, warn_on_full_buffer=False)
        for number in (_signal.SIGCHLD, _signal.SIGTERM, _signal.SIGINT, _signal.SIGHUP):
            _signal.signal(number, self.on_signal)

    def on_signal(self, number: int, frame: object) -> None:
        """Note a SIGTERM: it is obeyed when nothing is kept, since leaving would lose exit codes."""
        if number == _signal.SIGTERM and not self.entries:
            self.leaving = True

    def run(self) -> None:
        """Keep going until told to shut down."""
        while not self.leaving:
            timeout = None
            if self.supervisor == 0:
                timeout = self.due - time.monotonic()
                if timeout <= 0:
                    self.spawn()
                    continue
            else:
                timeout = self.watchdog.wait_seconds()
            self.wait(timeout)
            self.watchdog.look_if_due()
            self.reap()
            self.drain()
            self.flush()
        for name in ("supervisor.sock", "keeper.lock"):
            try:
                os.unlink(name, dir_fd=self.root)
            except FileNotFoundError:
                pass

    def wait(self, timeout: float | None) -> None:
        """Wait for a signal, for the supervisor, or for `timeout` seconds."""
        poll = select.poll()
        poll.register(self.wake, select.POLLIN)
        if self.socket is not None:
            write = select.POLLOUT if self.outbox else 0
            poll.register(self.socket.fileno(), select.POLLIN | write)
        poll.poll(None if timeout is None else timeout * 1000 + 1)
        try:
            os.read(self.wake, 4096)
        except BlockingIOError:
            pass

    def spawn(self) -> None:
        """Start a supervisor from the program on disk and queue everything kept for it."""
        self.served = False
        try:
            ours, theirs = _socket_pair()
        except OSError as error:
            self.postpone(error)
            return
        inherited = (theirs, self.listener, self.ids)
        program = [*self.program, *map(str, inherited)]
        signals = [_signal.SIGPIPE, _signal.SIGINT, _signal.SIGTERM, _signal.SIGHUP]
        try:
            for fd in inherited:
                os.set_inheritable(fd, True)
            path = f"/proc/self/fd/{self.image}" if program[0] == sys.executable else program[0]
            self.supervisor = os.posix_spawn(path, program, os.environ, setsigdef=signals)
        except OSError as error:
            os.close(ours)
            self.postpone(error)
            return
        finally:
            os.close(theirs)
            for fd in inherited[1:]:
                os.set_inheritable(fd, False)
        # A test's failure point ends one supervisor, not its successors too.
        os.environ.pop("WHERRY_FAILPOINTS", None)
        self.socket = _socket.socket(fileno=ours)
        self.socket.setblocking(False)
        self.outbox = []
        for key, entry in self.entries.items():
            kept = [index for index, fd in enumerate(entry.fds) if fd >= 0]
            indexes = ",".join(map(str, kept)) or "-"
            head = f"HAVE {key} {entry.pid} {entry.exit or '-'} {indexes}\n".encode()
            self.outbox.append((head + entry.meta, [entry.fds[index] for index in kept]))
        self.outbox.append((b"READY\n", []))
        for at in range(0, len(self.returned), _DESCRIPTORS):
            self.outbox.append((_BACK, self.returned[at : at + _DESCRIPTORS]))

    def reap(self) -> None:
        """Collect every exit; record and report those of kept processes."""
        while True:
            try:
                seen = os.waitid(os.P_ALL, 0, _LOOK)
                if seen is None:
                    return
                self.drain()
                begun = "" if _has_execed(seen.si_pid) else ":unstarted"
                pid, status = os.waitpid(seen.si_pid, os.WNOHANG | _ANY_CHILD)
            except ChildProcessError:
                return
            if pid == self.supervisor:
                self.lost_supervisor()
            elif pid:
                self.exited(pid, f"{status}:{time.time_ns()}{begun}")

    def lost_supervisor(self) -> None:
        """Plan the next start of the supervisor: at once, or later and later when it dies too early."""
        self.drain()
        if self.socket is not None:
            self.socket.close()
            self.socket = None
        self.outbox = []
        self.supervisor = 0
        self.watchdog.watch(-1, 0)
        self.postpone()

    def postpone(self, error: OSError | None = None) -> None:
        """Set when the supervisor is to be started next."""
        if error is not None:
            print(f"keeper: cannot start the supervisor: {error}", file=sys.stderr, flush=True)
        self.delay = 0.0 if self.served else min(max(0.05, self.delay * 2), _LONGEST_DELAY)
        self.due = time.monotonic() + self.delay

    def exited(self, pid: int, outcome: str) -> None:
        """Write exits/KEY, then tell the supervisor."""
        running = (key for key, item in self.entries.items() if item.pid == pid and not item.exit)
        key = next(running, None)
        if key is None:
            # Kept for a while: a process may die before the message that stores it was sent.
            self.unknown[pid] = outcome
            while len(self.unknown) > _UNKNOWN_EXITS:
                del self.unknown[next(iter(self.unknown))]
            return
        entry = self.entries[key]
        entry.exit = outcome = f"{outcome}:blocked" if entry.blocked else outcome
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
            fd = os.open(f"exits/{key}.new", flags, 0o600, dir_fd=self.root)
            try:
                os.write(fd, f"{pid} {outcome}\n".encode())
            finally:
                os.close(fd)
            os.rename(
                f"exits/{key}.new", f"exits/{key}", src_dir_fd=self.root, dst_dir_fd=self.root
            )
        except OSError as error:
            print(f"keeper: cannot record the exit of {key}: {error}", file=sys.stderr, flush=True)
        self.outbox.append((f"EXIT {key} {pid} {outcome.replace(':', ' ')}\n".encode(), []))

    def drain(self) -> None:
        """Handle every message that the supervisor has sent."""
        while self.socket is not None:
            try:
                data, control, _, _ = self.socket.recvmsg(
                    _MESSAGE, _socket.CMSG_SPACE(_DESCRIPTORS * 4), _socket.MSG_CMSG_CLOEXEC
                )
            except (BlockingIOError, ConnectionError):
                return
            if not data:
                return
            fds = passed(control)
            head, _, body = data.partition(b"\n")
            try:
                self.obey(head.decode().split(" "), body, fds)
            except (ValueError, KeyError, IndexError) as error:
                print(f"keeper: bad message {head!r}: {error!r}", file=sys.stderr, flush=True)

    def obey(self, words: list[str], body: bytes, fds: list[int]) -> None:
        """Do what one message says."""
        verb = words[0]
        if verb == "STORE":
            entry = Entry(int(words[2]), body, fds)
            self.drop(words[1])
            self.entries[words[1]] = entry
            outcome = self.unknown.pop(entry.pid, "")
            if outcome and fds and _has_ended(fds[0]):
                self.exited(entry.pid, outcome)
        elif verb == "UPDATE":
            self.entries[words[1]].meta = body
        elif verb == "CLOSE":
            held, index = self.entries[words[1]].fds, int(words[2])
            self.let_go([held[index]])
            held[index] = -1
        elif verb == "DROP":
            self.drop(words[1])
        elif verb == "SERVING":
            self.served = True
        elif verb == "PAGE":
            self.watchdog.watch(fds[0], self.supervisor)
        elif verb == "WATCH":
            self.watchdog.wake()
        elif verb == "PROGRAM":
            self.program = body.decode().split("\0")
        elif verb == "SHUTDOWN" and not self.entries:
            self.leaving = True

    def drop(self, key: str) -> None:
        """Forget `key`: close what is held for it and remove its record."""
        entry = self.entries.pop(key, None)
        if entry:
            self.let_go(entry.fds)
        if entry and entry.exit:
            try:
                os.unlink(f"exits/{key}", dir_fd=self.root)
            except FileNotFoundError:
                pass

    def held(self, key: str) -> list[int]:
        """Return the descriptors kept for `key`, closed ones (-1) left out after the pidfd."""
        entry = self.entries.get(key)
        return [fd for fd in entry.fds if fd >= 0] if entry else []

    def blocked(self, key: str) -> None:
        """`key` is about to be killed for holding up the supervisor."""
        self.entries[key].blocked = True

    def let_go(self, fds: list[int]) -> None:
        """Close what no process can hold us up with; pipes are closed by the supervisor."""
        pipes: list[int] = []
        for fd in fds:
            if fd >= 0 and os.fstat(fd).st_mode & _KIND == _FIFO:
                pipes.append(fd)
            elif fd >= 0:
                os.close(fd)
        if pipes:
            self.hand_back(pipes)

    def hand_back(self, pipes: list[int]) -> None:
        """Have the supervisor close pipes: the last close waits for whoever has the pipe locked.

        In the message they stay open until the supervisor has them, so closing them here is not the last.
        """
        self.returned += pipes
        if self.socket is not None:
            self.outbox.append((_BACK, pipes))

    def flush(self) -> None:
        """Send what is queued, as far as the supervisor takes it."""
        while self.outbox and self.socket is not None:
            data, fds = self.outbox[0]
            try:
                self.socket.sendmsg([data], passing(fds), _socket.MSG_NOSIGNAL)
            except BlockingIOError:
                return
            except OSError:
                self.outbox = []  # it died: its successor gets everything anew
                return
            del self.outbox[0]
            if data == _BACK:
                for fd in fds:
                    self.returned.remove(fd)
                    os.close(fd)


def _socket_pair() -> tuple[int, int]:
    first, second = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET, 0)
    return first.detach(), second.detach()


def _has_ended(pidfd: int) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))


def _has_execed(pid: int) -> bool:
    """Whether a zombie had begun its program: flag PF_FORKNOEXEC, field 9 of proc(5)'s stat."""
    try:
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return True
    try:
        return not int(os.read(fd, 4096).rpartition(b")")[2].split()[6]) & _FORKNOEXEC
    finally:
        os.close(fd)


def main(arguments: list[str]) -> None:
    """Run the keeper: exec root, descriptors of its lock, the listener, the id locks and the interpreter,
    then the supervisor's argument vector. The lock is held until the end.
    """
    never_fail()
    exec_root, lock, listener, ids, image, *program = arguments
    for fd in (int(lock), int(listener), int(ids), int(image)):
        os.set_inheritable(fd, False)
    Keeper(exec_root, int(listener), int(ids), int(image), program).run()
