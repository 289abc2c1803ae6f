"""The way of a container through the workflows, over fakes."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.containers.fakes import NOT_FOUND, House, spec, until
from wherry.api.status import status_of
from wherry.model.containers import ExecSpec, Namespaces, RestartPolicy, Security, Status
from wherry.model.errors import Conflict, Invalid, NotFound, StartFailed
from wherry.model.resources import Limits
from wherry.model.views import AttachOptions, Exited
from wherry.runtime.cgroups import Handle

Play = Callable[[House, Any], Awaitable[None]]


@pytest.fixture
def play(tmp_path: Path) -> Callable[[Play], None]:
    """A function that runs a scenario in a fresh house."""

    def run(scenario: Play) -> None:
        async def main() -> None:
            house = House(tmp_path)
            async with house.open() as service:
                await asyncio.wait_for(scenario(house, service), 20)

        asyncio.run(main())

    return run


def test_create_start_wait_remove(play: Callable[[Play], None]) -> None:
    async def scenario(house: House, service: Any) -> None:
        made = await service.create(spec("true"), "web")
        assert made.warnings == ()
        waiting = await service.wait("web", "next-exit")
        assert await service.start("web") is True
        assert await service.start("web") is False
        assert house.store.get(made.id).state.status is Status.RUNNING
        house.supervisor.end(made.id, 3)
        assert await waiting == Exited(3)
        view = await service.inspect(made.id[:12], size=False)
        assert view.container.state.status is Status.EXITED
        assert view.container.state.exit_code == 3
        assert await (await service.wait("web", "")) == Exited(3)
        await service.remove("web", force=False, volumes=False, link=False)
        with pytest.raises(NotFound, match="No such container: web"):
            await service.inspect("web", size=False)
        assert not (house.root / "containers" / made.id).exists()
        assert house.actions("web") == ["create", "start", "die", "destroy"]
        await until(lambda: made.id in house.supervisor.forgotten)

    play(scenario)


def test_a_process_that_ends_at_once_is_seen_to_after_its_start(
    play: Callable[[Play], None],
) -> None:
    async def scenario(house: House, service: Any) -> None:
        house.supervisor.lifetime = 0
        # The keeper may note the end before the supervisor notes the start.
        house.supervisor.skew = -50_000_000
        for number in range(30):
            made = await service.create(spec("true"), f"quick{number}")
            await service.start(made.id)
            assert await (await service.wait(made.id, "")) == Exited(0)
            state = house.store.get(made.id).state
            assert state.status is Status.EXITED and state.pid == 0

    play(scenario)


def test_a_failed_start_keeps_code_and_error(play: Callable[[Play], None]) -> None:
    async def scenario(house: House, service: Any) -> None:
        house.supervisor.fail = NOT_FOUND
        made = await service.create(spec("nope"), "web")
        with pytest.raises(StartFailed):
            await service.start("web")
        state = house.store.get(made.id).state
        assert (state.status, state.exit_code) == (Status.CREATED, 127)
        assert "executable file not found" in state.error
        house.supervisor.fail = None
        await service.start("web")
        assert house.store.get(made.id).state.error == ""

    play(scenario)


def test_a_failed_restart_says_so_in_dockers_words(play: Callable[[Play], None]) -> None:
    async def scenario(house: House, service: Any) -> None:
        house.supervisor.fail = NOT_FOUND
        made = await service.create(spec("nope"), "web")
        with pytest.raises(
            StartFailed, match="^Cannot restart container web: .*not found"
        ) as found:
            await service.restart("web", 1, "")
        assert status_of(found.value) == 500
        assert house.store.get(made.id).state.exit_code == 127

    play(scenario)


def test_a_start_that_fails_as_nobody_thought_is_told_of_too(play: Callable[[Play], None]) -> None:
    async def scenario(house: House, service: Any) -> None:
        house.supervisor.fail = OSError(errno.EIO, "Input/output error")
        made = await service.create(spec("true"), "web")
        with pytest.raises(OSError, match="Input/output"):
            await service.start("web")
        state = house.store.get(made.id).state
        assert (state.status, state.exit_code) == (Status.CREATED, 128)
        assert "Input/output error" in state.error

    play(scenario)


def test_a_failed_start_with_rm_removes(play: Callable[[Play], None]) -> None:
    async def scenario(house: House, service: Any) -> None:
        house.supervisor.fail = NOT_FOUND
        await service.create(spec("nope", auto_remove=True), "web")
        gone = await service.wait("web", "removed")
        with pytest.raises(StartFailed):
            await service.start("web")
        assert await gone == Exited(127)
        assert len(house.store) == 0

    play(scenario)


def test_rm_removes_at_the_exit_but_not_during_a_restart(play: Callable[[Play], None]) -> None:
    async def scenario(house: House, service: Any) -> None:
        made = await service.create(spec("sleep", auto_remove=True), "web")
        await service.start("web")
        await service.restart("web", 1, "")
        assert house.store.get(made.id).state.status is Status.RUNNING
        gone = await service.wait("web", "removed")
        house.supervisor.end(made.id, 4)
        assert await gone == Exited(4)
        assert len(house.store) == 0

    play(scenario)


def test_stop_asks_then_kills(play: Callable[[Play], None]) -> None:
    async def scenario(house: House, service: Any) -> None:
        made = await service.create(spec("sleep"), "web")
        assert await service.stop("web", None, "") is False
        await service.start("web")
        assert await service.stop("web", 5, "") is True
        assert house.store.get(made.id).state.exit_code == 143
        house.supervisor.handles.clear()
        await service.start("web")
        assert await service.stop("web", 0, "USR1") is True
        assert [number for _, number in house.supervisor.signals] == [15, 10, 9]
        assert house.store.get(made.id).state.exit_code == 137
        with pytest.raises(Invalid, match="invalid signal: FOO"):
            await service.stop("web", 0, "FOO")

    play(scenario)


def test_kill_says_what_docker_says(play: Callable[[Play], None]) -> None:
    async def scenario(house: House, service: Any) -> None:
        made = await service.create(spec("sleep"), "web")
        with pytest.raises(Conflict) as refused:
            await service.kill("web", "")
        assert refused.value.message == (
            f"cannot kill container: web: container {made.id} is not running"
        )
        for signal, message in (
            ("FOO", "cannot kill container: web: invalid signal: FOO"),
            ("99", "cannot kill container: web: the linux daemon does not support signal 99"),
        ):
            with pytest.raises(Invalid) as wrong:
                await service.kill("web", signal)
            assert wrong.value.message == message
        await service.start("web")
        await service.kill("web", "USR2")
        assert house.store.get(made.id).state.status is Status.RUNNING
        await service.kill("web", "")
        await until(lambda: house.store.get(made.id).state.exit_code == 137)

    play(scenario)


def test_pause_and_what_it_forbids(play: Callable[[Play], None]) -> None:
    async def scenario(house: House, service: Any) -> None:
        made = await service.create(spec("sleep"), "web")
        _use_own_pid(house)
        await service.start("web")
        with pytest.raises(Conflict, match="is not paused"):
            await service.unpause("web")
        await service.pause("web")
        assert house.cgroups.frozen
        for refused, words in (
            (service.pause("web"), "is already paused"),
            (service.start("web"), "cannot start a paused container, try unpause instead"),
            (service.exec_create("web", ExecSpec(("true",))), "unpause the container before exec"),
            (
                service.remove("web", force=False, volumes=False, link=False),
                "container is paused and must be unpaused first",
            ),
            (service.check_attach("web", AttachOptions()), "unpause the container before attach"),
        ):
            with pytest.raises(Conflict, match=words):
                await refused
        # A signal thaws: Docker tells of the unpause too.
        await service.kill("web", "USR2")
        assert not house.cgroups.frozen
        assert house.store.get(made.id).state.status is Status.RUNNING
        await service.pause("web")
        assert await service.stop("web", 1, "") is True
        assert house.actions("web")[-4:] == ["kill", "unpause", "stop", "die"]

    play(scenario)


def test_a_paused_one_is_killed_though_its_cgroup_has_gone(play: Callable[[Play], None]) -> None:
    def gone(handle: Handle) -> None:
        raise NotFound("cgroup", handle.path)

    async def scenario(house: House, service: Any) -> None:
        await service.create(spec("sleep"), "web")
        _use_own_pid(house)
        await service.start("web")
        await service.pause("web")
        house.cgroups.thaw = gone
        await service.kill("web", "")
        await until(lambda: house.actions("web")[-3:] == ["pause", "kill", "die"])

    play(scenario)


def _use_own_pid(house: House) -> None:
    """Give processes this one's pid, whose /proc/PID/cgroup can be read."""
    import os

    start = house.supervisor.start

    async def started(launch: Any) -> Any:
        return replace(await start(launch), pid=os.getpid())

    house.supervisor.start = started  # type: ignore[method-assign]


