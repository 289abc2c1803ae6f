"""Resources: what the flags put into the cgroup, what inspect tells, what the kernel then does."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.engine.boxes import Boxes, Runner, eventually
from tests.engine.conftest import Either
from tests.harness.clients import Client

Inspect = Callable[[str, str], object]
V2 = Path("/sys/fs/cgroup/cgroup.controllers").exists()
MB = 1 << 20


def cgroup_file(v1: str, v2: str) -> str:
    """A file of the container's cgroup as seen inside it."""
    return f"/sys/fs/cgroup/{v2 if V2 else v1}"


@pytest.mark.parametrize(
    ("flags", "v1", "v2", "was", "v2_was"),
    [
        (["-m", "64m"], "memory/memory.limit_in_bytes", "memory.max", 64 * MB, None),
        (
            ["-m", "64m", "--memory-reservation", "32m"],
            "memory/memory.soft_limit_in_bytes", "memory.low", 32 * MB, None,
        ),
        (["--cpu-shares", "512"], "cpu/cpu.shares", "cpu.weight", 512, 20),
        (["--cpus", "0.5"], "cpu/cpu.cfs_quota_us", "cpu.max", 50000, "50000 100000"),
        (
            ["--cpu-quota", "20000", "--cpu-period", "40000"],
            "cpu/cpu.cfs_period_us", "cpu.max", 40000, "20000 40000",
        ),
        (["--cpuset-cpus", "0"], "cpuset/cpuset.cpus", "cpuset.cpus", 0, None),
        (["--cpuset-mems", "0"], "cpuset/cpuset.mems", "cpuset.mems", 0, None),
        (["--pids-limit", "33"], "pids/pids.max", "pids.max", 33, None),
    ],
)  # fmt: skip
def test_limit_in_the_cgroup(
    run: Runner, flags: list[str], v1: str, v2: str, was: object, v2_was: object
) -> None:
    value = run.sh(f"cat {cgroup_file(v1, v2)}", *flags).strip()
    assert value == str(v2_was if V2 and v2_was is not None else was)


def test_memory_and_swap(boxes: Boxes, inspect: Inspect) -> None:
    name = boxes.sleeper("-m", "64m", "--memory-swap", "96m")
    assert inspect(name, ".HostConfig.MemorySwap") == 96 * MB
    path = cgroup_file("memory/memory.memsw.limit_in_bytes", "memory.swap.max")
    wanted = str(32 * MB if V2 else 96 * MB)
    # The swap controller may be off in the kernel: then there is no such file, and Docker warns.
    assert boxes.exec(name, f"cat {path} 2>/dev/null || echo {wanted}").strip() == wanted


def test_swap_is_twice_the_memory_by_default(boxes: Boxes, inspect: Inspect) -> None:
    name = boxes.create("-m", "64m", boxes.image)
    assert inspect(name, ".HostConfig.Memory") == 64 * MB
    assert inspect(name, ".HostConfig.MemorySwap") in (128 * MB, -1)


def test_no_limits_by_default(run: Runner) -> None:
    path = cgroup_file("memory/memory.limit_in_bytes", "memory.max")
    value = run.sh(f"cat {path}").strip()
    assert value == "max" or int(value) > 1 << 60


def test_out_of_memory(boxes: Boxes, docker: Client, inspect: Inspect) -> None:
    # A shell that doubles a string; pid 1 itself is killed.
    name = boxes.sh("a=x; while :; do a=$a$a; done", "-m", "16m", "--memory-swap", "16m")
    assert docker.line("wait", name) == "137"
    assert inspect(name, ".State.OOMKilled") is True
    assert inspect(name, ".State.ExitCode") == 137


