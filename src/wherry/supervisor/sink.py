"""A process's standard input: written to by any number of attached clients, never waiting for it."""

from __future__ import annotations

import os
from collections.abc import Callable

from wherry.kernel.reactor import WRITE, Reactor
from wherry.supervisor.announcer import PipeUse

_STEP = 1 << 20
_NONBLOCK = 2  # SPLICE_F_NONBLOCK, linux/splice.h


class InputSink:
    """The input pipe's write end or the terminal's master; owns `fd`.

    `on_close` is called once, when the process can get no more input.
    """

    def __init__(
        self, reactor: Reactor, fd: int, on_close: Callable[[], None], at_pipe: PipeUse
    ) -> None:
        self._reactor = reactor
        self._fd = fd
        self._on_close = on_close
        self._at_pipe = at_pipe
        self._backlog = bytearray()
        self._waiting: list[Callable[[], None]] = []
        self._ending = False

    @property
    def open(self) -> bool:
        """Whether anything may still be written."""
        return self._fd >= 0 and not self._ending

    @property
    def full(self) -> bool:
        """Whether bytes wait for the process to read."""
        return bool(self._backlog)

    def write(self, data: bytes) -> None:
        """Write `data`, what does not fit as soon as it does. Nothing when closed."""
        if not self.open:
            return
        self._backlog += data
        self._flush()

    def splice(self, source: int) -> int:
        """Move bytes from the socket `source` into the pipe; return how many, 0 at the socket's end.

        Raises BlockingIOError when either is not ready, BrokenPipeError when the process has closed
        its input.
        """
        with self._at_pipe:
            return os.splice(source, self._fd, _STEP, flags=_NONBLOCK)

    def when_room(self, callback: Callable[[], None]) -> None:
        """Call back once when the process has read."""
        self._waiting.append(callback)
        self._reactor.watch(self._fd, WRITE, self._writable)

    def finish(self) -> None:
        """Close when everything is written: the process then reads its input's end."""
        self._ending = True
        self._flush()

    def close(self) -> None:
        """Close now."""
        if self._fd < 0:
            return
        self._reactor.unwatch(self._fd)
        os.close(self._fd)
        self._fd = -1
        self._backlog.clear()
        waiting, self._waiting = self._waiting, []
        for callback in waiting:
            callback()
        self._on_close()

    def _flush(self) -> None:
        if self._fd < 0:
            return
        try:
            while self._backlog:
                with self._at_pipe:
                    written = os.write(self._fd, self._backlog[:_STEP])
                del self._backlog[:written]
        except BlockingIOError:
            self._reactor.watch(self._fd, WRITE, self._writable)
            return
        except OSError:
            self.close()  # EPIPE: the process closed its input; EIO: its terminal is gone
            return
        if self._ending:
            self.close()

    def _writable(self, mask: int) -> None:
        self._reactor.unwatch(self._fd)
        self._flush()
        if not self._backlog:
            waiting, self._waiting = self._waiting, []
            for callback in waiting:
                callback()