def test_a_removed_container_lets_its_image_go(play: Callable[[Play], None]) -> None:
    async def scenario(house: House, service: Any) -> None:
        made = await service.create(spec("true"), "web")
        image = house.images.image
        assert house.images.released == []
        await service.remove("web", force=False, volumes=False, link=False)
        await until(lambda: house.images.released == [(image.id, image.chain)])
        assert house.store.find(made.id) is None
        house.images.refuses = True
        await service.create(spec("true"), "web")
        await service.remove("web", force=False, volumes=False, link=False)

    play(scenario)


def test_remove_refuses_and_forces(play: Callable[[Play], None]) -> None:
    async def scenario(house: House, service: Any) -> None:
        await service.create(spec("sleep"), "web")
        await service.start("web")
        with pytest.raises(Conflict) as refused:
            await service.remove("web", force=False, volumes=False, link=False)
        assert refused.value.message == (
            'cannot remove container "web": container is running: stop the container before '
            "removing or force remove"
        )
        gone = await service.wait("web", "removed")
        await service.remove("web", force=True, volumes=False, link=False)
        assert await gone == Exited(137)
        assert len(house.store) == 0
        assert house.actions("web") == ["create", "start", "kill", "die", "destroy"]

    play(scenario)


def test_nothing_starts_what_is_being_removed(play: Callable[[Play], None]) -> None:
    async def scenario(house: House, service: Any) -> None:
        made = await service.create(spec("sleep"), "web")
        await service.start("web")
        signal = house.supervisor.signal
        killed: list[int] = []

        async def deaf(key: str, number: int) -> None:
            killed.append(number)

        house.supervisor.signal = deaf  # type: ignore[method-assign]
        removal = asyncio.ensure_future(
            service.remove("web", force=True, volumes=False, link=False)
        )
        await until(lambda: killed == [9])
        with pytest.raises(Conflict, match="marked for removal and cannot be started"):
            await service.start("web")
        with pytest.raises(Conflict, match="removal of container web is already in progress"):
            await service.remove("web", force=True, volumes=False, link=False)
        house.supervisor.signal = signal  # type: ignore[method-assign]
        house.supervisor.end(made.id, 137)
        await removal
        assert len(house.store) == 0

    play(scenario)