def test_memory_within_the_limit_is_no_oom(boxes: Boxes, docker: Client, inspect: Inspect) -> None:
    name = boxes.sh("exit 137", "-m", "16m")
    docker("wait", name)
    assert inspect(name, ".State.OOMKilled") is False


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["-m", "1m"], "Minimum memory limit allowed is 6MB"),
        (["-m", "64m", "--memory-swap", "32m"], "Minimum memoryswap limit should be larger"),
        (["--memory-swap", "64m"], "You should always set the Memory limit when using Memoryswap"),
        (["-m", "32m", "--memory-reservation", "64m"], "Minimum memory limit can not be less than"),
        (["--cpus", "1000"], "Range of CPUs is from 0.01 to"),
        (["--cpus", "1", "--cpu-quota", "1000"], "Conflicting options"),
        (["--cpuset-cpus", "5000"], "Requested CPUs are not available"),
        (["--cpuset-cpus", "a-b"], "Invalid value a-b for cpuset cpus"),
        (["--cpu-period", "1"], "CPU cfs period can not be less than 1ms"),
        (["--cpu-quota", "10"], "CPU cfs quota can not be less than 1ms"),
        (["-m", "lots"], "invalid argument"),
        (
            ["--oom-score-adj", "2000"],
            "Invalid value 2000, range for oom score adj is [-1000, 1000]",
        ),
        (["--shm-size", "-1"], "invalid argument"),
        (["--ulimit", "nonsense=1"], "invalid ulimit type: nonsense"),
        (["--ulimit", "nofile=10:5"], "ulimit soft limit must be less than or equal to hard limit"),
        (["--device-write-bps", "/dev/no/such:1mb"], "no such file"),
        (["--device", "/dev/nosuch"], "/dev/nosuch"),
        (["--device-cgroup-rule", "x 1:1 r"], "invalid"),
    ],
)
def test_refused(run: Runner, flags: list[str], words: str) -> None:
    done = run(*flags, run.image, "true", check=False)
    assert done.returncode in (125, 126, 127)  # runc's "no such file" makes Docker say 127
    assert words.lower() in done.stderr.lower()


def test_pids_limit_stops_a_fork_bomb(run: Runner) -> None:
    done = run(
        "--pids-limit", "20", run.image, "sh", "-c",
        "for i in $(seq 50); do sleep 5 & done; echo all", check=False,
    )  # fmt: skip
    assert "all" not in done.stdout
    assert "can't fork" in done.stderr


def test_cpus_throttle(run: Runner) -> None:
    stat = cgroup_file("cpu/cpu.stat", "cpu.stat")
    script = f"timeout 0.5 sh -c 'while :; do :; done'; grep nr_throttled {stat}"
    assert int(run.sh(script, "--cpus", "0.2").split()[-1]) > 0


def test_ulimits(run: Runner) -> None:
    out = run.sh(
        "ulimit -Sn; ulimit -Hn; ulimit -c", "--ulimit", "nofile=100:200", "--ulimit", "core=0"
    )
    assert out.split() == ["100", "200", "0"]


def test_ulimit_of_an_exec(boxes: Boxes) -> None:
    name = boxes.sleeper("--ulimit", "nofile=123")
    assert boxes.exec(name, "ulimit -n").strip() == "123"


def test_shm_size(run: Runner) -> None:
    assert re.search(r"^shm +65536 ", run.sh("df -k /dev/shm"), re.MULTILINE)
    assert re.search(r"^shm +8192 ", run.sh("df -k /dev/shm", "--shm-size", "8m"), re.MULTILINE)


def test_oom_score_adj(run: Runner) -> None:
    assert run.sh("cat /proc/self/oom_score_adj", "--oom-score-adj", "500") == "500\n"


def test_default_oom_score_adj_is_zero(run: Runner) -> None:
    assert run.sh("cat /proc/self/oom_score_adj") == "0\n"


def test_oom_score_adj_of_an_exec(boxes: Boxes) -> None:
    assert boxes.exec(boxes.sleeper(), "cat /proc/self/oom_score_adj") == "0\n"
    name = boxes.sleeper("--oom-score-adj", "300")
    assert boxes.exec(name, "cat /proc/self/oom_score_adj") == "300\n"


def test_the_engines_own_oom_score_cannot_be_taken(boxes: Boxes) -> None:
    """What a process may lower itself to is inherited with the score, proc(5)."""
    name = boxes.sleeper()
    for pid in ("self", "1"):
        script = f"{{ echo -1 > /proc/{pid}/oom_score_adj; }} 2>&1; true"
        assert "denied" in boxes.exec(name, script)


