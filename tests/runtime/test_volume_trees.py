"""What a container is shown of a volume: found once, inside of it, on every kernel."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness.old_kernels import Before615
from wherry.kernel import mount
from wherry.kernel.linux import LINUX
from wherry.kernel.workshop import hold
from wherry.model.errors import StartFailed
from wherry.runtime.host import Host
from wherry.runtime.plan import Tree
from wherry.runtime.slots import Slot


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    """A volume as a hostile container leaves it."""
    (tmp_path / "secret").write_text("host")
    root = tmp_path / "volume"
    (root / "a/b").mkdir(parents=True)
    (root / "a/b/f").write_text("inside")
    (root / "good").symlink_to("a/b")
    (root / "up").symlink_to("../secret")
    (root / "absolute").symlink_to("/")
    (root / "magic").symlink_to("/proc/self/root")
    (root / "a/far").symlink_to("../../../../../../../../etc")
    return root


@pytest.fixture
def opened(volume: Path) -> Iterator[Any]:
    fds: list[int] = []

    def open_(subpath: str, kernel: Any = LINUX, held: bool = False, **changes: Any) -> int:
        base = os.open(volume, os.O_PATH)
        fds.append(base)
        tree = mount.clone_tree(LINUX, os.fsencode(volume)) if held else -1
        names = {"vv": hold(kernel, tree)} if held else {}
        fds.extend(names.values())
        tree = Tree(str(volume), ("bind",), subpath=subpath, held="vv" if held else "", **changes)
        host = Host(kernel, "/")
        fds.append(host._open_tree(Slot(-1, -1, -1), tree, names))  # pyright: ignore[reportPrivateUsage]
        return fds[-1]

    yield open_
    for fd in fds:
        os.close(fd)


@pytest.mark.parametrize("held", [False, True])
def test_a_subpath_is_found(opened: Any, held: bool) -> None:
    for path in ("a/b", "good", "a/../good", "./a//b/"):
        assert os.listdir(f"/proc/self/fd/{opened(path, held=held)}") == ["f"]
    assert Path(f"/proc/self/fd/{opened('a/b/f', held=held)}").read_text() == "inside"


@pytest.mark.parametrize("path", ["up", "absolute", "absolute/etc", "magic", "a/far", "..", "/etc"])
def test_a_subpath_stays_inside(opened: Any, path: str) -> None:
    with pytest.raises(StartFailed, match="escapes the base directory"):
        opened(path)


@pytest.mark.parametrize("kernel", [LINUX, Before615()], ids=["new", "before 6.15"])
@pytest.mark.parametrize(
    "path", ["up", "absolute/etc", "magic", "a/far/passwd", "../secret", "/etc"]
)
def test_a_subpath_of_what_is_attached_nowhere_stays_inside(
    opened: Any, path: str, kernel: Any
) -> None:
    with pytest.raises(StartFailed):
        opened(path, kernel, held=True)


def test_nothing_there(opened: Any) -> None:
    with pytest.raises(StartFailed, match="cannot access path .*/no: no such file") as failed:
        opened("no")
    assert failed.value.exit_code == 127


def test_a_volume_that_was_not_handed_over(opened: Any) -> None:
    tree = Tree("x", ("bind",), held="other")
    with pytest.raises(StartFailed, match="other was not handed over"):
        Host(LINUX, "/")._open_tree(Slot(-1, -1, -1), tree, {})  # pyright: ignore[reportPrivateUsage]


def test_an_old_kernel_shows_volumes_whole_and_in_part(opened: Any) -> None:
    for held in (False, True):
        assert "far" in os.listdir(f"/proc/self/fd/{opened('a', Before615(), held=held)}")
        assert "good" in os.listdir(f"/proc/self/fd/{opened('', Before615(), held=held)}")
