"""Options of the daemon that decide for containers which say nothing themselves."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from tests.harness.clients import Client
from tests.harness.engine import Engine, script

DENIES_MKDIR = {
    "defaultAction": "SCMP_ACT_ALLOW",
    "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}],
}


def test_security_and_namespaces(
    nothing_left: None,
    docker_for: Callable[[Engine], Client],
    wherry_for: Callable[[Engine], Client],
    tmp_path: Path,
) -> None:
    profile = tmp_path / "profile.json"
    profile.write_text(json.dumps(DENIES_MKDIR))
    init = tmp_path / "my-init"
    init.write_text("#!/bin/sh\n")
    init.chmod(0o755)
    options = (
        "--no-new-privileges",
        "--default-ipc-mode=shareable",
        "--default-cgroupns-mode=host",
        "--userns-remap=host",
        f"--seccomp-profile={profile}",
        f"--init-path={init}",
        "--experimental",
    )
    with Engine.on_the_machine(*options) as engine:
        docker = docker_for(engine)
        wherry_for(engine)("image", "bootstrap", "busybox")

        def said(*flags: str) -> str:
            show = "grep NoNewPrivs /proc/self/status; mkdir /x && echo made"
            words = ("run", "--rm", "--network", "none", *flags, "busybox", "sh", "-c", show)
            return docker(*words, check=False).stdout

        assert said() == "NoNewPrivs:\t1\n"
        own = said(
            "--security-opt", "seccomp=unconfined", "--security-opt", "no-new-privileges=false"
        )
        assert own == "NoNewPrivs:\t0\nmade\n"
        show = ("--rm", "--network", "none", "busybox", "cat", "/proc/self/uid_map")
        assert docker.line("run", *show).split() == Path("/proc/self/uid_map").read_text().split()
        name = docker.line("create", "--network", "none", "busybox")
        form = "{{.HostConfig.IpcMode}} {{.HostConfig.CgroupnsMode}}"
        assert docker.line("inspect", "-f", form, name) == "shareable host"
        info = json.loads(docker.line("info", "--format", "{{json .}}"))
        assert "name=no-new-privileges" in info["SecurityOptions"]
        assert f"name=seccomp,profile={profile}" in info["SecurityOptions"]
        assert (info["ExperimentalBuild"], info["InitBinary"]) == (True, "my-init")


def test_what_is_not_there_keeps_the_daemon_from_starting(tmp_path: Path) -> None:
    for option, words in (
        ("--seccomp-profile=/no/such", "invalid seccomp-profile: /no/such cannot be read"),
        ("--init-path=/no/such", "invalid init-path: /no/such is no program"),
    ):
        roots = ("--data-root", str(tmp_path / "d"), "--exec-root", str(tmp_path / "r"))
        daemon = Client([script("wherryd"), *roots, "--bridge", "none"], "", tmp_path)
        done = daemon(option, check=False, timeout=30)
        assert done.returncode == 1 and words in done.stderr
        daemon("stop", timeout=30)  # removes the cgroups that it made before it failed
