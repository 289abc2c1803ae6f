"""Limits to files: what is written where, for cgroup v1 and v2, in which order. Pure.

Controllers go by their v1 names; `blkio` is v2's `io`. Source: the kernel's admin-guide/cgroup-v1
and cgroup-v2; the OCI runtime specification for the conversions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from wherry.model.errors import Invalid, Unsupported
from wherry.model.resources import DeviceRate, Limits
from wherry.runtime.cgroups.devices import reduce

_PERIOD = 100_000  # µs, the kernel's default and Docker's for --cpus
_NANO = 10**9
_LEAST_SHARES, _MOST_SHARES = 2, 262_144


@dataclass(frozen=True, slots=True)
class Write:
    """Put `value` into `file` of `controller`; `instead` where the kernel has no such file."""

    controller: str
    file: str
    value: str
    instead: Write | None = None

    def describe(self) -> str:
        """Return the line that errors and plans show."""
        return f"{self.file} = {self.value}"


def controllers(limits: Limits) -> tuple[str, ...]:
    """Return the controllers that `limits` ask something of, by v1 name; `` for `unified`."""
    said = {
        "cpu": _any(
            limits.nano_cpus,
            limits.cpu_shares,
            limits.cpu_quota,
            limits.cpu_period,
            limits.cpu_rt_period,
            limits.cpu_rt_runtime,
        ),
        "cpuset": bool(limits.cpuset_cpus or limits.cpuset_mems),
        "memory": _any(
            limits.memory,
            limits.memory_swap,
            limits.memory_reservation,
            limits.memory_swappiness,
            limits.oom_kill_disable or None,
        )
        or limits.oom_kill_disable is not None,
        "pids": limits.pids_limit is not None,
        "blkio": limits.blkio_weight is not None
        or bool(limits.blkio_weight_devices)
        or any(rates for _, _, rates in _rates(limits)),
        "hugetlb": bool(limits.hugepages),
        "devices": bool(limits.devices),
        "": bool(limits.unified),
    }
    return tuple(name for name, asked in said.items() if asked)


def plan_v1(
    limits: Limits, *, only: Iterable[str] | None = None, memsw_now: int | None = None
) -> tuple[Write, ...]:
    """Return the writes for v1, of the controllers in `only` (default: all that v1 has).

    `memsw_now` is the present memory.memsw.limit_in_bytes of a cgroup that is being updated: the
    kernel refuses a memory limit above memory and swap together, so that the order hangs on it.
    Raises Unsupported (`unified`, device rules that v1 cannot say), Invalid.
    """
    chosen = controllers(limits) if only is None else tuple(only)
    writes: list[Write] = []
    for name in chosen:
        if name == "":
            raise Unsupported(
                f"{limits.unified[0][0]}: `unified` limits need cgroup v2",
                hint="this machine has its controllers on cgroup v1",
            )
        writes += _memory_v1(limits, memsw_now) if name == "memory" else _V1[name](limits)
    return tuple(writes)


def plan_v2(limits: Limits, *, only: Iterable[str] | None = None) -> tuple[Write, ...]:
    """Return the writes for v2, of the controllers in `only` (default: all that v2 has).

    Devices are not among them: v2 takes a program, see `device_program`. Raises Unsupported for
    what v2 does not have, Invalid for a swap limit without a memory limit.
    """
    chosen = controllers(limits) if only is None else tuple(only)
    return tuple(write for name in chosen if name != "devices" for write in _V2[name](limits))


def shares_to_weight(shares: int) -> int:
    """Return cpu.weight (1..10000) for cpu.shares (2..262144), linear as the OCI runtimes do it."""
    return 1 + (min(max(shares, _LEAST_SHARES), _MOST_SHARES) - 2) * 9999 // 262_142


def blkio_to_io_weight(weight: int) -> int:
    """Return io.weight (1..10000) for blkio.weight (10..1000), linear."""
    return 1 + (weight - 10) * 9999 // 990


def cpu_quota(limits: Limits) -> tuple[int | None, int | None]:
    """Return (quota, period) in microseconds, None for what is not said; `nano_cpus` is both."""
    if limits.nano_cpus is not None:
        return limits.nano_cpus * _PERIOD // _NANO, _PERIOD
    return limits.cpu_quota, limits.cpu_period


def _any(*values: object) -> bool:
    return any(value is not None for value in values)


def _rates(limits: Limits) -> Iterator[tuple[str, str, tuple[DeviceRate, ...]]]:
    yield "blkio.throttle.read_bps_device", "rbps", limits.blkio_device_read_bps
    yield "blkio.throttle.write_bps_device", "wbps", limits.blkio_device_write_bps
    yield "blkio.throttle.read_iops_device", "riops", limits.blkio_device_read_iops
    yield "blkio.throttle.write_iops_device", "wiops", limits.blkio_device_write_iops


def _memory_v1(limits: Limits, memsw_now: int | None) -> Iterator[Write]:
    memory, swap = limits.memory, limits.memory_swap
    if memory == -1 and swap is None:
        swap = -1  # the memory limit could not rise above the old sum
    pair: list[Write] = []
    if memory is not None:
        pair.append(Write("memory", "memory.limit_in_bytes", str(memory)))
    if swap is not None:
        rises = memsw_now is not None and (swap == -1 or swap > memsw_now)
        pair.insert(
            0 if rises else len(pair), Write("memory", "memory.memsw.limit_in_bytes", str(swap))
        )
    yield from pair
    if limits.memory_reservation is not None:
        yield Write("memory", "memory.soft_limit_in_bytes", str(limits.memory_reservation))
    if limits.memory_swappiness is not None:
        yield Write("memory", "memory.swappiness", str(limits.memory_swappiness))
    if limits.oom_kill_disable is not None:
        yield Write("memory", "memory.oom_control", str(int(limits.oom_kill_disable)))


def _cpu_v1(limits: Limits) -> Iterator[Write]:
    quota, period = cpu_quota(limits)
    if limits.cpu_shares is not None:
        # The kernel would take the nearest instead; Docker's runtime says so, and so do we.
        if limits.cpu_shares < _LEAST_SHARES:
            raise Invalid(f"the minimum allowed cpu-shares is {_LEAST_SHARES}")
        if limits.cpu_shares > _MOST_SHARES:
            raise Invalid(f"the maximum allowed cpu-shares is {_MOST_SHARES}")
        yield Write("cpu", "cpu.shares", str(limits.cpu_shares))
    if period is not None:
        yield Write("cpu", "cpu.cfs_period_us", str(period))
    if quota is not None:
        yield Write("cpu", "cpu.cfs_quota_us", str(quota))
    if limits.cpu_rt_period is not None:
        yield Write("cpu", "cpu.rt_period_us", str(limits.cpu_rt_period))
    if limits.cpu_rt_runtime is not None:
        yield Write("cpu", "cpu.rt_runtime_us", str(limits.cpu_rt_runtime))


def _cpuset(limits: Limits) -> Iterator[Write]:
    if limits.cpuset_cpus:
        yield Write("cpuset", "cpuset.cpus", limits.cpuset_cpus)
    if limits.cpuset_mems:
        yield Write("cpuset", "cpuset.mems", limits.cpuset_mems)


def _pids(limits: Limits) -> Iterator[Write]:
    if limits.pids_limit is not None:
        yield Write("pids", "pids.max", str(limits.pids_limit) if limits.pids_limit > 0 else "max")


def _blkio_v1(limits: Limits) -> Iterator[Write]:
    if limits.blkio_weight is not None:
        value = str(limits.blkio_weight)
        # blkio.weight went with CFQ in Linux 5.0; BFQ's file takes the same scale.
        yield Write(
            "blkio", "blkio.weight", value, instead=Write("blkio", "blkio.bfq.weight", value)
        )
    for device in limits.blkio_weight_devices:
        value = f"{device.major}:{device.minor} {device.rate}"
        yield Write(
            "blkio",
            "blkio.weight_device",
            value,
            instead=Write("blkio", "blkio.bfq.weight_device", value),
        )
    for file, _, rates in _rates(limits):
        for device in rates:
            yield Write("blkio", file, f"{device.major}:{device.minor} {device.rate}")


def _hugetlb_v1(limits: Limits) -> Iterator[Write]:
    for page in limits.hugepages:
        yield Write("hugetlb", f"hugetlb.{page.size}.limit_in_bytes", str(page.limit))


def _devices_v1(limits: Limits) -> Iterator[Write]:
    table = reduce(limits.devices)
    yield Write("devices", "devices.allow" if table.allow else "devices.deny", "a")
    for exception in table.exceptions:
        file = "devices.allow" if exception.allow else "devices.deny"
        yield Write("devices", file, exception.render())


def _memory_v2(limits: Limits) -> Iterator[Write]:
    if limits.memory_swappiness is not None:
        raise Unsupported("memory swappiness needs cgroup v1", hint="v2 has no such file")
    if limits.oom_kill_disable:
        raise Unsupported(
            "disabling the OOM killer needs cgroup v1", hint="v2 has no memory.oom_control"
        )
    memory, swap = limits.memory, limits.memory_swap
    if memory == -1 and swap is None:
        swap = -1
    if memory is not None:
        yield Write("memory", "memory.max", _or_max(memory))
    if swap is not None and swap < 0:
        yield Write("memory", "memory.swap.max", "max")
    elif swap is not None:
        if memory is None or memory < 0:
            raise Invalid(
                "You should always set the Memory limit when using Memoryswap limit, see usage"
            )
        yield Write("memory", "memory.swap.max", str(swap - memory))
    if limits.memory_reservation is not None:
        yield Write("memory", "memory.low", str(max(limits.memory_reservation, 0)))


def _cpu_v2(limits: Limits) -> Iterator[Write]:
    if limits.cpu_rt_period is not None or limits.cpu_rt_runtime is not None:
        raise Unsupported("realtime CPU limits need cgroup v1", hint="v2 has no cpu.rt_runtime_us")
    quota, period = cpu_quota(limits)
    if limits.cpu_shares is not None:
        yield Write("cpu", "cpu.weight", str(shares_to_weight(limits.cpu_shares)))
    if quota is not None:
        yield Write("cpu", "cpu.max", f"{_or_max(quota)} {period or _PERIOD}")
    elif period is not None:
        yield Write("cpu", "cpu.max", f"max {period}")


def _blkio_v2(limits: Limits) -> Iterator[Write]:
    if limits.blkio_weight is not None:
        yield Write(
            "blkio",
            "io.bfq.weight",
            str(limits.blkio_weight),
            instead=Write(
                "blkio", "io.weight", f"default {blkio_to_io_weight(limits.blkio_weight)}"
            ),
        )
    for device in limits.blkio_weight_devices:
        at = f"{device.major}:{device.minor}"
        yield Write(
            "blkio",
            "io.bfq.weight",
            f"{at} {device.rate}",
            instead=Write("blkio", "io.weight", f"{at} {blkio_to_io_weight(device.rate)}"),
        )
    for _, key, rates in _rates(limits):
        for device in rates:
            value = f"{device.major}:{device.minor} {key}={device.rate or 'max'}"
            yield Write("blkio", "io.max", value)


def _hugetlb_v2(limits: Limits) -> Iterator[Write]:
    for page in limits.hugepages:
        yield Write("hugetlb", f"hugetlb.{page.size}.max", _or_max(page.limit))


def _unified(limits: Limits) -> Iterator[Write]:
    for file, value in limits.unified:
        if not file or "/" in file or file.startswith("."):
            raise Invalid(f"unified: {file!r} is not the name of a cgroup file")
        yield Write(file.partition(".")[0], file, value)


def _or_max(value: int) -> str:
    return str(value) if value >= 0 else "max"


_V1: dict[str, Callable[[Limits], Iterator[Write]]] = {
    "cpu": _cpu_v1,
    "cpuset": _cpuset,
    "pids": _pids,
    "blkio": _blkio_v1,
    "hugetlb": _hugetlb_v1,
    "devices": _devices_v1,
}
_V2: dict[str, Callable[[Limits], Iterator[Write]]] = {
    "memory": _memory_v2,
    "cpu": _cpu_v2,
    "cpuset": _cpuset,
    "pids": _pids,
    "blkio": _blkio_v2,
    "hugetlb": _hugetlb_v2,
    "": _unified,
}
