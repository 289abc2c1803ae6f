"""Placement: the attribute is set where the file system has it, and nowhere is it an error."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from wherry.storage.placement import spread


def attributes(path: Path) -> str:
    listing = subprocess.run(["lsattr", "-d", str(path)], capture_output=True, text=True)
    return listing.stdout.split()[0] if listing.returncode == 0 else ""


def test_new_trees_are_spread(tmp_path: Path) -> None:
    kind = subprocess.run(
        ["stat", "-f", "-c", "%T", str(tmp_path)], capture_output=True, text=True, check=True
    ).stdout.strip()
    before = attributes(tmp_path)
    spread(tmp_path)
    spread(tmp_path)
    if kind == "ext2/ext3":
        assert "T" in attributes(tmp_path)
        assert attributes(tmp_path).replace("T", "-") == before
    else:
        assert attributes(tmp_path) == before


def test_a_file_system_without_it_is_left_alone() -> None:
    spread(Path("/proc"))


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        spread(tmp_path / "nosuch")
