"""`docker diff`, as Docker 28.5 answered for the same steps."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.storage.trees import mounted
from wherry.storage.changes import ChangeKind, read_changes

LOWER = [
    "etc/passwd", "etc/sub/deep/f", "data/a/b/f1", "data/a/b/f2", "gone/x/f", "keep/y/f",
    "op/l1/f", "chm/z/f", "same/f",
]  # fmt: skip


@pytest.fixture
def diff(tmp_path: Path) -> Callable[[Callable[[Path], None]], list[str]]:
    lower, below, upper = tmp_path / "lower", tmp_path / "below", tmp_path / "upper"
    for name in LOWER:
        path = (below if name.startswith("d") else lower) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"hi\n")
    (lower / "empty").mkdir()
    upper.mkdir()

    def run(steps: Callable[[Path], None]) -> list[str]:
        with mounted(tmp_path / "m", [lower, below], upper) as merged:
            steps(merged)
        return [f"{c.kind} {c.path}" for c in read_changes(upper, (lower, below))]

    return run


def test_a_busy_container(diff: Callable[[Callable[[Path], None]], list[str]]) -> None:
    def steps(top: Path) -> None:
        (top / "etc/newfile").write_bytes(b"new")
        (top / "etc/sub/deep/f").write_bytes(b"hi\nmod\n")
        (top / "data/a/b/f1").unlink()
        shutil.rmtree(top / "gone")
        shutil.rmtree(top / "op")
        (top / "op/l1").mkdir(parents=True)
        (top / "op/new").write_bytes(b"x")
        os.chmod(top / "chm/z", 0o700)
        (top / "new/dir/deep").mkdir(parents=True)
        (top / "new/dir/deep/f").write_bytes(b"1")
        (top / "keep/y/f").unlink()
        (top / "keep/y/f").mkdir()
        subprocess.run(["mv", top / "empty", top / "empty2"], check=True, timeout=20)
        os.symlink("/etc", top / "lnk")
        (top / "same/f").write_bytes(b"hi\n")

    assert diff(steps) == [
        "C /chm",
        "C /chm/z",
        "C /data",
        "C /data/a",
        "C /data/a/b",
        "D /data/a/b/f1",
        "D /empty",
        "A /empty2",
        "C /etc",
        "A /etc/newfile",
        "C /etc/sub",
        "C /etc/sub/deep",
        "C /etc/sub/deep/f",
        "D /gone",
        "C /keep",
        "C /keep/y",
        "C /keep/y/f",
        "A /lnk",
        "A /new",
        "A /new/dir",
        "A /new/dir/deep",
        "A /new/dir/deep/f",
        "C /op",
        "C /op/l1",
        "D /op/l1/f",
        "A /op/new",
        "C /same",
        "C /same/f",
    ]


def test_what_only_looks_like_a_change(diff: Callable[[Callable[[Path], None]], list[str]]) -> None:
    def steps(top: Path) -> None:
        os.chmod(top / "etc/passwd", 0o644)
        os.utime(top / "data/a/b", (1, 1))
        os.rename(top / "op/l1/f", top / "op/l1/g")
        os.rename(top / "op/l1/g", top / "op/l1/f")
        (top / "data/a/tmp").write_bytes(b"")
        (top / "data/a/tmp").unlink()

    assert diff(steps) == []


def test_capabilities_and_owners_count(diff: Callable[[Callable[[Path], None]], list[str]]) -> None:
    def steps(top: Path) -> None:
        subprocess.run(["setcap", "cap_net_raw+ep", top / "etc/passwd"], check=True, timeout=20)
        os.chown(top / "chm", 5, 5)

    assert diff(steps) == ["C /chm", "C /etc", "C /etc/passwd"]


def test_a_directory_replaced_by_a_file(
    diff: Callable[[Callable[[Path], None]], list[str]],
) -> None:
    def steps(top: Path) -> None:
        shutil.rmtree(top / "keep/y")
        (top / "keep/y").write_bytes(b"")

    assert diff(steps) == ["C /keep", "C /keep/y"]


def test_names_of_any_bytes(diff: Callable[[Callable[[Path], None]], list[str]]) -> None:
    def steps(top: Path) -> None:
        os.close(os.open(os.fsencode(top) + b"/\xff\n", os.O_CREAT | os.O_WRONLY))

    assert diff(steps) == ["A /\udcff\n"]


def test_the_apis_numbers() -> None:
    assert [kind.number for kind in ChangeKind] == [0, 1, 2]
