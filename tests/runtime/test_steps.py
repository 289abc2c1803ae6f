"""Steps in a mount namespace of their own: what they resolve, what they refuse, what they leave alone."""

from __future__ import annotations

import contextlib
import errno
import os
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from wherry.kernel import abi, mount
from wherry.kernel.linux import LINUX
from wherry.model.oci import PathRoot, Process, RuntimeSpec
from wherry.runtime import steps
from wherry.runtime.host import Host, cgroup_mounts
from wherry.runtime.plan import Tree, plan_launch
from wherry.runtime.slots import Slot
from wherry.runtime.stage import Stage
from wherry.testing.kernel import Recorder


def apart(body: Callable[[], None]) -> None:
    """Run `body` in a child with a mount namespace of its own; its failure is the test's."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            LINUX.unshare(abi.CLONE_NEWNS)
            LINUX.mount(None, b"/", None, abi.MS_REC | abi.MS_PRIVATE, None)
            body()
        except BaseException:
            os.write(writing, traceback.format_exc().encode())
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, "rb") as file:
        said = file.read().decode()
    os.waitpid(pid, 0)
    assert not said, said


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    for name in ("proc", "dev", "etc", "tmp"):
        (folder / name).mkdir(parents=True)
    return folder


@contextlib.contextmanager
def staged(root: Path) -> Iterator[Stage]:
    """A stage on `root` as the present mount namespace shows it."""
    fd = os.open(root, os.O_PATH | os.O_DIRECTORY)
    try:
        yield Stage(LINUX, fd, fd)
    finally:
        os.close(fd)


@pytest.fixture
def stage(root: Path) -> Iterator[Stage]:
    with staged(root) as made:
        yield made


def mounted() -> list[str]:
    return [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]


@pytest.mark.parametrize("kind", ["proc", "sysfs"])
@pytest.mark.parametrize("link", ["tmp", "/tmp", "../../../../tmp"])
def test_proc_and_sysfs_are_not_mounted_through_a_link(root: Path, kind: str, link: str) -> None:
    (root / "proc").rmdir()
    (root / "proc").symlink_to(link)

    def body() -> None:
        before = mounted()
        with staged(root) as stage, pytest.raises(OSError) as caught:
            steps.Filesystem(kind, "/proc").perform(stage)
        assert caught.value.errno == errno.ELOOP
        assert mounted() == before

    apart(body)


@pytest.mark.parametrize("target", ["/a/b", "/link/b", "/up/../a/b", "/loop/b"])
def test_other_targets_are_made_inside_of_the_root(root: Path, target: str) -> None:
    (root / "a").mkdir()
    (root / "link").symlink_to("/a")
    (root / "up").mkdir()
    (root / "loop").symlink_to("../../../a")

    def body() -> None:
        with staged(root) as stage:
            steps.Filesystem("tmpfs", target).perform(stage)
        assert mounted()[-1] == f"{root}/a/b"

    apart(body)


def test_a_sysctl_is_written_to_a_proc_file_system_alone(root: Path, stage: Stage) -> None:
    (root / "proc/sys").mkdir()
    with pytest.raises(OSError, match="not a proc file system"):
        steps.KeepSysctls().perform(stage)
    assert stage.sysctls == -1


@pytest.mark.parametrize("key", ["..version", "kernel/../../version", "/etc/x"])
def test_a_sysctls_name_does_not_lead_out(stage: Stage, key: str) -> None:
    stage.sysctls = os.open("/proc/sys", os.O_PATH | os.O_DIRECTORY)
    try:
        with pytest.raises(OSError):
            steps.Sysctl(key, "1").perform(stage)
    finally:
        os.close(stage.sysctls)


def test_a_null_device_that_is_none_is_not_bound_over_what_is_masked(
    root: Path, stage: Stage
) -> None:
    # CVE-2025-31133.
    (root / "etc/secret").write_text("secret")
    for spoil in (lambda p: p.write_text("mine"), lambda p: p.symlink_to("/etc/passwd")):
        spoil(root / "dev/null")
        with pytest.raises(OSError):
            steps.Mask("/etc/secret").perform(stage)
        (root / "dev/null").unlink()


def test_masks_hide_files_and_folders_and_pass_over_what_is_missing(root: Path) -> None:
    (root / "etc/secret").write_text("secret")
    (root / "etc/folder").mkdir()
    (root / "etc/folder/x").write_text("x")
    os.mknod(root / "dev/null", 0o20666, os.makedev(1, 3))

    def body() -> None:
        with staged(root) as stage:
            for path in ("/etc/secret", "/etc/folder", "/etc/missing", "/etc/missing/below"):
                steps.Mask(path).perform(stage)
        assert (root / "etc/secret").read_text() == ""
        assert os.listdir(root / "etc/folder") == []
        with pytest.raises(OSError):
            (root / "etc/folder/y").write_text("y")

    apart(body)
    assert (root / "etc/secret").read_text() == "secret"


def test_read_only_holds_all_the_way_down(root: Path) -> None:
    (root / "etc/deep").mkdir()

    def body() -> None:
        LINUX.mount(b"tmpfs", os.fsencode(root / "etc/deep"), b"tmpfs", 0, None)
        with staged(root) as stage:
            steps.ReadOnly("/etc").perform(stage)
        for name in ("etc/x", "etc/deep/x"):
            with pytest.raises(OSError) as caught:
                (root / name).write_text("x")
            assert caught.value.errno == errno.EROFS

    apart(body)


def test_a_link_that_is_there_is_left_and_links_on_the_way_stay_inside(
    root: Path, stage: Stage
) -> None:
    (root / "dev/fd").symlink_to("mine")
    steps.Link("/dev/fd", "/proc/self/fd").perform(stage)
    assert os.readlink(root / "dev/fd") == "mine"
    (root / "dev/out").symlink_to("../../../../../etc")
    steps.Link("/dev/out/stdin", "/proc/self/fd/0").perform(stage)
    assert os.readlink(root / "etc/stdin") == "/proc/self/fd/0"


@pytest.mark.parametrize("options", [(), ("rbind",), ("rbind", "ro")])
def test_a_bind_is_no_peer_of_the_hosts_mount(tmp_path: Path, options: tuple[str, ...]) -> None:
    source, target = tmp_path / "source", tmp_path / "target"

    def body() -> None:
        source.mkdir()
        target.mkdir()
        LINUX.mount(b"tmpfs", os.fsencode(source), b"tmpfs", 0, None)
        LINUX.mount(None, os.fsencode(source), None, abi.MS_SHARED, None)
        (source / "below").mkdir()
        host = Host(LINUX, "/")
        slot = Slot(-1, -1, -1)
        plan = plan_launch(RuntimeSpec("x", Process(("true",)), PathRoot(str(source))))
        for tree in (
            host._open_tree(slot, Tree(str(source), options), {}),  # pyright: ignore[reportPrivateUsage]
            host._open_root(slot, plan),  # pyright: ignore[reportPrivateUsage]
        ):
            spot = os.open(target, os.O_PATH)
            mount.attach(LINUX, tree, spot)
            LINUX.mount(b"tmpfs", os.fsencode(target / "below"), b"tmpfs", 0, None)
            assert f"{source}/below" not in mounted(), "what a container mounts, the host has"
            LINUX.umount2(os.fsencode(target / "below"), 0)

    apart(body)


def test_entering_the_root_lets_go_of_the_old_one(root: Path) -> None:
    def body() -> None:
        tree = mount.clone_tree(LINUX, os.fsencode(root))
        spot = os.open(root, os.O_PATH)
        mount.attach(LINUX, tree, spot)
        here = os.open(root, os.O_PATH | os.O_DIRECTORY)
        outside = str(root.parent)
        steps.EnterRoot(read_only=True).perform(Stage(LINUX, here, here))
        assert sorted(os.listdir("/")) == ["dev", "etc", "proc", "tmp"]
        assert not os.path.exists(outside)
        with pytest.raises(OSError) as caught:
            os.mkdir("/x")
        assert caught.value.errno == errno.EROFS

    apart(body)


def test_the_old_root_is_private_before_it_is_let_go() -> None:
    k = Recorder()
    here = os.open("/", os.O_PATH | os.O_DIRECTORY)
    cwd = os.getcwd()
    try:
        steps.EnterRoot(propagation="rslave").perform(Stage(k.as_kernel(), here, here))
    finally:
        os.close(here)
        os.chdir(cwd)
    assert k.names() == ["pivot_root", "mount", "umount2", "mount"]
    assert k.calls[1][1][3] == abi.MS_REC | abi.MS_PRIVATE
    assert k.calls[2][1][1] == abi.MNT_DETACH
    # Not recursive: a bind below that was made private stays so.
    assert k.calls[3][1][3] == abi.MS_SLAVE


def test_host_and_domain_name_are_set_where_they_are_given() -> None:
    k = Recorder()
    steps.Hostname("box", "lan").perform(Stage(k.as_kernel(), -1, -1))
    steps.Hostname("box").perform(Stage(k.as_kernel(), -1, -1))
    assert k.names() == ["sethostname", "setdomainname", "sethostname"]


def test_what_only_the_host_may_say_of_a_hierarchy_is_not_repeated() -> None:
    """A container that mounts a v1 hierarchy with its release_agent named gets EINVAL."""
    line = "32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu,release_agent=/a\n"
    named = (
        "33 31 0:30 / /sys/fs/cgroup/systemd rw - cgroup none rw,release_agent=/a,name=systemd\n"
    )
    cpu, systemd = cgroup_mounts(line + named)
    assert cpu.options == ("cpu",)
    assert systemd.options == ("none", "name=systemd")