def test_restart_policy_counts_and_gives_up(play: Callable[[Play], None]) -> None:
    async def scenario(house: House, service: Any) -> None:
        policy = RestartPolicy("on-failure", 2)
        made = await service.create(spec("false", restart=policy), "web")
        stopped = None
        await service.start("web")
        for count in range(3):
            await until(lambda: house.store.get(made.id).state.status is Status.RUNNING)
            assert house.store.get(made.id).state.restart_count == count
            stopped = stopped or await service.wait("web", "not-running")
            house.supervisor.end(made.id, 1)
            await until(lambda: house.store.get(made.id).state.status is not Status.RUNNING)
        assert stopped is not None and await stopped == Exited(1)
        assert house.store.get(made.id).state.status is Status.EXITED

    play(scenario)


def test_stop_calls_a_pending_restart_off(play: Callable[[Play], None]) -> None:
    async def scenario(house: House, service: Any) -> None:
        made = await service.create(spec("false", restart=RestartPolicy("always")), "web")
        await service.start("web")
        house.supervisor.end(made.id, 1)
        await until(lambda: house.store.get(made.id).state.status is Status.RESTARTING)
        assert await service.start("web") is False
        with pytest.raises(Conflict, match="container is restarting"):
            await service.remove("web", force=False, volumes=False, link=False)
        assert await service.stop("web", None, "") is True
        await asyncio.sleep(0.2)
        assert house.store.get(made.id).state.status is Status.EXITED
        assert len(house.supervisor.launches) == 1

    play(scenario)


