"""A disk that is full, wherever a build meets it: a clear error, nothing left, and the next one goes on."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.build.building import Built, in_engine
from wherry.build.service import BuildFailed
from wherry.kernel.failpoints import configure
from wherry.model.errors import Full

TEXT = "FROM busybox\nRUN echo kept > /kept\nCOPY . /c\nRUN cat /c/* | wc -c > /size\n"
POINTS = (
    "overlay.before-upper",
    "content.before-commit",
    "trees.before-settle",
    "durable.before-sync",
    "durable.before-rename",
)

# On a file system of its own, which only this process and the engine's see.
SMALL = """
import asyncio, contextlib, json, os, subprocess, sys, time
from pathlib import Path
from tests.build.building import in_engine, stop_engine
from wherry.build.service import Pruning
from wherry.model.build import StepCached
from wherry.model.errors import Full

root = Path(sys.argv[1])
data = root / "data"
data.mkdir()
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48m,mode=700", "tmpfs", str(data)], check=True)
TEXT = "FROM busybox\\nRUN echo kept > /kept\\nCOPY . /c\\nRUN cp -r /c /d\\n"

def used():
    return os.statvfs(data).f_blocks - os.statvfs(data).f_bfree

async def work(engine):
    seen = []
    first = await engine.build(TEXT, engine.context({"a": "small"}), tags=("full:one",))
    assert first.error is None, first.error
    for megabytes in (2, 4, 6, 8, 10, 12, 16, 24, 60):
        before = used()
        files = {f"f{n}": os.urandom(512).hex() * 1024 for n in range(megabytes)}
        error = None
        try:
            context = engine.context(files)
            outcome = await engine.build(TEXT, context)
            error, tail = outcome.error, outcome.output.decode()
            cached = outcome.titles(StepCached)[:1]
            engine.contexts.release(context.value)
        except Exception as problem:
            error, tail, cached = problem, "", ["before it"]
        assert engine.leftovers() == [], seen
        if error is not None:
            # What was finished before the disk was full is kept, and goes like any other; what was
            # half made is removed by a thread.
            deadline = time.monotonic() + 30
            while used() > before + 100 and time.monotonic() < deadline:
                await asyncio.sleep(0.02)
                with contextlib.suppress(Full):
                    await engine.builds.prune(Pruning({}, everything=True))
        left = used() - before if error else 0
        seen.append([megabytes, type(error).__name__, str(error), tail, cached, left])
    again = await engine.build(TEXT, engine.context({"a": "small"}))
    same = await engine.build(TEXT, engine.context({"a": "small"}), no_cache=True)
    return {
        "seen": seen,
        "ids": [build.finished.image_id for build in (first, again, same)],
    }

try:
    print(json.dumps(in_engine(root, work)))
finally:
    stop_engine(root)
"""


@pytest.mark.parametrize("point", POINTS)
def test_no_space_at_any_place_is_told_and_the_next_build_goes_on(root: Path, point: str) -> None:
    async def work(engine: Built) -> None:
        context = engine.context({"a": point})
        configure(f"{point}=error:ENOSPC")
        try:
            failed = await engine.build(TEXT, context, no_cache=True)
        finally:
            configure("")
        assert isinstance(failed.error, Full), (failed.error, failed.output)
        assert "no space left" in str(failed.error)
        assert engine.leftovers() == []
        mended = await engine.build(TEXT, context)
        again = await engine.build(TEXT, context, no_cache=True)
        assert mended.finished.image_id == again.finished.image_id

    in_engine(root, work)


def test_a_file_system_that_fills_up(tmp_path: Path) -> None:
    done = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", sys.executable, "-c", SMALL]
        + [tempfile.mkdtemp(prefix="wherry-", dir=tmp_path)],
        capture_output=True,
        timeout=120,
        check=False,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout.splitlines()[-1])
    kinds = {kind for _, kind, *_ in told["seen"]}
    assert Full.__name__ in kinds, told["seen"]
    assert kinds <= {"NoneType", Full.__name__, BuildFailed.__name__}, told["seen"]
    for _, kind, message, tail, _, left in told["seen"]:
        assert kind != BuildFailed.__name__ or "No space left on device" in tail, (message, tail)
        assert left <= 100, told["seen"]
    assert len(set(told["ids"])) == 1
