"""The pool for real: warm and cold slots, exec, what hostile containers try, and nothing left behind."""

from __future__ import annotations

import contextlib
import errno
import gc
import mmap
import os
import resource
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.supervisor.launching import (
    ALL_CHILDREN,
    House,
    execute,
    give_back,
    house,
    open_descriptors,
    start,
    warm_slot,
)
from wherry.kernel import abi
from wherry.model.errors import Conflict, StartFailed, WherryError
from wherry.model.oci import HOST, Mount, NamespaceSet, Process, User
from wherry.runtime import child
from wherry.runtime.cgroups import Handle
from wherry.runtime.plan import plan_launch
from wherry.supervisor.ranges import IdRanges
from wherry.testing.kernel import Failing, Own

HOST_SPACES = NamespaceSet(user=HOST, network=HOST)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    monkeypatch.setattr("wherry.supervisor.pool._NEARLY", 10.0)  # a busy machine makes no cold slot
    with house(tmp_path) as made:
        gc.collect()  # other tests' sockets
        before = open_descriptors()
        yield made
        for pool in list(made.pools):
            made.close(pool)
        _reap()
        assert made.left() == []
        assert open_descriptors() == before


def _reap() -> None:
    """Reap the children that slots and processes in the middle were."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG | ALL_CHILDREN)[0]:
            pass


def test_a_warm_slot_is_taken_and_a_cold_one_made_where_the_profile_differs(here: House) -> None:
    pool = here.pool()
    assert pool.refill() is False
    run = start(pool, here.spec("id"))
    assert run.slot.warm
    assert run.wait() == (0, "uid=0(root) gid=0\n")
    run = start(pool, here.spec("id", "-u"))
    assert not run.slot.warm
    assert run.wait() == (0, "0\n")
    assert pool.refill() is False
    run = start(pool, here.spec("cat", "/proc/self/uid_map", namespaces=HOST_SPACES))
    assert not run.slot.warm
    assert run.wait()[1].split() == ["0", "0", "4294967295"]


def test_a_cold_slot_s_cgroup_is_not_renamed_while_it_looks(
    here: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Without a cgroup namespace the slot binds the folder of the name that it read: now and then that
    # was gone by then, and a start failed with "mount cgroups …: operation not permitted".
    def renamed(*_: object) -> Handle:
        raise AssertionError("a cgroup was renamed")

    monkeypatch.setattr(type(here.driver), "rename", renamed)
    shown = "cat /proc/self/cgroup"
    path = f"{here.driver.parent}/c1"
    run = start(
        here.pool(),
        here.spec("sh", "-c", shown, namespaces=NamespaceSet(cgroup=HOST), cgroup_path=path),
    )
    assert not run.slot.warm
    code, output = run.wait()
    assert code == 0 and f":/{path}\n" in output, output


@pytest.mark.parametrize("warm", [False, True])
def test_below_another_parent_a_container_sees_its_own_cgroups(here: House, warm: bool) -> None:
    # The slot was moved out of its cgroup, which was then removed: its mounts failed or were dead.
    pool = here.pool()
    parent = f"{here.driver.parent}-other"
    text = "cat /proc/self/cgroup /sys/fs/cgroup/cgroup.procs /sys/fs/cgroup/*/cgroup.procs"
    try:
        for number in range(3):
            if warm:
                pool.refill()
            path = f"{parent}/c{number}"
            run = start(
                pool, here.spec("sh", "-c", f"{text} 2>/dev/null | grep -v :/$", cgroup_path=path)
            )
            handle = run.slot.cgroup
            assert handle is not None and (handle.path, handle.unified) == (path, path)
            code, output = run.wait()
            assert code == 0 and "1" in output.split() and ":" not in output, output
        assert here.driver.adopt(parent) == []
    finally:
        here.driver.remove(Handle(parent, parent))


def test_another_parent_s_cgroup_that_is_there_already_fails_and_leaves_it(here: House) -> None:
    parent = f"{here.driver.parent}-other"
    handle = here.driver.create(f"{parent}/taken")
    try:
        with pytest.raises(StartFailed, match="exists already"):
            start(here.pool(), here.spec("true", cgroup_path=handle.path))
        assert here.driver.adopt(parent) == ["taken"]
    finally:
        here.driver.remove(handle)
        here.driver.remove(Handle(parent, parent))


def test_a_new_supervisor_sweeps_what_containers_left_and_no_more(here: House) -> None:
    parent = here.driver.parent
    left = ["slot-1-1", "ab" * 32]
    for name in left:
        here.driver.create(f"{parent}/{name}")
    users = here.driver.create(f"{parent}/mine")
    below = here.driver.create(f"{parent}/mine/{'cd' * 32}")
    try:
        here.pool().refill()
        found = here.driver.adopt(parent)
        assert not set(found) & set(left) and "mine" in found
        assert here.driver.adopt(f"{parent}/mine") == ["cd" * 32]
    finally:
        here.driver.remove(below)
        here.driver.remove(users)


def test_a_dead_warm_slot_is_passed_over(here: House) -> None:
    pool = here.pool()
    pid = warm_slot(pool).pid
    os.kill(pid, signal.SIGKILL)
    assert os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | ALL_CHILDREN)
    run = start(pool, here.spec("true"))
    assert not run.slot.warm and run.wait() == (0, "")


def test_a_stopped_warm_slot_does_not_hold_up_the_end(here: House) -> None:
    pool = here.pool()
    os.kill(warm_slot(pool).pid, signal.SIGSTOP)
    began = time.monotonic()
    here.close(pool)
    assert time.monotonic() - began < 20


def test_exec_lands_in_the_namespaces_and_the_cgroup(here: House) -> None:
    pool = here.pool()
    run = start(pool, here.spec("sleep", "100"))
    text = "cat /proc/1/comm /proc/self/cgroup /proc/self/uid_map"
    code, output = execute(run, Process(("sh", "-c", text))).wait()
    lines = output.splitlines()
    assert code == 0 and lines[0] == "sleep"
    assert {line.rpartition(":")[2] for line in lines[1:-1]} == {"/"}
    assert lines[-1].split()[0] == "0" and lines[-1].split()[1] != "0"
    run.kill()


def test_exec_in_a_frozen_container_does_not_freeze_the_caller(here: House) -> None:
    pool = here.pool()
    run = start(pool, here.spec("sleep", "100"))
    handle = run.slot.cgroup
    assert handle is not None
    here.driver.freeze(handle)
    began = time.monotonic()
    slot = pool.take_exec(run.facts, run.slot.pidfd)
    assert time.monotonic() - began < 20
    here.driver.thaw(handle)
    os.close(slot.socket)
    # Its pid namespace ends when all of it are reaped.
    assert os.waitid(os.P_PIDFD, slot.pidfd, os.WEXITED | ALL_CHILDREN)
    os.close(slot.pidfd)
    run.kill()


@pytest.mark.parametrize("what", ["start", "exec"])
def test_no_descriptor_of_ours_can_be_the_working_directory(here: House, what: str) -> None:
    # CVE-2024-21626. One of them was /proc/sys, writable, of a container with the host's root.
    pool = here.pool()
    run = start(pool, here.spec("sleep", "100", namespaces=HOST_SPACES))
    for number in range(3, 16):
        cwd = f"/proc/self/fd/{number}"
        with pytest.raises(StartFailed):
            if what == "start":
                start(pool, here.spec("pwd", cwd=cwd, namespaces=HOST_SPACES)).kill()
            else:
                execute(run, Process(("pwd",), cwd=cwd, create_cwd=False)).kill()
    run.kill()


def test_no_descriptor_of_ours_is_there_after_exec(here: House) -> None:
    code, output = start(here.pool(), here.spec("ls", "/proc/self/fd")).wait()
    assert (code, output.split()) == (0, ["0", "1", "2", "3"]), "3 is the listing's own"


def test_nothing_is_inherited_that_was_ignored_or_blocked(here: House) -> None:
    pool = here.pool()
    old = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    try:
        run = start(pool, here.spec("sleep", "100"))
        words = ("grep", "-E", "Sig(Ign|Blk)|CapInh|CapAmb", "/proc/self/status")
        of_exec = execute(run, Process(words)).wait()[1]
        of_start = start(pool, here.spec(*words)).wait()[1]
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1})
        signal.signal(signal.SIGHUP, old)
    run.kill()
    for text in (of_exec, of_start):
        assert {line.split()[1] for line in text.splitlines()} == {"0" * 16}, text


class _Noting(Own):
    """Notes, for all children, the keyrings joined and the capabilities dropped above 40."""

    def __init__(self) -> None:
        super().__init__()
        self.memory = mmap.mmap(-1, 64)

    def join_session_keyring(self) -> None:
        self.memory[63] += 1
        super().join_session_keyring()

    def prctl(self, option: int, a: int = 0, b: int = 0, c: int = 0) -> int:
        if option == abi.PR_CAPBSET_DROP and a > 40:
            if a > 45:
                raise OSError(errno.EINVAL, "this kernel's last capability is 45")
            self.memory[a] = 1
            return 0
        return super().prctl(option, a, b, c)


def test_exec_has_a_session_keyring_of_its_own(here: House) -> None:
    k = _Noting()
    run = start(here.pool(k), here.spec("sleep", "100"))
    assert k.memory[63] == 1
    assert execute(run, Process(("true",))).wait() == (0, "")
    assert k.memory[63] == 2
    run.kill()


def test_capabilities_of_a_newer_kernel_are_dropped_too(here: House) -> None:
    k = _Noting()
    assert start(here.pool(k), here.spec("true")).wait() == (0, "")
    assert bytes(k.memory[41:47]) == b"\1\1\1\1\1\0"


def test_a_file_that_was_handed_in_keeps_its_owner(here: House, tmp_path: Path) -> None:
    path = tmp_path / "log"
    with path.open("w") as file:
        user = User(uid=1000, gid=1000)
        assert start(here.pool(), here.spec("id", user=user), file.fileno()).wait()[0] == 0
    assert path.read_text().startswith("uid=1000")
    assert path.stat().st_uid == 0


def test_pipes_become_the_users(here: House) -> None:
    user = User(uid=1000, gid=1000)
    run = start(here.pool(), here.spec("sh", "-c", "echo yes > /proc/self/fd/1", user=user))
    assert run.wait() == (0, "yes\n")


@pytest.mark.parametrize("space", ["pid", "network", "mount", "user"])
def test_the_hosts_own_namespace_is_not_joined_by_path(here: House, space: str) -> None:
    # A pid of a container that ended may be a host's process by now.
    file = {"network": "net", "mount": "mnt"}.get(space, space)
    spaces = NamespaceSet(**{space: f"/proc/self/ns/{file}"})
    with pytest.raises(StartFailed, match="is the host's own"):
        start(here.pool(), here.spec("true", namespaces=spaces))


def test_a_namespace_that_is_gone_leaks_nothing(here: House) -> None:
    pool = here.pool()
    run = start(pool, here.spec("sleep", "100"))
    one = f"/proc/{run.slot.pid}/ns/pid"
    before = open_descriptors()
    with pytest.raises(StartFailed):
        start(pool, here.spec("true", namespaces=NamespaceSet(pid=one, ipc="/proc/0/ns/ipc")))
    assert open_descriptors() == before
    run.kill()


def test_who_joins_a_hostile_container_cannot_hold_up_the_engine(here: House) -> None:
    """The other container may stop the child as soon as it is in its pid namespace."""
    pool = here.pool()
    # Stops every process but itself, again and again.
    text = (
        "while :; do for p in $(ls /proc); do [ $p -gt 1 ] && kill -STOP $p; done; done 2>/dev/null"
    )
    run = start(pool, here.spec("sh", "-c", text))
    pid = run.slot.pid
    spaces = NamespaceSet(user=f"/proc/{pid}/ns/user", pid=f"/proc/{pid}/ns/pid")
    began = time.monotonic()
    other = here.spec("true", namespaces=spaces)
    with contextlib.suppress(StartFailed, AssertionError):
        plan = plan_launch(other)
        slot = pool.take(plan)
        nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        try:
            pool.begin(slot, plan, nothing, nothing, nothing, -1, {})
        finally:
            os.close(nothing)
            taken = time.monotonic() - began
            facts = pool.facts(slot)
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(slot.pidfd, signal.SIGKILL)
            os.waitid(os.P_PIDFD, slot.pidfd, os.WEXITED | ALL_CHILDREN)
            os.close(slot.socket)
            os.close(slot.pidfd)
            give_back(pool, facts)
        assert taken < 2
    run.kill()


def test_the_engines_oom_score_is_not_inherited(here: House) -> None:
    def score(pid: int) -> str:
        return Path(f"/proc/{pid}/oom_score_adj").read_text()

    own = Path("/proc/self/oom_score_adj")
    before = own.read_text()
    own.write_text("100")
    try:
        pool = here.pool()
        pool.refill()
        warm = start(pool, here.spec("sleep", "100"))
        host = start(pool, here.spec("sleep", "100", namespaces=NamespaceSet(user=HOST)))
        scored = start(pool, here.spec("sleep", "100", oom_score_adj=7))
        inner = execute(scored, Process(("sleep", "100")))
        runs = (inner, warm, host, scored)
        assert [score(run.slot.pid) for run in runs] == ["7\n", "0\n", "0\n", "7\n"]
        for run in runs:
            run.kill()
    finally:
        own.write_text(before)


def test_descriptors_above_1023(here: House) -> None:
    pool = here.pool()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    held = [os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC) for _ in range(1100)]
    try:
        pool.refill()
        run = start(pool, here.spec("sleep", "100"))
        assert run.slot.pidfd > 1023 and run.slot.warm
        assert execute(run, Process(("true",))).wait() == (0, "")
        run.kill()
        pool.refill()
        here.close(pool)
    finally:
        for fd in held:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class _Stuck:
    """A cgroup driver whose cgroups cannot be removed for a while: a process hangs in the kernel."""

    def __init__(self, driver: Any) -> None:
        self._driver = driver
        self.stuck = True

    def remove(self, handle: Any, patience: float) -> None:
        if self.stuck:
            raise Conflict("in use")
        self._driver.remove(handle, patience)

    def pids(self, handle: Any) -> list[int]:
        return [1] if self.stuck else self._driver.pids(handle)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._driver, name)


def test_ids_of_a_process_that_lives_are_not_given_to_another(here: House) -> None:
    driver = _Stuck(here.driver)
    pool = here.pool(driver=driver)
    run = start(pool, here.spec("true"))
    with pytest.raises(Conflict):
        run.wait()
    other = IdRanges(path=str(here.data / "ids.lock"))
    assert other.take() != 0
    os.close(other._fd)  # pyright: ignore[reportPrivateUsage]
    assert start(here.pool(), here.spec("true")).wait() == (0, "")
    driver.stuck = False
    pool.release(run.facts)
    here.close(pool)
    _reap()
    assert here.left() == []


def test_a_failure_is_not_hidden_by_the_clean_up(here: House) -> None:
    driver = _Stuck(here.driver)
    pool = here.pool(driver=driver)
    with pytest.raises(StartFailed, match="host's own"):
        start(pool, here.spec("true", namespaces=NamespaceSet(pid="/proc/self/ns/pid")))
    driver.stuck = False
    pool.refill()


def test_what_could_not_be_released_is_when_the_pool_closes(here: House) -> None:
    driver = _Stuck(here.driver)
    pool = here.pool(driver=driver)
    with pytest.raises(StartFailed, match="host's own"):
        start(pool, here.spec("true", namespaces=NamespaceSet(pid="/proc/self/ns/pid")))
    assert here.driver.adopt(here.driver.parent)
    driver.stuck = False
    here.close(pool)
    _reap()
    assert here.left() == []


def test_a_cgroup_that_is_there_already_fails_and_leaves_it(here: House) -> None:
    spec, pool = here.spec("true"), here.pool()
    pool.refill()
    handle = here.driver.create(spec.cgroup_path)
    with pytest.raises(WherryError, match="exists already"):
        start(pool, spec)
    here.driver.remove(handle)


@pytest.mark.parametrize(
    ("name", "spoil", "words"),
    [
        (
            "proc",
            lambda root: (root / "proc").rmdir() or (root / "proc").symlink_to("tmp"),
            "/proc",
        ),
        ("dev", lambda root: (root / "dev").rmdir() or (root / "dev").symlink_to("/tmp"), "/dev"),
        ("sys", lambda root: (root / "sys").rmdir() or (root / "sys").write_text(""), "/sys"),
    ],
)
def test_a_root_whose_api_mount_points_lead_elsewhere(
    here: House, name: str, spoil: Any, words: str
) -> None:
    # CVE-2019-19921, CVE-2023-27561.
    spoil(here.lower)
    with pytest.raises(StartFailed, match=f"move the furnished {words} onto the root"):
        start(here.pool(), here.spec("true"))


def test_mount_targets_that_are_links_stay_inside(here: House, tmp_path: Path) -> None:
    # CVE-2021-30465, and the oldest of them all: ../../..
    source, outside = tmp_path / "source", tmp_path / "outside"
    source.write_text("ours")
    outside.mkdir()
    (here.lower / "etc/hosts").symlink_to(f"../../../../..{outside}/hosts")
    (here.lower / "data").symlink_to(f"{outside}/deeper")
    (here.lower / outside.relative_to("/") / "deeper").mkdir(parents=True)
    (here.lower / outside.relative_to("/") / "hosts").write_text("inside")
    mounts = (
        Mount("/etc/hosts", "bind", str(source), ("bind", "rprivate")),
        Mount("/data", "tmpfs", "tmpfs", ("nosuid",)),
    )
    before = Path("/proc/self/mountinfo").read_text()
    run = start(here.pool(), here.spec("cat", "/etc/hosts", "/proc/mounts", mounts=mounts))
    code, output = run.wait()
    assert code == 0 and output.startswith("ours") and f"tmpfs {outside}/deeper " in output, output
    assert list(outside.iterdir()) == []
    assert Path("/proc/self/mountinfo").read_text() == before


@pytest.mark.parametrize(
    "target", ["/proc", "/proc/self", "/proc/sys/kernel", "/link", "/link/sys"]
)
@pytest.mark.parametrize("kind", ["bind", "tmpfs"])
def test_nothing_is_mounted_inside_proc(
    here: House, tmp_path: Path, target: str, kind: str
) -> None:
    # CVE-2019-16884.
    (here.lower / "link").symlink_to("/proc")
    mounts = (Mount(target, kind, str(tmp_path)),)
    with pytest.raises(StartFailed, match="cannot be mounted because it is inside /proc"):
        start(here.pool(), here.spec("true", mounts=mounts))


def test_a_file_of_proc_may_be_replaced(here: House, tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text("one\n")
    mounts = (Mount("/proc/cpuinfo", "bind", str(tmp_path / "cpuinfo")),)
    run = start(here.pool(), here.spec("cat", "/proc/cpuinfo", mounts=mounts))
    assert run.wait() == (0, "one\n")


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _huge(path: Path) -> None:
    path.write_text("")
    os.truncate(path, 1 << 40)


@pytest.mark.parametrize(
    "spoil",
    [
        _fifo,
        _huge,
        lambda path: path.symlink_to("/dev/zero"),
        lambda path: path.symlink_to("/proc/self/fd/0"),
        lambda path: path.mkdir(),
        lambda path: path.write_text(f"x:y:{'9' * 9999}:0::/:\n"),
    ],
    ids=["fifo", "huge", "endless", "descriptor", "folder", "number"],
)
def test_a_hostile_passwd_is_one_without_entries(here: House, spoil: Any) -> None:
    (here.lower / "etc/passwd").unlink()
    spoil(here.lower / "etc/passwd")
    pool = here.pool()
    began = time.monotonic()
    assert start(pool, here.spec("pwd", user=User("0"))).wait() == (0, "/\n")
    with pytest.raises(StartFailed, match="unable to find user bob"):
        start(pool, here.spec("true", user=User("bob")))
    assert time.monotonic() - began < 30


def test_an_entry_that_means_leave_it_does_not_stay_root(here: House) -> None:
    (here.lower / "etc/passwd").write_text("bob:x:4294967295:4294967295::/:/bin/sh\n")
    with pytest.raises(StartFailed, match="must be in range 0-2147483647"):
        start(here.pool(), here.spec("id", user=User("bob")))


def test_a_child_that_fails_early_is_heard(here: House, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise OSError(errno.ENOTUNIQ, "so it is")

    monkeypatch.setattr(child, "_prepare", broken)
    with pytest.raises(StartFailed, match="so it is"):
        start(here.pool(), here.spec("true"))


def test_200_starts_leak_nothing(here: House) -> None:
    pool = here.pool()
    pool.refill()
    assert start(pool, here.spec("true")).wait() == (0, "")
    before = open_descriptors()
    for number in range(200):
        if number % 2:
            pool.refill()
        assert start(pool, here.spec("true")).wait() == (0, "")
        assert open_descriptors() == before
    _reap()
    assert here.left() == []


_TOLERATED = {
    "join_session_keyring": "kernels without keys",
    # EPERM says that a mount knows no id maps: it is shown as it is.
    "mount_setattr": "bind mounts",
}


def test_the_failure_of_any_call_is_named_and_leaves_nothing(here: House, tmp_path: Path) -> None:
    mounts = (Mount("/m", "bind", str(tmp_path), ("rbind", "ro")), Mount("/t", "tmpfs", "tmpfs"))
    for name in ("m", "t"):
        (here.lower / name).mkdir()
    sysctls = (("net.ipv4.ip_forward", "1"),)
    before = open_descriptors()
    passed: list[str] = []
    nth = 0
    while True:
        nth += 1
        number = (errno.EPERM, errno.ENOSPC)[nth % 2]
        k = Failing(nth, number)
        pool = here.pool(k)
        spec = here.spec("true", mounts=mounts, sysctls=sysctls, hostname="h", read_only_root=True)
        try:
            run = start(pool, spec)
        except StartFailed as failure:
            assert k.failed, failure
            text = os.strerror(number).lower()
            # EPERM of the layers' id map is told as what it means. Which number the call meets depends
            # on whether parent or child came first.
            meaning = "without id-mapped mounts" in failure.message
            told = meaning if k.failed == "mount_setattr" else False
            assert told or text in failure.message.lower(), (k.failed, failure)
            assert failure.message.lower() != text, (k.failed, failure)
        else:
            assert run.wait()[0] == 0, (nth, k.failed)
            if not k.failed:
                break
            passed.append(k.failed)
        here.close(pool)
        _reap()
        assert here.left() == [], (nth, k.failed)
        assert open_descriptors() == before, (nth, k.failed)
    assert nth > 60, "every call of a start was denied once"
    assert set(passed) <= set(_TOLERATED)
