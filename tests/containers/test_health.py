"""The rule of health checks, without a container."""

from __future__ import annotations

import asyncio
import errno
from dataclasses import replace
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st

from tests.containers.fakes import make_container
from wherry.containers.events import container_event
from wherry.containers.health import (
    Monitors,
    command_of,
    judge,
    next_interval,
    wants_checks,
    with_defaults,
)
from wherry.containers.live import Tasks
from wherry.model.containers import (
    Container,
    ContainerSpec,
    ContainerState,
    Health,
    HealthSpec,
    HealthStatus,
    Probe,
    Status,
)

SECOND = 1_000_000_000
SPEC = with_defaults(HealthSpec(("CMD", "x"), retries=3, start_period=10 * SECOND))


def probe(code: int, at: int = 100 * SECOND) -> Probe:
    return Probe(at, at + 1, code, "")


def after(*codes: int, at: int = 100 * SECOND) -> Health:
    health = Health()
    for code in codes:
        health = judge(health, probe(code, at), SPEC, 0)
    return health


def test_the_defaults_are_dockers() -> None:
    spec = with_defaults(HealthSpec(("CMD", "x")))
    assert (spec.interval, spec.timeout, spec.retries) == (30 * SECOND, 30 * SECOND, 3)
    assert (spec.start_interval, spec.start_period) == (5 * SECOND, 0)


def test_a_row_of_failures_makes_it_unhealthy_and_one_success_healthy() -> None:
    assert after(1, 1).status is HealthStatus.STARTING
    assert after(1, 1, 1) == Health(HealthStatus.UNHEALTHY, 3, after(1, 1, 1).log)
    assert after(0, 1, 1).status is HealthStatus.HEALTHY
    assert after(1, 1, 1, 0).status is HealthStatus.HEALTHY
    assert after(1, 1, 1, 0).failing_streak == 0


def test_failures_in_the_start_period_count_only_after_a_success() -> None:
    assert after(1, 1, 1, 1, at=SECOND) == Health(log=after(1, 1, 1, 1, at=SECOND).log)
    assert after(0, 1, 1, 1, at=SECOND).status is HealthStatus.UNHEALTHY


def test_the_interval_is_short_only_while_it_starts() -> None:
    assert next_interval(SPEC, Health(), 0, SECOND) == 5 * SECOND
    assert next_interval(SPEC, Health(), 0, 11 * SECOND) == 30 * SECOND
    assert next_interval(SPEC, Health(HealthStatus.HEALTHY), 0, SECOND) == 30 * SECOND


def test_the_command_is_run_by_the_container_s_shell_or_by_none() -> None:
    assert command_of(HealthSpec(("CMD", "a", "b")), ()) == ("a", "b")
    assert command_of(HealthSpec(("CMD-SHELL", "a b")), ()) == ("/bin/sh", "-c", "a b")
    assert command_of(HealthSpec(("CMD-SHELL", "a")), ("/bin/bash", "-c")) == (
        "/bin/bash",
        "-c",
        "a",
    )
    assert not wants_checks(HealthSpec(("NONE",)))
    assert not wants_checks(None)


@given(st.lists(st.sampled_from((0, 1, -1)), max_size=30))
def test_the_streak_is_the_failures_since_the_last_success(codes: list[int]) -> None:
    health = after(*codes)
    streak = next((n for n, code in enumerate(reversed(codes)) if code == 0), len(codes))
    assert health.failing_streak == streak
    assert len(health.log) == min(5, len(codes))
    if codes and codes[-1] == 0:
        assert health.status is HealthStatus.HEALTHY


class Store:
    """One container that runs."""

    def __init__(self, container: Container) -> None:
        self.container = container

    def find(self, container_id: str) -> Container:
        return self.container

    def observe(self, container_id: str, state: ContainerState) -> Container:
        self.container = replace(self.container, state=state)
        return self.container


class Executor:
    """Has no descriptor left."""

    def __init__(self) -> None:
        self.asked = asyncio.Queue[str]()

    async def create(self, ref: str, spec: object) -> str:
        self.asked.put_nowait(ref)
        raise OSError(errno.EMFILE, "Too many open files")


def test_checks_go_on_when_one_could_not_be_begun() -> None:
    async def work() -> None:
        spec = ContainerSpec("bb", health=HealthSpec(("CMD", "x"), interval=1_000_000))
        container = make_container(spec=spec)
        store = Store(replace(container, state=ContainerState(Status.RUNNING, started_at=1)))
        executor, tasks = Executor(), Tasks()
        monitors = Monitors(
            store=cast(Any, store),
            executor=cast(Any, executor),
            supervisor=cast(Any, None),
            events=cast(Any, None),
            tasks=tasks,
        )
        monitors.heard(container_event(container, "start"))
        async with asyncio.timeout(20):
            for _ in range(3):
                await executor.asked.get()
        monitors.heard(container_event(container, "pause"))
        await tasks.close()

    asyncio.run(work())
