"""Times in layers: the same on every machine, and still telling which file is newer."""

from __future__ import annotations

import os
import time
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from tests.build.building import Built, in_engine
from wherry.build.times import SECOND, fold, unfold

COMMIT = 1_600_000_000
EPOCHS = st.integers(0, 2**32)
TIMES = st.integers(0, 2**33 * SECOND)

# What make does: the object is made again where the source is newer than it.
MAKE = """\
FROM busybox
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/objects \\
    for f in *.c; do o=/objects/${f%.c}.o; if [ ! -e $o ] || [ $f -nt $o ]; then \\
    cp $f $o; echo compiled $f; fi; done; cat /objects/*.o > /program; ls -l --full-time
RUN cat /program; ls -l --full-time /src
"""


@given(TIMES, TIMES, EPOCHS)
def test_folding_keeps_the_order(one: int, other: int, epoch: int) -> None:
    one, other = sorted((one, other))
    if one // SECOND == epoch or other // SECOND == epoch:
        return  # within that second it is taken for folded already
    assert fold(one, epoch) <= fold(other, epoch)


@given(TIMES, EPOCHS)
def test_what_is_folded_is_in_the_epochs_second_and_comes_back_no_earlier(
    mtime_ns: int, epoch: int
) -> None:
    folded = fold(mtime_ns, epoch)
    assert folded // SECOND == min(mtime_ns // SECOND, epoch)
    assert fold(folded, epoch) == folded
    if mtime_ns // SECOND > epoch:
        back = unfold(folded, epoch)
        # A float's precision at 2**33 seconds is a microsecond.
        assert back >= mtime_ns - 5000
        assert back - mtime_ns <= max(SECOND // 100, (mtime_ns - epoch * SECOND) // 10**6)


def test_a_changed_file_is_newer_than_the_objects_in_a_cache_mount(root: Path) -> None:
    async def work(engine: Built) -> None:
        now = time.time()
        files = {"a.c": "a1", "b.c": "b1"}
        old = {"a.c": now - 7200, "b.c": now - 7200}
        first = await engine.build(MAKE, engine.context(files, old, COMMIT))
        assert b"compiled a.c" in first.output and b"compiled b.c" in first.output
        files["b.c"] = "b2"
        again = {**old, "b.c": time.time() + 1}
        second = await engine.build(MAKE, engine.context(files, again, COMMIT))
        assert b"compiled b.c" in second.output
        assert b"compiled a.c" not in second.output
        assert b"a1b2" in second.output
        # The layer has the commit's time all the same, and so has the step without such a mount.
        seen = second.output.rsplit(b"a1b2", 1)[1]
        assert seen.count(b"2020-09-13 12:26:40") == 2, seen
        assert engine.leftovers() == []

    in_engine(root, work)


def test_what_a_step_removed_or_moved_does_not_come_back_with_its_time(root: Path) -> None:
    text = (
        "FROM busybox\nCOPY . /src\nRUN rm /src/a.c && mv /src/d /src/e && rm -r /src/f\n"
        "RUN --mount=type=cache,target=/c find /src -type f | sort; stat -c %a /src/kept\n"
        "RUN find /src -type f | sort\n"
    )

    async def work(engine: Built) -> None:
        files = {"a.c": "a", "kept": "k", "d/one": "1", "f/two": "2"}
        outcome = await engine.build(text, engine.context(files, epoch=COMMIT))
        assert outcome.output == b"/src/e/one\n/src/kept\n644\n/src/e/one\n/src/kept\n"
        image = await engine.image(outcome)
        base = await engine.images.inspect("busybox")
        # Neither of the last two steps changed anything.
        assert len(image.layers) == len(base.layers) + 2

    in_engine(root, work)


def test_a_later_step_sees_which_of_the_contexts_files_is_newer(root: Path) -> None:
    async def work(engine: Built) -> None:
        context = engine.context(
            {"source": "s", "object": "o"},
            {"source": COMMIT + 9000.5, "object": COMMIT + 5000},
            COMMIT,
        )
        text = "FROM busybox\nCOPY . /\nRUN date +%s > /made; date -r /source +%s\n"
        outcome = await engine.build(text, context)
        assert outcome.output == b"%d\n" % COMMIT
        image = await engine.image(outcome)
        copied, made = (engine.root / "data/layers" / chain.hex for chain in image.chain[-2:])
        # Busybox compares whole seconds; make, cargo and ninja do not.
        times = [os.lstat(copied / "object"), os.lstat(copied / "source"), os.lstat(made / "made")]
        assert times[0].st_mtime_ns < times[1].st_mtime_ns < times[2].st_mtime_ns
        assert {int(status.st_mtime) for status in times} == {COMMIT}

    in_engine(root, work)


def test_unchanged_files_are_linked_and_the_layer_is_what_it_would_be_without(root: Path) -> None:
    big = "x" * 9000
    text = "FROM busybox\nCOPY d /d\nCOPY --chmod=600 d /e\n"
    files = {"d/one": big, "d/twin": big, "d/two": big + "2", "d/small": "s"}
    changed = {**files, "d/two": big + "3"}

    async def linked(engine: Built) -> tuple[str, list[set[int]]]:
        inodes: list[set[int]] = []
        end = ""
        for content in (files, changed):
            outcome = await engine.build(text, engine.context(content, epoch=COMMIT))
            image = await engine.image(outcome)
            end = outcome.finished.manifest
            layers = engine.root / "data/layers"
            inodes.append(
                {
                    os.lstat(layers / image.chain[number].hex / path).st_ino
                    for number, path in (
                        (-2, "d/one"),
                        (-2, "d/twin"),
                        (-1, "e/one"),
                        (-1, "e/twin"),
                    )
                }
            )
        return end, inodes

    async def fresh(engine: Built) -> str:
        outcome = await engine.build(text, engine.context(changed, epoch=COMMIT), no_cache=True)
        return outcome.finished.manifest

    end, (before, after) = in_engine(root, linked)
    assert len(before) == len(after) == 4, "what is alike in one layer is no link"
    assert len(before & after) >= 2, "what did not change is not copied"
    assert in_engine(root, fresh) == end