def test_oom_kill_disable(boxes: Boxes, docker: Client, inspect: Inspect) -> None:
    name = boxes.name()
    words = ["--name", name, "--network", "none", "-m", "64m", "--oom-kill-disable", boxes.image]
    done = docker("run", *words, "true", check=False)
    if done.returncode == 0 and "discarded" not in done.stderr:
        assert inspect(name, ".HostConfig.OomKillDisable") is True
    else:  # cgroup v2 has no such switch
        assert "oom" in done.stderr.lower()


def test_blkio_weight(boxes: Boxes, docker: Client, inspect: Inspect) -> None:
    """It is honoured, or refused or warned about with words that say why: this kernel may lack it."""
    name = boxes.name()
    words = ["--name", name, "--network", "none", "--blkio-weight", "300", boxes.image, "sh", "-c"]
    path = cgroup_file("blkio/blkio.weight", "io.bfq.weight")
    done = docker("run", *words, f"cat {path}", check=False)
    if done.returncode == 0 and not done.stderr:
        assert done.stdout.split()[-1] == "300"
    else:
        assert "weight" in done.stderr.lower()


def test_weight_of_a_device_is_honoured_or_explained(boxes: Boxes, docker: Client) -> None:
    words = ["--name", boxes.name(), "--network", "none"]
    weight = ["--blkio-weight-device", f"{block_device()}:300"]
    done = docker("run", *words, *weight, boxes.image, "true", check=False)
    assert done.returncode == 0 or "weight" in done.stderr.lower()
    # What cannot be done for one container harms no other.
    assert docker.line("run", "--rm", "--network", "none", boxes.image, "echo", "fine") == "fine"


def block_device() -> str:
    """Some whole disk of the machine."""
    for name in sorted(os.listdir("/sys/block")):
        if name.startswith(("vd", "sd", "nvme", "xvd", "loop")) and Path("/dev", name).exists():
            return f"/dev/{name}"
    pytest.skip("this machine has no block device")


@pytest.mark.parametrize(
    ("flag", "field", "v1"),
    [
        ("--device-read-bps", "BlkioDeviceReadBps", "blkio/blkio.throttle.read_bps_device"),
        ("--device-write-bps", "BlkioDeviceWriteBps", "blkio/blkio.throttle.write_bps_device"),
        ("--device-read-iops", "BlkioDeviceReadIOps", "blkio/blkio.throttle.read_iops_device"),
        ("--device-write-iops", "BlkioDeviceWriteIOps", "blkio/blkio.throttle.write_iops_device"),
    ],
)
def test_device_rates(boxes: Boxes, inspect: Inspect, flag: str, field: str, v1: str) -> None:
    device = block_device()
    name = boxes.sleeper(flag, f"{device}:1000000")
    assert inspect(name, f".HostConfig.{field}") == [{"Path": device, "Rate": 1_000_000}]
    number = os.stat(device).st_rdev
    line = boxes.exec(name, f"cat {cgroup_file(v1, 'io.max')}")
    assert line.startswith(f"{os.major(number)}:{os.minor(number)} ")
    assert "1000000" in line


def test_device(run: Runner) -> None:
    script = "stat -c '%F %t:%T' /dev/fuse2 && head -c1 /dev/null2; echo $?"
    out = run.sh(script, "--device", "/dev/zero:/dev/fuse2", "--device", "/dev/null:/dev/null2:r")
    assert out == "character special file 1:5\n0\n"


def test_device_without_write(run: Runner) -> None:
    done = run(
        "--device", "/dev/fuse:/dev/mine:r", run.image, "sh", "-c", "echo x >/dev/mine", check=False
    )
    assert done.returncode != 0
    assert "not permitted" in done.stderr or "denied" in done.stderr


def test_device_cgroup_rule(boxes: Boxes, run: Runner, either: Either) -> None:
    # A node made by the container is opened only when a rule allows it. In a user namespace of
    # its own a container makes no nodes at all.
    script = "mknod /tmp/d c 10 229 && head -c0 /tmp/d; echo $?"
    flags = either(docker=[], wherry=["--userns=host"])
    denied = run(*flags, run.image, "sh", "-c", script)
    assert "not permitted" in denied.stderr
    assert denied.stdout.strip() == "1"
    allowed = run(*flags, "--device-cgroup-rule", "c 10:229 r", run.image, "sh", "-c", script)
    assert allowed.stdout.strip() == "0", allowed.stderr


