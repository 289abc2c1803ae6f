"""`wherryd stop` ends what runs, and does nothing else: it takes no longer where there is much."""

from __future__ import annotations

from collections.abc import Callable

from tests.engine.boxes import SLEEP
from tests.engine.tars import busybox_tar
from tests.harness.clients import Client
from tests.harness.engine import Engine

IMAGE = "bb:1"


def test_what_was_left_is_for_the_next_start(
    new_engine: Callable[..., Engine], docker_for: Callable[[Engine], Client]
) -> None:
    engine = new_engine()
    docker = docker_for(engine)
    docker.raw("import", "-c", "CMD sh", "-", IMAGE, stdin=busybox_tar())
    docker("run", "-d", "--network", "none", IMAGE, *SLEEP)
    engine.crash()
    left = [engine.data_root / "build/scratch/x", engine.data_root / "blobs/sha256" / ("f" * 64)]
    for path in left:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("left")
    # A registry that was asked for; one that is started would complain.
    (engine.data_root / "registry.json").write_text('["--nonsense"]')
    stopped = engine.stop()
    assert (stopped.returncode, stopped.stderr) == (0, b"")
    assert all(path.exists() for path in left)
    engine.start()
    assert not any(path.exists() for path in left)
    assert docker.line("ps", "-aq", "--filter", "status=exited") != ""
    assert "the registry is not started" in engine.log.read_text()
