"""Whether processes have ended: a container's first one, and the name service where it is to end."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from wherry.kernel.processes import wait_readable
from wherry.model.errors import Invalid
from wherry.network.dns import channel as channels
from wherry.network.dns.channel import Closed

PATIENCE = 5.0
"""Seconds that a name service gets to start, or to end."""


def open_running(pid: int) -> int:
    """Return a pidfd of a process that runs, -1 where it has ended (if nobody has taken note of it yet)."""
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        return -1
    if not wait_readable(pidfd, 0):
        return pidfd
    os.close(pidfd)
    return -1


async def end_process(exec_root: Path) -> None:
    """End the name service below `exec_root`, whatever it serves; return when it has, or after five seconds."""
    try:
        channel = channels.connect(str(exec_root))
    except OSError:
        return
    loop = asyncio.get_running_loop()
    gone = asyncio.Event()
    try:
        channel.send({"id": 0, "do": "quit"})
        deadline = loop.time() + PATIENCE
        loop.add_reader(channel.fileno(), gone.set)
        while loop.time() < deadline:
            async with asyncio.timeout_at(deadline):
                await gone.wait()
            gone.clear()
            while channel.receive() is not None:
                pass
    except (Closed, Invalid, OSError, TimeoutError):
        pass
    finally:
        loop.remove_reader(channel.fileno())
        channel.close()
