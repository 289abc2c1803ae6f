"""What a container may use: limits, device rules, and Docker's rules about them.

Source: Engine API `Resources`, docker-run(1), cgroup-v1 and cgroup-v2 of the kernel's documentation.
Messages are those of Docker Engine 28.5.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields, replace

from wherry.model.errors import Conflict, Invalid

_RULE = re.compile(r"([acb]) ([0-9]+|\*):([0-9]+|\*) ([rwm]{1,3})")
_ITEM = re.compile(r"([0-9]+)(?:-([0-9]+))?")
_LEAST_MEMORY = 6 * 1024 * 1024
_NANO = 10**9
_MOST_PIDS = 4 * 1024 * 1024  # PID_MAX_LIMIT, linux/threads.h: pids.max takes no larger number
_LARGEST_CPUSET = 8192  # CONFIG_NR_CPUS_RANGE_END on x86-64: no kernel has more


@dataclass(frozen=True, slots=True)
class DeviceRate:
    """A figure for one block device: bytes a second, operations a second, or a weight."""

    major: int
    minor: int
    rate: int


@dataclass(frozen=True, slots=True)
class DeviceRule:
    """Allow or deny `access` (of `rwm`) to devices of `kind` (`a`, `b`, `c`); None is every number."""

    allow: bool
    kind: str
    major: int | None
    minor: int | None
    access: str = "rwm"

    @classmethod
    def parse(cls, text: str) -> DeviceRule:
        """Return the allowing rule that `c 1:3 rwm` writes, as `--device-cgroup-rule`. Raises Invalid."""
        found = _RULE.fullmatch(text)
        if found is None:
            raise Invalid(f"invalid device cgroup format '{text}'", hint="for example: c 1:3 rwm")
        kind, major, minor, access = found.groups()
        return cls(
            allow=True,
            kind=kind,
            major=None if major == "*" else int(major),
            minor=None if minor == "*" else int(minor),
            access="".join(letter for letter in "rwm" if letter in access),
        )

    def render(self) -> str:
        """Return the rule as devices.allow and devices.deny take it (and `parse` reads it)."""
        major = "*" if self.major is None else self.major
        minor = "*" if self.minor is None else self.minor
        return f"{self.kind} {major}:{minor} {self.access}"


@dataclass(frozen=True, slots=True)
class HugepageLimit:
    """At most `limit` bytes of huge pages of `size`, written as the kernel does: `2MB`, `1GB`."""

    size: str
    limit: int


@dataclass(frozen=True, slots=True)
class Limits:
    """What is wanted of the cgroups. None and () are "not said": left as it is.

    Memory is in bytes, -1 is unlimited; `memory_swap` is memory and swap together. Periods, quotas
    and runtimes are microseconds, a quota of -1 is none. `pids_limit` of 0 or less is unlimited.
    `devices` is the whole list in order, the last matching rule deciding; `unified` is cgroup v2
    file to value.
    """

    memory: int | None = None
    memory_swap: int | None = None
    memory_reservation: int | None = None
    memory_swappiness: int | None = None
    oom_kill_disable: bool | None = None
    nano_cpus: int | None = None
    cpu_shares: int | None = None
    cpu_quota: int | None = None
    cpu_period: int | None = None
    cpu_rt_period: int | None = None
    cpu_rt_runtime: int | None = None
    cpuset_cpus: str | None = None
    cpuset_mems: str | None = None
    pids_limit: int | None = None
    blkio_weight: int | None = None
    blkio_weight_devices: tuple[DeviceRate, ...] = ()
    blkio_device_read_bps: tuple[DeviceRate, ...] = ()
    blkio_device_write_bps: tuple[DeviceRate, ...] = ()
    blkio_device_read_iops: tuple[DeviceRate, ...] = ()
    blkio_device_write_iops: tuple[DeviceRate, ...] = ()
    devices: tuple[DeviceRule, ...] = ()
    hugepages: tuple[HugepageLimit, ...] = ()
    unified: tuple[tuple[str, str], ...] = ()

    def merged(self, update: Limits) -> Limits:
        """Return these limits with what `update` says put over them."""
        said = {
            item.name: value
            for item in fields(update)
            if (value := getattr(update, item.name)) is not None and value != ()
        }
        return replace(self, **said)


def _rules(allow: bool, *texts: str) -> tuple[DeviceRule, ...]:
    return tuple(replace(DeviceRule.parse(text), allow=allow) for text in texts)


DENY_ALL = _rules(False, "a *:* rwm")
ALL_DEVICES = _rules(True, "a *:* rwm")
# devices.list of a container of Docker Engine 28.5: making nodes is harmless, using them is not.
# null, zero, full, random, urandom, tty, console, ptmx, net/tun, pts.
DEFAULT_DEVICES = DENY_ALL + _rules(
    True,
    "c *:* m",
    "b *:* m",
    "c 1:3 rwm",
    "c 1:5 rwm",
    "c 1:7 rwm",
    "c 1:8 rwm",
    "c 1:9 rwm",
    "c 5:0 rwm",
    "c 5:1 rwm",
    "c 5:2 rwm",
    "c 10:200 rwm",
    "c 136:* rwm",
)


def parse_cpu_list(text: str) -> frozenset[int]:
    """Return the numbers in a list such as `0-2,5` (cpuset(7), List format). Raises Invalid."""
    numbers: set[int] = set()
    for item in text.strip().split(",") if text.strip() else []:
        found = _ITEM.fullmatch(item)
        if found is None:
            raise Invalid(f"invalid format: {item}")
        first = int(found[1])
        last = int(found[2]) if found[2] else first
        if last < first or last >= _LARGEST_CPUSET:
            raise Invalid(f"invalid format: {item}")
        numbers.update(range(first, last + 1))
    return frozenset(numbers)


def with_defaults(limits: Limits) -> Limits:
    """Return `limits` with what Docker adds: memory said and swap not makes swap twice the memory.

    Negative numbers that mean "unlimited" become -1, and so do more processes than there can be.
    """
    limits = replace(
        limits,
        memory_swap=_or_unlimited(limits.memory_swap),
        memory_reservation=_or_unlimited(limits.memory_reservation),
        pids_limit=_or_unlimited(limits.pids_limit, most=_MOST_PIDS),
    )
    if limits.memory is not None and limits.memory > 0 and limits.memory_swap is None:
        return replace(limits, memory_swap=limits.memory * 2)
    return limits


def _or_unlimited(value: int | None, most: int | None = None) -> int | None:
    if value is None or (value >= 0 and (most is None or value <= most)):
        return value
    return -1


def check_update(current: Limits, update: Limits) -> None:
    """Raise Conflict, in Docker's words, where `update` contradicts `current`, and Invalid for a swap too small.

    An update is `validate`d by itself before.
    """
    for said, name, held, holder in (
        (update.cpu_period, "CPU Period", current.nano_cpus, "NanoCPUs"),
        (update.cpu_quota, "CPU Quota", current.nano_cpus, "NanoCPUs"),
        (update.nano_cpus, "Nano CPUs", current.cpu_quota, "CPU Quota"),
        (update.nano_cpus, "Nano CPUs", current.cpu_period, "CPU Period"),
    ):
        if said is not None and held is not None:
            raise Conflict(
                f"Conflicting options: {name} cannot be updated as {holder} has already been set"
            )
    memory, swap = update.memory or 0, with_defaults(current).memory_swap or 0
    # Of a container without a limit, or without one of its swap, too.
    if update.memory_swap is None and memory > 0 and memory > swap:
        raise Conflict(
            "Memory limit should be smaller than already set memoryswap limit, "
            "update the memoryswap at the same time"
        )
    if update.memory is None and update.memory_swap is not None:
        _validate_swap(current.memory, update.memory_swap)


def validate(limits: Limits, *, cpus: int | None = None, update: bool = False) -> None:
    """Raise Invalid, in Docker's words, where `limits` contradict themselves or are out of range.

    `cpus` is the number of processors here, when `nano_cpus` is to be held against it. What an
    `update` says of swap alone, `check_update` holds against the container's memory.
    """
    _validate_memory(limits)
    if not update or limits.memory is not None:
        _validate_swap(limits.memory, limits.memory_swap)
    _validate_cpu(limits, cpus)
    for name, text in (("cpuset cpus", limits.cpuset_cpus), ("cpuset mems", limits.cpuset_mems)):
        try:
            parse_cpu_list(text or "")
        except Invalid as error:
            raise Invalid(f"Invalid value {text} for {name}: {error.message}") from None
    weights = [limits.blkio_weight, *(device.rate for device in limits.blkio_weight_devices)]
    if any(weight is not None and not 10 <= weight <= 1000 for weight in weights):
        raise Invalid("Range of blkio weight is from 10 to 1000")


def _validate_memory(limits: Limits) -> None:
    memory, reservation = limits.memory, limits.memory_reservation
    if memory is not None and memory < _LEAST_MEMORY:
        raise Invalid("Minimum memory limit allowed is 6MB")
    if reservation is not None and reservation >= 0:
        if reservation < _LEAST_MEMORY:
            raise Invalid("Minimum memory reservation allowed is 6MB")
        if memory is not None and 0 < memory < reservation:
            raise Invalid(
                "Minimum memory limit can not be less than memory reservation limit, see usage"
            )
    if limits.memory_swappiness is not None and not 0 <= limits.memory_swappiness <= 100:
        raise Invalid(
            f"Invalid value: {limits.memory_swappiness}, valid memory swappiness range is 0-100"
        )


def _validate_swap(memory: int | None, swap: int | None) -> None:
    if swap is None or swap <= 0:
        return
    if memory is None or memory < 0:
        raise Invalid(
            "You should always set the Memory limit when using Memoryswap limit, see usage"
        )
    if swap < memory:
        raise Invalid("Minimum memoryswap limit should be larger than memory limit, see usage")


def _validate_cpu(limits: Limits, cpus: int | None) -> None:
    if limits.nano_cpus is not None:
        if limits.cpu_quota is not None:
            raise Invalid("Conflicting options: Nano CPUs and CPU Quota cannot both be set")
        if limits.cpu_period is not None:
            raise Invalid("Conflicting options: Nano CPUs and CPU Period cannot both be set")
        if limits.nano_cpus <= 0 or (cpus is not None and limits.nano_cpus > cpus * _NANO):
            many = f"{cpus}.00, as there are only {cpus} CPUs available" if cpus else "all of them"
            raise Invalid(f"range of CPUs is from 0.01 to {many}")
    if limits.cpu_shares is not None and limits.cpu_shares < 0:
        raise Invalid(f"invalid CPU shares ({limits.cpu_shares}): value must be a positive integer")
    if limits.cpu_period is not None and not 1000 <= limits.cpu_period <= 1_000_000:
        raise Invalid(
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)"
        )
    for name, value in (("period", limits.cpu_rt_period), ("runtime", limits.cpu_rt_runtime)):
        if value is not None and value < 0:
            raise Invalid(f"invalid CPU realtime {name} ({value}): it cannot be negative")
    if limits.cpu_quota is not None and 0 <= limits.cpu_quota < 1000:
        raise Invalid("CPU cfs quota can not be less than 1ms (i.e. 1000)")
