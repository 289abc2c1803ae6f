"""Real cgroups on this machine: what is there as it is, its v1 part alone, its v2 part alone.

The verbs are one contract that each of the three has to keep; limits are then tried on processes.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import platform
import select
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from wherry.kernel.bpf import load_device_program
from wherry.model.errors import Conflict, Invalid, NotFound, Unsupported
from wherry.model.resources import (
    ALL_DEVICES,
    DEFAULT_DEVICES,
    DENY_ALL,
    DeviceRate,
    DeviceRule,
    HugepageLimit,
    Limits,
)
from wherry.runtime.cgroups import CgroupDriver, Handle, Hierarchies, detect, open_cgroups
from wherry.runtime.cgroups.entrances import open_entrances
from wherry.runtime.cgroups.files import read_text
from wherry.runtime.seccomp.syscalls import table

MB = 1 << 20
NAME = f"wherry-test-{os.getpid()}"


# Exits with 4, and 2 more for /dev/null that opens, 1 for /dev/kmsg.
OPENS = """
def opens(path):
    try: os.close(os.open(path, os.O_RDWR | os.O_NONBLOCK)); return 1
    except PermissionError: return 0
os._exit(4 + opens('/dev/null') * 2 + opens('/dev/kmsg'))
"""


def this_machine() -> Hierarchies:
    found = detect(read_text("/proc/self/mountinfo"), read_text("/proc/self/cgroup"))
    if found.unified is not None:
        file = Path(found.unified.mount_point, "cgroup.controllers")
        found = found.with_unified_controllers(file.read_text().split())
    return found


def writable(found: Hierarchies) -> bool:
    every = [*found.v1, *([found.unified] if found.unified else [])]
    return os.geteuid() == 0 and all(os.access(h.mount_point, os.W_OK) for h in every)


MACHINE = this_machine()
pytestmark = pytest.mark.skipif(not writable(MACHINE), reason="may not make cgroups here")


def part(mode: str) -> Hierarchies:
    if mode == "v1":
        return replace(MACHINE, unified=None)
    if mode == "v2":
        return replace(MACHINE, v1=())
    return MACHINE


@contextlib.contextmanager
def opened(hierarchies: Hierarchies, engine: str = "engine") -> Iterator[CgroupDriver]:
    """A driver; afterwards nothing below its parent, and v2's root as it was."""
    control = None
    if hierarchies.unified is not None:
        control = Path(hierarchies.unified.mount_point, "cgroup.subtree_control")
    before = set(control.read_text().split()) if control else set[str]()
    driver = open_cgroups(f"{NAME}/{engine}", hierarchies=hierarchies)
    try:
        yield driver
    finally:
        for name in driver.adopt(driver.parent):
            driver.remove(Handle(f"{driver.parent}/{name}", f"{driver.parent}/{name}"))
        driver.close()
        for name in set(control.read_text().split()) - before if control else ():
            with contextlib.suppress(OSError):  # others may use it by now
                assert control is not None
                control.write_text(f"-{name}")
        for hierarchy in (*MACHINE.v1, *([MACHINE.unified] if MACHINE.unified else [])):
            assert not Path(hierarchy.mount_point, driver.parent).exists()


@pytest.fixture(params=["whole", "v1", "v2"])
def driver(request: pytest.FixtureRequest) -> Iterator[CgroupDriver]:
    """Each way of looking at this machine that it allows."""
    hierarchies = part(request.param)
    if not hierarchies.v1 and hierarchies.unified is None:
        pytest.skip(f"nothing of this machine is {request.param}")
    if request.param == "v1" and not hierarchies.by_controller("freezer"):
        pytest.skip("no v1 controllers here")
    with opened(hierarchies) as driver:
        yield driver


@pytest.fixture
def whole() -> Iterator[CgroupDriver]:
    """This machine as it is."""
    with opened(MACHINE) as driver:
        yield driver


@pytest.fixture
def spawn() -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """A function that starts `python -c CODE` held at its first line until `go`; killed at the end."""
    started: list[subprocess.Popen[bytes]] = []

    def start(code: str = "import time; time.sleep(60)") -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", f"import os; os.read(0, 1)\n{code}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def go(process: subprocess.Popen[bytes]) -> int:
    """Let the process run to its end and return its exit code."""
    process.communicate(b"\n", timeout=20)
    return process.returncode


