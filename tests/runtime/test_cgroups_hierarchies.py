"""Which hierarchies a machine has, from recorded texts of /proc/self."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry.model.errors import Unsupported
from wherry.runtime.cgroups import Hierarchies, detect

HYBRID_MOUNTS = """\
22 1 254:0 / / rw,relatime - ext4 /dev/vda rw
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
33 31 0:30 / /sys/fs/cgroup/cpuacct rw,relatime - cgroup cgroup rw,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime shared:9 - cgroup cgroup rw,xattr,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
"""
HYBRID_SELF = """\
9:name=systemd:/
4:memory:/agent/f0e4ab93
2:cpuacct:/
1:cpu:/
0::/
"""
V2_MOUNTS = """\
30 24 0:26 / /sys/fs/cgroup rw,nosuid,nodev shared:4 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot
"""
V2_SELF = "0::/system.slice/wherry.service\n"
V1_MOUNTS = """\
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw shared:5 - cgroup cgroup rw,cpu,cpuacct
33 31 0:30 / /sys/fs/cgroup/net_cls,net_prio rw - cgroup cgroup rw,net_cls,net_prio
35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
"""
V1_SELF = "5:net_cls,net_prio:/\n4:memory:/user.slice\n3:cpu,cpuacct:/user.slice\n"


def test_hybrid() -> None:
    found = detect(HYBRID_MOUNTS, HYBRID_SELF)
    assert (found.mode, found.version) == ("hybrid", 1)
    assert [h.controllers for h in found.v1] == [
        ("name=systemd",),
        ("memory",),
        ("cpuacct",),
        ("cpu",),
    ]
    assert found.unified is not None
    assert found.unified.mount_point == "/sys/fs/cgroup/unified"
    memory = found.by_controller("memory")
    assert memory is not None
    assert (memory.version, memory.mount_point) == (1, "/sys/fs/cgroup/memory")
    assert memory.own_directory == "/sys/fs/cgroup/memory/agent/f0e4ab93"
    assert found.by_controller("hugetlb") is None
    knowing = found.with_unified_controllers(["hugetlb", "io"])
    hugetlb = knowing.by_controller("hugetlb")
    assert hugetlb is not None
    assert hugetlb.version == 2
    assert knowing.by_controller("blkio") == hugetlb


def test_v2() -> None:
    found = detect(V2_MOUNTS, V2_SELF)
    assert (found.mode, found.version, found.v1) == ("v2", 2, ())
    assert found.unified is not None
    assert found.unified.own_directory == "/sys/fs/cgroup/system.slice/wherry.service"


def test_v2_beside_a_named_v1_is_v2() -> None:
    mounts = V2_MOUNTS + "40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n"
    found = detect(mounts, "1:name=systemd:/\n" + V2_SELF)
    assert (found.mode, found.version, len(found.v1)) == ("v2", 2, 1)


def test_v1_with_controllers_together() -> None:
    found = detect(V1_MOUNTS, V1_SELF)
    assert (found.mode, found.version, found.unified) == ("v1", 1, None)
    cpu, account = found.by_controller("cpu"), found.by_controller("cpuacct")
    assert cpu is not None
    assert cpu == account
    assert cpu.mount_point == "/sys/fs/cgroup/cpu,cpuacct"
    assert found.with_unified_controllers(["io"]) == found


def test_inside_a_container_and_mounted_twice() -> None:
    part = "50 31 0:32 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n"
    (memory,) = detect(part, "4:memory:/docker/abc/inner\n").v1
    assert (memory.mount_root, memory.own_directory) == (
        "/docker/abc",
        "/sys/fs/cgroup/memory/inner",
    )
    whole = "51 31 0:32 / /mnt/with\\040space rw - cgroup cgroup rw,memory\n"
    for mounts in (part + whole, whole + part):
        (memory,) = detect(mounts, "4:memory:/docker/abc\n").v1
        assert memory.mount_point == "/mnt/with space"
    again = "52 31 0:32 / /again rw - cgroup cgroup rw,memory\n"
    (memory,) = detect(whole + again, "4:memory:/\n").v1
    assert memory.mount_point == "/mnt/with space"
    (outside,) = detect(part, "4:memory:/../other\n").v1
    assert outside.own_directory == "/sys/fs/cgroup/memory"


def test_without_any() -> None:
    with pytest.raises(Unsupported, match="no cgroup hierarchy is mounted"):
        detect("22 1 254:0 / / rw - ext4 /dev/vda rw\n", "")


def test_this_machine() -> None:
    found = detect(Path("/proc/self/mountinfo").read_text(), Path("/proc/self/cgroup").read_text())
    for hierarchy in (*found.v1, *([found.unified] if found.unified else [])):
        assert Path(hierarchy.mount_point, "cgroup.procs").exists()


@given(
    st.text(st.sampled_from("0123456789 -/,:=\n\\cgroup2rwname")),
    st.text(st.sampled_from("01:,/a\n")),
)
def test_any_text_is_read_or_refused(mountinfo: str, self_cgroup: str) -> None:
    try:
        assert isinstance(detect(mountinfo, self_cgroup), Hierarchies)
    except Unsupported:
        pass
