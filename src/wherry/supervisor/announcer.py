"""The supervisor's side of `watchdog`: it says whose pipe it is at, so that nobody can hold it there.

A use costs half a microsecond; the first after a pause of seconds also wakes the keeper.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable

from wherry.supervisor.watchdog import SIZE, TEXT


class Announcer:
    """The page. `on_wake` is called when a use begins that the keeper does not look out for yet."""

    def __init__(self, on_wake: Callable[[], None]) -> None:
        self.fd = os.memfd_create("wherry-pipes", os.MFD_CLOEXEC)
        os.ftruncate(self.fd, SIZE)
        page = memoryview(mmap.mmap(self.fd, SIZE))
        self._words = page[:TEXT].cast("Q")
        self._text = page[TEXT:]
        self._on_wake = on_wake
        self._who = b""
        self._count = 0

    def at(self, key: str, container: str = "", pipes: tuple[int, ...] = ()) -> PipeUse:
        """Return the context for uses of the pipes (inodes, where the keeper has them no more) of `key`.

        `container` is the container that an exec runs in.
        """
        words = " ".join((key, container or "-", *map(str, pipes)))
        return PipeUse(self, words.encode().ljust(SIZE - TEXT, b"\0"))

    def close(self, pipes: tuple[int, ...]) -> None:
        """Close pipes that nobody else of the engine has."""
        for fd in pipes:
            with self.at("-", "-", (os.fstat(fd).st_ino,)):
                os.close(fd)

    def begin(self, who: bytes) -> None:
        """A use begins."""
        if who is not self._who:
            self._text[:] = who
            self._who = who
        self._count += 1
        self._words[0] = self._count
        if not self._words[1]:
            self._words[1] = 1
            self._on_wake()

    def end(self) -> None:
        """It is over."""
        self._count += 1
        self._words[0] = self._count


class PipeUse:
    """`with use:` around each system call that takes a pipe's lock: any but poll, fstat and dup.

    The last close(2) does too. Not to be nested.
    """

    __slots__ = ("_announcer", "_who")

    def __init__(self, announcer: Announcer, who: bytes) -> None:
        self._announcer = announcer
        self._who = who

    def __enter__(self) -> None:
        self._announcer.begin(self._who)

    def __exit__(self, *_: object) -> None:
        self._announcer.end()
