"""Whole verbs on recorded trees: what a v1 and a v2 machine's files say, and what is put into them."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from wherry.model.errors import NotFound, Unsupported
from wherry.model.resources import DEFAULT_DEVICES, DeviceRate, HugepageLimit, Limits
from wherry.model.stats import BlkioEntry
from wherry.runtime.cgroups import CgroupDriver, Handle, detect, device_program, open_cgroups

DATA = Path(__file__).with_name("data")
MB = 1 << 20
V1_CONTROLLERS = ("cpu", "cpuacct", "memory", "pids", "blkio")


def fill(directory: Path, recorded: str) -> None:
    """Do what the kernel does at mkdir: put the files there."""
    for file in (DATA / recorded).iterdir():
        shutil.copyfile(file, directory / file.name)


@pytest.fixture
def v2(tmp_path: Path) -> CgroupDriver:
    """A driver on a recorded v2 tree, its parent filled."""
    fill(tmp_path, "cgroup-v2")
    mounts = f"30 24 0:26 / {tmp_path} rw shared:4 - cgroup2 cgroup2 rw\n"
    found = detect(mounts, "0::/\n")
    for level in ("wherry", "wherry/engine"):
        (tmp_path / level).mkdir()
        fill(tmp_path / level, "cgroup-v2")
    controllers = (tmp_path / "cgroup.controllers").read_text().split()
    return open_cgroups(
        "wherry/engine",
        hierarchies=found.with_unified_controllers(controllers),
        load_devices=lambda program, fd: None,
    )


def made(driver: CgroupDriver, tmp_path: Path) -> tuple[Handle, Path]:
    handle = driver.create("wherry/engine/one")
    directory = tmp_path / "wherry/engine/one"
    fill(directory, "cgroup-v2")
    return handle, directory


def test_stats_of_v2(v2: CgroupDriver, tmp_path: Path) -> None:
    handle, directory = made(v2, tmp_path)
    found = v2.read_stats(handle)
    assert (v2.mode, v2.version, found.version) == ("v2", 2, 2)
    assert found.cpu.total_ns == 1_986_147_000
    assert (found.cpu.user_ns, found.cpu.system_ns) == (653_221_000, 1_332_926_000)
    assert (found.cpu.periods, found.cpu.throttled_periods) == (35, 4)
    assert found.cpu.throttled_ns == 120_500_000
    assert found.memory is not None
    assert (found.memory.usage, found.memory.limit) == (2_777_088, 52_428_800)
    assert (found.memory.max_usage, found.memory.failcnt) == (4_870_144, 7)
    assert found.memory.stat["inactive_file"] == 2_060_288
    assert (found.pids.current, found.pids.limit) == (1, 0)
    assert found.blkio.io_service_bytes_recursive == (
        BlkioEntry(254, 0, "read", 4096),
        BlkioEntry(254, 0, "write", 8192),
        BlkioEntry(254, 0, "discard", 0),
        BlkioEntry(253, 0, "read", 512),
        BlkioEntry(253, 0, "write", 0),
        BlkioEntry(253, 0, "discard", 0),
    )
    assert found.blkio.io_serviced_recursive[1] == BlkioEntry(254, 0, "write", 2)
    assert v2.oom_kills(handle) == 2
    assert v2.pids(handle) == [811, 812]
    assert not v2.is_frozen(handle)
    (directory / "memory.max").write_text("max\n")
    (directory / "memory.peak").unlink()
    (directory / "pids.max").write_text("77\n")
    found = v2.read_stats(handle)
    assert found.memory is not None
    assert (found.memory.limit, found.memory.max_usage) == (0x7FFF_FFFF_FFFF_F000, 0)
    assert found.pids.limit == 77


def test_limits_of_v2(v2: CgroupDriver, tmp_path: Path) -> None:
    loaded: list[bytes] = []
    v2 = open_cgroups(
        v2.parent,
        hierarchies=detect(
            f"30 24 0:26 / {tmp_path} rw - cgroup2 cgroup2 rw\n", "0::/\n"
        ).with_unified_controllers("cpuset cpu io memory hugetlb pids".split()),
        load_devices=lambda program, fd: loaded.append(program),
    )
    handle, directory = made(v2, tmp_path)
    limits = Limits(
        memory=64 * MB,
        memory_swap=96 * MB,
        memory_reservation=32 * MB,
        nano_cpus=500_000_000,
        cpu_shares=2048,
        cpuset_cpus="0-1",
        pids_limit=5,
        blkio_weight=500,
        blkio_device_read_bps=(DeviceRate(254, 0, MB),),
        devices=DEFAULT_DEVICES,
        hugepages=(HugepageLimit("2MB", 4 * MB),),
        unified=(("memory.high", "48M"), ("io.latency", "8:0 target=5")),
    )
    for place in (directory, directory.parent):
        (place / "io.latency").touch()
    for file in directory.iterdir():
        file.write_text("")
    v2.check(limits)
    v2.apply(handle, limits)
    wrote = {file.name: text for file in directory.iterdir() if (text := file.read_text())}
    assert wrote == {
        "memory.max": str(64 * MB),
        "memory.swap.max": str(32 * MB),
        "memory.low": str(32 * MB),
        "memory.high": "48M",
        "cpu.max": "50000 100000",
        "cpu.weight": "79",
        "cpuset.cpus": "0-1",
        "pids.max": "5",
        # No io.bfq.weight in this tree.
        "io.weight": "default 4950",
        "io.max": f"254:0 rbps={MB}",
        "io.latency": "8:0 target=5",
        "hugetlb.2MB.max": str(4 * MB),
    }
    assert loaded == [device_program(DEFAULT_DEVICES)]


def test_controllers_are_enabled_down_to_the_parent(v2: CgroupDriver, tmp_path: Path) -> None:
    # A plain file keeps the last of `+cpu`, `+cpuset`, … that each level was asked for.
    for level in ("", "wherry", "wherry/engine"):
        assert (tmp_path / level / "cgroup.subtree_control").read_text().startswith("+hugetlb")
    made(v2, tmp_path)
    assert (tmp_path / "wherry/engine/one/cgroup.subtree_control").read_text() == ""


def test_v2_refuses_what_its_files_lack(v2: CgroupDriver, tmp_path: Path) -> None:
    (tmp_path / "wherry/engine/memory.swap.max").unlink()
    with pytest.raises(Unsupported, match=r"no memory\.swap\.max.*swap accounting is off"):
        v2.check(Limits(memory=64 * MB, memory_swap=96 * MB))
    (tmp_path / "wherry/engine/io.weight").unlink()
    with pytest.raises(Unsupported, match=r"no io\.bfq\.weight"):
        v2.check(Limits(blkio_weight=100))
    with pytest.raises(Unsupported, match=r"no memory\.nonsense"):
        v2.check(Limits(unified=(("memory.nonsense", "1"),)))
    with pytest.raises(Unsupported, match="no perf_event controller on cgroup v2"):
        v2.check(Limits(unified=(("perf_event.x", "1"),)))


def test_rename_on_v2_keeps_the_directory(v2: CgroupDriver, tmp_path: Path) -> None:
    handle, directory = made(v2, tmp_path)
    renamed = v2.rename(handle, "wherry/engine/two")
    assert renamed == replace(handle, path="wherry/engine/two")
    assert directory.is_dir()
    assert v2.pids(renamed) == [811, 812]


def test_stats_of_v1(tmp_path: Path) -> None:
    mounts = ""
    own = ""
    for number, name in enumerate(V1_CONTROLLERS, 1):
        base = tmp_path / name
        base.mkdir()
        mounts += f"3{number} 31 0:3{number} / {base} rw - cgroup cgroup rw,{name}\n"
        own += f"{number}:{name}:/\n"
    driver = open_cgroups("wherry", hierarchies=detect(mounts, own))
    assert (driver.mode, driver.version) == ("v1", 1)
    handle = driver.create("wherry/one")
    for directory in set(driver.directories(handle).values()):
        fill(Path(directory), "cgroup-v1")
    found = driver.read_stats(handle)
    assert found.version == 1
    assert found.cpu.total_ns == 1_986_147_899
    assert found.cpu.per_cpu_ns == (836_233_399, 1_150_040_891)
    assert (found.cpu.user_ns, found.cpu.system_ns) == (650_000_000, 1_320_000_000)
    assert found.cpu.periods == 35
    assert found.memory is not None
    assert (found.memory.usage, found.memory.max_usage) == (2_777_088, 4_870_144)
    assert (found.memory.limit, found.memory.failcnt) == (52_428_800, 0)
    assert found.memory.stat["total_inactive_file"] == 2_060_288
    assert (found.pids.current, found.pids.limit) == (1, 50)
    assert found.blkio.io_service_bytes_recursive[:2] == (
        BlkioEntry(254, 0, "Read", 4096),
        BlkioEntry(254, 0, "Write", 8192),
    )
    assert found.blkio.io_serviced_recursive[-1] == BlkioEntry(254, 0, "Total", 3)
    assert driver.oom_kills(handle) == 3
    shutil.rmtree(tmp_path / "cpuacct/wherry/one")
    with pytest.raises(NotFound):
        driver.read_stats(handle)
