"""Which process holds a port of the host: found by its socket's inode, for an error message."""

from __future__ import annotations

import os
import re
import struct
from pathlib import Path

_TABLES = {"tcp": ("tcp", "tcp6"), "udp": ("udp", "udp6", "udplite", "udplite6"), "sctp": ()}
_LISTEN = "0A"
_INODE = re.compile(r"socket:\[(\d+)\]")


def parse_sockets(table: str, proto: str, port: int) -> set[int]:
    """Return the inodes of the sockets that hold a local port, from the text of /proc/net/tcp or its like.

    Of tcp those that listen; bound ones that do not are not in the table (proc(5)).
    """
    found: set[int] = set()
    for line in table.splitlines()[1:]:
        words = line.split()
        if len(words) < 10:
            continue
        _, _, number = words[1].rpartition(":")
        try:
            here, inode = int(number, 16), int(words[9])
        except ValueError:
            continue
        if here == port and (proto != "tcp" or words[3] == _LISTEN):
            found.add(inode)
    return found


def find_holder(proto: str, port: int) -> str:
    """Return `process 1234 (nginx)` for who holds a port; empty where that cannot be seen.

    Reads all of /proc: some milliseconds, on the way of a failure only.
    """
    inodes: set[int] = set()
    for name in _TABLES.get(proto, ()):
        try:
            inodes |= parse_sockets(Path("/proc/self/net", name).read_text(), proto, port)
        except OSError:
            continue
    if not inodes:
        return ""
    for entry in os.scandir("/proc"):
        if (
            entry.name.isdecimal()
            and int(entry.name) != os.getpid()
            and _has_one(entry.path, inodes)
        ):
            try:
                name = Path(entry.path, "comm").read_text().strip()
            except OSError:
                continue
            return f"process {entry.name} ({name})"
    return ""


def _has_one(process: str, inodes: set[int]) -> bool:
    try:
        for entry in os.scandir(f"{process}/fd"):
            found = _INODE.fullmatch(os.readlink(entry.path))
            if found and int(found[1]) in inodes:
                return True
    except OSError:
        pass
    return False


def ephemeral_range() -> tuple[int, int]:
    """Return the ports that the kernel gives out by itself (ip_local_port_range), first and last."""
    try:
        first, last = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()
        return int(first), int(last)
    except (OSError, ValueError, struct.error):
        return 32768, 60999
