"""`docker stats`: a sample, with the one before it, as Docker shows them."""

from __future__ import annotations

from collections.abc import Iterable

from wherry.api.wire.codec import ZERO_TIME, render_time
from wherry.model.stats import BlkioEntry, CgroupStats, CpuStats, MemoryStats, PidsStats
from wherry.model.views import StatsSample

_BLKIO_REST = (
    "io_queue_recursive",
    "io_service_time_recursive",
    "io_wait_time_recursive",
    "io_merged_recursive",
    "io_time_recursive",
    "sectors_recursive",
)
_NO_CPU: dict[str, object] = {
    "cpu_usage": {"total_usage": 0, "usage_in_kernelmode": 0, "usage_in_usermode": 0},
    "throttling_data": {"periods": 0, "throttled_periods": 0, "throttled_time": 0},
}


def render_stats(
    sample: StatsSample, before: StatsSample | None, machine_memory: int
) -> dict[str, object]:
    """Return one answer of GET /containers/{id}/stats; `machine_memory` (bytes) caps the limit shown."""
    found = sample.counters
    if not isinstance(found, CgroupStats):
        return _stopped(sample)
    earlier = before.counters if before is not None else None
    return {
        "name": f"/{sample.name}",
        "id": sample.id,
        "read": render_time(sample.read_at),
        "preread": render_time(before.read_at) if before is not None else ZERO_TIME,
        "pids_stats": _pids(found.pids),
        "blkio_stats": {
            "io_service_bytes_recursive": _entries(found.blkio.io_service_bytes_recursive),
            "io_serviced_recursive": _entries(found.blkio.io_serviced_recursive),
            **{name: [] if found.version == 1 else None for name in _BLKIO_REST},
        },
        "num_procs": 0,
        "storage_stats": {},
        "cpu_stats": _cpu(found.cpu, sample),
        "precpu_stats": (
            _cpu(earlier.cpu, before)
            if isinstance(earlier, CgroupStats) and before is not None
            else _NO_CPU
        ),
        "memory_stats": _memory(found.memory, machine_memory),
        **({"networks": _links(sample)} if sample.links else {}),
    }


def _stopped(sample: StatsSample) -> dict[str, object]:
    names = ("io_service_bytes_recursive", "io_serviced_recursive", *_BLKIO_REST)
    return {
        "name": f"/{sample.name}",
        "id": sample.id,
        "read": ZERO_TIME,
        "preread": ZERO_TIME,
        "pids_stats": {},
        "blkio_stats": dict.fromkeys(names),
        "num_procs": 0,
        "storage_stats": {},
        "cpu_stats": _NO_CPU,
        "precpu_stats": _NO_CPU,
        "memory_stats": {},
    }


def _links(sample: StatsSample) -> dict[str, object]:
    return {
        name: {
            "rx_bytes": link.rx_bytes,
            "rx_packets": link.rx_packets,
            "rx_errors": link.rx_errors,
            "rx_dropped": link.rx_dropped,
            "tx_bytes": link.tx_bytes,
            "tx_packets": link.tx_packets,
            "tx_errors": link.tx_errors,
            "tx_dropped": link.tx_dropped,
        }
        for name, link in sample.links.items()
    }


def _pids(pids: PidsStats) -> dict[str, int]:
    answer = {"current": pids.current} if pids.current else {}
    if pids.limit:
        answer["limit"] = pids.limit
    return answer


def _entries(entries: Iterable[BlkioEntry]) -> list[dict[str, object]]:
    return [{"major": e.major, "minor": e.minor, "op": e.op, "value": e.value} for e in entries]


def _cpu(cpu: CpuStats, sample: StatsSample) -> dict[str, object]:
    usage: dict[str, object] = {"total_usage": cpu.total_ns}
    if cpu.per_cpu_ns:
        usage["percpu_usage"] = list(cpu.per_cpu_ns)
    usage |= {"usage_in_kernelmode": cpu.system_ns, "usage_in_usermode": cpu.user_ns}
    return {
        "cpu_usage": usage,
        "system_cpu_usage": sample.system_cpu_ns,
        "online_cpus": sample.online_cpus,
        "throttling_data": {
            "periods": cpu.periods,
            "throttled_periods": cpu.throttled_periods,
            "throttled_time": cpu.throttled_ns,
        },
    }


def _memory(memory: MemoryStats | None, machine_memory: int) -> dict[str, object]:
    if memory is None:
        return {}
    answer: dict[str, object] = {"usage": memory.usage}
    if memory.max_usage:
        answer["max_usage"] = memory.max_usage
    answer["stats"] = dict(memory.stat)
    if memory.failcnt:
        answer["failcnt"] = memory.failcnt
    # No limit reads as about 2**63; Docker shows the machine's memory then.
    answer["limit"] = min(memory.limit, machine_memory) if machine_memory else memory.limit
    return answer
