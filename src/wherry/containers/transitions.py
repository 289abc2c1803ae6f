"""Which state of a container may follow which, and what an action needs. Pure.

`TABLE` holds every legal step; whatever changes a state goes through `move`, so that no order of
contradicting requests ends anywhere else. Refusals are in the words of Docker Engine 28.5.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from wherry.model.containers import Container, ContainerState, Status
from wherry.model.errors import Conflict, Internal

C, R, P, W, G, E, D = (
    Status.CREATED,
    Status.RUNNING,
    Status.PAUSED,
    Status.RESTARTING,
    Status.REMOVING,
    Status.EXITED,
    Status.DEAD,
)

TABLE: dict[Status, frozenset[Status]] = {
    # A start that fails leaves the state where it was, with the error noted.
    C: frozenset({C, R, G}),
    R: frozenset({R, P, W, E, G}),
    # A frozen container can be killed: it is thawed for the signal.
    P: frozenset({P, R, W, E, G}),
    W: frozenset({W, R, E, G}),
    E: frozenset({E, R, G}),
    # A removal that failed half-way leaves a dead container that can only be removed.
    G: frozenset({G, D}),
    D: frozenset({D, G}),
}

ACTIVE = frozenset({R, P, W})
"""Docker's `Running` is true in these."""
ALIVE = frozenset({R, P})
"""There is a process."""


def move(state: ContainerState, status: Status, **changes: Any) -> ContainerState:
    """Return `state` with the new `status` and `changes`; raise Internal for an illegal step."""
    if status not in TABLE[state.status]:
        raise Internal(f"a container cannot go from {state.status} to {status}")
    return replace(state, status=status, **changes)


def check_start(container: Container) -> bool:
    """Return whether there is something to start (False: it runs already). Raises Conflict."""
    match container.state.status:
        case Status.RUNNING | Status.RESTARTING:
            return False
        case Status.PAUSED:
            raise Conflict("cannot start a paused container, try unpause instead")
        case Status.REMOVING | Status.DEAD:
            raise Conflict("container is marked for removal and cannot be started")
        case Status.CREATED | Status.EXITED:
            return True


def check_running(container: Container) -> None:
    """Raise Conflict unless the container has a process (frozen or not)."""
    match container.state.status:
        case Status.RESTARTING:
            raise Conflict(
                f"Container {container.id} is restarting, wait until the container is running"
            )
        case status if status not in ALIVE:
            raise Conflict(f"container {container.id} is not running")
        case _:
            return


def check_exec(container: Container) -> None:
    """Raise Conflict unless a process may be added to the container now."""
    check_running(container)
    if container.state.status is Status.PAUSED:
        raise Conflict(f"Container {container.name} is paused, unpause the container before exec")


def check_pause(container: Container) -> None:
    """Raise Conflict unless the container can be frozen."""
    if container.state.status is Status.PAUSED:
        raise Conflict(f"Container {container.id} is already paused")
    check_running(container)


def check_unpause(container: Container) -> None:
    """Raise Conflict unless the container is frozen."""
    if container.state.status is not Status.PAUSED:
        raise Conflict(f"Container {container.id} is not paused")


def check_remove(container: Container, *, force: bool) -> None:
    """Raise Conflict unless the container may be removed; `force` allows all but a second removal."""
    if force:
        return
    match container.state.status:
        case Status.RUNNING:
            way_out = "container is running: stop the container before removing or force remove"
        case Status.PAUSED:
            way_out = "container is paused and must be unpaused first"
        case Status.RESTARTING:
            way_out = "container is restarting: stop the container before removing or force remove"
        case Status.CREATED | Status.EXITED | Status.REMOVING | Status.DEAD:
            return
    raise Conflict(f'cannot remove container "{container.name}": {way_out}')
