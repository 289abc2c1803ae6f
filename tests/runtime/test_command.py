"""wherry-runtime on real bundles: a busybox root file system, started as other engines start one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
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
    deadline = time.monotonic() + 5
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
