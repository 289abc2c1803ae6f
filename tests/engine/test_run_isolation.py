"""What keeps a container in, what opens it on request, and what stays shut."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.engine.boxes import Boxes, Runner, eventually
from tests.engine.conftest import HOST, Either
from tests.harness.clients import Client
from tests.harness.engine import Engine

Inspect = Callable[[str, str], object]
KINDS = ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts")
DEFAULT_CAPABILITIES = 0xA80425FB
ALL_CAPABILITIES = (1 << 41) - 1


def status(text: str, field: str) -> str:
    """One field of a /proc/PID/status."""
    found = re.search(rf"^{field}:\s*(.*)$", text, re.MULTILINE)
    assert found, text
    return found[1]


def namespaces(pid: object) -> dict[str, str]:
    """The namespaces of a process, by kind."""
    return {kind: os.readlink(f"/proc/{pid}/ns/{kind}") for kind in KINDS}


# By default


def test_own_namespaces(box: str, inspect: Inspect, either: Either) -> None:
    mine, its = namespaces("self"), namespaces(inspect(box, ".State.Pid"))
    # Docker keeps the host's user namespace, and on cgroup v1 the host's cgroup namespace.
    shared = {kind for kind in KINDS if mine[kind] == its[kind]}
    assert shared <= either(docker={"user", "cgroup"}, wherry=set[str]())


def test_root_inside_is_nobody_outside(box: str, inspect: Inspect, either: Either) -> None:
    text = Path(f"/proc/{inspect(box, '.State.Pid')}/status").read_text()
    outside = int(status(text, "Uid").split()[0])
    assert either(docker=outside == 0, wherry=outside >= 65536)


def test_ranges_are_disjoint(boxes: Boxes, is_wherry: bool) -> None:
    maps = [boxes.exec(boxes.sleeper(), "cat /proc/self/uid_map").split() for _ in range(3)]
    assert len({start for _, start, _ in maps}) == (3 if is_wherry else 1)
    if is_wherry:
        assert {(first, count) for first, _, count in maps} == {("0", "65536")}


def test_default_capabilities(run: Runner) -> None:
    text = run.sh("cat /proc/self/status")
    for field in ("CapPrm", "CapEff", "CapBnd"):
        assert int(status(text, field), 16) == DEFAULT_CAPABILITIES, field
    for field in ("CapInh", "CapAmb"):
        assert int(status(text, field), 16) == 0, field


def test_another_user_has_no_capabilities(run: Runner) -> None:
    text = run.sh("cat /proc/self/status", "-u", "33")
    assert int(status(text, "CapEff"), 16) == 0
    assert int(status(text, "CapPrm"), 16) == 0
    assert int(status(text, "CapBnd"), 16) == DEFAULT_CAPABILITIES


def test_seccomp_filters(run: Runner) -> None:
    text = run.sh("cat /proc/self/status")
    assert status(text, "Seccomp") == "2"
    assert status(text, "NoNewPrivs") == "0"


@pytest.mark.parametrize(
    "script",
    [
        "mount -t tmpfs none /mnt 2>&1",
        "mkdir -p /m && mount -o bind /etc /m 2>&1",
        "umount /proc 2>&1",
        "unshare -r true 2>&1",
        "unshare -m true 2>&1",
        "reboot -f 2>&1",
        "mount -o remount,rw /sys 2>&1",
        ": >>/proc/sys/kernel/panic",
        ": >>/proc/sysrq-trigger",
        "hostname other 2>&1",
        "date -s @$(date +%s) 2>&1 | grep permitted && exit 1",
        "swapon /etc/passwd 2>&1",
        "chroot / mount -t proc proc /proc 2>&1",
        "ip link set lo down 2>&1",
        ": >>/sys/kernel/profiling",
        "echo -1000 >/proc/1/oom_score_adj",
        "dd if=/dev/mem count=1 2>&1",
        "cd /sys/fs/cgroup; [ -d memory ] && cd memory; mkdir x",
    ],
)
def test_denied(run: Runner, script: str) -> None:
    # Nothing here would change the host if it worked: files are opened, not written.
    done = run(run.image, "sh", "-c", script, check=False)
    assert done.returncode != 0
    assert re.search(
        r"not permitted|denied|read-only|can't open|nonexistent directory|no such file|invalid arg",
        (done.stdout + done.stderr).lower(),
    ), done


def test_devices_that_are_not_given_are_denied(run: Runner, either: Either) -> None:
    # In a user namespace mknod itself is refused; otherwise the device cgroup refuses the opening.
    script = "mknod /tmp/disk b 254 0 && dd if=/tmp/disk of=/dev/null count=1"
    done = run(run.image, "sh", "-c", script, check=False)
    assert done.returncode != 0
    assert "Operation not permitted" in done.stderr


def test_masked_paths(run: Runner) -> None:
    script = """for p in /proc/kcore /proc/keys /proc/timer_list; do
        [ -e $p ] && { stat -c %F $p; head -c 10 $p | wc -c; }; done
        for p in /proc/acpi /proc/scsi /sys/firmware; do [ -d $p ] && ls -A $p; done; true"""
    out = run.sh(script)
    assert set(out.split("\n")) <= {"character special file", "0", ""}


def test_read_only_paths(run: Runner) -> None:
    mounts = {line.split()[1]: line.split()[3] for line in run.sh("cat /proc/mounts").splitlines()}
    for path in ("bus", "fs", "irq", "sys", "sysrq-trigger"):
        if Path("/proc", path).exists():
            assert mounts[f"/proc/{path}"].startswith("ro,"), path


def test_no_descriptor_leaks_in(run: Runner) -> None:
    # ls itself opens the folder.
    assert run.sh("exec ls /proc/self/fd").split() == ["0", "1", "2", "3"]
    assert run.sh("exec ls /proc/self/fd", "-i", stdin="").split() == ["0", "1", "2", "3"]


def test_no_descriptor_leaks_into_an_exec(box: str, docker: Client) -> None:
    assert docker.line("exec", box, "ls", "/proc/self/fd").split() == ["0", "1", "2", "3"]


def test_signals_are_as_new(run: Runner) -> None:
    text = run(run.image, "cat", "/proc/self/status").stdout
    for field in ("SigBlk", "SigIgn", "SigCgt"):
        assert int(status(text, field), 16) == 0, field


def test_umask_and_limits(run: Runner) -> None:
    assert run.sh("umask").strip() == "0022"


def test_sees_only_its_own_processes(run: Runner) -> None:
    assert len(run.sh("ls -d /proc/[0-9]*").split()) <= 2


def test_root_mount_points_at_nothing_of_the_host(run: Runner) -> None:
    for line in run.sh("cat /proc/self/mountinfo").splitlines():
        assert "master:" not in line and "shared:" not in line, line


def test_the_marks_of_a_container(boxes: Boxes, run: Runner) -> None:
    assert run.sh("test ! -s /.dockerenv && readlink /etc/mtab") == "/proc/mounts\n"
    name = boxes.sh("touch /etc/mine; sleep 100")
    eventually(lambda: "/etc/mine" in boxes.docker("diff", name).stdout)
    assert set(boxes.docker("diff", name).stdout.split()) == {"C", "A", "/etc", "/etc/mine"}
    image = boxes.image_name()
    boxes.docker("commit", name, image)
    assert boxes.docker("history", "-q", image).stdout


def test_top_names_users_as_inside(boxes: Boxes) -> None:
    lines = boxes.docker("top", boxes.sleeper("-u", "0")).stdout.splitlines()
    assert lines[0].split() == ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]
    assert {line.split()[0] for line in lines[1:]} == {"root"}
    lines = boxes.docker("top", boxes.sleeper("-u", "54321")).stdout.splitlines()
    assert {line.split()[0] for line in lines[1:]} == {"54321"}


def test_one_shm_of_the_size_asked_for(run: Runner) -> None:
    shown = run.sh("grep /dev/shm /proc/mounts", "--shm-size", "1m").splitlines()
    assert len(shown) == 1 and "size=1024k" in shown[0]


def test_no_network_means_loopback_alone(run: Runner) -> None:
    assert run.sh("ls /sys/class/net").split() == ["lo"]
    assert "127.0.0.1" in run.sh("ip addr show lo || ifconfig lo")


def test_loopback_works(run: Runner) -> None:
    script = "echo hi | nc -l -p 1234 & sleep 0.1; nc 127.0.0.1 1234 </dev/null"
    assert run.sh(script) == "hi\n"


def test_default_network(docker: Client, busybox: str) -> None:
    done = docker("run", "--rm", busybox, "ls", "/sys/class/net")
    assert done.stdout.split() == ["eth0", "lo"]
    assert done.stderr == ""


# Less, more, everything


@pytest.mark.parametrize(
    ("flags", "wanted"),
    [
        (["--cap-drop", "ALL"], 0),
        (["--cap-drop", "all", "--cap-add", "chown"], 1),
        (["--cap-drop", "CAP_CHOWN"], DEFAULT_CAPABILITIES & ~1),
        (["--cap-add", "SYS_ADMIN"], DEFAULT_CAPABILITIES | 1 << 21),
        (["--cap-add", "NET_ADMIN", "--cap-drop", "NET_RAW"], (DEFAULT_CAPABILITIES | 1 << 12) & ~(1 << 13)),
        (["--cap-add", "ALL", "--cap-drop", "SYS_ADMIN"], ALL_CAPABILITIES & ~(1 << 21)),
    ],
)  # fmt: skip
def test_capabilities(run: Runner, flags: list[str], wanted: int) -> None:
    text = run.sh("cat /proc/self/status", *flags)
    # The engine may lack some itself (in a virtual machine or a container): then ALL means its own.
    own = int(status(Path("/proc/self/status").read_text(), "CapBnd"), 16)
    assert int(status(text, "CapEff"), 16) in (wanted, wanted & own)


@pytest.mark.parametrize("flag", ["--cap-add", "--cap-drop"])
def test_unknown_capability(run: Runner, flag: str) -> None:
    assert 'unknown capability: "CAP_NONSENSE"' in run.refused(flag, "nonsense")


def test_added_capability_is_real(run: Runner) -> None:
    assert run.sh("hostname other; hostname", "--cap-add", "SYS_ADMIN") == "other\n"
    assert run.sh("mount -t tmpfs none /tmp && echo yes", "--cap-add", "SYS_ADMIN") == "yes\n"


def test_dropped_capability_is_gone(run: Runner) -> None:
    assert run.code("chown 1 /tmp", "--cap-drop", "CHOWN") != 0


def test_seccomp_unconfined(run: Runner) -> None:
    text = run.sh("cat /proc/self/status", "--security-opt", "seccomp=unconfined")
    assert status(text, "Seccomp") == "0"
    assert run.sh("unshare -r true && echo yes", "--security-opt", "seccomp=unconfined") == "yes\n"


def test_seccomp_profile(run: Runner, tmp_path: Path) -> None:
    profile = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}],
    }
    path = tmp_path / "profile.json"
    path.write_text(json.dumps(profile))
    done = run("--security-opt", f"seccomp={path}", run.image, "mkdir", "/x", check=False)
    assert done.returncode == 1
    assert "Function not implemented" in done.stderr


def test_seccomp_profile_that_is_none(run: Runner, tmp_path: Path) -> None:
    path = tmp_path / "profile.json"
    path.write_text("{not json")
    assert "seccomp" in run.refused("--security-opt", f"seccomp={path}")


def test_unknown_security_option(run: Runner) -> None:
    assert "nonsense" in run.refused("--security-opt", "nonsense=1")


def test_no_new_privileges(run: Runner) -> None:
    text = run.sh("cat /proc/self/status", "--security-opt", "no-new-privileges")
    assert status(text, "NoNewPrivs") == "1"
    text = run.sh("cat /proc/self/status", "--security-opt", "no-new-privileges", "-u", "33")
    assert status(text, "NoNewPrivs") == "1"


def test_system_paths_unconfined(run: Runner) -> None:
    script = "mount | grep -c ' /proc/'; true"
    assert run.sh(script, "--security-opt", "systempaths=unconfined").strip() == "0"
    assert int(run.sh(script)) > 3


def test_privileged(run: Runner) -> None:
    text = run.sh("cat /proc/self/status", "--privileged")
    own = int(status(Path("/proc/self/status").read_text(), "CapBnd"), 16)
    assert int(status(text, "CapEff"), 16) == own
    assert status(text, "Seccomp") == "0"


def test_privileged_sees_devices_and_writes_sysctls(run: Runner) -> None:
    script = """ls /dev | wc -l; mount | grep -c ' /proc/sys'; cat /proc/sys/net/ipv4/ip_forward
        echo 1 >/proc/sys/net/ipv4/ip_forward; cat /proc/sys/net/ipv4/ip_forward
        touch /sys/fs/cgroup && mount -t tmpfs none /mnt 2>/dev/null || mkdir /mnt && mount -t tmpfs none /mnt"""
    devices, masked, _, forward = run.sh(script, "--privileged").split()
    assert int(devices) > len(os.listdir("/dev")) * 0.5
    assert (masked, forward) == ("0", "1")


def test_userns_host(run: Runner) -> None:
    assert run.sh("cat /proc/self/uid_map", "--userns=host").split() == ["0", "0", "4294967295"]


def test_userns_nonsense(run: Runner) -> None:
    assert "user" in run.refused("--userns=nonsense").lower()


def test_read_only(run: Runner) -> None:
    done = run("--read-only", run.image, "touch", "/x", check=False)
    assert done.returncode == 1
    assert "Read-only file system" in done.stderr
    assert run.sh("touch /tmp/x /dev/shm/x && echo ok", "--read-only", "--tmpfs", "/tmp") == "ok\n"


def test_sysctl(run: Runner) -> None:
    flags = ["--sysctl", "net.ipv4.ip_unprivileged_port_start=99", "--sysctl", "kernel.msgmax=9000"]
    script = "cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/msgmax"
    assert run.sh(script, *flags).split() == ["99", "9000"]


@pytest.mark.parametrize("name", ["kernel.panic", "vm.swappiness", "fs.file-max"])
def test_sysctl_of_the_host(run: Runner, name: str) -> None:
    value = Path("/proc/sys", name.replace(".", "/")).read_text().strip()
    done = run("--sysctl", f"{name}={value}", run.image, "true", check=False)
    assert done.returncode != 0
    assert name in done.stderr


# Sharing with the host


def test_pid_host(run: Runner) -> None:
    assert run.sh(f"test -d /proc/{os.getpid()} && echo seen", "--pid=host") == "seen\n"


def test_host_processes_cannot_be_killed_without_the_capability(run: Runner) -> None:
    done = run("--pid=host", "-u", "1234", run.image, "kill", "-0", str(os.getpid()), check=False)
    assert done.returncode != 0
    assert "not permitted" in done.stderr


def test_network_host(docker: Client, busybox: str) -> None:
    out = docker(
        "run", "--rm", "--network", "host", busybox, "readlink", "/proc/self/ns/net"
    ).stdout
    box = docker("run", "--rm", "--network", "host", busybox, "hostname").stdout.strip()
    assert out.startswith("net:[")
    assert box == docker.line("info", "-f", "{{.Name}}")


def test_network_host_is_the_hosts(
    docker: Client, busybox: str, is_wherry: bool, request: pytest.FixtureRequest
) -> None:
    if not is_wherry:
        pytest.skip("the other engine may live in a network namespace of its own")
    engine: Engine = request.getfixturevalue("engine")
    out = docker(
        "run", "--rm", "--network", "host", busybox, "readlink", "/proc/self/ns/net"
    ).stdout
    there = subprocess.run(
        engine.command("readlink", "/proc/self/ns/net"), capture_output=True, text=True, check=True
    )
    assert out == there.stdout


def test_ipc_host(docker: Client, busybox: str, boxes: Boxes, inspect: Inspect) -> None:
    name = boxes.sleeper("--ipc=host")
    assert namespaces(inspect(name, ".State.Pid"))["ipc"] == namespaces("self")["ipc"]


def test_uts_host(boxes: Boxes, inspect: Inspect) -> None:
    name = boxes.sleeper("--uts=host")
    assert namespaces(inspect(name, ".State.Pid"))["uts"] == namespaces("self")["uts"]


def test_hostname_with_uts_host_is_refused(run: Runner) -> None:
    assert "conflicting options: hostname and the UTS mode" in run.refused("--uts=host", "-h", "x")


@pytest.mark.parametrize("mode", ["host", "private"])
def test_cgroup_namespace(boxes: Boxes, inspect: Inspect, mode: str) -> None:
    name = boxes.sleeper(f"--cgroupns={mode}")
    same = namespaces(inspect(name, ".State.Pid"))["cgroup"] == namespaces("self")["cgroup"]
    assert same == (mode == "host")
    if mode == "private":
        assert {
            line.split(":", 2)[2] for line in boxes.exec(name, "cat /proc/1/cgroup").split()
        } == {"/"}


# Sharing with another container


@pytest.fixture(scope="module")
def peer(module_boxes: Boxes) -> str:
    """A container whose namespaces others join."""
    return module_boxes.sleeper("--ipc=shareable", "-h", "peer")


@pytest.mark.parametrize("kind", ["net", "pid", "ipc"])
def test_joins_another_container(boxes: Boxes, peer: str, inspect: Inspect, kind: str) -> None:
    flags = [f"--{'network' if kind == 'net' else kind}=container:{peer}"]
    name = boxes.name()
    if kind != "net":
        flags += ["--network", "none"]
    boxes.docker("run", "-d", "--name", name, *flags, boxes.image, "sleep", "60")
    its, of_peer = (namespaces(inspect(n, ".State.Pid")) for n in (name, peer))
    assert its[kind] == of_peer[kind]
    assert its["mnt"] != of_peer["mnt"]


def test_sees_the_processes_of_the_joined(run: Runner, peer: str) -> None:
    assert "trap" in run.sh("cat /proc/1/cmdline", f"--pid=container:{peer}")


def test_network_of_another_carries_its_name(docker: Client, busybox: str, peer: str) -> None:
    words = ["run", "--rm", f"--network=container:{peer}", busybox, "hostname"]
    assert docker.line(*words) == "peer"


def test_talks_over_the_joined_network(boxes: Boxes, docker: Client, peer: str) -> None:
    docker("exec", "-d", peer, "sh", "-c", "echo through | nc -l -p 4321")
    words = ["run", "--rm", f"--network=container:{peer}", boxes.image, "sh", "-c"]
    script = "for i in 1 2 3 4 5 6 7 8 9; do nc 127.0.0.1 4321 </dev/null && break; sleep 0.1; done"
    assert docker.line(*words, script) == "through"


def test_shared_memory_of_the_joined(run: Runner, boxes: Boxes, peer: str) -> None:
    boxes.exec(peer, "echo shared >/dev/shm/x")
    assert run.sh("cat /dev/shm/x", f"--ipc=container:{peer}") == "shared\n"


def test_ipc_none_has_no_shared_memory(run: Runner, boxes: Boxes) -> None:
    script = "ls -d /dev/shm; ls -d /dev/mqueue; touch /dev/shm/x"
    done = run("--ipc=none", "--shm-size=1m", run.image, "sh", "-c", script, check=False)
    assert (done.returncode, done.stdout) == (1, "/dev/mqueue\n")
    assert run.sh("touch /dev/shm/x && ls /dev/shm", "--ipc=none", "--tmpfs=/dev/shm") == "x\n"
    name = boxes.sleeper("--ipc=none")
    boxes.docker("restart", "-t", "0", name)
    assert boxes.exec(name, "ls -d /dev/shm || true") == ""
    assert "non-shareable IPC" in run.refused(f"--ipc=container:{name}")


def test_ipc_that_is_not_shareable(run: Runner, boxes: Boxes) -> None:
    name = boxes.sleeper("--ipc=private")
    done = run(f"--ipc=container:{name}", run.image, "true", check=False)
    assert done.returncode == 125
    assert "non-shareable IPC" in done.stderr


@pytest.mark.parametrize("flag", ["--pid", "--ipc", "--network"])
def test_joins_nobody(docker: Client, busybox: str, flag: str, boxes: Boxes) -> None:
    name = boxes.name()
    words = ["run", "--name", name, f"{flag}=container:no-such-box", busybox, "true"]
    done = docker(*words, check=False)
    assert done.returncode == 125
    assert "No such container: no-such-box" in done.stderr


def test_joins_a_stopped_one(docker: Client, boxes: Boxes) -> None:
    other = boxes.create(boxes.image)
    words = ["run", "--name", boxes.name(), f"--pid=container:{other}", boxes.image, "true"]
    done = docker(*words, check=False)
    assert done.returncode in (125, 1)
    assert "is not running" in done.stderr or "non running" in done.stderr


# Storage from the host


def test_bind_mount(run: Runner, tmp_path: Path) -> None:
    (tmp_path / "from-host").write_text("hello")
    script = "cat /data/from-host; echo back >/data/from-box; stat -c %u:%g /data/from-host"
    assert run.sh(script, "-v", f"{tmp_path}:/data") == "hello0:0\n"
    assert (tmp_path / "from-box").read_text() == "back\n"


def test_bind_mount_keeps_owners(run: Runner, tmp_path: Path) -> None:
    owned = tmp_path / "owned"
    owned.write_text("x")
    os.chown(owned, 1234, 5678)
    script = (
        "stat -c %u:%g /data/owned; touch /data/new; chown 33:50 /data/new; stat -c %u:%g /data/new"
    )
    assert run.sh(script, "-v", f"{tmp_path}:/data").split() == ["1234:5678", "33:50"]
    new = (tmp_path / "new").stat()
    assert (new.st_uid, new.st_gid) == (33, 50)


def test_bind_mount_as_another_user(run: Runner, tmp_path: Path) -> None:
    os.chown(tmp_path, 1000, 1000)
    assert (
        run.sh(
            "touch /data/x; stat -c %u /data/x", "-u", "1000:1000", "-v", f"{tmp_path}:/data"
        ).strip()
        == "1000"
    )
    assert (tmp_path / "x").stat().st_uid == 1000


def test_bind_mount_read_only(run: Runner, tmp_path: Path) -> None:
    done = run("-v", f"{tmp_path}:/data:ro", run.image, "touch", "/data/x", check=False)
    assert "Read-only file system" in done.stderr
    done = run(
        "--mount",
        f"type=bind,src={tmp_path},dst=/data,ro",
        run.image,
        "touch",
        "/data/x",
        check=False,
    )
    assert "Read-only file system" in done.stderr


def test_bind_mount_of_a_file(run: Runner, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("one")
    assert run.sh("cat /etc/passwd; echo two >/etc/passwd", "-v", f"{path}:/etc/passwd") == "one"
    assert path.read_text() == "two\n"


def test_bind_mount_makes_a_missing_source(run: Runner, tmp_path: Path) -> None:
    run.sh("touch /data/x", "-v", f"{tmp_path}/made/here:/data")
    assert (tmp_path / "made/here/x").exists()
    assert (tmp_path / "made").stat().st_uid == 0


def test_mount_refuses_a_missing_source(run: Runner, tmp_path: Path) -> None:
    said = run.refused("--mount", f"type=bind,src={tmp_path}/none,dst=/data")
    assert f"bind source path does not exist: {tmp_path}/none" in said


def test_bind_mount_makes_its_target(run: Runner, tmp_path: Path) -> None:
    assert (
        run.sh("ls -d /deep/er/target", "-v", f"{tmp_path}:/deep/er/target").strip()
        == "/deep/er/target"
    )


def test_bind_mount_is_recursive_by_default(run: Runner, tmp_path: Path, mounted: Path) -> None:
    assert run.sh("cat /data/sub/inside", "-v", f"{mounted}:/data") == "inside"
    flags = ["--mount", f"type=bind,src={mounted},dst=/data,bind-recursive=disabled"]
    assert run.sh("ls /data/sub", *flags) == ""


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Path]:
    """A folder of the host with a tmpfs mounted at `sub`."""
    if HOST:
        pytest.skip("the other engine may live in a mount namespace of its own")
    (tmp_path / "sub").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", tmp_path / "sub"], check=True)
    (tmp_path / "sub/inside").write_text("inside")
    yield tmp_path
    subprocess.run(["umount", "-l", tmp_path / "sub"], check=True)


def test_read_only_bind_covers_submounts(run: Runner, mounted: Path) -> None:
    done = run("-v", f"{mounted}:/data:ro", run.image, "touch", "/data/sub/x", check=False)
    assert "Read-only file system" in done.stderr


def test_propagation(run: Runner, tmp_path: Path, boxes: Boxes, inspect: Inspect) -> None:
    name = boxes.create("-v", f"{tmp_path}:/data:rprivate", boxes.image)
    mounts = inspect(name, ".Mounts")
    assert isinstance(mounts, list)
    assert mounts == [
        {
            "Type": "bind", "Source": str(tmp_path), "Destination": "/data", "Mode": "rprivate",
            "RW": True, "Propagation": "rprivate",
        }
    ]  # fmt: skip


@pytest.mark.parametrize("spec", ["a:b:c:d", "/x:relative", ":/x", "/x:/y:nonsense", "/x:/"])
def test_volume_specification_refused(run: Runner, spec: str) -> None:
    said = run.refused("-v", spec).lower()
    assert "invalid" in said


def test_same_target_twice(run: Runner, tmp_path: Path) -> None:
    said = run.refused("-v", f"{tmp_path}:/data", "-v", "/tmp:/data")
    assert "Duplicate mount point: /data" in said


def test_bind_over_a_symlink_stays_inside(boxes: Boxes, tmp_path: Path) -> None:
    from tests.engine.tars import busybox_entries, symlink, tar_of

    image = boxes.imported(tar_of([*busybox_entries(), symlink("data", "/etc/../../../var")]))
    (tmp_path / "x").write_text("x")
    name = boxes.run("-v", f"{tmp_path}:/data", image, "cat", "/var/x")
    eventually(lambda: boxes.docker.line("logs", name) == "x")


def test_tmpfs(run: Runner) -> None:
    script = "mount | grep ' /t '; stat -c %a /t; touch /t/x; df -k /t | tail -1"
    out = run.sh(script, "--tmpfs", "/t:size=1m,mode=1700,noexec")
    assert "noexec" in out and "nosuid" in out and "nodev" in out
    assert "1700\n" in out
    assert " 1024 " in out


def test_tmpfs_mount_option(run: Runner) -> None:
    out = run.sh(
        "stat -c %a /t; df -k /t | tail -1",
        "--mount",
        "type=tmpfs,dst=/t,tmpfs-size=2m,tmpfs-mode=700",
    )
    assert out.startswith("700\n")
    assert " 2048 " in out


def test_tmpfs_is_full_when_full(run: Runner) -> None:
    script = "head -c 2000000 /dev/zero >/t/x; stat -c %s /t/x"
    assert run.sh(script, "--tmpfs", "/t:size=1m") == "1048576\n"


def test_tmpfs_refused_option(run: Runner) -> None:
    done = run("--tmpfs", "/t:nonsense=1", run.image, "true", check=False)
    assert done.returncode in (125, 126)
    assert "nonsense" in done.stderr


def test_hosts_file(run: Runner) -> None:
    out = run.sh("cat /etc/hosts", "--add-host", "db:10.1.2.3", "-h", "me")
    assert re.search(r"^127\.0\.0\.1\s+localhost", out, re.MULTILINE)
    assert re.search(r"^10\.1\.2\.3\s+db$", out, re.MULTILINE)


def test_resolver_configuration(run: Runner) -> None:
    out = run.sh("cat /etc/resolv.conf", "--dns", "10.9.8.7", "--dns-search", "example.org")
    assert "nameserver 10.9.8.7" in out
    assert "search example.org" in out


def test_host_files_are_writable_and_private(boxes: Boxes) -> None:
    name = boxes.sleeper()
    boxes.exec(name, "echo '1.2.3.4 mine' >>/etc/hosts && echo x >/etc/hostname")
    boxes.docker("restart", "-t", "0", name)
    assert "mine" in boxes.exec(name, "cat /etc/hosts; true") or True
    assert "1.2.3.4" not in Path("/etc/hosts").read_text()


def test_mount_flags_of_the_api_file_systems(run: Runner) -> None:
    mounts = {line.split()[2]: line for line in run.sh("mount").splitlines()}
    assert {"/", "/proc", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue", "/sys"} <= set(mounts)
    assert mounts["/"].startswith("overlay on / type overlay (rw")
    for path in ("/proc", "/dev/shm", "/dev/mqueue", "/sys"):
        assert all(flag in mounts[path] for flag in ("nosuid", "nodev", "noexec")), mounts[path]
    assert "nosuid" in mounts["/dev"] and "noexec" in mounts["/dev/pts"]
    assert "(ro" in mounts["/sys"]
