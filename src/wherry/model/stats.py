"""What a container uses, as its cgroups and its network tell it. Nanoseconds and bytes throughout."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CpuStats:
    """Processor time in nanoseconds since the cgroup was made; `per_cpu_ns` only with cgroup v1."""

    total_ns: int = 0
    user_ns: int = 0
    system_ns: int = 0
    per_cpu_ns: tuple[int, ...] = ()
    periods: int = 0
    throttled_periods: int = 0
    throttled_ns: int = 0


@dataclass(frozen=True, slots=True)
class MemoryStats:
    """Bytes. `limit` is about 2**63 when there is none; `max_usage` and `failcnt` are 0 where unknown.

    `stat` is memory.stat as the kernel names it, which differs between cgroup v1 and v2.
    """

    usage: int
    limit: int
    max_usage: int
    failcnt: int
    stat: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class PidsStats:
    """Tasks now, and how many there may be; a `limit` of 0 is unlimited."""

    current: int = 0
    limit: int = 0


@dataclass(frozen=True, slots=True)
class BlkioEntry:
    """`value` bytes or operations of kind `op` (`Read`, `Write`, … or `read`, `write`) on a device."""

    major: int
    minor: int
    op: str
    value: int


@dataclass(frozen=True, slots=True)
class BlkioStats:
    """Input and output on block devices, the cgroups below included."""

    io_service_bytes_recursive: tuple[BlkioEntry, ...] = ()
    io_serviced_recursive: tuple[BlkioEntry, ...] = ()


@dataclass(frozen=True, slots=True)
class LinkStats:
    """What went through one network interface since it was made: bytes, packets."""

    rx_bytes: int
    rx_packets: int
    rx_errors: int
    rx_dropped: int
    tx_bytes: int
    tx_packets: int
    tx_errors: int
    tx_dropped: int


@dataclass(frozen=True, slots=True)
class CgroupStats:
    """One reading. `version` is 1 when the memory controller is on cgroup v1 (hybrid too), else 2.

    A controller that this machine lacks reads as zeros; `memory` is None then, for it has a limit.
    """

    cpu: CpuStats
    memory: MemoryStats | None
    pids: PidsStats
    blkio: BlkioStats
    version: int
