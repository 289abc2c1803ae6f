"""The house as a whole: engines side by side, a real Debian image, images of many layers, a clean end."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.engine.tars import busybox_tar
from tests.harness.clients import Client
from tests.harness.engine import Engine, script
from tests.harness.hosts import Host
from tests.harness.leaks import processes_naming
from wherry.runtime.cgroups import open_cgroups
from wherry.supervisor.identity import cgroup_parent

LAYERS = 130


def add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


def archive_of_many_layers() -> bytes:
    """A Docker archive: busybox, and a layer for each number that writes /n and adds a file."""
    layers = [busybox_tar()]
    for number in range(1, LAYERS):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as tar:
            add(tar, "n", str(number).encode())
            add(tar, f"many/{number}", b"")
        layers.append(out.getvalue())
    digests = [hashlib.sha256(layer).hexdigest() for layer in layers]
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Cmd": ["sh"]},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}" for digest in digests]},
        }
    ).encode()
    name = f"{hashlib.sha256(config).hexdigest()}.json"
    names = [f"{digest}/layer.tar" for digest in digests]
    manifest = [{"Config": name, "RepoTags": ["many:130"], "Layers": names}]
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        add(tar, name, config)
        for path, layer in zip(names, layers, strict=True):
            add(tar, path, layer)
        add(tar, "manifest.json", json.dumps(manifest).encode())
    return out.getvalue()


def test_130_layers(docker: Client) -> None:
    assert b"Loaded image: many:130" in docker.raw("load", stdin=archive_of_many_layers()).stdout
    words = ("run", "--rm", "--network", "none", "many:130", "sh", "-c")
    seen = docker(*words, "cat /n; echo; ls /many | wc -l; rm /n; ls /n; true").stdout
    assert seen.split()[:2] == [str(LAYERS - 1), str(LAYERS - 1)]
    docker("rmi", "many:130")


def test_a_real_debian(docker: Client, debian: str) -> None:
    words = ("run", "--rm", "--network", "none", debian)
    assert "bookworm" in docker(*words, "cat", "/etc/os-release").stdout
    assert docker(*words, "dpkg", "--audit").stdout == ""
    # Ownership and modes are as the distribution made them.
    assert docker.line(*words, "stat", "-c", "%U:%G %a", "/usr/bin/passwd") == "root:root 4755"
    assert docker(*words, "perl", "-e", "print 6*7").stdout == "42"


@pytest.fixture
def pair(new_engine: Callable[..., Engine]) -> tuple[Engine, Engine]:
    """Two engines that know nothing of each other."""
    return new_engine(), new_engine()


def test_two_engines_side_by_side(
    pair: tuple[Engine, Engine],
    docker_for: Callable[[Engine], Client],
    wherry_for: Callable[[Engine], Client],
) -> None:
    clients = [docker_for(engine) for engine in pair]
    ranges: set[str] = set()
    for engine, client in zip(pair, clients, strict=True):
        wherry_for(engine)("image", "bootstrap", "busybox")
        client("run", "-d", "--name", "same-name", "--network", "none", "busybox", "sleep", "60")
        ranges.add(client.line("exec", "same-name", "cat", "/proc/self/uid_map").split()[1])
    assert len(ranges) == 2, "both engines gave out the same ids"
    assert clients[0].line("ps", "-q") != clients[1].line("ps", "-q")
    clients[0]("rm", "-f", "same-name")
    assert clients[1].line("inspect", "-f", "{{.State.Status}}", "same-name") == "running"


def test_stop_ends_everything(
    new_engine: Callable[..., Engine], wherry_for: Callable[[Engine], Client]
) -> None:
    engine = new_engine()
    client = wherry_for(engine)
    client("image", "bootstrap", "busybox")
    client("run", "-d", "--network", "none", "busybox", "sleep", "600")
    name = (engine.data_root / "engine-id").read_text().partition("-")[0]
    groups = list(Path("/sys/fs/cgroup").glob(f"*/wherry/{name}"))
    assert groups
    engine.close()
    assert not processes_naming(str(engine.exec_root))
    assert [path for path in groups if path.exists()] == []


def test_stop_removes_the_cgroups_of_a_start_that_failed(tmp_path: Path) -> None:
    data, run = tmp_path / "d", tmp_path / "r"
    for folder in (data, run):
        folder.mkdir()
    # As far as a daemon comes before it can fail; no supervisor is there to remove them.
    parent = open_cgroups(cgroup_parent(str(data))).parent
    groups = list(Path("/sys/fs/cgroup").glob(f"*/{parent}"))
    assert groups
    with Host("failed") as host:
        stop = host.command(
            script("wherryd"), "--data-root", str(data), "--exec-root", str(run), "stop"
        )
        subprocess.run(stop, timeout=60, check=True)
    assert [path for path in groups if path.exists()] == []


def test_a_start_that_fails_leaves_no_cgroups(tmp_path: Path) -> None:
    data, run = tmp_path / "d", tmp_path / "r"
    data.mkdir()
    parent = cgroup_parent(str(data))
    # A profile that is not there is found out after the cgroups are made.
    with Host("failing") as host:
        daemon = host.command(
            script("wherryd"),
            *("--data-root", str(data), "--exec-root", str(run), "-H", f"unix://{tmp_path}/s"),
            *("--seccomp-profile", str(data / "missing.json")),
        )
        failed = subprocess.run(daemon, timeout=60, check=False, capture_output=True)
    assert failed.returncode == 1 and b"missing.json" in failed.stderr, failed.stderr
    assert list(Path("/sys/fs/cgroup").glob(f"*/{parent}")) == []


def test_the_supervisor_runs_from_a_read_only_view(engine: Engine, busybox: str) -> None:
    """CVE-2019-5736: what a container reaches as /proc/PID/exe cannot be changed by that way."""
    found = processes_naming(str(engine.exec_root))
    views = [pid for pid in found if os.readlink(f"/proc/{pid}/exe") == "/"]
    assert views, "no process runs from a mount of its own"
    for pid in views:
        with pytest.raises(OSError, match="Read-only file system"):
            os.chmod(f"/proc/{pid}/exe", 0o755)
