"""Overlays on kernels of all ages: detached, through id-mapped mounts, and nothing left on the host."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.old_kernels import Before65, Before615
from wherry.kernel import abi, mount, probe
from wherry.kernel.linux import LINUX, Linux
from wherry.kernel.overlays import Overlay, open_overlay
from wherry.kernel.workshop import attached, copy_part, hold, holding

KERNELS = pytest.mark.parametrize(
    "kernel", [LINUX, Before615(), Before65()], ids=["new", "before 6.15", "before 6.5"]
)


@pytest.fixture(autouse=True)
def nothing_of_it_on_the_host() -> Iterator[None]:
    namespace, folder = os.readlink("/proc/thread-self/ns/mnt"), os.getcwd()
    before = Path("/proc/thread-self/mountinfo").read_text()
    descriptors = len(os.listdir("/proc/self/fd"))
    yield
    assert os.readlink("/proc/thread-self/ns/mnt") == namespace
    assert os.getcwd() == folder
    assert Path("/proc/thread-self/mountinfo").read_text() == before
    assert len(os.listdir("/proc/self/fd")) == descriptors


def layers(folder: Path, count: int) -> tuple[bytes, ...]:
    made: list[bytes] = []
    for number in range(count):
        layer = folder / f"layer{number}"
        layer.mkdir()
        (layer / f"file{number}").write_text(str(number))
        (layer / "every").write_text(str(number))
        made.append(os.fsencode(layer))
    return tuple(made)


@contextlib.contextmanager
def closing(fd: int) -> Iterator[Path]:
    try:
        yield Path(f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)


@KERNELS
@pytest.mark.parametrize("based", [False, True], ids=["on the host", "in a detached mount"])
def test_130_layers_and_an_upper(tmp_path: Path, kernel: Linux, based: bool) -> None:
    upper, work = tmp_path / "upper", tmp_path / "work"
    upper.mkdir()
    work.mkdir()
    wanted = Overlay(layers(tmp_path, 130), os.fsencode(upper), os.fsencode(work), True)
    with contextlib.ExitStack() as stack:
        if based:
            names = tuple(os.path.basename(lower) for lower in wanted.lowers)
            tree = mount.clone_tree(LINUX, os.fsencode(tmp_path))
            stack.callback(os.close, tree)
            wanted = Overlay(names, b"upper", b"work", True, base=tree)
        # Twice: the descriptor of the base is good for another container's overlay.
        for number in range(2):
            with closing(open_overlay(kernel, wanted)) as root:
                assert len(os.listdir(root)) == 131 + number
                assert (root / "every").read_text() == "0", "the first layer is the top one"
                (root / f"new{number}").write_text("x")
                assert (upper / f"new{number}").read_text() == "x"
            shutil.rmtree(work / "work")


@KERNELS
def test_containers_can_have_user_namespaces_of_their_own(tmp_path: Path, kernel: Linux) -> None:
    assert probe.user_namespaces(kernel, str(tmp_path)) == ""
    assert os.listdir(tmp_path) == []


@KERNELS
def test_a_base_that_is_shared_on_the_host_does_not_tell_it(tmp_path: Path, kernel: Linux) -> None:
    # systemd makes the machine's mounts shared. In a namespace of the test's own, where they may be.
    pid = os.fork()
    if pid == 0:
        with contextlib.suppress(BaseException):
            LINUX.unshare(abi.CLONE_NEWNS)
            LINUX.mount(None, b"/", None, abi.MS_REC | abi.MS_SHARED, None)
            lowers = tuple(os.path.basename(lower) for lower in layers(tmp_path, 2))
            base = mount.clone_tree(LINUX, os.fsencode(tmp_path))
            before = Path("/proc/self/mountinfo").read_text()
            tree = open_overlay(kernel, Overlay(lowers, base=base))
            # What a container's root must be, pivot_root(2).
            shared = "shared:" in _mountinfo(kernel, tree)
            same = Path("/proc/self/mountinfo").read_text() == before
            os._exit(0 if same and not shared else 1)
        os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def _mountinfo(kernel: Linux, tree: int) -> str:
    with attached(kernel, tree):
        return Path("/proc/thread-self/mountinfo").read_text().splitlines()[-1]


def test_a_page_has_room_for_250_layers(tmp_path: Path) -> None:
    with closing(open_overlay(Before65(), Overlay(layers(tmp_path, 250)))) as root:
        assert (root / "file249").read_text() == "249"


def test_too_many_layers_are_refused_by_number(tmp_path: Path) -> None:
    (layer,) = layers(tmp_path, 1)
    with pytest.raises(OSError, match="501 layers are more than overlayfs takes") as caught:
        open_overlay(Before65(), Overlay((layer,) * 501))
    assert caught.value.errno == errno.E2BIG


@KERNELS
def test_names_that_mean_something_to_mount(tmp_path: Path, kernel: Linux) -> None:
    folder = tmp_path / "a,b:c\\d"
    for name in ("lower", "upper", "work"):
        (folder / name).mkdir(parents=True)
    lower, upper, work = (os.fsencode(folder / name) for name in ("lower", "upper", "work"))
    with closing(open_overlay(kernel, Overlay((lower,), upper, work))) as root:
        (root / "x").write_text("x")
    assert os.listdir(upper) == [b"x"]


@KERNELS
def test_without_an_upper_it_is_read_only(tmp_path: Path, kernel: Linux) -> None:
    with closing(open_overlay(kernel, Overlay(layers(tmp_path, 2)))) as root:
        with pytest.raises(OSError) as caught:
            (root / "new").write_text("x")
        assert caught.value.errno == errno.EROFS


@KERNELS
def test_a_part_of_what_is_attached_nowhere(tmp_path: Path, kernel: Linux) -> None:
    (tmp_path / "part/below").mkdir(parents=True)
    with closing(mount.clone_tree(LINUX, os.fsencode(tmp_path))) as whole:
        for _ in range(2):
            spot = os.open(whole / "part", os.O_PATH)
            with closing(spot), closing(copy_part(kernel, int(whole.name), spot)) as part:
                assert os.listdir(part) == ["below"]


@KERNELS
def test_what_is_held_is_copied_by_whoever_has_the_descriptor(kernel: Linux) -> None:
    kept = hold(kernel, mount.new_filesystem(LINUX, "tmpfs"))
    # The keeper's: it stays good, whatever is done with the other one.
    with closing(os.dup(kept)) as spare:
        with closing(kept), holding(kernel, kept) as root:
            first = copy_part(kernel, root, root)
        with closing(first) as tree:
            (tree / "file").write_text("shared")
            with holding(kernel, int(spare.name)) as root:
                second = copy_part(kernel, root, root)
            with closing(second) as other:
                assert (other / "file").read_text() == "shared"


def test_what_is_held_by_a_namespace_holds_nothing_else() -> None:
    kernel = Before615()
    with closing(hold(kernel, mount.new_filesystem(LINUX, "tmpfs"))) as kept:
        waiting, release = os.pipe()
        with holding(kernel, int(kept.name)):
            pid = os.fork()
            if pid == 0:
                os.close(release)
                os.read(waiting, 1)
                os._exit(0)
        try:
            (line,) = Path(f"/proc/{pid}/mountinfo").read_text().splitlines()
            assert line.split()[4] == "/" and " - tmpfs " in line
        finally:
            os.close(waiting)
            os.close(release)
            os.waitpid(pid, 0)
