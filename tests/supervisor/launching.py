"""A real pool in a test's own process: real cgroups, namespaces and ids; the test plays the table's part."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from wherry.kernel.bpf import load_device_program
from wherry.kernel.calls import Kernel
from wherry.kernel.processes import wait_readable
from wherry.model.errors import Conflict
from wherry.model.oci import (
    DEFAULT_MASKED_PATHS,
    DEFAULT_READONLY_PATHS,
    OverlayRoot,
    Process,
    RuntimeSpec,
)
from wherry.runtime.cgroups import CgroupDriver, open_cgroups
from wherry.runtime.host import cgroup_mounts
from wherry.runtime.plan import plan_launch
from wherry.runtime.slots import Slot
from wherry.supervisor.pool import Pool, PoolConfig
from wherry.supervisor.ranges import IdRanges
from wherry.testing.kernel import Own

ALL_CHILDREN = 0x40000000  # __WALL


def warm_slot(pool: Pool) -> Slot:
    """Return the warm slot that the pool has, or has made now; it stays the pool's."""
    pool.refill()
    if not pool._warm:  # pyright: ignore[reportPrivateUsage]
        pool._receive(10)  # pyright: ignore[reportPrivateUsage]
    return pool._warm[0]  # pyright: ignore[reportPrivateUsage]


USUAL = 0xA80425FB  # Docker's fourteen capabilities


