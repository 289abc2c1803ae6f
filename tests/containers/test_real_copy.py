"""docker cp and export with real containers: nothing outside the container is ever touched."""

from __future__ import annotations

import io
import os
import secrets
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.clients import Client


@pytest.fixture
def container(docker: Client, busybox: str, tmp_path: Path) -> Iterator[str]:
    """A running container with a bind mount, a tmpfs and links that lead everywhere."""
    bound = tmp_path / "bound"
    bound.mkdir()
    (bound / "file").write_text("bound\n")
    script = (
        "mkdir -p /d/sub; echo hi > /d/f; ln -s /d /link; ln -s /tmp/escape /out; "
        "ln -s ../../../../../../etc /up; chown 77:78 /d/f; touch /ready; sleep 1000"
    )
    name = docker.line(
        *("run", "-d", "--network", "none", "-v", f"{bound}:/b", "--tmpfs", "/t"),
        *(busybox, "sh", "-c", script),
    )
    docker("exec", name, "sh", "-c", "while [ ! -e /ready ]; do sleep 0.01; done")
    yield name
    docker("rm", "-f", name)


def archive(*names: str) -> bytes:
    """Return an archive of small files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = 4
            tar.addfile(info, io.BytesIO(b"new\n"))
    return buffer.getvalue()


def _reads(docker: Client, name: str, path: str) -> str:
    return docker("exec", name, "cat", path).stdout


@pytest.mark.parametrize("running", [True, False], ids=["running", "stopped"])
def test_in_and_out(docker: Client, container: str, tmp_path: Path, running: bool) -> None:
    if not running:
        docker("stop", "-t", "0", container)
    mark = f"mark-{secrets.token_hex(6)}"
    source = tmp_path / mark
    source.write_text("new\n")
    os.chown(source, 5, 6)
    for place in ("/", "/d", "/link", "/b", "/up"):
        docker("cp", str(source), f"{container}:{place}/")
    for place in ("/", "/d/", "/b/", "/etc/"):
        back = tmp_path / "back"
        docker("cp", f"{container}:{place}{mark}", str(back))
        assert back.read_text() == "new\n"
    assert not [p for p in ("/", "/etc/", "/tmp/") if os.path.lexists(p + mark)]
    assert (tmp_path / "bound" / mark).exists()
    folder = tmp_path / "folder"
    docker("cp", f"{container}:/d/.", str(folder))
    assert sorted(path.name for path in folder.iterdir()) == sorted(["f", "sub", mark])
    if not running:
        docker("start", container)
    # Owners are the archive's, as seen from inside.
    assert docker("exec", container, "stat", "-c", "%u:%g", f"/d/{mark}").stdout == "5:6\n"


def test_owners_out_are_the_container_s(docker: Client, container: str) -> None:
    for _ in range(2):
        with tarfile.open(
            fileobj=io.BytesIO(docker.raw("cp", f"{container}:/d", "-").stdout)
        ) as tar:
            owners = {info.name: (info.uid, info.gid) for info in tar}
        assert owners == {"d": (0, 0), "d/f": (77, 78), "d/sub": (0, 0)}
        docker("stop", "-t", "0", container)


def test_cve_2018_15664_links_do_not_lead_out(
    docker: Client, container: str, tmp_path: Path
) -> None:
    outside = Path("/tmp/escape")
    assert not outside.exists()
    try:
        docker.raw("cp", "-", f"{container}:/out", stdin=archive("x"), check=False)
        assert not outside.exists()
        # A link that is swapped in half-way: the archive brings it itself.
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            link = tarfile.TarInfo("sub2")
            link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path)
            tar.addfile(link)
            info = tarfile.TarInfo("sub2/evil")
            tar.addfile(info, io.BytesIO())
        docker.raw("cp", "-", f"{container}:/d", stdin=buffer.getvalue(), check=False)
        assert not (tmp_path / "evil").exists()
    finally:
        outside.unlink(missing_ok=True)


def test_cve_2019_14271_nothing_of_the_container_is_loaded(
    docker: Client, container: str, tmp_path: Path
) -> None:
    """docker cp once loaded libnss from the container's root; here a copy runs none of its programs."""
    docker.raw("cp", "-", f"{container}:/lib", stdin=archive("libnss_files.so.2"), check=False)
    docker("exec", container, "sh", "-c", "mkdir -p /lib; echo x > /lib/libnss_files.so.2")
    docker("cp", f"{container}:/lib/libnss_files.so.2", str(tmp_path / "lib"))
    assert (tmp_path / "lib").read_text() == "x\n"