def test_exec_runs_once_and_tells_its_code(play: Callable[[Play], None]) -> None:
    async def scenario(house: House, service: Any) -> None:
        made = await service.create(spec("sleep"), "web")
        with pytest.raises(Conflict, match="is not running"):
            await service.exec_create("web", ExecSpec(("true",)))
        _use_own_pid(house)
        await service.start("web")
        with pytest.raises(Invalid, match="No exec command specified"):
            await service.exec_create("web", ExecSpec(()))
        key = await service.exec_create("web", ExecSpec(("sh", "-c", "x")))
        view = await service.exec_inspect(key)
        assert (view.running, view.exit_code, view.container_id) == (False, None, made.id)
        start = {"detach": True, "tty": False, "console_size": (0, 0), "fd": -1, "initial": b""}
        await service.exec_start(key, **start)
        assert (await service.exec_inspect(key)).running
        with pytest.raises(Conflict, match="is already running"):
            await service.exec_start(key, **start)
        house.supervisor.end(key, 6)
        await until(lambda: not house.execs.get(key).running)
        assert (await service.exec_inspect(key)).exit_code == 6
        # Its client sees the end only now.
        await until(lambda: key in house.supervisor.forgotten)
        with pytest.raises(Conflict, match="has already run"):
            await service.exec_start(key, **start)
        with pytest.raises(NotFound, match="No such exec instance: x"):
            await service.exec_inspect("x")
        assert house.actions("web")[-3:] == [
            "exec_create: sh -c x",
            "exec_start: sh -c x",
            "exec_die",
        ]

    play(scenario)


