"""A process's standard streams: pipes, or a pseudo-terminal, with the ends on both sides.

Names of our ends (the keeper holds copies under the same names):
    stdin   write end of the input pipe             (pipes)
    stdout, stderr   read ends                      (pipes)
    master  the terminal, for input, output, resize (tty)
    slave   kept open while the process runs, so that a program may close and reopen its console
            without the terminal hanging up          (tty)
    terminal_in, terminal_out   a pipe that the output of a logged terminal passes through: bytes
            read from a master are lost with whoever read them, those in a pipe that the keeper
            holds too are not
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import struct
import termios
from dataclasses import dataclass, field

from wherry.model.errors import Full
from wherry.supervisor.logs.segment import ERR, OUT

PIPE_SIZE = 256 << 10
_STEP = 1 << 20
_NONBLOCK = 2  # SPLICE_F_NONBLOCK, linux/splice.h


@dataclass(slots=True)
class Stdio:
    """Descriptors: the child's (closed once it has them) and ours, by name."""

    stdin: int = -1
    stdout: int = -1
    stderr: int = -1
    console: int = -1
    ours: dict[str, int] = field(default_factory=dict)

    def close_child(self) -> None:
        """Close the child's ends; the slave stays, as one of ours."""
        kept = set(self.ours.values())
        for fd in {self.stdin, self.stdout, self.stderr, self.console} - kept - {-1}:
            os.close(fd)
        self.stdin = self.stdout = self.stderr = self.console = -1

    def close(self) -> None:
        """Close everything."""
        self.close_child()
        for fd in self.ours.values():
            os.close(fd)
        self.ours.clear()


def make_pipes(stdin: bool, stdout: bool = True, stderr: bool = True) -> Stdio:
    """Return pipes for the wanted streams and /dev/null for the others. Raises Full."""
    stdio = Stdio()
    try:
        if stdin:
            stdio.stdin, stdio.ours["stdin"] = _pipe()
            os.set_blocking(stdio.ours["stdin"], False)
        else:
            stdio.stdin = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        for name, wanted in (("stdout", stdout), ("stderr", stderr)):
            if wanted:
                stdio.ours[name], end = _pipe()
                os.set_blocking(stdio.ours[name], False)
            else:
                end = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
            setattr(stdio, name, end)
    except OSError as error:
        stdio.close()
        raise _full(error) from error
    return stdio


def make_terminal(master: int, slave: int, *, kept: bool) -> Stdio:
    """Return the streams of a process on the terminal (owned from here on).

    `kept` adds the pipe that output passes through on its way into a log. Raises Full.
    """
    stdio = Stdio(slave, slave, slave, slave, {"master": master, "slave": slave})
    try:
        os.set_blocking(master, False)
        if kept:
            stdio.ours["terminal_out"], stdio.ours["terminal_in"] = _pipe()
            os.set_blocking(stdio.ours["terminal_out"], False)
            os.set_blocking(stdio.ours["terminal_in"], False)
    except OSError as error:
        stdio.close()
        raise _full(error) from error
    return stdio


def set_size(master: int, rows: int, columns: int) -> None:
    """Set a terminal's size; its foreground processes get SIGWINCH."""
    size = struct.pack("4H", *(max(0, min(n, 0xFFFF)) for n in (rows, columns, 0, 0)))
    fcntl.ioctl(master, termios.TIOCSWINSZ, size)


def outputs(ours: dict[str, int]) -> dict[int, int]:
    """Return the pipe to read each stream (OUT, ERR) from."""
    if "master" in ours:
        return {OUT: ours.get("terminal_out", ours["master"])}
    found = {OUT: ours.get("stdout", -1), ERR: ours.get("stderr", -1)}
    return {stream: fd for stream, fd in found.items() if fd >= 0}


def drain_terminal(ours: dict[str, int]) -> int:
    """Move terminal output into its pipe; return the bytes moved.

    0 when the terminal has nothing, is gone, or the pipe is full. What its slave wrote before is
    there: a read of the master flushes the line discipline's queue first (n_tty_read).
    """
    try:
        return os.splice(ours["master"], ours["terminal_in"], _STEP, flags=_NONBLOCK)
    except BlockingIOError:
        return 0
    except OSError as error:
        if error.errno == errno.EINVAL:
            return _copy_terminal(ours["master"], ours["terminal_in"])
        if error.errno == errno.EIO:
            return 0
        raise


def _copy_terminal(master: int, pipe: int) -> int:
    """Do the same where terminals cannot be spliced from: before Linux 5.11.

    A supervisor that is killed between the two calls loses up to a page.
    """
    poll = select.poll()
    poll.register(pipe, select.POLLOUT)
    # Room is told of whole pages, pipe(7).
    if not poll.poll(0):
        return 0
    try:
        data = os.read(master, select.PIPE_BUF)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EIO):
            return 0
        raise
    return os.write(pipe, data) if data else 0


def _pipe() -> tuple[int, int]:
    ends = os.pipe2(os.O_CLOEXEC)
    try:
        fcntl.fcntl(ends[1], fcntl.F_SETPIPE_SZ, PIPE_SIZE)
    except PermissionError:
        pass  # over pipe-user-pages-soft, pipe(7): the usual 64 KiB do
    return ends


def _full(error: OSError) -> Full:
    return Full(f"cannot make pipes or a terminal: {os.strerror(error.errno or 0).lower()}")