def ended(process: subprocess.Popen[bytes], seconds: float = 5) -> bool:
    """Whether the process ends within `seconds`."""
    fd = os.pidfd_open(process.pid)
    try:
        return bool(select.select([fd], [], [], seconds)[0])
    finally:
        os.close(fd)


CLONE_NEWUSER = 0x1000_0000
CLONE_INTO_CGROUP = 0x2_0000_0000


def clone3(flags: int, cgroup: int) -> int:
    """clone3(2) like fork: 0 in the child."""
    libc = ctypes.CDLL(None, use_errno=True)
    arguments = ctypes.create_string_buffer(
        struct.pack("=11Q", flags, 0, 0, 0, signal.SIGCHLD, 0, 0, 0, 0, 0, cgroup), 88
    )
    pid = libc.syscall(table(platform.machine())["clone3"], arguments, 88)
    if pid < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return pid


def groups_of(pid: int) -> set[str]:
    text = Path(f"/proc/{pid}/cgroup").read_text()
    return {line.split(":", 2)[2] for line in text.splitlines() if NAME in line}


Spawn = Callable[..., subprocess.Popen[bytes]]


def move(driver: CgroupDriver, handle: Handle, pid: int) -> None:
    """Move a process that runs already, as nothing but these tests does."""
    for directory in set(driver.directories(handle).values()):
        Path(directory, "cgroup.procs").write_text(str(pid))


