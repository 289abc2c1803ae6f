"""`wherryd stop`: the daemon of these roots, its containers, its supervisor, keeper and name service, all gone.

It does not ask the daemon to do that: it ends it, then stands in for it, so that a daemon that is
dead or does not answer any more is no hindrance.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import logging
import os
import select
import signal
import time
from pathlib import Path

from wherry.api.services import Containers
from wherry.daemon.config import Config
from wherry.daemon.locks import Locks, holder_of
from wherry.daemon.log import set_level, set_up_log
from wherry.daemon.networks import network_settings
from wherry.model.containers import Container, Status
from wherry.model.errors import Conflict, NotFound, Unavailable, WherryError
from wherry.network.dns.ending import end_process
from wherry.runtime.cgroups import open_cgroups
from wherry.supervisor.client import SupervisorClient
from wherry.supervisor.identity import cgroup_parent, engine_id

log = logging.getLogger(__name__)

DEFAULT_TIMEOUT = 3
"""Seconds that a container's process has after its stop signal."""
DAEMON_SECONDS = 20.0
_KEEPER_SECONDS = 10.0
_ROUNDS = 20
_ALIVE = frozenset((Status.RUNNING, Status.PAUSED, Status.RESTARTING))


def halt(config: Config, timeout: int) -> None:
    """Return when nothing of the engine runs. Raises WherryError naming what does not end."""
    set_up_log()
    set_level("warn", debug=config.debug)
    end_daemon(config.exec_root)
    if not config.exec_root.exists():
        # It was deleted: nothing of it can be asked any more. Cgroups with processes stay.
        _remove_cgroups(config.data_root)
        return
    with Locks() as locks:
        locks.take(config.data_root, config.exec_root, None)
        asyncio.run(_end_containers(config, timeout))
        asyncio.run(end_process(config.exec_root))
        withdraw_networks(config)
        _wait_for_keeper(config.exec_root)
        _remove_cgroups(config.data_root)


def withdraw_networks(config: Config) -> None:
    """Take the engine's bridges and rules from the host, whoever left them. Raises Unavailable."""
    if (config.data_root / "engine-id").exists():
        from wherry.network.service import Networks

        networks = Networks(engine_id(str(config.data_root)), network_settings(config))
        asyncio.run(networks.close(remove=True))


def end_daemon(exec_root: Path) -> None:
    """End the daemon that holds `exec_root`, by force when it does not answer. Raises Unavailable."""
    pid = holder_of(exec_root)
    if pid is None:
        return
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        # The lock is asked again: only then is this pidfd surely the holder's.
        if holder_of(exec_root) != pid:
            return
        for number, seconds in ((signal.SIGTERM, DAEMON_SECONDS), (signal.SIGKILL, 5.0)):
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(pidfd, number)
                signal.pidfd_send_signal(pidfd, signal.SIGCONT)  # a stopped one would not hear it
            if select.select([pidfd], [], [], seconds)[0]:
                return
    finally:
        os.close(pidfd)
    raise Unavailable(f"wherryd (pid {pid}) does not end")


def _keeper_runs(exec_root: Path) -> bool:
    try:
        fd = os.open(exec_root / "keeper.lock", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno == errno.EAGAIN
    finally:
        os.close(fd)
    return False


async def _end_containers(config: Config, timeout: int) -> None:
    if not _keeper_runs(config.exec_root):
        return
    from wherry.daemon.wiring import build

    try:
        wired = await build(config, ending=True)
    except (WherryError, OSError) as error:
        # A full disk, a broken database: whatever it is, it keeps no process running.
        log.warning("containers are ended without taking note of it: %s", error)
        await end_supervisor(config, timeout)
        return
    try:
        await stop_containers(wired.services.containers, timeout)
    finally:
        await wired.close()
    await end_supervisor(config)


async def stop_containers(containers: Containers, timeout: int | None) -> None:
    """Stop all that run, together; `timeout` in seconds, None for each container's own.

    Raises Conflict naming those that still run.
    """
    alive: list[Container] = []
    for _ in range(_ROUNDS):
        views = await containers.list(everything=True, limit=0, size=False, filters={})
        alive = [view.container for view in views if view.container.state.status in _ALIVE]
        if not alive:
            return
        results = await asyncio.gather(
            *(containers.stop(container.id, timeout, "") for container in alive),
            return_exceptions=True,
        )
        for result in results:
            if isinstance(result, BaseException) and not isinstance(result, WherryError):
                raise result
        if any(isinstance(result, WherryError) for result in results):
            await asyncio.sleep(0.05)
    raise Conflict(f"still running: {', '.join(container.name for container in alive)}")


async def end_supervisor(config: Config, timeout: int = 0) -> None:
    """End supervisor and keeper; processes that no container accounts for are killed first.

    With `timeout` they are asked to end (SIGTERM) and have that many seconds, -1: any time.
    Raises Conflict naming what does not end.
    """

    async def on_exit(_: object) -> None:
        return None

    if not _keeper_runs(config.exec_root):
        return
    try:
        client = await SupervisorClient.connect(
            config.exec_root, data_root=config.data_root, spawn=False, on_exit=on_exit
        )
    except Unavailable:
        return
    try:
        if timeout:
            await _ask_to_end(client, timeout)
        deadline = time.monotonic() + _KEEPER_SECONDS
        while not await client.shutdown():
            survivors = await client.survivors()
            if time.monotonic() > deadline:
                raise Conflict(f"the supervisor still has {', '.join(s.key for s in survivors)}")
            for survivor in survivors:
                with contextlib.suppress(NotFound):
                    if survivor.exit is None:
                        await client.signal(survivor.key, signal.SIGKILL)
                    else:
                        await client.forget(survivor.key)
            await asyncio.sleep(0.02)
    finally:
        await client.close()


async def _ask_to_end(client: SupervisorClient, timeout: int) -> None:
    """Send SIGTERM to every process, and return when all have ended or `timeout` seconds are over."""
    for survivor in await client.survivors():
        with contextlib.suppress(NotFound):
            await client.signal(survivor.key, signal.SIGTERM)
    deadline = time.monotonic() + timeout
    while timeout < 0 or time.monotonic() < deadline:
        if all(survivor.exit is not None for survivor in await client.survivors()):
            return
        await asyncio.sleep(0.05)


def _remove_cgroups(data_root: Path) -> None:
    """Remove the engine's cgroups as far as they are empty: a daemon whose start failed made them too."""
    if (data_root / "engine-id").exists():
        open_cgroups(cgroup_parent(str(data_root))).close()


def _wait_for_keeper(exec_root: Path) -> None:
    deadline = time.monotonic() + _KEEPER_SECONDS
    while _keeper_runs(exec_root):
        if time.monotonic() > deadline:
            raise Unavailable(f"the keeper of {exec_root} does not end")
        time.sleep(0.01)
