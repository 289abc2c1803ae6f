"""Limits performed, and refused beforehand where this machine cannot honour them."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import replace

from wherry.model.errors import Conflict, Forbidden, Invalid, NotFound, Unsupported
from wherry.model.resources import Limits, parse_cpu_list
from wherry.runtime.cgroups.devices import device_program
from wherry.runtime.cgroups.files import read_number, read_text
from wherry.runtime.cgroups.plan import Write, controllers, plan_v1, plan_v2
from wherry.runtime.cgroups.tree import Tree

LoadDevices = Callable[[bytes, int], None]
"""Load an eBPF program of type BPF_PROG_TYPE_CGROUP_DEVICE and attach it to a cgroup's descriptor."""

_WHY_MISSING = {
    "blkio.weight": "the kernel has neither CFQ nor BFQ group scheduling (CONFIG_BFQ_GROUP_IOSCHED)",
    "blkio.weight_device": "the kernel has neither CFQ nor BFQ group scheduling "
    "(CONFIG_BFQ_GROUP_IOSCHED)",
    "memory.memsw.limit_in_bytes": "swap accounting is off (boot with swapaccount=1)",
    "memory.swap.max": "the kernel has no swap or swap accounting is off",
    "cpu.rt_runtime_us": "the kernel has no CONFIG_RT_GROUP_SCHED",
    "cpu.rt_period_us": "the kernel has no CONFIG_RT_GROUP_SCHED",
    "cpu.cfs_quota_us": "the kernel has no CONFIG_CFS_BANDWIDTH",
    "io.bfq.weight": "the kernel has neither BFQ group scheduling nor io.cost",
    "io.max": "the kernel has no CONFIG_BLK_DEV_THROTTLING",
}


