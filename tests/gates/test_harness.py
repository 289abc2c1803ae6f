"""The account of leftovers sees what it is there to see."""

from __future__ import annotations

import os
import secrets
import subprocess
from pathlib import Path

from tests.harness.leaks import Footprint, processes_naming, read_footprint, wait_for_nothing_beyond


def test_sees_a_process_by_its_environment() -> None:
    token = f"leak-{secrets.token_hex(8)}"
    before = read_footprint(token)
    environment = os.environ | {"MARK": token}
    pipe = subprocess.PIPE
    with subprocess.Popen(["cat"], env=environment, stdin=pipe, stdout=pipe) as child:
        try:
            # Popen returns in the midst of exec, when the kernel shows no environment yet: only what it
            # says tells that the program runs.
            assert child.stdin is not None and child.stdout is not None
            child.stdin.write(b"x")
            child.stdin.flush()
            assert child.stdout.read(1) == b"x"
            assert list(processes_naming(token)) == [child.pid]
            assert any(
                line.startswith(f"processes: {child.pid} ")
                for line in wait_for_nothing_beyond(before, token, seconds=0)
            )
        finally:
            child.kill()
    left = read_footprint(token).beyond(before)
    assert not any(line.startswith(f"processes: {child.pid} ") for line in left)


def test_sees_a_folder(tmp_path: Path) -> None:
    token = secrets.token_hex(8)
    before = read_footprint(token)
    folder = Path("/var/tmp") / f"wherry-{token}"
    folder.mkdir()
    try:
        assert f"folders: {folder}" in read_footprint(token).beyond(before)
    finally:
        folder.rmdir()


def test_beyond_names_each_kind() -> None:
    one, none = frozenset({"x"}), frozenset[str]()
    empty = Footprint(none, none, none, none, none, none)
    full = Footprint(one, one, one, one, one, one)
    assert full.beyond(empty) == [
        f"{kind}: x" for kind in ("processes", "mounts", "cgroups", "links", "tables", "folders")
    ]
    assert empty.beyond(full) == []


def test_sees_cgroups_of_an_engine() -> None:
    hierarchy = next(
        line.split()[4]
        for line in Path("/proc/self/mountinfo").read_text().splitlines()
        if " - cgroup" in line
    )
    engine = Path(hierarchy) / f"wherry-test-{secrets.token_hex(4)}"
    container = engine / "0123"
    container.mkdir(parents=True)
    try:
        before = read_footprint(engine.name)
        below = container / "made-by-the-container"
        below.mkdir()
        seen = read_footprint(engine.name).beyond(before)
        below.rmdir()
    finally:
        container.rmdir()
        engine.rmdir()
    assert f"cgroups: {below}" in seen
