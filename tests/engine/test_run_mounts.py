"""Where mounts and devices go: through links, outside /dev, and with the propagation asked for."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine.boxes import Boxes, Runner
from tests.engine.tars import busybox_entries, symlink, tar_of
from tests.harness.clients import Client

LINKS = {
    "dangling": "/nowhere/deep",
    "escape": "../../../outside",
    "folder": "/etc",
    "first": "second",
    "second": "/third",
    "round": "about",
    "about": "round",
}


@pytest.fixture(scope="module")
def linked(module_boxes: Boxes) -> str:
    """An image whose root holds links, most of which lead to nothing."""
    links = [symlink(name, target) for name, target in LINKS.items()]
    return module_boxes.imported(tar_of([*busybox_entries(), *links]))


@pytest.mark.parametrize(
    ("target", "place"),
    [
        ("/dangling", "/nowhere/deep"),
        ("/dangling/below", "/nowhere/deep/below"),
        ("/escape", "/outside"),
        ("/folder/new", "/etc/new"),
        ("/first", "/third"),
    ],
)
@pytest.mark.parametrize("kind", ["file", "directory"])
def test_what_a_link_leads_to_is_made_for_a_mount(
    docker: Client, linked: str, tmp_path: Path, target: str, place: str, kind: str
) -> None:
    source = tmp_path / "source"
    if kind == "file":
        source.write_text("content")
    else:
        source.mkdir()
    script = "cat /proc/self/mountinfo"
    flags = ["--rm", "--network", "none", "-v", f"{source}:{target}"]
    lines = docker("run", *flags, linked, "sh", "-c", script).stdout.splitlines()
    assert [line.split()[4] for line in lines if line.split()[3] == str(source)] == [place]
    assert not Path("/outside").exists()


def test_links_in_a_circle_end(docker: Client, linked: str, tmp_path: Path) -> None:
    result = docker("run", "--rm", "-v", f"{tmp_path}:/round/x", linked, "true", check=False)
    assert result.returncode != 0
    assert "too many levels of symbolic links" in result.stderr


def test_a_device_goes_where_it_is_wanted(run: Runner) -> None:
    script = "test -c /opt/x/nul && echo a >/opt/x/nul && wc -c </opt/x/nul; ls -A /dev"
    out = run.sh(script, "--device", "/dev/null:/opt/x/nul").split()
    assert out[0] == "0"
    assert not [name for name in out if "elsewhere" in name]


def test_a_device_below_a_folder_of_dev(run: Runner) -> None:
    assert run.sh("ls -A /dev/sub", "--device", "/dev/zero:/dev/sub/zz").split() == ["zz"]


def test_a_device_goes_into_a_mount(run: Runner) -> None:
    script = "test -c /opt/nul && echo it is there"
    flags = ("--tmpfs", "/opt", "--device", "/dev/null:/opt/nul")
    assert run.sh(script, *flags) == "it is there\n"


@pytest.fixture
def private_mount(tmp_path: Path) -> Iterator[Path]:
    """A tmpfs that shares with nobody, and whose content nobody sees but the engine's namespace."""
    point = tmp_path / "apart"
    point.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "apart", point], check=True)
    try:
        subprocess.run(["mount", "--make-private", point], check=True)
        yield point
    finally:
        subprocess.run(["umount", "-l", point], check=True)


@pytest.mark.parametrize("kind", ["shared", "rshared", "slave", "rslave"])
def test_propagation_needs_a_mount_that_propagates(
    run: Runner, is_wherry: bool, private_mount: Path, kind: str
) -> None:
    if not is_wherry:
        pytest.skip("the other engine may live in a mount namespace of its own")
    said = run.refused("-v", f"{private_mount}:/x:{kind}")
    needed = "shared mount" if kind.endswith("shared") else "shared or slave mount"
    assert f"path {private_mount} is mounted on {private_mount} but it is not a {needed}" in said


@pytest.mark.parametrize(
    ("kind", "comes_in", "goes_out"),
    [
        ("private", False, False),
        ("rprivate", False, False),
        ("slave", True, False),
        ("rslave", True, False),
        ("shared", True, True),
        ("rshared", True, True),
    ],
)
def test_what_is_mounted_later_goes_where_the_propagation_lets_it(
    boxes: Boxes,
    is_wherry: bool,
    private_mount: Path,
    kind: str,
    comes_in: bool,
    goes_out: bool,
) -> None:
    """On the source and on a mount below it, both shared: as Docker 28.5 does it."""
    if not is_wherry:
        pytest.skip("the other engine may live in a mount namespace of its own")
    below = private_mount / "below"
    below.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "below", below], check=True)
    for point in (private_mount, below):
        subprocess.run(["mount", "--make-shared", point], check=True)
        (point / "in").mkdir()
        (point / "out").mkdir()
    name = boxes.sleeper("--privileged", "-v", f"{private_mount}:/x:{kind}")
    for point in (private_mount, below):
        subprocess.run(["mount", "-t", "tmpfs", "later", point / "in"], check=True)
    boxes.exec(name, "mount -t tmpfs o /x/out; mount -t tmpfs o /x/below/out")
    inside = boxes.exec(name, "cat /proc/self/mountinfo")
    outside = Path("/proc/self/mountinfo").read_text()
    assert [f" {point} " in inside for point in ("/x/in", "/x/below/in")] == [comes_in] * 2
    for point in (private_mount, below):
        assert (f" {point}/out " in outside) is goes_out


def test_propagation_of_a_shared_mount(boxes: Boxes, is_wherry: bool, private_mount: Path) -> None:
    if not is_wherry:
        pytest.skip("the other engine may live in a mount namespace of its own")
    subprocess.run(["mount", "--make-shared", private_mount], check=True)
    (private_mount / "below").mkdir()
    name = boxes.sleeper("-v", f"{private_mount}:/x:rslave")
    subprocess.run(["mount", "-t", "tmpfs", "later", private_mount / "below"], check=True)
    try:
        assert " /x/below " in boxes.exec(name, "cat /proc/self/mountinfo")
    finally:
        subprocess.run(["umount", "-l", private_mount / "below"], check=True)


def test_the_hosts_cgroup_namespace_shows_its_own_groups(run: Runner) -> None:
    script = "cat /proc/self/mountinfo; cat /proc/self/cgroup"
    lines = run.sh(script, "--cgroupns=host").splitlines()
    shown = {line.split()[3] for line in lines if " - cgroup cgroup " in line}
    if not shown:
        pytest.skip("this machine has no cgroup v1 hierarchies")
    own = {line.split(":", 2)[2] for line in lines if " - " not in line}
    assert shown <= own and "/" not in shown
    assert not [line for line in lines if " - cgroup cgroup " in line and " ro," not in line]
