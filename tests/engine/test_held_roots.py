"""The overlay of a container that has ended is closed later, once, and never mounted twice."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from tests.engine.boxes import eventually
from tests.engine.tars import busybox_tar
from tests.harness.clients import Client
from tests.harness.engine import Engine

IMAGE = "bb:1"


def _overlays(engine: Engine) -> int:
    """How many overlays wherryd holds: descriptors on a mount that is the root of an overlay."""
    found = 0
    folder = Path(f"/proc/{engine.pid}/fd")
    for name in os.listdir(folder):
        try:
            info = (Path(f"/proc/{engine.pid}/fdinfo") / name).read_text()
            if os.readlink(folder / name) == "/" and "flags:\t012" in info.replace(" ", ""):
                found += 1
        except OSError:
            continue
    return found


def test_held_until_some_time_after_the_end(
    new_engine: Callable[..., Engine], docker_for: Callable[[Engine], Client]
) -> None:
    engine = new_engine()
    docker = docker_for(engine)
    docker.raw("import", "-c", "CMD sh", "-", IMAGE, stdin=busybox_tar())
    before = _overlays(engine)
    docker("run", "-d", "--name", "web", "--network", "none", IMAGE, "sleep", "1000")
    assert _overlays(engine) == before + 1
    for number in range(4):
        docker("exec", "web", "sh", "-c", f"echo {number} > /number")
        docker("restart", "-t", "0", "web")
        assert docker("exec", "web", "cat", "/number").stdout.strip() == str(number)
        assert _overlays(engine) == before + 1
    docker("kill", "web")
    # The same upper is mounted to be copied from: the last mount of it is gone first.
    assert docker.raw("cp", "web:/number", "-").stdout
    eventually(lambda: _overlays(engine) == before)
    docker("run", "--rm", "--network", "none", IMAGE, "true")
    docker("rm", "web")
    assert _overlays(engine) == before
