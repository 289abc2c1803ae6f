"""wherry-runtime on real bundles: a busybox root file system, started as other engines start one."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

BUSYBOX = "/bin/busybox"
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A bundle whose root holds busybox and two users."""
    folder = tmp_path / "bundle"
    root = folder / "rootfs"
    for name in ("bin", "etc", "proc", "sys", "dev", "tmp"):
        (root / name).mkdir(parents=True)
    shutil.copy(BUSYBOX, root / "bin/busybox")
    for applet in ("sh", "id", "cat", "sleep", "hostname", "ls", "ps", "grep", "true"):
        (root / "bin" / applet).symlink_to("busybox")
    (root / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\n")
    return folder


@pytest.fixture
def run(tmp_path: Path, bundle: Path) -> Iterator[Run]:
    """Call wherry-runtime with a state folder of its own; whatever it leaves is removed."""
    state = tmp_path / "state"

    def call(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "wherry.runtime.command", "--root", str(state)]
        # Files, not pipes: a created container keeps them open after the command has ended.
        with (tmp_path / "out").open("w+") as out, (tmp_path / "err").open("w+") as err:
            done = subprocess.run(
                [*command, *arguments],
                cwd=bundle,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                timeout=30,
                check=False,
            )
        output = (tmp_path / "out").read_text(), (tmp_path / "err").read_text()
        if check and done.returncode:
            pytest.fail(f"{arguments} ended with {done.returncode}: {output}")
        return subprocess.CompletedProcess(arguments, done.returncode, *output)

    yield call
    for name in os.listdir(state) if state.exists() else ():
        call("delete", "--force", name, check=False)


def configure(bundle: Path, run: Run, *argv: str, **changes: Any) -> None:
    """Write a config.json that runs `argv` without a terminal; `changes` go into `linux`."""
    (bundle / "config.json").unlink(missing_ok=True)
    run("spec")
    config = json.loads((bundle / "config.json").read_text())
    config["process"]["args"] = list(argv)
    config["process"]["terminal"] = False
    config["linux"].update(changes)
    (bundle / "config.json").write_text(json.dumps(config))


def name_of(tmp_path: Path) -> str:
    return f"wherry-test-{os.getpid()}-{tmp_path.name}"


def test_run_gives_the_output_and_the_exit_status(bundle: Path, run: Run, tmp_path: Path) -> None:
    configure(bundle, run, "sh", "-c", "id -u; hostname; cat /proc/1/comm; exit 7")
    done = run("run", name_of(tmp_path), check=False)
    assert done.returncode == 7, done.stderr
    assert done.stdout.split() == ["0", "wherry", "sh"]
    assert json.loads(run("list", "-f", "json").stdout) == []


def test_create_waits_for_start(bundle: Path, run: Run, tmp_path: Path) -> None:
    name = name_of(tmp_path)
    configure(bundle, run, "sleep", "100")
    pid_file = tmp_path / "pid"
    run("create", "--pid-file", str(pid_file), name)
    pid = int(pid_file.read_text())
    assert json.loads(run("state", name).stdout)["status"] == "created"
    assert Path(f"/proc/{pid}/comm").read_text() != "sleep\n"
    run("start", name)
    assert json.loads(run("state", name).stdout)["status"] == "running"
    deadline = time.monotonic() + 30
    while Path(f"/proc/{pid}/comm").read_text() != "sleep\n":
        assert time.monotonic() < deadline
    assert run("exec", name, "cat", "/proc/1/comm").stdout == "sleep\n"
    assert run("exec", name, "sh", "-c", "exit 9", check=False).returncode == 9
    refused = run("delete", name, check=False)
    assert refused.returncode == 1 and "not stopped" in refused.stderr
    run("kill", name, "KILL")
    while json.loads(run("state", name).stdout)["status"] != "stopped":
        assert time.monotonic() < deadline
    run("delete", name)
    assert not any(Path("/sys/fs/cgroup").glob(f"*/wherry-runtime/{name}"))


def test_missing_command_is_told_at_create_and_leaves_nothing(
    bundle: Path, run: Run, tmp_path: Path
) -> None:
    name = name_of(tmp_path)
    configure(bundle, run, "nosuch")
    done = run("create", name, check=False)
    assert done.returncode == 1
    assert 'exec: "nosuch": executable file not found in $PATH' in done.stderr
    assert run("list", "-q").stdout == ""
    assert not any(Path("/sys/fs/cgroup").glob(f"*/wherry-runtime/{name}"))


def test_user_namespace_of_the_bundle(bundle: Path, run: Run, tmp_path: Path) -> None:
    kinds = ("user", "pid", "network", "ipc", "uts", "mount", "cgroup")
    lines = [{"containerID": 0, "hostID": 0x7FFC0000, "size": 65536}]
    configure(
        bundle,
        run,
        "cat",
        "/proc/self/uid_map",
        namespaces=[{"type": kind} for kind in kinds],
        uidMappings=lines,
        gidMappings=lines,
    )
    done = run("run", name_of(tmp_path))
    assert done.stdout.split() == ["0", str(0x7FFC0000), "65536"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"namespaces": [{"type": "space"}]}, "unknown namespace type 'space'"),
        ({"intelRdt": {"closID": "x"}}, "linux.intelRdt is not in this version"),
        ({"resources": {"memory": {"limit": "much"}}}, ""),
        ({"seccomp": {"defaultAction": "SCMP_ACT_DANCE"}}, "SCMP_ACT_DANCE"),
    ],
)
def test_refusals_name_the_property(
    bundle: Path, run: Run, tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    configure(bundle, run, "true", **change)
    done = run("run", name_of(tmp_path), check=False)
    assert done.returncode == 1
    assert words in done.stderr and "Traceback" not in done.stderr
    assert run("list", "-q").stdout == ""


def test_the_terminal_is_the_containers_own(bundle: Path, run: Run, tmp_path: Path) -> None:
    text = "cat /proc/self/fd/0 & ls -l /dev/console /dev/pts/0; sleep 0"
    configure(bundle, run, "sh", "-c", text)
    config = json.loads((bundle / "config.json").read_text())
    config["process"] |= {"terminal": True, "consoleSize": {"height": 33, "width": 44}}
    (bundle / "config.json").write_text(json.dumps(config))
    name, path = name_of(tmp_path), str(tmp_path / "console.sock")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(path)
        listener.listen(1)
        run("create", "--console-socket", path, name)
        end, _ = listener.accept()
        with end:
            _, (master,), _, _ = socket.recv_fds(end, 64, 1)
    try:
        run("start", name)
        output = b""
        while output.count(b"\n") < 2:
            output += os.read(master, 4096)
        lines = output.decode().splitlines()
        assert [line.split()[-1] for line in lines] == ["/dev/console", "/dev/pts/0"]
        assert [line.split()[4:6] for line in lines] == [["136,", "0"]] * 2
        assert struct.unpack("4H", fcntl.ioctl(master, termios.TIOCGWINSZ, b"\0" * 8))[:2] == (
            33,
            44,
        )
    finally:
        os.close(master)


def test_without_a_cgroup_namespace_it_sees_its_own_cgroups_alone(
    bundle: Path, run: Run, tmp_path: Path
) -> None:
    kinds = ("pid", "network", "ipc", "uts", "mount")
    text = "cat /sys/fs/cgroup/pids/pids.max || cat /sys/fs/cgroup/pids.max"
    configure(
        bundle,
        run,
        "sh",
        "-c",
        text,
        namespaces=[{"type": kind} for kind in kinds],
        resources={"pids": {"limit": 77}},
    )
    assert run("run", name_of(tmp_path)).stdout.split() == ["77"]


def test_update_changes_a_limit(bundle: Path, run: Run, tmp_path: Path) -> None:
    name = name_of(tmp_path)
    configure(bundle, run, "sleep", "100", resources={"pids": {"limit": 77}})
    run("run", "--detach", name)
    wanted = tmp_path / "resources.json"
    wanted.write_text(json.dumps({"pids": {"limit": 55}}))
    run("update", "--resources", str(wanted), name)
    text = "cat /sys/fs/cgroup/pids/pids.max || cat /sys/fs/cgroup/pids.max"
    assert run("exec", name, "sh", "-c", text).stdout.split() == ["55"]


def test_delete_by_force_of_what_is_not_there_is_fine(run: Run) -> None:
    assert run("delete", "nosuch", check=False).returncode == 1
    assert run("delete", "--force", "nosuch").returncode == 0


def test_the_interpreter_cannot_be_written_to_through_the_container(
    bundle: Path, run: Run, tmp_path: Path
) -> None:
    """CVE-2019-5736: what /proc/PID/exe of the waiting process leads to is a read-only mount."""
    name = name_of(tmp_path)
    configure(bundle, run, "true")
    pid_file = tmp_path / "pid"
    run("create", "--pid-file", str(pid_file), name)
    # While it runs ETXTBSY keeps writers out; the mount does so afterwards.
    assert os.statvfs(f"/proc/{pid_file.read_text()}/exe").f_flag & os.ST_RDONLY


def test_a_working_directory_by_descriptor_is_refused(
    bundle: Path, run: Run, tmp_path: Path
) -> None:
    # CVE-2024-21626.
    configure(bundle, run, "true")
    config = json.loads((bundle / "config.json").read_text())
    for number in range(3, 14):
        config["process"]["cwd"] = f"/proc/self/fd/{number}"
        (bundle / "config.json").write_text(json.dumps(config))
        assert run("run", name_of(tmp_path), check=False).returncode == 1


def test_id_mapped_mounts_are_refused_by_name(bundle: Path, run: Run, tmp_path: Path) -> None:
    configure(bundle, run, "true")
    config = json.loads((bundle / "config.json").read_text())
    line = {"containerID": 0, "hostID": 1000, "size": 1}
    mount = {"destination": "/tmp", "type": "bind", "source": "/", "uidMappings": [line]}
    config["mounts"].append(mount)
    (bundle / "config.json").write_text(json.dumps(config))
    done = run("run", name_of(tmp_path), check=False)
    assert done.returncode == 1 and "id-mapped mount /tmp is not in this version" in done.stderr
