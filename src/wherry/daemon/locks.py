"""One daemon for one pair of roots: locks that die with their holder, and the pid it wrote down."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

from wherry.model.errors import Conflict, Forbidden, Unavailable

LOCK_NAME = "wherryd.lock"


class Locks:
    """The locks of one daemon: data-root, exec-root and pidfile. A context manager."""

    def __init__(self) -> None:
        self._held: list[int] = []
        self._pidfile: Path | None = None

    def __enter__(self) -> Locks:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def take(self, data_root: Path, exec_root: Path, pidfile: Path | None) -> None:
        """Take all, making the folders. Raises Conflict naming the daemon that has one of them."""
        try:
            for root in (data_root, exec_root):
                root.mkdir(mode=0o711, parents=True, exist_ok=True)
                self._lock(root / LOCK_NAME, f"the root {root}")
            if pidfile is not None:
                pidfile.parent.mkdir(parents=True, exist_ok=True)
                self._lock(pidfile, f"the pidfile {pidfile}")
                self._pidfile = pidfile
        except BaseException:
            self.release()
            raise

    def _lock(self, path: Path, noun: str) -> None:
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except PermissionError as error:
            raise Forbidden(
                f"cannot write {path}: {error.strerror}", hint="wherryd runs as root"
            ) from None
        except OSError as error:
            raise Unavailable(f"cannot write {path}: {error.strerror}") from None
        self._held.append(fd)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise Unavailable(f"cannot lock {path}: {error.strerror}") from None
            holder = os.pread(fd, 32, 0).decode(errors="replace").strip() or "unknown"
            raise Conflict(
                f"{noun} belongs to another wherryd, whose pid is {holder}",
                hint="end it with `wherryd stop`, or choose other roots",
            ) from None
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Give all back; the pidfile goes, the lock files stay (removing them would let two in)."""
        if self._pidfile is not None:
            self._pidfile.unlink(missing_ok=True)
            self._pidfile = None
        while self._held:
            os.close(self._held.pop())


def holder_of(exec_root: Path) -> int | None:
    """Return the pid of the daemon that runs with `exec_root` now, None where there is none."""
    try:
        fd = os.open(exec_root / LOCK_NAME, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        text = os.pread(fd, 32, 0).strip()
        return int(text) if text.isdigit() else None
    finally:
        os.close(fd)
    return None
