"""inotify: learning that a folder's files were written to. One descriptor a watcher.

Source: inotify(7). The standard library has no binding for it.
"""

from __future__ import annotations

import ctypes
import os
import struct

IN_MODIFY = 0x00000002
IN_CREATE = 0x00000100
IN_DELETE = 0x00000200
IN_DELETE_SELF = 0x00000400
IN_Q_OVERFLOW = 0x00004000
_IN_MASK_ADD = 0x20000000

_HEADER = struct.Struct("iIII")
_LIBC = ctypes.CDLL(None, use_errno=True)
_inotify_init1 = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, use_errno=True)(
    ("inotify_init1", _LIBC)
)
_inotify_add_watch = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint32, use_errno=True
)(("inotify_add_watch", _LIBC))
_inotify_rm_watch = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_int, use_errno=True)(
    ("inotify_rm_watch", _LIBC)
)


class Inotify:
    """A non-blocking inotify instance: readable when something watched has changed. Close it."""

    def __init__(self) -> None:
        """Raise OSError (EMFILE over fs.inotify.max_user_instances)."""
        self._fd = _inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0:
            raise _failure("inotify_init1")

    def __enter__(self) -> Inotify:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def fileno(self) -> int:
        """Return the descriptor to wait on."""
        return self._fd

    def watch(self, path: str | os.PathLike[str], mask: int) -> int:
        """Watch a file or the files of a folder; return the watch's number. Raises OSError.

        What is watched already keeps its number, and is watched for both masks.
        """
        number = _inotify_add_watch(self._fd, os.fsencode(path), mask | _IN_MASK_ADD)
        if number < 0:
            raise _failure(os.fspath(path))
        return number

    def unwatch(self, number: int) -> None:
        """Let go of a watch; one that ended with what it watched is fine."""
        _inotify_rm_watch(self._fd, number)

    def read(self) -> list[tuple[int, int, str]]:
        """Return what has happened as (watch, mask, file name); empty when nothing did."""
        try:
            data = os.read(self._fd, 65536)
        except BlockingIOError:
            return []
        events: list[tuple[int, int, str]] = []
        at = 0
        while at + _HEADER.size <= len(data):
            number, mask, _, length = _HEADER.unpack_from(data, at)
            at += _HEADER.size
            name = data[at : at + length].rstrip(b"\0")
            events.append((number, mask, os.fsdecode(name)))
            at += length
        return events

    def close(self) -> None:
        """Close the instance and its watches."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _failure(what: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number), what)