class Applier:
    """Puts Limits into files below the bases of `tree`; `parent` is where files are looked for."""

    def __init__(self, tree: Tree, parent: str, load_devices: LoadDevices | None) -> None:
        self._tree = tree
        self._parent = parent
        self._load_devices = load_devices
        self._files: dict[tuple[str, str], bool] = {}

    def check(self, limits: Limits) -> None:
        """Raise Unsupported or Invalid for what cannot be honoured; nothing of a container is made."""
        self._writes(limits, self._parent, None)
        self._check_cpuset(limits)
        if limits.cpu_rt_runtime:
            self._check_realtime(limits.cpu_rt_runtime)

    def apply(self, path: str, unified: str, limits: Limits) -> None:
        """Write `limits` into the cgroup `path` (`unified` below v2's base).

        Raises Unsupported, Invalid, Conflict, Forbidden or NotFound, naming the file and the value.
        """
        memsw_now: int | None = None
        if limits.memory is not None or limits.memory_swap is not None:
            memsw_now = self._memsw_now(path)
        writes = self._writes(limits, unified.rpartition("/")[0], memsw_now)
        fd, opened = -1, ""
        try:
            for write in writes:
                version, base = self._tree.controllers[write.controller]
                file = f"{base}/{path if version == 1 else unified}/{write.file}"
                try:
                    if file != opened:
                        if fd >= 0:
                            os.close(fd)
                        fd, opened = -1, ""
                        fd, opened = os.open(file, os.O_WRONLY | os.O_CLOEXEC), file
                    os.write(fd, write.value.encode())
                except OSError as error:
                    raise _refused(write, file, error) from error
        finally:
            if fd >= 0:
                os.close(fd)
        if limits.devices and self._tree.controllers.get("devices", (2, ""))[0] == 2:
            self._attach_devices(unified, limits)

    def _writes(self, limits: Limits, parent: str, memsw_now: int | None) -> list[Write]:
        """The writes for this machine's mixture of versions, each to a file that exists here."""
        on_v1: list[str] = []
        on_v2: list[str] = []
        for name in controllers(limits):
            if name == "":
                self._need_unified(limits.unified[0][0])
            elif name in self._tree.controllers:
                (on_v1 if self._tree.controllers[name][0] == 1 else on_v2).append(name)
            elif name == "devices":
                self._need_unified("device rules")
                self._need_loader()
            else:
                raise Unsupported(
                    f"this machine has no {name} cgroup controller",
                    hint=f"needed for {_first(limits, name)}",
                )
        if on_v2:
            self._tree.enable(parent, [_v2_name(name) for name in on_v2])
        writes = [
            *plan_v1(limits, only=on_v1, memsw_now=memsw_now),
            *plan_v2(limits, only=on_v2),
            *(self._on_v2(write) for write in plan_v2(limits, only=[""])),
        ]
        return [self._existing(write) for write in writes]

    def _on_v2(self, write: Write) -> Write:
        """A `unified` write under the name that its controller has here, which must be on v2."""
        name = "blkio" if write.controller == "io" else write.controller
        if self._tree.controllers.get(name, (1, ""))[0] != 2:
            raise Unsupported(
                f"{write.file}: this machine has no {write.controller} controller on cgroup v2"
            )
        return replace(write, controller=name)

    def _need_loader(self) -> None:
        if self._load_devices is None:
            raise Unsupported(
                "device rules: cgroup v2 takes them as an eBPF program",
                hint="this engine may not load one (it needs CAP_BPF or CAP_SYS_ADMIN)",
            )

    def _need_unified(self, what: str) -> None:
        if self._tree.unified is None:
            raise Unsupported(
                f"{what}: this machine has no cgroup v2",
                hint="and no v1 controller that would do",
            )

    def _existing(self, write: Write) -> Write:
        """`write` or what stands for it, whichever this kernel has a file for."""
        version, base = self._tree.controllers[write.controller]
        directory = f"{base}/{self._parent}"
        candidate: Write | None = write
        while candidate is not None:
            key = (directory, candidate.file)
            if not self._files.get(key):
                self._files[key] = os.path.exists(f"{directory}/{candidate.file}")
            if self._files[key]:
                return candidate
            candidate = candidate.instead
        raise Unsupported(
            f"cannot set {write.describe()}: this machine's cgroup v{version} has no {write.file}",
            hint=_WHY_MISSING.get(write.file, f"not in {directory}"),
        )

    def _memsw_now(self, path: str) -> int | None:
        version, base = self._tree.controllers.get("memory", (2, ""))
        if version != 1:
            return None
        try:
            return read_number(f"{base}/{path}/memory.memsw.limit_in_bytes")
        except FileNotFoundError:
            return None

    def _attach_devices(self, unified: str, limits: Limits) -> None:
        assert self._load_devices is not None
        directory = f"{self._tree.unified}/{unified}"
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self._load_devices(device_program(limits.devices), fd)
        finally:
            os.close(fd)

    def _check_cpuset(self, limits: Limits) -> None:
        for wanted, what, names in (
            (limits.cpuset_cpus, "CPUs", ("cpuset.effective_cpus", "cpuset.cpus.effective")),
            (
                limits.cpuset_mems,
                "memory nodes",
                ("cpuset.effective_mems", "cpuset.mems.effective"),
            ),
        ):
            if not wanted:
                continue
            version, base = self._tree.controllers["cpuset"]
            available = read_text(f"{base}/{self._parent}/{names[version - 1]}").strip()
            if not parse_cpu_list(wanted) <= parse_cpu_list(available):
                raise Invalid(
                    f"Requested {what} are not available - requested {wanted}, available: {available}"
                )

    def _check_realtime(self, runtime: int) -> None:
        _, base = self._tree.controllers["cpu"]
        budget = read_number(f"{base}/{self._parent}/cpu.rt_runtime_us")
        if runtime > budget:
            raise Unsupported(
                f"cpu.rt_runtime_us = {runtime}: {base}/{self._parent} has {budget} µs",
                hint="give the parent cgroups a share of the machine's realtime budget first",
            )


def _first(limits: Limits, controller: str) -> str:
    try:
        writes = plan_v1(limits, only=[controller])
    except Unsupported:
        return controller
    return writes[0].describe() if writes else controller


def _v2_name(controller: str) -> str:
    return "io" if controller == "blkio" else controller


def _refused(write: Write, file: str, error: OSError) -> Exception:
    """What the kernel's answer to `write` means to the one who asked."""
    text = f"cannot set {write.describe()}: {error.strerror} ({file})"
    match error.errno:
        case errno.EBUSY:
            return Conflict(text, hint="more than that is in use")
        case errno.ENOENT:
            directory = os.path.dirname(file)
            return Unsupported(text) if os.path.isdir(directory) else NotFound("cgroup", directory)
        case errno.EACCES | errno.EPERM | errno.EROFS:
            return Forbidden(text)
        case errno.ENODEV:
            return Invalid(text, hint="there is no such device")
        case _:
            return Invalid(text)
