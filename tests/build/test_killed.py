"""A daemon that is killed in the middle of a build: nothing half made stays, and the next one goes on."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.build.building import Built, in_engine
from wherry.model.build import StepCached

POINTS = (
    "overlay.before-upper",
    "content.before-commit",
    "trees.before-settle",
    "durable.before-rename",
)
TEXT = """\
FROM busybox
RUN echo {0} first > /first
COPY . /c
RUN --mount=type=cache,target=/cache cat /c/* > /second && rm /bin/ash
"""

KILLED = """
import sys
from pathlib import Path
from tests.build.building import in_engine
from wherry.kernel.failpoints import configure

async def work(engine):
    first = await engine.build(sys.argv[3].split("COPY")[0])
    assert first.error is None, first.error
    context = engine.context({"a": sys.argv[2], "b": "b"})
    configure(f"{sys.argv[2]}=kill")
    await engine.build(sys.argv[3], context)

in_engine(Path(sys.argv[1]), work)
"""


@pytest.mark.parametrize("point", POINTS)
def test_killed_at_any_place(root: Path, point: str) -> None:
    in_engine(root, lambda engine: engine.images.inspect("busybox"))
    text = TEXT.format(point)
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(root), point, text],
        capture_output=True,
        timeout=60,
        check=False,
        text=True,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr[-2000:]

    async def work(engine: Built) -> None:
        deadline = time.monotonic() + 30

        def left() -> list[object]:
            folders = (engine.root / "data" / name for name in ("making", "trash", "ingest"))
            return [*engine.leftovers(), *(path for one in folders for path in one.iterdir())]

        # What is thrown away goes in the background.
        while left() and time.monotonic() < deadline:
            await asyncio.sleep(0.02)
        assert left() == []
        context = engine.context({"a": point, "b": "b"})
        again = await engine.build(text, context)
        assert again.titles(StepCached)[0].startswith("RUN echo")
        whole = await engine.build(text, context, no_cache=True)
        assert again.finished.image_id == whole.finished.image_id

    in_engine(root, work)
