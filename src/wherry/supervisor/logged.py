"""A container's own process: its output goes to the log, attached clients read from there."""

from __future__ import annotations

import fcntl
import struct
import sys
import termios
from collections.abc import Callable

from wherry.kernel.reactor import READ
from wherry.supervisor import stdio
from wherry.supervisor.attach import Client
from wherry.supervisor.logs.segment import ERR, OUT
from wherry.supervisor.logs.writer import LogWriter, ReaderBehind
from wherry.supervisor.messages import Attachment, LogSettings
from wherry.supervisor.output import LogOutput
from wherry.supervisor.process import House, Meta, Process

_BURST = 1 << 20


class LoggedProcess(Process):
    """Output pipes are emptied into the log whenever they hold something."""

    def __init__(self, house: House, key: str, pid: int, meta: Meta, fds: dict[str, int]) -> None:
        super().__init__(house, key, pid, meta, fds)
        self._writer = LogWriter(LogSettings.from_wire(meta.log), self._watch)
        self._open: dict[int, int] = {}

    def run(self) -> None:
        """Serve the streams from here on."""
        super().run()
        self._open = stdio.outputs(self.fds)
        self._watch()

    def resume(self) -> None:
        """Take the log over from a supervisor that died, then serve."""
        try:
            self._writer.open_existing()
        except OSError as error:
            print(f"supervisor: log of {self.key}: {error}", file=sys.stderr, flush=True)
        self.run()

    def attach(self, client: Client, wanted: Attachment) -> None:
        """Connect a client to the output from here on, or from the beginning of the log, and to the input."""
        client.belong(self)
        self.clients.append(client)
        output = None
        streams = {OUT: wanted.stdout, ERR: wanted.stderr}
        chosen = frozenset(stream for stream, on in streams.items() if on)
        if chosen:
            cursor = self._writer.attach(chosen, replay=wanted.logs)
            framed = wanted.multiplexed and not self.meta.tty
            output = LogOutput(cursor, framed, self._writer.detach)
        keys = wanted.detach_keys if self.meta.tty else None
        client.connect(output, self.sink if wanted.stdin else None, keys)
        if not wanted.stream or self.exit is not None:
            client.finish()
            client.release()

    def drain(self) -> bool:
        """Log all output that is there."""
        if "terminal_in" in self.fds:
            while stdio.drain_terminal(self.fds):
                self._empty(OUT, self.fds["terminal_out"])
            self._empty(OUT, self.fds["terminal_out"])
            self._pause()
            self._open.clear()
        else:
            for stream, fd in list(self._open.items()):
                self._empty(stream, fd)
        self._notify()
        return self.output_ended()

    def output_ended(self) -> bool:
        """Whether every pipe has come to its end."""
        return not self._open

    def stop_output(self) -> None:
        """Watch nothing any more and close the log."""
        self._pause()
        self._open.clear()
        self._writer.close()

    def _sources(self) -> dict[int, Callable[[int], None]]:
        if "master" in self.fds:
            return {self.fds["master"]: self._terminal_ready} if self._open else {}
        return {fd: self._pipe_ready(stream) for stream, fd in self._open.items()}

    def _watch(self) -> None:
        for fd, callback in self._sources().items():
            self.house.reactor.watch(fd, READ, callback)

    def _pause(self) -> None:
        for fd in self._sources():
            self.house.reactor.unwatch(fd)

    def _pipe_ready(self, stream: int) -> Callable[[int], None]:
        return lambda mask: self._log(stream)

    def _log(self, stream: int) -> None:
        """Move a burst from one pipe into the log and tell the clients."""
        fd = self._open.get(stream, -1)
        if fd < 0:
            return
        try:
            with self.at_pipe:
                moved = self._writer.move(fd, stream)
            if moved == 0:
                self.house.reactor.unwatch(fd)
                del self._open[stream]
        except BlockingIOError:
            return
        except ReaderBehind:
            self._pause()
            return
        self._notify()
        self.check_end()

    def _terminal_ready(self, mask: int) -> None:
        stdio.drain_terminal(self.fds)
        try:
            while self._writer.move(self.fds["terminal_out"], OUT):
                pass
        except BlockingIOError:
            pass
        except ReaderBehind:
            self._pause()
        self._notify()

    def _empty(self, stream: int, fd: int) -> None:
        """Log what the pipe holds now, whoever is behind, and see whether it has ended."""
        with self.at_pipe:
            held = fcntl.ioctl(fd, termios.FIONREAD, struct.pack("i", 0))
        left = struct.unpack("i", held)[0]
        try:
            while True:
                with self.at_pipe:
                    moved = self._writer.move(fd, stream, insist=True)
                if moved == 0:
                    self.house.reactor.unwatch(fd)
                    del self._open[stream]
                    return
                left -= moved
                if left < -_BURST:
                    return  # a descendant that goes on writing does not hold the exit up
        except BlockingIOError:
            return

    def _notify(self) -> None:
        for client in list(self.clients):
            client.pump()
