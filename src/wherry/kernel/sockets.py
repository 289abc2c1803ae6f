"""SEQPACKET sockets with names in folders of any length: sun_path holds 107 bytes (unix(7))."""

from __future__ import annotations

import os
import socket

_FLAGS = socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC


def connect_in(folder: str, name: str, flags: int = 0) -> socket.socket:
    """Return a socket connected to `name` in `folder`. Raises OSError when nobody listens.

    `flags` are more of socket(2)'s: SOCK_NONBLOCK.
    """
    root = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        channel = socket.socket(socket.AF_UNIX, _FLAGS | flags)
        try:
            channel.connect(f"/proc/self/fd/{root}/{name}")
        except OSError:
            channel.close()
            raise
    finally:
        os.close(root)
    return channel


def listen_in(root: int, name: str, backlog: int, flags: int = 0) -> socket.socket:
    """Return a socket that listens as `name`, mode 0600, in the open folder `root`.

    What bore the name before is replaced. Raises OSError.
    """
    try:
        os.unlink(name, dir_fd=root)
    except FileNotFoundError:
        pass
    listener = socket.socket(socket.AF_UNIX, _FLAGS | flags)
    mask = os.umask(0o177)
    try:
        listener.bind(f"/proc/self/fd/{root}/{name}")
        listener.listen(backlog)
    except OSError:
        listener.close()
        raise
    finally:
        os.umask(mask)
    return listener