def test_inspect_tells_what_was_asked(boxes: Boxes, inspect: Inspect) -> None:
    # v2 has no such file, and what cannot be honoured is refused.
    swappiness = () if V2 else ("--memory-swappiness", "10")
    name = boxes.create(
        *swappiness, "-m", "64m", "--cpus", "1.5", "--cpu-shares", "100", "--pids-limit", "7",
        "--cpuset-cpus", "0", "--ulimit", "nofile=10:20", "--shm-size", "1m",
        "--oom-score-adj", "7", "--device", "/dev/zero:/dev/z:rw",
        "--device-cgroup-rule", "c 5:* rwm", boxes.image,
    )  # fmt: skip
    config = inspect(name, ".HostConfig")
    assert isinstance(config, dict)
    wanted = {
        "Memory": 64 * MB,
        "NanoCpus": 1_500_000_000,
        "CpuShares": 100,
        "PidsLimit": 7,
        "CpusetCpus": "0",
        "Ulimits": [{"Name": "nofile", "Soft": 10, "Hard": 20}],
        "ShmSize": MB,
        "OomScoreAdj": 7,
        "Devices": [
            {"PathOnHost": "/dev/zero", "PathInContainer": "/dev/z", "CgroupPermissions": "rw"}
        ],
        "DeviceCgroupRules": ["c 5:* rwm"],
    }
    assert {key: config[key] for key in wanted} == wanted


# Changes on a living container


def test_update_memory(boxes: Boxes, docker: Client, inspect: Inspect) -> None:
    name = boxes.sleeper("-m", "64m")
    path = cgroup_file("memory/memory.limit_in_bytes", "memory.max")
    docker("update", "-m", "32m", "--memory-swap", "48m", name)
    assert boxes.exec(name, f"cat {path}").strip() == str(32 * MB)
    docker("update", "-m", "128m", "--memory-swap", "256m", name)
    assert boxes.exec(name, f"cat {path}").strip() == str(128 * MB)
    assert inspect(name, ".HostConfig.Memory") == 128 * MB


def test_update_prints_the_name_and_keeps_the_rest(boxes: Boxes, docker: Client) -> None:
    name = boxes.sleeper("--pids-limit", "40")
    assert docker.line("update", "--cpu-shares", "300", name) == name
    assert boxes.exec(name, f"cat {cgroup_file('pids/pids.max', 'pids.max')}").strip() == "40"
    shares = boxes.exec(name, f"cat {cgroup_file('cpu/cpu.shares', 'cpu.weight')}").strip()
    assert shares == ("12" if V2 else "300")


def test_update_survives_a_restart(boxes: Boxes, docker: Client) -> None:
    name = boxes.sleeper()
    docker("update", "--pids-limit", "55", name)
    docker("restart", name)
    assert boxes.exec(name, f"cat {cgroup_file('pids/pids.max', 'pids.max')}").strip() == "55"


def test_update_of_a_stopped_container(boxes: Boxes, docker: Client) -> None:
    name = boxes.create(boxes.image, "cat", cgroup_file("pids/pids.max", "pids.max"))
    docker("update", "--pids-limit", "66", name)
    assert docker.line("start", "-a", name) == "66"


def test_update_restart_policy(boxes: Boxes, docker: Client, inspect: Inspect) -> None:
    name = boxes.sleeper()
    docker("update", "--restart", "on-failure:3", name)
    assert inspect(name, ".HostConfig.RestartPolicy") == {
        "Name": "on-failure",
        "MaximumRetryCount": 3,
    }


def test_update_refused(boxes: Boxes, docker: Client) -> None:
    name = boxes.sleeper("-m", "64m", "--memory-swap", "64m")
    done = docker("update", "-m", "128m", name, check=False)
    assert done.returncode == 1
    assert "Memory limit should be smaller than already set memoryswap limit" in done.stderr
    done = docker("update", "-m", "1m", name, check=False)
    assert "Minimum memory limit allowed is 6MB" in done.stderr


def test_devices_still_work_after_update(boxes: Boxes, docker: Client) -> None:
    name = boxes.sleeper()
    docker("update", "--cpu-shares", "200", name)
    eventually(
        lambda: boxes.exec(name, "echo x >/dev/null && head -c2 /dev/zero | wc -c").strip() == "2"
    )
