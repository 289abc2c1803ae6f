"""Where processes meet below a folder: a lock that one of them holds, and its SEQPACKET socket.

Paths go through /proc/self/fd, since sun_path holds 107 bytes and a folder's path may be longer.
"""

from __future__ import annotations

import fcntl
import os
import socket


def lock(root: int, name: str) -> int:
    """Return the locked descriptor of a file in the folder `root`, or -1 when another process has it."""
    while True:
        fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600, dir_fd=root)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # One that leaves unlinks the file: the lock must be on the one that has the name.
            if os.stat(name, dir_fd=root).st_ino == os.fstat(fd).st_ino:
                return fd
        except BlockingIOError:
            os.close(fd)
            return -1
        except FileNotFoundError:
            pass
        os.close(fd)


def listen(root: int, name: str, backlog: int, kind: int = 0) -> socket.socket:
    """Return a listening socket in the folder `root`, mode 0600, in place of what bore its name.

    `kind` adds to SOCK_SEQPACKET (SOCK_NONBLOCK).
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC | kind)
    try:
        os.unlink(name, dir_fd=root)
    except FileNotFoundError:
        pass
    mask = os.umask(0o177)
    try:
        listener.bind(f"/proc/self/fd/{root}/{name}")
    finally:
        os.umask(mask)
    listener.listen(backlog)
    return listener


def connect(folder: str, name: str, kind: int = 0) -> socket.socket:
    """Return a socket connected to the one in `folder`; raise OSError when nobody listens."""
    opened = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC | kind)
    root = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        opened.connect(f"/proc/self/fd/{root}/{name}")
    except OSError:
        opened.close()
        raise
    finally:
        os.close(root)
    return opened
