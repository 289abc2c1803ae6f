"""Overlays by the new mount API, and by the old one where the new one is denied."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from wherry.kernel import mount
from wherry.kernel.linux import LINUX, Linux


class Before65(Linux):
    """Linux before 6.5: fsconfig knows no `lowerdir+`."""

    def fsconfig(self, fd: int, command: int, key: bytes | None, value: bytes | None) -> None:
        if key == b"lowerdir+":
            raise OSError(errno.EINVAL, "no such option")
        super().fsconfig(fd, command, key, value)


def layers(folder: Path, count: int) -> tuple[bytes, ...]:
    made: list[bytes] = []
    for number in range(count):
        layer = folder / f"layer{number}"
        layer.mkdir()
        (layer / f"file{number}").write_text(str(number))
        (layer / "every").write_text(str(number))
        made.append(os.fsencode(layer))
    return tuple(made)


@pytest.mark.parametrize("kernel", [LINUX, Before65()], ids=["new", "old"])
def test_130_layers_and_an_upper(tmp_path: Path, kernel: Linux) -> None:
    upper, work = tmp_path / "upper", tmp_path / "work"
    upper.mkdir()
    work.mkdir()
    namespace = os.readlink("/proc/self/ns/mnt")
    before = Path("/proc/self/mountinfo").read_text()
    wanted = mount.Overlay(layers(tmp_path, 130), os.fsencode(upper), os.fsencode(work), True)
    tree = mount.overlay(kernel, wanted)
    try:
        root = Path(f"/proc/self/fd/{tree}")
        assert len(os.listdir(root)) == 131
        assert (root / "every").read_text() == "0", "the first layer is the top one"
        (root / "new").write_text("x")
        assert (upper / "new").read_text() == "x"
    finally:
        os.close(tree)
    assert os.readlink("/proc/self/ns/mnt") == namespace
    assert Path("/proc/self/mountinfo").read_text() == before


def test_too_many_layers_for_an_old_kernel_are_refused_by_number(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="250 layers need Linux 6.5") as caught:
        mount.overlay(Before65(), mount.Overlay(layers(tmp_path, 250)))
    assert caught.value.errno == errno.E2BIG


def test_without_an_upper_it_is_read_only(tmp_path: Path) -> None:
    tree = mount.overlay(LINUX, mount.Overlay(layers(tmp_path, 2)))
    try:
        with pytest.raises(OSError) as caught:
            Path(f"/proc/self/fd/{tree}/new").write_text("x")
        assert caught.value.errno == errno.EROFS
    finally:
        os.close(tree)
