"""The supervisor's end of the keeper: what is to be kept, and what was kept before."""

from __future__ import annotations

import json
import os
import signal
import socket
from dataclasses import dataclass
from typing import Any

from wherry.kernel.rights import passed, passing
from wherry.model.errors import Internal

_LARGEST = 1 << 20
_DESCRIPTORS = 253


@dataclass(frozen=True, slots=True)
class Ended:
    """How a process ended: its wait status, and when (ns since the epoch)."""

    status: int
    at: int
    blocked: bool = False
    """The keeper killed it, since it held up the supervisor at its pipe."""

    @property
    def code(self) -> int:
        """Docker's exit code: 128+n for a signal."""
        if os.WIFSIGNALED(self.status):
            return 128 + os.WTERMSIG(self.status)
        return os.WEXITSTATUS(self.status)

    unstarted: bool = False
    """It had not begun its program."""

    @property
    def killed(self) -> bool:
        """Whether by SIGKILL."""
        return os.WIFSIGNALED(self.status) and os.WTERMSIG(self.status) == signal.SIGKILL


@dataclass(frozen=True, slots=True)
class Kept:
    """One process that the keeper holds; `fds` by the index they were stored with."""

    key: str
    pid: int
    meta: dict[str, Any]
    ended: Ended | None
    fds: dict[int, int]


@dataclass(frozen=True, slots=True)
class ExitSeen:
    """The keeper has reaped a stored process."""

    key: str
    pid: int
    ended: Ended


@dataclass(frozen=True, slots=True)
class HandedBack:
    """Pipes that the keeper holds no more: to be closed here, where it can watch over that."""

    fds: tuple[int, ...]


class Keeping:
    """Speaks the keeper's protocol on one end of its socket pair. Sends wait for room, if ever."""

    def __init__(self, channel: socket.socket) -> None:
        self.channel = channel
        channel.setblocking(True)

    def fileno(self) -> int:
        """The descriptor that becomes readable when `receive` has something."""
        return self.channel.fileno()

    def store(self, key: str, pid: int, meta: dict[str, Any], fds: list[int]) -> None:
        """Have the process and descriptors kept; `fds[0]` is its pidfd."""
        self._send(f"STORE {key} {pid}", json.dumps(meta).encode(), fds)

    def update(self, key: str, meta: dict[str, Any]) -> None:
        """Replace what is kept about `key`."""
        self._send(f"UPDATE {key}", json.dumps(meta).encode())

    def close(self, key: str, index: int) -> None:
        """Have the keeper close its copy of one descriptor."""
        self._send(f"CLOSE {key} {index}")

    def drop(self, key: str) -> None:
        """Have `key` forgotten, its descriptors closed and its exit record removed."""
        self._send(f"DROP {key}")

    def now_serving(self) -> None:
        """Tell that the take-over is done: should this supervisor die, the next one starts at once."""
        self._send("SERVING")

    def set_program(self, argv: list[str]) -> None:
        """Have the next supervisor started with `argv`."""
        self._send("PROGRAM", "\0".join(argv).encode())

    def share(self, page: int) -> None:
        """Give the keeper the page by which it watches over this supervisor (`watchdog`)."""
        self._send("PAGE", b"", [page])

    def watch(self) -> None:
        """Have the keeper look at the page from now on."""
        self._send("WATCH")

    def shut_down(self) -> None:
        """Have the keeper leave; it does so when nothing is stored, and the channel ends."""
        self._send("SHUTDOWN")

    def take_over(self) -> list[Kept]:
        """Return everything that was kept for this supervisor; call it once, first."""
        found: list[Kept] = []
        while True:
            words, body, fds = self._receive()
            if words[0] == "READY":
                return found
            if words[0] == "GONE":
                raise Internal("the keeper ended during the take-over")
            _, key, pid, outcome, indexes = words
            numbers = [] if indexes == "-" else [int(index) for index in indexes.split(",")]
            ended = None if outcome == "-" else _ended(outcome.split(":"))
            held = dict(zip(numbers, fds, strict=False))
            found.append(Kept(key, int(pid), json.loads(body), ended, held))

    def receive(self) -> ExitSeen | HandedBack | None:
        """Return the next message; None when the keeper is gone. Waits."""
        words, _, fds = self._receive()
        if words[0] == "GONE":
            return None
        if words[0] == "BACK":
            return HandedBack(tuple(fds))
        _, key, pid, *outcome = words
        return ExitSeen(key, int(pid), _ended(outcome))

    def _send(self, head: str, body: bytes = b"", fds: list[int] | None = None) -> None:
        parts = [head.encode(), b"\n", body]
        try:
            self.channel.sendmsg(parts, passing(fds or ()), socket.MSG_NOSIGNAL)
        except ConnectionError:
            pass  # the keeper is gone: receive() says so

    def _receive(self) -> tuple[list[str], bytes, list[int]]:
        try:
            data, control, flags, _ = self.channel.recvmsg(
                _LARGEST, socket.CMSG_SPACE(_DESCRIPTORS * 4), socket.MSG_CMSG_CLOEXEC
            )
        except ConnectionError:
            data, control, flags = b"", [], 0
        if not data:
            return ["GONE"], b"", []
        if flags & socket.MSG_CTRUNC:
            raise Internal("descriptors from the keeper are missing", hint="raise RLIMIT_NOFILE")
        fds = passed(control)
        head, _, body = data.partition(b"\n")
        return head.decode().split(" "), body, fds


def _ended(words: list[str]) -> Ended:
    more = words[2:]
    return Ended(int(words[0]), int(words[1]), "blocked" in more, "unstarted" in more)