class TestVerbs:
    """The contract: every mode does the same."""

    def test_create_pids_kill_remove(self, driver: CgroupDriver, spawn: Spawn) -> None:
        handle = driver.create(f"{driver.parent}/one")
        first, second = spawn(), spawn()
        assert driver.pids(handle) == []
        for process in (first, second):
            move(driver, handle, process.pid)
        assert driver.pids(handle) == sorted((first.pid, second.pid))
        assert groups_of(first.pid) == {f"/{driver.parent}/one"}
        for directory in driver.directories(handle).values():
            assert str(first.pid) in Path(directory, "cgroup.procs").read_text().split()
        driver.kill_all(handle)
        assert ended(first)
        assert ended(second)
        driver.remove(handle)
        driver.remove(handle)
        with pytest.raises(NotFound, match="No such cgroup"):
            driver.pids(handle)

    def test_create_is_all_or_nothing(self, driver: CgroupDriver) -> None:
        handle = driver.create(f"{driver.parent}/one")
        *others, last = driver.directories(handle).values()
        for directory in set(others) - {last}:
            os.rmdir(directory)
        with pytest.raises(Conflict, match="exists already"):
            driver.create(f"{driver.parent}/one")
        assert not any(os.path.exists(directory) for directory in set(others) - {last})
        driver.remove(handle)

    def test_freeze_and_thaw(self, driver: CgroupDriver, spawn: Spawn) -> None:
        handle = driver.create(f"{driver.parent}/one")
        process = spawn("print('through', flush=True)\nos.read(0, 1)")
        move(driver, handle, process.pid)
        assert not driver.is_frozen(handle)
        driver.freeze(handle)
        assert driver.is_frozen(handle)
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"\n")
        process.stdin.flush()
        assert select.select([process.stdout], [], [], 0.2)[0] == []
        driver.thaw(handle)
        assert not driver.is_frozen(handle)
        assert process.stdout.readline() == b"through\n"
        driver.kill_all(handle)
        assert ended(process)

    def test_signals_other_than_kill_reach_everyone(
        self, driver: CgroupDriver, spawn: Spawn
    ) -> None:
        handle = driver.create(f"{driver.parent}/one")
        processes = [spawn(), spawn()]
        for process in processes:
            move(driver, handle, process.pid)
        driver.kill_all(handle, signal.SIGTERM)
        for process in processes:
            assert ended(process)
            assert process.wait() == -signal.SIGTERM

    def test_rename(self, driver: CgroupDriver, spawn: Spawn) -> None:
        handle = driver.create(f"{driver.parent}/slot")
        process = spawn()
        move(driver, handle, process.pid)
        renamed = driver.rename(handle, f"{driver.parent}/name")
        assert renamed == Handle(f"{driver.parent}/name", f"{driver.parent}/slot")
        assert driver.pids(renamed) == [process.pid]
        for controller, directory in driver.directories(renamed).items():
            assert directory.endswith("/slot" if controller == "" else "/name")
            assert os.path.isdir(directory)
        driver.kill_all(renamed)
        assert ended(process)
        driver.remove(renamed)
        assert driver.adopt(driver.parent) == []

    @pytest.mark.parametrize("flags", [0, CLONE_NEWUSER])
    def test_a_new_process_enters_at_birth(self, driver: CgroupDriver, flags: int) -> None:
        handle = driver.create(f"{driver.parent}/one")
        entrances = driver.entrances(handle)
        if entrances.unified >= 0:
            flags |= CLONE_INTO_CGROUP
        received, sent = os.pipe()
        child = clone3(flags, max(entrances.unified, 0))
        if child == 0:
            try:
                entrances.enter()
                os.write(sent, Path("/proc/self/cgroup").read_bytes())
            finally:
                os._exit(0)
        entrances.close()
        os.close(sent)
        with os.fdopen(received) as stream:
            lines = stream.read().splitlines()
        os.waitpid(child, 0)
        places = len(set(driver.directories(handle).values()))
        assert sum(line.endswith(f":/{driver.parent}/one") for line in lines) == places

    def test_rename_is_all_or_nothing(self, driver: CgroupDriver) -> None:
        handle = driver.create(f"{driver.parent}/slot")
        places = driver.directories(handle)
        with pytest.raises(Invalid, match="another parent"):
            driver.rename(handle, f"{NAME}/name")
        renamable = [directory for name, directory in places.items() if name]
        if renamable:
            Path(renamable[-1]).with_name("name").mkdir()
            with pytest.raises(Conflict, match="name exists already"):
                driver.rename(handle, f"{driver.parent}/name")
            with pytest.raises(NotFound):
                driver.rename(replace(handle, path=f"{driver.parent}/gone"), f"{driver.parent}/new")
        assert all(os.path.isdir(directory) for directory in places.values())

    def test_nested_cgroups_count_and_go(self, driver: CgroupDriver, spawn: Spawn) -> None:
        handle = driver.create(f"{driver.parent}/one")
        below = driver.create(f"{driver.parent}/one/below/deeper")
        process = spawn()
        move(driver, below, process.pid)
        assert driver.pids(handle) == [process.pid]
        with pytest.raises(Conflict, match=f"still in use.*{process.pid}"):
            driver.remove(handle)
        driver.kill_all(handle)
        assert ended(process)
        driver.remove(handle)
        assert driver.adopt(driver.parent) == []

    def test_a_cgroup_that_is_gone(self, driver: CgroupDriver) -> None:
        gone = Handle(f"{driver.parent}/gone", f"{driver.parent}/gone")
        before = len(os.listdir("/proc/self/fd"))
        for ask in (
            driver.read_stats,
            driver.freeze,
            driver.is_frozen,
            driver.pids,
            driver.entrances,
        ):
            with pytest.raises(NotFound):
                ask(gone)
        assert len(os.listdir("/proc/self/fd")) == before
        driver.kill_all(gone)
        driver.remove(gone)

    def test_adopt_names_what_is_there(self, driver: CgroupDriver) -> None:
        for name in ("b", "a"):
            driver.create(f"{driver.parent}/{name}")
        assert driver.adopt(driver.parent) == ["a", "b"]
        assert driver.adopt(f"{NAME}/nothing") == []

    def test_parents_that_someone_removed_are_made_again(self, driver: CgroupDriver) -> None:
        driver.close()
        driver.remove(driver.create(f"{driver.parent}/one"))

    @pytest.mark.parametrize("path", ["", "/", "a/../../b", "a//b", "..", "a/./b", "a\0b"])
    def test_paths_that_lead_elsewhere(self, driver: CgroupDriver, path: str) -> None:
        with pytest.raises(Invalid, match="invalid cgroup path"):
            driver.create(path)

    def test_stats_of_a_new_cgroup(self, driver: CgroupDriver) -> None:
        handle = driver.create(f"{driver.parent}/one")
        found = driver.read_stats(handle)
        assert found.pids.current == 0
        assert found.blkio.io_serviced_recursive == ()
        assert driver.oom_kills(handle) == 0


