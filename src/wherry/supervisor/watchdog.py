"""What keeps a container from putting the supervisor to sleep: its pipes are watched by the keeper.

Whoever uses a pipe holds its lock, and some hold it asleep: splice(2) from standard input into a full
socket, or from an empty socket into standard output, for as long as the socket is. Who wants the same
lock then sleeps too, uninterruptibly, whatever flags were given (all kernels to Linux 6.18; only
poll(2) does not ask for it). So the supervisor says in a page of shared memory which container's pipe
it is at. The keeper looks at it while there is something to look at, sees from the kernel that the
supervisor waits for a pipe, and kills: the process, then its container, then whoever else has the pipe.

The page, a memfd of the supervisor's: u64 count of uses begun and ended, odd while one is under way; u64
not zero while the keeper looks; then NUL-padded words: key of the process, key of its container (or
of none: `-`), inodes of pipes. A use lasts as long as the count stays.
"""

from __future__ import annotations

import os
import select
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from collections.abc import Callable
else:
    import _signal  # see keeper

SIZE = 512
TEXT = 16
_PERIOD = 0.25
"""Seconds between two looks."""
_PATIENCE = 8.0
"""Looks that find the supervisor waiting for the same container before something is killed."""
_AGAIN = 4.0
_RECOVERY = 0.25
"""Taken off for each look that does not: a container that lets go shortly is not let off."""
_UNKNOWN = 0.2
"""What a look counts for when the kernel does not tell what the supervisor waits for: it may be a disk."""
_QUIET = 8
_NOBODY = "-"


class Watchdog:
    """The keeper's side. `find` returns the descriptors kept for a key, the pidfd first."""

    def __init__(self, find: Callable[[str], list[int]], on_kill: Callable[[str], None]) -> None:
        self._find = find
        self._on_kill = on_kill
        self._page = -1
        self._supervisor = 0
        self._due = 0.0
        self._count = 0
        self._quiet = 0
        self._who: str = ""
        self._score = 0.0
        self._limit = _PATIENCE
        self._stage = 0

    def watch(self, page: int, supervisor: int) -> None:
        """Watch this supervisor by its page, which is owned from here on; -1 for none."""
        if self._page >= 0:
            os.close(self._page)
        self._page = page
        self._supervisor = supervisor
        self._due = 0.0

    def wake(self) -> None:
        """The supervisor has begun to use pipes."""
        self._quiet = 0
        if self._page >= 0 and not self._due:
            self._due = time.monotonic() + _PERIOD

    def wait_seconds(self) -> float | None:
        """Return when to call `look_if_due` next; None while the supervisor uses no pipe."""
        return max(0.0, self._due - time.monotonic()) if self._due else None

    def look_if_due(self) -> None:
        """See after the supervisor when it is time to."""
        now = time.monotonic()
        if self._due and now >= self._due:
            self._due = now + _PERIOD
            try:
                self._look()
            except (
                OSError
            ) as error:  # no descriptors or memory left: the keeper is not to die of it
                _say(f"cannot look after the supervisor: {error}")

    def _look(self) -> None:
        """See whether the supervisor waits for a container, and see to it that it does not for ever."""
        state = os.pread(self._page, SIZE, 0)
        count = int.from_bytes(state[:8], sys.byteorder)
        same, self._count = count == self._count, count
        if not count & 1:
            self._rest(same)
            return
        self._quiet = 0
        weight = self._waits() if same else 0.0
        if not weight:
            self._score = max(0.0, self._score - _RECOVERY)
            return
        who = state[TEXT:].rstrip(b"\0").decode("ascii", "replace")
        if who != self._who:
            self._who, self._score, self._stage, self._limit = who, 0.0, 0, _PATIENCE
        self._score += weight
        if self._score >= self._limit:
            self._act(who.split(" "))

    def _rest(self, same: bool) -> None:
        """Nothing is under way: after a while look no more, and once again in case one began just then."""
        self._score = max(0.0, self._score - _RECOVERY)
        self._quiet = self._quiet + 1 if same else 0
        if self._quiet == _QUIET:
            os.pwrite(self._page, bytes(8), 8)
        elif self._quiet > _QUIET:
            self._due = 0.0
            self._who = ""

    def _waits(self) -> float:
        """Return 1 when the supervisor sleeps for a pipe's lock, 0 when not, less when it cannot be told.

        proc(5), wchan: the function that waits, the locks themselves left out; anon_pipe_read,
        pipe_ioctl, splice_file_to_pipe, iter_file_splice_write and the like.
        """
        try:
            place = _read(f"/proc/{self._supervisor}/wchan")
            if b"pipe" in place or b"splice" in place:
                return 1.0
            if place not in (b"", b"0"):
                return 0.0
            state = _read(f"/proc/{self._supervisor}/stat").rpartition(b")")[2].split()[0]
        except OSError:
            return 0.0
        return _UNKNOWN if state == b"D" else 0.0

    def _act(self, words: list[str]) -> None:
        self._limit = self._score + _AGAIN
        key, container, *pipes = words
        stage, self._stage = self._stage, self._stage + 1
        if stage == 0 and self._kill(key):
            return
        if stage <= 1 and container != _NOBODY and self._kill(container):
            self._stage = 2
            return
        inodes = {f"pipe:[{inode}]" for inode in pipes}
        for name in (key, container):
            for fd in self._find(name):
                inodes.add(os.readlink(f"/proc/self/fd/{fd}"))
        _kill_holders({name for name in inodes if name.startswith("pipe:")}, self._supervisor)

    def _kill(self, key: str) -> bool:
        """Kill the process kept as `key`; return whether it lived."""
        held = self._find(key)
        if not held or held[0] < 0:
            return False
        poll = select.poll()
        poll.register(held[0], select.POLLIN)
        if poll.poll(0):
            return False
        self._on_kill(key)
        _say(f"{key} kept the supervisor waiting at its pipe and is killed")
        try:
            _signal.pidfd_send_signal(held[0], _signal.SIGKILL)
        except OSError:
            return False
        return True


def _kill_holders(pipes: set[str], supervisor: int) -> None:
    """Kill every process that has one of the pipes open, but for the engine's own two."""
    own = (os.getpid(), supervisor)
    for name in os.listdir("/proc"):
        if not name.isdecimal() or int(name) in own:
            continue
        try:
            pidfd = os.pidfd_open(int(name))
        except OSError:
            continue
        try:
            # Read after the pidfd was opened, so that both are of the same process.
            held = _links(f"/proc/{name}/fd")
            if held & pipes:
                _say(f"process {name} keeps the supervisor waiting at a pipe and is killed")
                _signal.pidfd_send_signal(pidfd, _signal.SIGKILL)
        except OSError:
            pass
        finally:
            os.close(pidfd)


def _links(folder: str) -> set[str]:
    found: set[str] = set()
    for fd in os.listdir(folder):
        try:
            found.add(os.readlink(f"{folder}/{fd}"))
        except OSError:
            continue
    return found


def _read(path: str) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, 4096)
    finally:
        os.close(fd)


def _say(what: str) -> None:
    print(f"keeper: {what}", file=sys.stderr, flush=True)
