"""Kernels for tests: one that only notes what it is asked, and a real one that fails at the n-th call."""

from __future__ import annotations

import errno
import mmap
import os
import struct
from typing import Any, cast

from wherry.kernel import abi
from wherry.kernel.calls import Kernel
from wherry.kernel.linux import Linux

_COUNTED = frozenset(
    {
        "clone3",
        "unshare",
        "setns",
        "mount",
        "umount2",
        "pivot_root",
        "open_tree",
        "move_mount",
        "fsopen",
        "fsconfig",
        "fsmount",
        "mount_setattr",
        "prctl",
        "capset",
        "seccomp_filter",
        "sethostname",
        "join_session_keyring",
        "close_range",
        "statfs_magic",
    }
)
"""Calls that can fail; setfsuid(2) cannot say so."""


class Recorder:
    """`calls.Kernel` that does nothing: `calls` are (name, arguments); a descriptor that is asked for is /dev/null.

    `magic` is what every file system says it is.
    """

    def __init__(self, magic: int = 0) -> None:
        self.calls: list[tuple[str, tuple[Any, ...]]] = []
        self.magic = magic

    def names(self) -> list[str]:
        """Return the names of the calls, in order."""
        return [name for name, _ in self.calls]

    def as_kernel(self) -> Kernel:
        """Return it as what it stands in for."""
        return cast("Kernel", self)

    def __getattr__(self, name: str) -> Any:
        if name not in dir(Linux):
            raise AttributeError(name)

        def call(*arguments: Any, **options: Any) -> Any:
            self.calls.append((name, (*arguments, *options.items())))
            if name in ("open_tree", "fsopen", "fsmount"):
                return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
            return self.magic if name == "statfs_magic" else 0

        return call


class Own(Linux):
    """The real kernel, where processes that this one makes are its own children, not its parent's."""

    def __init__(self) -> None:
        self._home = os.getpid()

    def clone3(self, flags: int, cgroup: int = -1) -> tuple[int, int]:
        """As the system call; CLONE_PARENT counts from the second generation on."""
        if os.getpid() == self._home:
            flags &= ~abi.CLONE_PARENT
        return super().clone3(flags, cgroup)


class Failing(Own):
    """The real kernel, whose `nth` call fails with `number`, in whichever process of the family it is made.

    `failed` names it, "" while none did; `count` are the calls so far.
    """

    def __init__(self, nth: int, number: int = errno.EPERM) -> None:
        super().__init__()
        self._nth = nth
        self._errno = number
        # Shared by all children, as anonymous shared memory is.
        self._memory = mmap.mmap(-1, 64)

    @property
    def count(self) -> int:
        """Return how many calls were made."""
        return struct.unpack_from("q", self._memory)[0]

    @property
    def failed(self) -> str:
        """Return the name of the call that failed."""
        return self._memory[8:].rstrip(b"\0").decode()

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        if name not in _COUNTED:
            return found

        def call(*arguments: Any, **options: Any) -> Any:
            number = self.count + 1
            struct.pack_into("q", self._memory, 0, number)
            if number == self._nth:
                self._memory[8 : 8 + len(name)] = name.encode()
                raise OSError(self._errno, os.strerror(self._errno))
            return found(*arguments, **options)

        return call