def needs(*controllers: str) -> pytest.MarkDecorator:
    missing = [name for name in controllers if MACHINE.by_controller(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"no controller {missing} here")


def limited(driver: CgroupDriver, limits: Limits, process: subprocess.Popen[bytes]) -> Handle:
    driver.check(limits)
    handle = driver.create(f"{driver.parent}/limited")
    driver.apply(handle, limits)
    move(driver, handle, process.pid)
    return handle


class TestLimits:
    """Each limit is felt by a process, or refused with the file's name."""

    @needs("memory")
    def test_memory(self, whole: CgroupDriver, spawn: Spawn) -> None:
        process = spawn("hog = b'x' * (100 << 20)")
        handle = limited(whole, Limits(memory=24 * MB, memory_swap=25 * MB), process)
        assert go(process) == -signal.SIGKILL
        assert whole.oom_kills(handle) == 1
        found = whole.read_stats(handle).memory
        assert found is not None
        assert found.limit == 24 * MB
        assert found.failcnt > 0
        assert 16 * MB < found.max_usage <= 24 * MB

    @needs("memory")
    def test_memory_goes_up_and_down(self, whole: CgroupDriver) -> None:
        handle = whole.create(f"{whole.parent}/one")
        for memory, swap in ((64, 128), (256, 512), (32, 64), (96, 96), (8, 8), (16, 300)):
            whole.apply(handle, Limits(memory=memory * MB, memory_swap=swap * MB))
            found = whole.read_stats(handle).memory
            assert found is not None
            assert found.limit == memory * MB
        whole.apply(handle, Limits(memory=-1))
        found = whole.read_stats(handle).memory
        assert found is not None
        assert found.limit > 1 << 60

    @needs("memory")
    def test_memory_below_what_is_used_is_a_conflict(
        self, whole: CgroupDriver, spawn: Spawn
    ) -> None:
        if whole.version == 2:
            pytest.skip("v2 kills instead of refusing")
        process = spawn("hog = b'x' * (30 << 20)\nprint('full', flush=True)\nos.read(0, 1)")
        handle = limited(whole, Limits(memory=200 * MB), process)
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"full\n"
        with pytest.raises(Conflict, match=r"cannot set memory.limit_in_bytes = 6291456"):
            whole.apply(handle, Limits(memory=6 * MB))

    @needs("pids")
    def test_pids(self, whole: CgroupDriver, spawn: Spawn) -> None:
        code = """
for _ in range(9):
    try:
        if os.fork() == 0: os.read(0, 1); os._exit(0)
    except BlockingIOError:
        os._exit(7)
"""
        process = spawn(code)
        handle = limited(whole, Limits(pids_limit=4), process)
        assert go(process) == 7
        assert whole.read_stats(handle).pids.limit == 4
        whole.apply(handle, Limits(pids_limit=-1))
        assert whole.read_stats(handle).pids.limit == 0
        whole.kill_all(handle)

    @needs("cpu", "cpuacct")
    def test_cpu(self, whole: CgroupDriver, spawn: Spawn) -> None:
        code = "import time\nend = time.monotonic() + 0.5\nwhile time.monotonic() < end: pass"
        process = spawn(code)
        handle = limited(whole, Limits(nano_cpus=100_000_000, cpu_shares=100), process)
        assert go(process) == 0
        found = whole.read_stats(handle).cpu
        assert found.throttled_periods > 0
        assert found.throttled_ns > 0
        assert 0 < found.total_ns < 300_000_000
        assert sum(found.per_cpu_ns) == pytest.approx(found.total_ns, rel=0.2)

    @needs("cpuset")
    def test_cpuset(self, whole: CgroupDriver, spawn: Spawn) -> None:
        process = spawn()
        limited(whole, Limits(cpuset_cpus="0", cpuset_mems="0"), process)
        assert os.sched_getaffinity(process.pid) == {0}
        with pytest.raises(Invalid, match="Requested CPUs are not available - requested 4000"):
            whole.check(Limits(cpuset_cpus="4000"))
        with pytest.raises(Invalid, match="Requested memory nodes are not available"):
            whole.check(Limits(cpuset_mems="900"))

    @needs("cpuset")
    def test_a_cpuset_is_checked_where_someone_removed_the_parents(
        self, whole: CgroupDriver
    ) -> None:
        whole.close()
        whole.check(Limits(cpuset_cpus="0", cpuset_mems="0"))
        with pytest.raises(Invalid, match="Requested CPUs are not available - requested 4000"):
            whole.check(Limits(cpuset_cpus="4000"))

    @needs("devices")
    def test_devices(self, whole: CgroupDriver, spawn: Spawn) -> None:
        unlimited, process, nothing = spawn(OPENS), spawn(OPENS), spawn(OPENS)
        assert go(unlimited) == 7
        handle = limited(whole, Limits(devices=DEFAULT_DEVICES), process)
        listed = Path(whole.directories(handle)["devices"], "devices.list").read_text()
        assert set(listed.splitlines()) == {r.render() for r in DEFAULT_DEVICES if r.allow}
        assert go(process) == 6
        whole.apply(handle, Limits(devices=DENY_ALL))
        move(whole, handle, nothing.pid)
        assert go(nothing) == 4

    @needs("blkio")
    def test_blkio(self, whole: CgroupDriver) -> None:
        disk = next(
            (p for p in Path("/sys/block").glob("*") if not p.name.startswith("loop")), None
        )
        if disk is None:
            pytest.skip("no disk here")
        major, minor = map(int, Path(disk, "dev").read_text().split(":"))
        rate = (DeviceRate(major, minor, MB),)
        handle = whole.create(f"{whole.parent}/one")
        whole.apply(handle, Limits(blkio_device_read_bps=rate, blkio_device_write_iops=rate))
        directory = whole.directories(handle).get("blkio")
        if directory is not None:
            for name in ("read_bps", "write_iops"):
                text = Path(directory, f"blkio.throttle.{name}_device").read_text()
                assert text == f"{major}:{minor} {MB}\n"
        with pytest.raises(Invalid, match="no such device"):
            whole.apply(handle, Limits(blkio_device_read_bps=(DeviceRate(4000, 0, MB),)))

    @needs("hugetlb")
    def test_hugepages(self, whole: CgroupDriver) -> None:
        handle = whole.create(f"{whole.parent}/one")
        size = "2MB"
        whole.apply(handle, Limits(hugepages=(HugepageLimit(size, 4 * MB),)))
        hugetlb = MACHINE.by_controller("hugetlb")
        assert hugetlb is not None
        name = "max" if hugetlb.version == 2 else "limit_in_bytes"
        text = Path(hugetlb.mount_point, handle.unified, f"hugetlb.{size}.{name}").read_text()
        assert int(text) == 4 * MB
        with pytest.raises(Unsupported, match=r"has no hugetlb\.3MB\."):
            whole.check(Limits(hugepages=(HugepageLimit("3MB", 4 * MB),)))

    @needs("cpu")
    def test_realtime_without_a_budget_is_refused(self, whole: CgroupDriver) -> None:
        with pytest.raises(Unsupported, match="cpu.rt_runtime_us|realtime CPU limits"):
            whole.check(Limits(cpu_rt_runtime=95000))

    def test_what_the_machine_lacks_is_refused_by_name(self, whole: CgroupDriver) -> None:
        with opened(replace(MACHINE, v1=()), "bare") as bare:
            with pytest.raises(Unsupported, match="device rules: cgroup v2 takes them as an eBPF"):
                bare.check(Limits(devices=DEFAULT_DEVICES))
            if MACHINE.mode == "hybrid" and MACHINE.by_controller("memory"):
                with pytest.raises(Unsupported, match="this machine has no memory cgroup contr"):
                    bare.check(Limits(memory=64 * MB))
        if whole.mode == "hybrid":
            with pytest.raises(Unsupported, match="memory.high.*no memory controller on cgroup v2"):
                whole.check(Limits(unified=(("memory.high", "1"),)))

    def test_values_that_the_kernel_refuses(self, whole: CgroupDriver) -> None:
        handle = whole.create(f"{whole.parent}/one")
        if whole.version == 2:  # which has no swappiness
            limits, text = (
                Limits(unified=(("cpu.weight", "0"),)),
                "cpu.weight = 0: Numerical result",
            )
        else:
            limits, text = (
                Limits(memory_swappiness=1000),
                "memory.swappiness = 1000: Invalid argument",
            )
        with pytest.raises(Invalid, match=f"cannot set {text}"):
            whole.apply(handle, limits)

    def test_limits_of_a_cgroup_that_is_gone(self, whole: CgroupDriver) -> None:
        gone = Handle(f"{whole.parent}/gone", f"{whole.parent}/gone")
        with pytest.raises(NotFound):
            whole.apply(gone, Limits(pids_limit=5))


@pytest.mark.skipif(MACHINE.unified is None, reason="no cgroup v2 here")
@pytest.mark.skipif(not Path("/dev/kmsg").exists(), reason="no /dev/kmsg to be denied")
def test_the_kernel_takes_the_device_program(spawn: Spawn) -> None:
    with contextlib.ExitStack() as stack:
        stack.enter_context(opened(part("v2")))
        driver = open_cgroups(
            f"{NAME}/engine", hierarchies=part("v2"), load_devices=load_device_program
        )
        process = spawn(OPENS)
        limits = Limits(devices=(*DEFAULT_DEVICES, DeviceRule.parse("b 254:* rm")))
        driver.check(limits)
        handle = driver.create(f"{driver.parent}/one")
        try:
            driver.apply(handle, limits)
        except OSError as error:
            if error.errno in (errno.EPERM, errno.ENOSYS):
                pytest.skip(f"bpf(2): {error.strerror}")
            raise
        move(driver, handle, process.pid)
        assert go(process) == 6
        driver.apply(handle, Limits(devices=ALL_DEVICES))
        again = spawn(OPENS)
        move(driver, handle, again.pid)
        assert go(again) == 7


def test_two_engines_share_the_top_directory_but_not_their_own() -> None:
    with contextlib.ExitStack() as stack:
        first = open_cgroups(f"{NAME}/first", hierarchies=MACHINE)
        stack.callback(first.close)
        second = open_cgroups(f"{NAME}/second", hierarchies=MACHINE)
        stack.callback(second.close)
        handle = first.create(f"{first.parent}/x")
        assert second.adopt(second.parent) == []
        second.close()
        assert first.adopt(first.parent) == ["x"]
        first.remove(handle)


def test_an_engine_that_leaves_does_not_disturb_one_that_comes() -> None:
    until = time.monotonic() + 0.5

    def come_and_go(name: str) -> int:
        rounds = 0
        while rounds < 4 or time.monotonic() < until:
            driver = open_cgroups(f"{NAME}/{name}", hierarchies=MACHINE)
            try:
                driver.remove(driver.create(f"{driver.parent}/one"))
            finally:
                driver.close()
            rounds += 1
        return rounds

    with ThreadPoolExecutor(2) as pool:
        assert min(pool.map(come_and_go, ("first", "second"))) > 3


def test_making_a_set_is_quick(whole: CgroupDriver) -> None:
    limits = Limits(memory=64 * MB, memory_swap=128 * MB, nano_cpus=10**9, pids_limit=100)
    times: list[float] = []
    for number in range(20):
        began = time.perf_counter()
        handle = whole.create(f"{whole.parent}/{number}")
        whole.apply(handle, limits)
        times.append(time.perf_counter() - began)
        whole.remove(handle)
    assert min(times) < 0.01


def v2_controller() -> str:
    """A controller that v2 gives only below cgroups without processes; "" where there is none to try."""
    found = MACHINE.unified.controllers if MACHINE.unified is not None else ()
    return next((name for name in ("hugetlb", "memory", "io") if name in found), "")


@pytest.fixture
def inner() -> Iterator[Path]:
    """A v2 cgroup that may give its controllers on, as a container's is."""
    if not v2_controller():
        pytest.skip("no controller on v2 here")
    with opened(part("v2")) as driver:
        (directory,) = set(driver.directories(driver.create(f"{driver.parent}/inner")).values())
        yield Path(directory)


def test_an_engine_in_a_container_makes_room_for_its_containers(inner: Path) -> None:
    assert MACHINE.unified is not None
    unified = replace(MACHINE.unified, mount_point=str(inner), mount_root="/", own="/")
    found = Hierarchies(v1=(), unified=unified)
    pid = os.fork()
    if pid == 0:
        with contextlib.suppress(BaseException):
            (inner / "cgroup.procs").write_text(str(os.getpid()))
            driver = open_cgroups(f"{NAME}/nested", hierarchies=found)
            handle = driver.create(f"{driver.parent}/one")
            (directory,) = set(driver.directories(handle).values())
            controllers = Path(directory, "cgroup.controllers").read_text().split()
            fine = v2_controller() in controllers
            fine &= (inner / "init/cgroup.procs").read_text().split() == [str(os.getpid())]
            os._exit(0 if fine else 1)
        os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_a_process_enters_a_cgroup_that_has_given_its_controllers_on(
    inner: Path, spawn: Spawn
) -> None:
    first = spawn()
    (inner / "init").mkdir()
    (inner / "init/cgroup.procs").write_text(str(first.pid))
    (inner / "cgroup.subtree_control").write_text(f"+{v2_controller()}")
    entrances = open_entrances((), str(inner))
    try:
        pid = clone3(CLONE_INTO_CGROUP, entrances.unified)
        if pid == 0:
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    finally:
        entrances.close()
