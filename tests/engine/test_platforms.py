"""Programs of another machine: builds and containers run them by a qemu that is registered nowhere."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.harness.clients import Client
from tests.harness.foreign import find_emulator, foreign_root
from wherry.runtime.emulation import BINFMT, emulated

_IMAGE = "foreign:arm64"
_OTHER = "does not match the detected host platform"


@pytest.fixture(scope="module")
def foreign(docker: Client) -> str:
    """The name of an arm64 image with a busybox, on the shared engine."""
    find_emulator()
    root = foreign_root()
    docker.raw("import", "--platform", "linux/arm64", "-", _IMAGE, stdin=root)
    return _IMAGE


def test_a_container_of_another_platform_runs(docker: Client, wherry: Client, foreign: str) -> None:
    before = os.listdir(BINFMT) if os.path.isdir(BINFMT) else []
    for client in (docker, wherry):
        done = client("run", "--rm", "--platform", "linux/arm64", foreign, "uname", "-m")
        assert (done.stdout, done.stderr) == ("aarch64\n", "")
    # Not asked for by --platform: Docker says so too.
    done = docker("run", "--rm", foreign, "sh", "-c", "exec /bin/uname -m")
    assert done.stdout == "aarch64\n" and _OTHER in done.stderr
    assert (os.listdir(BINFMT) if os.path.isdir(BINFMT) else []) == before


def test_other_processes_of_it_run_too(docker: Client, foreign: str) -> None:
    name = docker.line("run", "-d", "--platform", "linux/arm64", foreign, "sleep", "100")
    try:
        assert docker.line("exec", name, "uname", "-m") == "aarch64"
        for kind in ("pid", "network"):
            shared = f"--{kind}=container:{name}"
            got = docker("run", "--rm", "--platform", "linux/arm64", shared, foreign, "uname", "-m")
            assert got.stdout == "aarch64\n"
        docker("commit", name, "foreign:kept")
        assert docker.line("image", "inspect", "-f", "{{.Architecture}}", "foreign:kept") == "arm64"
    finally:
        docker("rm", "-f", name)
        docker("rmi", "foreign:kept", check=False)


def test_neither_emulator_nor_registration_can_be_written(docker: Client, foreign: str) -> None:
    if emulated("arm64"):
        pytest.skip("the host's own binfmt_misc is used")
    script = f"""
        cat {BINFMT}/arm64
        mount | while read a b c rest; do [ "$c" != {BINFMT} ] || echo "$rest"; done
        (echo -1 > {BINFMT}/arm64) || echo kept
        (: >> /proc/1/exe) || echo safe
    """
    run = ("run", "--rm", "--platform", "linux/arm64")
    done = docker(*run, "--cap-add", "DAC_OVERRIDE", foreign, "sh", "-c", script)
    assert "flags: POCF" in done.stdout and f"interpreter {find_emulator().name}" in done.stdout
    assert done.stdout.splitlines()[-3:] == [
        "type binfmt_misc (ro,nosuid,nodev,noexec,relatime)", "kept", "safe",
    ]  # fmt: skip
    assert "Read-only file system" in done.stderr and "Permission denied" in done.stderr


def test_steps_of_another_platform_run(
    docker: Client, wherry: Client, foreign: str, tmp_path: Path
) -> None:
    dockerfile = f'FROM {foreign}\nRUN uname -m > /m && cat /m\nRUN ["/bin/uname", "-m"]\n'
    (tmp_path / "Dockerfile").write_text(dockerfile)
    done = wherry(
        "build",
        "--platform",
        "linux/arm64",
        "--progress=plain",
        "-t",
        "foreign:wherry",
        str(tmp_path),
    )
    assert done.stderr.count("aarch64") == 2
    docker.env["DOCKER_BUILDKIT"] = "0"
    try:
        docker("build", "--platform", "linux/arm64", "-t", "foreign:docker", str(tmp_path))
    finally:
        del docker.env["DOCKER_BUILDKIT"]
    # Both doors lead to one cache, and the image says what it is for.
    ids = "{{.Id}} {{.Architecture}}"
    made = {
        docker.line("image", "inspect", "-f", ids, f"foreign:{n}") for n in ("wherry", "docker")
    }
    assert len(made) == 1 and made.pop().endswith(" arm64")
    assert docker.line("run", "--rm", "--platform=linux/arm64", "foreign:docker", "cat", "/m") == (
        "aarch64"
    )
    docker("rmi", "foreign:wherry", "foreign:docker")


def test_without_an_emulator_the_way_out_is_told(
    docker: Client, wherry: Client, tmp_path: Path
) -> None:
    if emulated("riscv64") or os.path.exists("/usr/bin/qemu-riscv64-static"):
        pytest.skip("this machine runs it")
    (tmp_path / "Dockerfile").write_text('FROM scratch\nCOPY x /x\nRUN ["/x"]\n')
    (tmp_path / "x").touch()
    done = wherry("build", "--platform", "linux/riscv64", str(tmp_path), check=False)
    assert done.returncode == 1
    assert "cannot execute programs of linux/riscv64" in done.stderr
    assert "install a static qemu-riscv64" in done.stderr
    archive = b"\0" * 10240
    docker.raw("import", "--platform", "linux/riscv64", "-", "foreign:none", stdin=archive)
    created = docker("create", "--platform", "linux/riscv64", "foreign:none", "/x")
    docker("rm", created.stdout.strip())
    assert "install a static qemu-riscv64" in created.stderr
    # As with Docker, these are the host's business.
    created = docker("create", "--privileged", "foreign:none", "/x")
    docker("rm", created.stdout.strip())
    docker("rmi", "foreign:none")
    assert "register qemu-riscv64 with it" in created.stderr and _OTHER in created.stderr
