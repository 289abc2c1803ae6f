"""Limits on the wire: Docker writes 0 for a limit that is not set, and names block devices by path."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

from wherry.api.wire.bodies import Rate, Resources, Weight
from wherry.model.containers import DeviceSpec, Ulimit
from wherry.model.errors import Invalid, Unsupported
from wherry.model.resources import DeviceRate, Limits

DeviceNumber = Callable[[str], tuple[int, int]]
"""From a block device's path to major and minor. Raises Invalid."""
DevicePath = Callable[[int, int], str]

# Of Windows' own Docker forgets CpuCount and CpuPercent, the latter with a warning.
_NOT_HERE = {
    "IOMaximumIOps": "invalid option: QoS maximum IOPs configuration is not supported on linux",
    "IOMaximumBandwidth": "invalid option: QoS maximum bandwidth configuration is not supported on linux",
}


def refuse_resources(body: Resources) -> None:
    """Raise Unsupported for what no Limits can hold, Invalid for what Linux does not know."""
    for name, reason in _NOT_HERE.items():
        if getattr(body, name):
            raise Invalid(reason)
    for request in body.DeviceRequests or ():
        asked = cast(dict[str, Any], request) if isinstance(request, dict) else {}
        wanted = cast(list[list[object] | None], asked.get("Capabilities") or [])
        sets = " ".join(f"[{' '.join(map(str, some or ()))}]" for some in wanted)
        driver = str(asked.get("Driver") or "")
        raise Unsupported(f'could not select device driver "{driver}" with capabilities: [{sets}]')


def _said(value: int | None) -> int | None:
    return value or None


def _pids(value: int | None, *, update: bool) -> int | None:
    """No limit, or a negative one, lifts it: in an update that has to be said, as Docker does by 0."""
    if value is None or value > 0:
        return value
    return 0 if update else None


def parse_limits(body: Resources, number_of: DeviceNumber, *, update: bool = False) -> Limits:
    """Return the limits that `body` sets. In an update, `OomKillDisable: false` is a change."""
    refuse_resources(body)

    def rates(entries: Sequence[Rate | Weight] | None) -> tuple[DeviceRate, ...]:
        return tuple(
            DeviceRate(
                *number_of(entry.Path), entry.Rate if isinstance(entry, Rate) else entry.Weight
            )
            for entry in entries or ()
        )

    swappiness = body.MemorySwappiness
    disable = body.OomKillDisable
    return Limits(
        memory=_said(body.Memory),
        memory_swap=_said(body.MemorySwap),
        memory_reservation=_said(body.MemoryReservation),
        oom_kill_disable=disable if update else (disable or None),
        # The docker client sends -1 for "not said".
        memory_swappiness=None if swappiness == -1 else swappiness,
        nano_cpus=_said(body.NanoCpus),
        cpu_shares=_said(body.CpuShares),
        cpu_quota=_said(body.CpuQuota),
        cpu_period=_said(body.CpuPeriod),
        cpu_rt_period=_said(body.CpuRealtimePeriod),
        cpu_rt_runtime=_said(body.CpuRealtimeRuntime),
        cpuset_cpus=body.CpusetCpus or None,
        cpuset_mems=body.CpusetMems or None,
        pids_limit=_pids(body.PidsLimit, update=update),
        blkio_weight=_said(body.BlkioWeight),
        blkio_weight_devices=rates(body.BlkioWeightDevice),
        blkio_device_read_bps=rates(body.BlkioDeviceReadBps),
        blkio_device_write_bps=rates(body.BlkioDeviceWriteBps),
        blkio_device_read_iops=rates(body.BlkioDeviceReadIOps),
        blkio_device_write_iops=rates(body.BlkioDeviceWriteIOps),
    )


def render_limits(limits: Limits, path_of: DevicePath) -> dict[str, object]:
    """Return the fields of HostConfig that `parse_limits` reads, as Docker shows them."""

    def rates(entries: Sequence[DeviceRate]) -> list[dict[str, object]]:
        return [{"Path": path_of(e.major, e.minor), "Rate": e.rate} for e in entries]

    return {
        "CpuShares": limits.cpu_shares or 0,
        "Memory": limits.memory or 0,
        "NanoCpus": limits.nano_cpus or 0,
        "BlkioWeight": limits.blkio_weight or 0,
        "BlkioWeightDevice": [
            {"Path": path_of(e.major, e.minor), "Weight": e.rate}
            for e in limits.blkio_weight_devices
        ],
        "BlkioDeviceReadBps": rates(limits.blkio_device_read_bps),
        "BlkioDeviceWriteBps": rates(limits.blkio_device_write_bps),
        "BlkioDeviceReadIOps": rates(limits.blkio_device_read_iops),
        "BlkioDeviceWriteIOps": rates(limits.blkio_device_write_iops),
        "CpuPeriod": limits.cpu_period or 0,
        "CpuQuota": limits.cpu_quota or 0,
        "CpuRealtimePeriod": limits.cpu_rt_period or 0,
        "CpuRealtimeRuntime": limits.cpu_rt_runtime or 0,
        "CpusetCpus": limits.cpuset_cpus or "",
        "CpusetMems": limits.cpuset_mems or "",
        "MemoryReservation": limits.memory_reservation or 0,
        "MemorySwap": limits.memory_swap or 0,
        "MemorySwappiness": limits.memory_swappiness,
        "OomKillDisable": bool(limits.oom_kill_disable),
        "PidsLimit": limits.pids_limit,
    }


def parse_devices(body: Resources) -> tuple[DeviceSpec, ...]:
    """Return `--device` entries; a missing path inside is the host's, missing permissions are all."""
    return tuple(
        DeviceSpec(
            entry.PathOnHost,
            entry.PathInContainer or entry.PathOnHost,
            entry.CgroupPermissions or "rwm",
        )
        for entry in body.Devices or ()
    )


def parse_ulimits(body: Resources) -> tuple[Ulimit, ...]:
    """Return `--ulimit` entries."""
    return tuple(Ulimit(entry.Name, entry.Soft, entry.Hard) for entry in body.Ulimits or ())