def make_root(folder: Path) -> Path:
    """Return a layer with busybox in it, made below `folder`."""
    for name in ("bin", "etc", "proc", "sys", "dev", "tmp"):
        (folder / name).mkdir(parents=True)
    folder.chmod(0o755)
    shutil.copy("/bin/busybox", folder / "bin/busybox")
    for applet in ("sh", "cat", "sleep", "ls", "id", "pwd", "true", "grep"):
        (folder / "bin" / applet).symlink_to("busybox")
    (folder / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\nbob:x:1000:1000::/:/bin/sh\n")
    return folder


def children() -> frozenset[int]:
    """Return the pids of this process's children."""
    found: set[int] = set()
    for name in os.listdir("/proc"):
        if name.isdecimal():
            with contextlib.suppress(OSError):
                stat = Path(f"/proc/{name}/stat").read_text()
                if int(stat.rpartition(")")[2].split()[1]) == os.getpid():
                    found.add(int(name))
    return frozenset(found)


@dataclass
class House:
    """Everything a pool needs, below one folder, and what a test asks of it."""

    data: Path
    driver: CgroupDriver
    lower: Path
    pools: list[Pool] = field(default_factory=list[Pool])
    serial: int = 0
    others: frozenset[int] = field(default_factory=lambda: children())
    """Processes of this one's that were there before: the shared engine's daemon, for one."""

    def pool(self, k: Kernel | None = None, driver: Any = None) -> Pool:
        """Return a pool; all pools share the ranges, as one engine's do."""
        mounts = cgroup_mounts(Path("/proc/self/mountinfo").read_text())
        ranges = IdRanges(path=str(self.data / "ids.lock"))
        config = PoolConfig(str(self.data))
        made = Pool(k or Own(), config, driver or self.driver, ranges, mounts)
        self.pools.append(made)
        return made

    def close(self, pool: Pool) -> None:
        """Close a pool and its descriptor of the ranges."""
        pool.close()
        os.close(pool._ranges._fd)  # pyright: ignore[reportPrivateUsage]
        self.pools.remove(pool)

    def spec(self, *argv: str, **changes: Any) -> RuntimeSpec:
        """Return what runs `argv` as Docker's defaults would; `changes` are fields of either."""
        self.serial += 1
        process = Process(argv, bounding=USUAL, effective=USUAL, permitted=USUAL)
        fields = {name: value for name, value in changes.items() if hasattr(process, name)}
        rest = {name: value for name, value in changes.items() if name not in fields}
        return replace(
            RuntimeSpec(
                id=f"c{self.serial}",
                process=replace(process, **fields),
                root=OverlayRoot((str(self.lower), str(self.data / "empty"))),
                cgroup_path=f"{self.driver.parent}/c{self.serial}",
                masked_paths=DEFAULT_MASKED_PATHS,
                readonly_paths=DEFAULT_READONLY_PATHS,
            ),
            **rest,
        )

    def left(self) -> list[str]:
        """Return what is there of containers: cgroups, children, ranges."""
        found = [f"cgroup {name}" for name in self.driver.adopt(self.driver.parent)]
        for pid in children() - self.others:
            # A process in the middle of a joining may be on its way out yet.
            with contextlib.suppress(ChildProcessError, ProcessLookupError):
                pidfd = os.pidfd_open(pid)
                wait_readable(pidfd, 2)
                os.close(pidfd)
                if os.waitpid(pid, os.WNOHANG | ALL_CHILDREN)[0] == 0:
                    found.append("a child process")
        other = IdRanges(path=str(self.data / "ids.lock"))
        if other.take() != 0:
            found.append("an id range")
        os.close(other._fd)  # pyright: ignore[reportPrivateUsage]
        return found


@contextlib.contextmanager
def house(folder: Path) -> Iterator[House]:
    """A house below `folder`; nothing of it is left at the end."""
    parent = f"wherry-test-{os.getpid()}/{folder.name}"
    driver = open_cgroups(parent, load_devices=load_device_program)
    lower = make_root(folder / "lower")
    (folder / "empty").mkdir()
    here = House(folder, driver, lower)
    try:
        yield here
    finally:
        for pool in list(here.pools):
            here.close(pool)
        driver.close()


@dataclass
class Run:
    """One process that was started."""

    pool: Pool
    slot: Slot
    facts: dict[str, Any]
    reading: int
    code: int = -1

    def wait(self) -> tuple[int, str]:
        """Return exit code and output when it has ended, with everything given back."""
        output = b""
        while data := os.read(self.reading, 65536):
            output += data
        self.reap()
        return self.code, output.decode()

    def reap(self) -> None:
        """Wait for the end and give back what it held."""
        ended = os.waitid(os.P_PIDFD, self.slot.pidfd, os.WEXITED | ALL_CHILDREN)
        assert ended is not None
        self.code = ended.si_status
        for fd in (self.reading, self.slot.pidfd, self.slot.socket):
            os.close(fd)
        give_back(self.pool, self.facts)

    def kill(self) -> None:
        """End it."""
        signal.pidfd_send_signal(self.slot.pidfd, signal.SIGKILL)
        self.reap()


def start(pool: Pool, spec: RuntimeSpec, stdout: int = -1) -> Run:
    """Start a container as the table does: raise StartFailed with nothing left."""
    plan = plan_launch(spec)
    return _begin(
        pool, pool.take(plan), lambda slot, i, o: pool.begin(slot, plan, i, o, o, -1, {}), stdout
    )


def execute(run: Run, process: Process) -> Run:
    """Start a process inside a running container."""
    pool = run.pool
    slot = pool.take_exec(run.facts, run.slot.pidfd)
    return _begin(pool, slot, lambda slot, i, o: pool.begin_exec(slot, process, i, o, o, -1), -1)


def _begin(pool: Pool, slot: Slot, begin: Any, stdout: int) -> Run:
    reading, writing = os.pipe2(os.O_CLOEXEC)
    nothing = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    run = Run(pool, slot, pool.facts(slot), reading)
    try:
        begin(slot, nothing, stdout if stdout >= 0 else writing)
        os.close(writing)
        writing = -1
        assert wait_readable(slot.socket, 10)
        pool.finish(slot)
    except BaseException:
        run.kill()
        raise
    finally:
        for fd in {nothing, writing} - {-1}:
            os.close(fd)
    return run


def give_back(pool: Pool, facts: dict[str, Any]) -> None:
    """Release, as soon as the last process has left the cgroups."""
    deadline = time.monotonic() + 30
    while True:
        try:
            pool.release(facts)
            return
        except Conflict:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.001)


def open_descriptors() -> int:
    """Return how many descriptors this process has open."""
    return len(os.listdir("/proc/self/fd"))