def test_who_resizes_what_nobody_starts(
    play: Callable[[Play], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wherry.containers.execute._START_SECONDS", 0.01)

    async def scenario(house: House, service: Any) -> None:
        await service.create(spec("sleep"), "web")
        _use_own_pid(house)
        await service.start("web")
        key = await service.exec_create("web", ExecSpec(("sh",), tty=True))
        with pytest.raises(StartFailed, match="timeout waiting for exec session ready") as caught:
            await service.exec_resize(key, 1, 1)
        # Docker's answer; a 409 is none that the API has for it.
        assert status_of(caught.value) == 500

    play(scenario)


def test_no_freeze_while_an_exec_is_half_way(play: Callable[[Play], None]) -> None:
    async def scenario(house: House, service: Any) -> None:
        await service.create(spec("sleep"), "web")
        _use_own_pid(house)
        await service.start("web")
        key = await service.exec_create("web", ExecSpec(("true",)))
        execute = house.supervisor.execute
        arrived, go_on = asyncio.Event(), asyncio.Event()

        async def slow(*words: Any) -> Any:
            arrived.set()
            await go_on.wait()
            assert not house.cgroups.frozen
            return await execute(*words)

        house.supervisor.execute = slow  # type: ignore[method-assign]
        running = asyncio.ensure_future(
            service.exec_start(key, detach=True, tty=False, console_size=(0, 0), fd=-1, initial=b"")
        )
        await arrived.wait()
        pausing = asyncio.ensure_future(service.pause("web"))
        await asyncio.sleep(0.05)
        assert not house.cgroups.frozen
        go_on.set()
        await asyncio.gather(running, pausing)
        assert house.cgroups.frozen

    play(scenario)


def test_rename_and_names(play: Callable[[Play], None]) -> None:
    async def scenario(house: House, service: Any) -> None:
        made = await service.create(spec("true"), "web")
        with pytest.raises(Conflict) as taken:
            await service.create(spec("true"), "/web")
        assert taken.value.message == (
            f'Conflict. The container name "/web" is already in use by container "{made.id}". You '
            "have to remove (or rename) that container to be able to reuse that name."
        )
        with pytest.raises(Invalid, match="same name as its current name"):
            await service.rename("web", "web")
        with pytest.raises(Invalid, match=r"Invalid container name \(/a b\)"):
            await service.rename("web", "a b")
        await service.rename("web", "/db")
        assert house.store.resolve("db").id == made.id
        await service.create(spec("true"), "web")
        assert house.seen[1] == ("rename", "db")

    play(scenario)


def test_update_is_checked_kept_and_applied(play: Callable[[Play], None]) -> None:
    async def scenario(house: House, service: Any) -> None:
        made = await service.create(spec("sleep", limits=Limits(memory=10 << 20)), "web")
        with pytest.raises(Invalid, match="Minimum memory limit allowed is 6MB"):
            await service.update("web", Limits(memory=1000), None)
        with pytest.raises(Conflict, match="update the memoryswap at the same time"):
            await service.update("web", Limits(memory=100 << 20), None)
        await service.update("web", Limits(pids_limit=50), RestartPolicy("always"))
        kept = house.store.get(made.id).spec
        assert (kept.limits.pids_limit, kept.limits.memory) == (50, 10 << 20)
        assert kept.restart.name == "always"
        assert house.cgroups.applied == []
        _use_own_pid(house)
        await service.start("web")
        await service.update("web", Limits(pids_limit=60), None)
        assert [limits for _, limits in house.cgroups.applied] == [Limits(pids_limit=60)]

    play(scenario)


def test_host_namespaces_bring_the_host_user_namespace(play: Callable[[Play], None]) -> None:
    async def scenario(house: House, service: Any) -> None:
        cases = {
            "plain": spec(),
            "pid": spec(namespaces=Namespaces(network="none", pid="host")),
            "ipc": spec(namespaces=Namespaces(network="none", ipc="host")),
            "net": spec(namespaces=Namespaces(network="host")),
            "user": spec(namespaces=Namespaces(network="none", user="host")),
            "privileged": spec(security=Security(privileged=True)),
        }
        for name, wanted in cases.items():
            await service.create(wanted, f"c-{name}")
            await service.start(f"c-{name}")
        users = [launch.plan.profile.namespaces.user for launch in house.supervisor.launches]
        assert users == ["private", "host", "host", "host", "host", "host"]

    play(scenario)


def test_a_client_that_leaves_does_not_undo_its_stop(play: Callable[[Play], None]) -> None:
    async def scenario(house: House, service: Any) -> None:
        house.supervisor.handles.clear()
        made = await service.create(spec("sleep"), "web")
        await service.start("web")
        asked = asyncio.ensure_future(service.stop("web", 0, ""))
        await asyncio.sleep(0)
        asked.cancel()
        await until(lambda: house.store.get(made.id).state.status is Status.EXITED)

    play(scenario)


def test_prune_takes_what_does_not_run(play: Callable[[Play], None]) -> None:
    async def scenario(house: House, service: Any) -> None:
        old = await service.create(spec("true", labels=(("keep", "no"),)), "old")
        await service.create(spec("true"), "other")
        await service.create(spec("sleep"), "busy")
        await service.start("busy")
        pruned = await service.prune({"label": ["keep=no"]})
        assert pruned.deleted == (old.id,)
        pruned = await service.prune({})
        assert len(pruned.deleted) == 1
        assert [c.name for c in house.store] == ["busy"]
        with pytest.raises(Invalid, match="invalid filter 'foo'"):
            await service.prune({"foo": ["x"]})

    play(scenario)


def test_list_filters_and_limits(play: Callable[[Play], None]) -> None:
    async def scenario(house: House, service: Any) -> None:
        for name in ("one", "two", "three"):
            await service.create(spec("true"), name)
        await service.start("two")

        async def names(**filters: list[str]) -> list[str]:
            views = await service.list(everything=True, limit=0, size=False, filters=filters)
            return [view.container.name for view in views]

        assert await names() == ["three", "two", "one"]
        assert await names(status=["created"]) == ["three", "one"]
        assert await names(before=["two"]) == ["one"]
        assert await names(since=["two"]) == ["three"]
        assert await names(ancestor=["nope"]) == []
        assert await names(ancestor=["bb"], name=["^/t"]) == ["three", "two"]
        shown = await service.list(everything=False, limit=0, size=False, filters={})
        assert [view.container.name for view in shown] == ["two"]
        last = await service.list(everything=False, limit=2, size=True, filters={})
        assert [view.container.name for view in last] == ["three", "two"]
        assert last[1].size_root_fs == 107

    play(scenario)