def test_what_cannot_be_copied(
    docker: Client, container: str, busybox: str, tmp_path: Path
) -> None:
    source = tmp_path / "n"
    source.write_text("n")
    for words, message in (
        (("cp", f"{container}:/etc/nope", "-"), "Could not find the file /etc/nope in container"),
        (("cp", f"{container}:/proc/1/environ", "-"), "Could not find the file"),
        (("cp", str(source), f"{container}:/nope/x"), "Could not find the file /nope in container"),
        (("cp", str(source), f"{container}:/proc/x"), "file system of the kernel's"),
    ):
        done = docker(*words, check=False)
        assert done.returncode == 1 and message in done.stderr, done.stderr
    locked = docker.line(
        "create", "--read-only", "--network", "none", "-v", f"{tmp_path}:/b:ro", busybox, "true"
    )
    for place, message in (
        ("/etc/", "container rootfs is marked read-only"),
        ("/b/", "mounted volume is marked read-only"),
    ):
        done = docker("cp", str(source), f"{locked}:{place}", check=False)
        assert message in done.stderr
    docker("rm", locked)


def test_mounts_are_not_replaced(docker: Client, busybox: str, tmp_path: Path) -> None:
    """Unlinking a mount point from outside its mount namespace takes the mount away: it must not come to that."""
    bound = tmp_path / "bound"
    bound.write_text("bound\n")
    name = docker.line(
        *("run", "-d", "--network", "none", "-v", f"{bound}:/etc/bound", busybox, "sleep", "1000")
    )
    try:
        for target in ("bound", "hosts"):
            done = docker.raw("cp", "-", f"{name}:/etc", stdin=archive(target), check=False)
            assert done.returncode == 1 and b"busy" in done.stderr
        done = docker.raw("cp", "-", f"{name}:/", stdin=archive("proc"), check=False)
        assert done.returncode == 1
        assert docker("exec", name, "cat", "/etc/bound").stdout == "bound\n"
        assert "localhost" in docker("exec", name, "cat", "/etc/hosts").stdout
        assert docker("exec", name, "cat", "/proc/1/comm").stdout == "sleep\n"
    finally:
        docker("rm", "-f", name)


def test_a_container_of_rm_can_be_restarted_and_keeps_its_layer(
    docker: Client, busybox: str
) -> None:
    """Its overlay is mounted `volatile`, which leaves a mark that overlay refuses to mount over."""
    name = docker.line(
        *("run", "-d", "--rm", "--network", "none", busybox),
        *("sh", "-c", "echo x >> /f; sleep 1000"),
    )
    docker("restart", "-t", "0", name)
    docker("exec", name, "sh", "-c", "while [ $(wc -l < /f) -lt 2 ]; do sleep 0.01; done")
    docker("rm", "-f", name)


def test_export_leaves_mounts_out(docker: Client, container: str) -> None:
    docker("exec", container, "sh", "-c", "echo x > /t/secret; rm /bin/vi")
    with tarfile.open(fileobj=io.BytesIO(docker.raw("export", container).stdout)) as tar:
        names = set(tar.getnames())
    assert {"d/f", "link", "b", "t", "proc", "bin/sh"} <= names
    assert not names & {"t/secret", "b/file", "bin/vi", "proc/1", "dev/null"}


def test_commit_and_diff_do_not_show_the_runtime_s_mount_points(
    docker: Client, container: str
) -> None:
    lines = docker.line("diff", container).splitlines()
    assert not [
        line for line in lines if line.split()[1].startswith(("/proc", "/sys", "/dev", "/etc"))
    ]
    assert "A /d/f" in lines
    image = docker.line("commit", "-c", "ENV A=b", container, "committed")
    try:
        out = docker.line(
            "run", "--rm", "--network", "none", image, "sh", "-c", "cat /d/f; echo $A"
        )
        assert out == "hi\nb"
    finally:
        docker("rmi", "committed")
