"""A client on a pseudo-terminal, driven as a person drives it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time

from tests.harness.clients import Client


class Terminal:
    """`with Terminal(docker, "run", "-it", …) as t: t.expect("#"); t.send("exit\\n"); t.wait()`."""

    def __init__(self, client: Client, *words: str, rows: int = 24, columns: int = 80) -> None:
        self.screen = b""
        self._master, slave = pty.openpty()
        self.resize(rows, columns)
        self._process = subprocess.Popen(
            [*client.command, *words],
            env=client.env | {"TERM": "xterm"},
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(slave)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        os.close(self._master)

    @property
    def pid(self) -> int:
        """The client's pid."""
        return self._process.pid

    def resize(self, rows: int, columns: int) -> None:
        """Give the window another size; the client gets SIGWINCH."""
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def resize_until(self, rows: int, columns: int, text: str) -> None:
        """Resize, and tell the client again and again until `text` is on the screen.

        A client that has only just started does not listen to SIGWINCH yet.
        """
        self.resize(rows, columns)
        deadline = time.monotonic() + 30
        while text.encode() not in self.screen:
            assert time.monotonic() < deadline, f"no {text!r} in {self.screen!r}"
            os.kill(self.pid, signal.SIGWINCH)
            self._read(0.1)
        self.expect(text)

    def send(self, keys: str) -> None:
        """Type."""
        os.write(self._master, keys.encode())

    def expect(self, text: str, seconds: float = 10) -> str:
        """Wait for `text`; return the screen up to and with it, which is then forgotten."""
        deadline = time.monotonic() + seconds
        while (at := self.screen.find(text.encode())) < 0:
            left = deadline - time.monotonic()
            assert left > 0 and self._read(left), f"no {text!r} in {self.screen!r}"
        seen, self.screen = self.screen[: at + len(text)], self.screen[at + len(text) :]
        return seen.decode(errors="replace")

    def wait(self, seconds: float = 10) -> int:
        """Wait for the client's end, reading what it prints; return its exit code."""
        deadline = time.monotonic() + seconds
        while self._process.poll() is None:
            assert time.monotonic() < deadline, f"the client goes on: {self.screen!r}"
            self._read(0.05)
        while self._read(0):
            pass
        return self._process.returncode

    def _read(self, seconds: float) -> bool:
        if not select.select([self._master], [], [], seconds)[0]:
            return seconds > 0.1  # a look without waiting found nothing; a wait may be repeated
        with contextlib.suppress(OSError):  # EIO: the last holder of the other end is gone
            piece = os.read(self._master, 65536)
            self.screen += piece
            return bool(piece)
        return False
