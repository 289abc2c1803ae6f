"""Placement: the attribute is set where the file system has it, and nowhere is it an error."""

from __future__ import annotations

import fcntl
import os
import struct
import subprocess
from pathlib import Path

import pytest

from wherry.storage.placement import spread

GET_FLAGS = 0x80000000 | struct.calcsize("l") << 16 | 0x6601
TOP = 0x00020000


def read_flags(path: Path) -> int:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return struct.unpack_from("=I", fcntl.ioctl(fd, GET_FLAGS, bytes(8)))[0]
    except OSError:
        return 0
    finally:
        os.close(fd)


def test_new_trees_are_spread(tmp_path: Path) -> None:
    kind = subprocess.run(
        ["stat", "-f", "-c", "%T", str(tmp_path)], capture_output=True, text=True, check=True
    ).stdout.strip()
    before = read_flags(tmp_path)
    spread(tmp_path)
    spread(tmp_path)
    expected = before | TOP if kind == "ext2/ext3" else before
    assert read_flags(tmp_path) == expected


def test_a_file_system_without_it_is_left_alone() -> None:
    spread(Path("/proc"))


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        spread(tmp_path / "nosuch")
