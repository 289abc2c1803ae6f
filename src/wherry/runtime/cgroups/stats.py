"""Figures out of cgroup files, for v1 and v2, as Docker's `/stats` has them.

Source: admin-guide/cgroup-v1 (cpuacct, memory, blkio-controller, pids), admin-guide/cgroup-v2.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable

from wherry.model.stats import BlkioEntry, BlkioStats, CgroupStats, CpuStats, MemoryStats, PidsStats
from wherry.runtime.cgroups.files import read_number, read_table, read_text

Find = Callable[[str], tuple[int, str] | None]

_TICK_NS = 10**9 // os.sysconf("SC_CLK_TCK")
_UNLIMITED = 0x7FFF_FFFF_FFFF_F000  # memory.limit_in_bytes of v1 without a limit
_IO_BYTES = {"rbytes": "read", "wbytes": "write", "dbytes": "discard"}
_IO_COUNT = {"rios": "read", "wios": "write", "dios": "discard"}


def read_stats(find: Find) -> CgroupStats:
    """Return one reading; `find` tells a controller's version and directory, None where it is not.

    The controller `` is the v2 hierarchy itself.
    Raises OSError (ENOENT, ENODEV) when the cgroup is gone.
    """
    memory = find("memory")
    anywhere = memory or find("cpu") or find("cpuacct")
    return CgroupStats(
        cpu=_read_cpu(find),
        memory=_read_memory(*memory) if memory else None,
        pids=_read_pids(find),
        blkio=_read_blkio(find),
        version=anywhere[0] if anywhere else 2,
    )


def _read_cpu(find: Find) -> CpuStats:
    cpu, account = find("cpu"), find("cpuacct")
    if cpu is None and account is None:
        cpu = find("")  # v2 counts processor time without the controller too
    bandwidth = read_table(f"{cpu[1]}/cpu.stat") if cpu else {}
    if cpu is not None and cpu[0] == 2:
        return CpuStats(
            total_ns=bandwidth.get("usage_usec", 0) * 1000,
            user_ns=bandwidth.get("user_usec", 0) * 1000,
            system_ns=bandwidth.get("system_usec", 0) * 1000,
            periods=bandwidth.get("nr_periods", 0),
            throttled_periods=bandwidth.get("nr_throttled", 0),
            throttled_ns=bandwidth.get("throttled_usec", 0) * 1000,
        )
    ticks: dict[str, int] = {}
    total, per_cpu = 0, ()
    if account is not None:
        total = read_number(f"{account[1]}/cpuacct.usage")
        per_cpu = tuple(map(int, read_text(f"{account[1]}/cpuacct.usage_percpu").split()))
        ticks = read_table(f"{account[1]}/cpuacct.stat")
    return CpuStats(
        total_ns=total,
        user_ns=ticks.get("user", 0) * _TICK_NS,
        system_ns=ticks.get("system", 0) * _TICK_NS,
        per_cpu_ns=per_cpu,
        periods=bandwidth.get("nr_periods", 0),
        throttled_periods=bandwidth.get("nr_throttled", 0),
        throttled_ns=bandwidth.get("throttled_time", 0),
    )


def _read_memory(version: int, directory: str) -> MemoryStats:
    if version == 1:
        return MemoryStats(
            usage=read_number(f"{directory}/memory.usage_in_bytes"),
            limit=read_number(f"{directory}/memory.limit_in_bytes"),
            max_usage=read_number(f"{directory}/memory.max_usage_in_bytes"),
            failcnt=read_number(f"{directory}/memory.failcnt"),
            stat=read_table(f"{directory}/memory.stat"),
        )
    limit = read_number(f"{directory}/memory.max")
    return MemoryStats(
        usage=read_number(f"{directory}/memory.current"),
        limit=_UNLIMITED if limit < 0 else limit,
        max_usage=_read_number_or_zero(f"{directory}/memory.peak"),
        failcnt=read_table(f"{directory}/memory.events").get("max", 0),
        stat=read_table(f"{directory}/memory.stat"),
    )


def _read_pids(find: Find) -> PidsStats:
    pids = find("pids")
    if pids is None:
        return PidsStats()
    return PidsStats(
        current=read_number(f"{pids[1]}/pids.current"),
        limit=max(read_number(f"{pids[1]}/pids.max"), 0),
    )


def _read_blkio(find: Find) -> BlkioStats:
    blkio = find("blkio")
    if blkio is None:
        return BlkioStats()
    version, directory = blkio
    if version == 2:
        return _parse_io_stat(read_text(f"{directory}/io.stat"))
    # BFQ counts what its queues schedule, throttling what passes any; only one of them moves.
    for prefix in ("blkio.bfq", "blkio.throttle"):
        with contextlib.suppress(FileNotFoundError):
            found = BlkioStats(
                _parse_blkio(read_text(f"{directory}/{prefix}.io_service_bytes_recursive")),
                _parse_blkio(read_text(f"{directory}/{prefix}.io_serviced_recursive")),
            )
            if found.io_service_bytes_recursive:
                return found
    return BlkioStats()


def _parse_blkio(text: str) -> tuple[BlkioEntry, ...]:
    """`254:0 Read 4096` lines; the closing `Total 4096` is of no device."""
    entries: list[BlkioEntry] = []
    for line in text.splitlines():
        words = line.split()
        if len(words) == 3:
            major, _, minor = words[0].partition(":")
            entries.append(BlkioEntry(int(major), int(minor), words[1], int(words[2])))
    return tuple(entries)


def _parse_io_stat(text: str) -> BlkioStats:
    """`254:0 rbytes=4096 wbytes=0 rios=1 …` lines."""
    amounts: list[BlkioEntry] = []
    counts: list[BlkioEntry] = []
    for line in text.splitlines():
        device, *pairs = line.split()
        major, _, minor = device.partition(":")
        for pair in pairs:
            key, _, value = pair.partition("=")
            for names, entries in ((_IO_BYTES, amounts), (_IO_COUNT, counts)):
                if key in names:
                    entries.append(BlkioEntry(int(major), int(minor), names[key], int(value)))
    return BlkioStats(tuple(amounts), tuple(counts))


def _read_number_or_zero(path: str) -> int:
    try:
        return read_number(path)
    except FileNotFoundError:  # memory.peak: Linux 5.19
        return 0
