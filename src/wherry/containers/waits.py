"""docker wait: what is done when a condition holds."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

from wherry.containers.live import Lives, exited
from wherry.containers.store import ContainerStore
from wherry.containers.transitions import ACTIVE
from wherry.model.errors import Invalid
from wherry.model.views import Exited

CONDITIONS = ("not-running", "next-exit", "removed")


class Waiter:
    """Answers waits."""

    def __init__(self, *, store: ContainerStore, lives: Lives) -> None:
        self._store = store
        self._lives = lives

    def wait(self, ref: str, condition: str) -> Awaitable[Exited]:
        """Return what completes when `condition` holds; empty means not-running.

        A container that restarts counts as running, and the exit before a restart as an end: Docker
        Engine 28.5 answers not-running with it. Whoever waits for an exit of a container that is
        removed is told of the last one. Raises NotFound, Invalid.
        """
        container = self._store.resolve(ref)
        live = self._lives.get(container.id)
        match condition or CONDITIONS[0]:
            case "not-running":
                if container.state.status not in ACTIVE:
                    done: asyncio.Future[Exited] = asyncio.get_running_loop().create_future()
                    done.set_result(exited(container))
                    return done
                return live.next_exit()
            case "next-exit":
                return live.next_exit()
            case "removed":
                return live.removal()
            case _:
                raise Invalid(f'invalid condition: "{condition}"')
