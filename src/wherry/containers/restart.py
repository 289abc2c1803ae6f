"""Restart policies: whether a container is started again, and after how long.

docker-run(1), "--restart": the delay begins at 100 ms, doubles at each restart up to a minute, and
begins anew once the container has been up for ten seconds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from wherry.containers.live import Live, Tasks
from wherry.model.containers import Container, RestartPolicy, Status

FIRST_DELAY = 0.1
LONGEST_DELAY = 60.0
STEADY_NS = 10_000_000_000


def wants_restart(
    policy: RestartPolicy, *, exit_code: int, stopped_by_user: bool, restart_count: int
) -> bool:
    """Return whether a container that has just exited is to be started again."""
    if stopped_by_user:
        return False
    match policy.name:
        case "always" | "unless-stopped":
            return True
        case "on-failure":
            left = not policy.maximum_retries or restart_count < policy.maximum_retries
            return exit_code != 0 and left
        case _:
            return False


def wants_start_at_boot(container: Container) -> bool:
    """Return whether a container that does not run is to be started when the daemon is.

    `always` is, however it was stopped; `unless-stopped` is unless a user stopped it; `on-failure`
    where its last exit asks for it. One that never ran waits for its first start.
    """
    state, policy = container.state, container.spec.restart
    if state.status is not Status.EXITED:
        return False
    match policy.name:
        case "always":
            return True
        case "unless-stopped":
            return not state.stopped_by_user
        case "on-failure":
            return wants_restart(
                policy,
                exit_code=state.exit_code,
                stopped_by_user=state.stopped_by_user,
                restart_count=state.restart_count,
            )
        case _:
            return False


def next_delay(previous: float, ran_ns: int) -> float:
    """Return the seconds to wait, given the last delay (0: none yet) and how long the container ran."""
    if ran_ns >= STEADY_NS:
        return FIRST_DELAY
    return min(max(previous * 2, FIRST_DELAY), LONGEST_DELAY)


class Restarts:
    """The restarts that are being waited for; each is a task of its container's `Live`."""

    def __init__(self, tasks: Tasks, start: Callable[[str], Awaitable[None]]) -> None:
        """`start(container_id)` does the restart, unless it is no longer wanted by then."""
        self._tasks = tasks
        self._start = start
        self._closing = False

    def schedule(self, container_id: str, live: Live, delay: float) -> None:
        """Start the container after `delay` seconds."""
        if self._closing:
            return
        live.delay = delay
        live.restart = self._tasks.spawn(self._later(container_id, live, delay))

    async def _later(self, container_id: str, live: Live, delay: float) -> None:
        await asyncio.sleep(delay)
        # From here on it is a start like any other: who cancels after this does so by the state.
        live.restart = None
        await self._start(container_id)

    def close(self, lives: tuple[Live, ...]) -> None:
        """Call all of them off: the next daemon finds the containers restarting and goes on."""
        self._closing = True
        for live in lives:
            live.cancel_restart()
