"""Builds in a real engine: what is run, kept, shared, cleared away."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.build.building import Built, Secrets, in_engine, remove_engine
from wherry.build import solve
from wherry.build.service import BuildFailed, Pruning
from wherry.model.build import (
    BuildRequest,
    BuildWarning,
    CacheRef,
    Progress,
    StepCached,
    StepDone,
    StepFailed,
    StepOutput,
)
from wherry.model.errors import NotFound


def test_what_a_run_writes_is_a_layer_and_what_changes_nothing_is_none(root: Path) -> None:
    async def work(engine: Built) -> None:
        outcome = await engine.build(
            "FROM busybox\n"
            "RUN echo hi > /file; rm /bin/ash; id -u >&2\n"
            "RUN true\n"
            "WORKDIR /new/dir\n"
            'ENV A=b\nCMD ["x"]\n'
            "RUN pwd; echo $A; cat /file; ls /bin/ash; hostname\n",
            tags=("solve:one",),
        )
        assert b"0\n" in outcome.output
        assert b"/new/dir\nb\nhi\n" in outcome.output
        assert b"buildkitsandbox" in outcome.output
        image = await engine.image(outcome)
        base = await engine.images.inspect("busybox")
        assert len(image.layers) == len(base.layers) + 2
        assert [entry.empty_layer for entry in image.history[len(base.history) :]] == [
            False,
            True,
            False,
            True,
            True,
            True,
        ]
        assert image.names == ("solve:one",)
        assert image.config.env[-1] == "A=b"
        assert engine.leftovers() == []

    in_engine(root, work)


def test_unchanged_steps_are_cached_and_a_changed_file_reruns_only_what_uses_it(
    root: Path,
) -> None:
    text = (
        "FROM busybox AS a\nCOPY one /one\nRUN cat /one > /a\n"
        "FROM busybox AS b\nCOPY two /two\nRUN cat /two > /b\n"
        "FROM scratch\nCOPY --from=a /a /a\nCOPY --from=b /b /b\n"
    )

    async def work(engine: Built) -> None:
        first = await engine.build(text, engine.context({"one": "1", "two": "2", "x": "x"}))
        same = await engine.build(text, engine.context({"one": "1", "two": "2", "x": "y"}))
        assert same.titles(StepDone) == []
        assert same.finished.image_id == first.finished.image_id
        changed = await engine.build(text, engine.context({"one": "1", "two": "22"}))
        assert changed.titles(StepDone) == [
            "COPY two /two",
            "RUN cat /two > /b",
            "COPY --from=b /b /b",
        ]
        none = await engine.build(text, engine.context({"one": "1", "two": "2"}), no_cache=True)
        assert len(none.titles(StepDone)) == 6
        some = await engine.build(
            text, engine.context({"one": "1", "two": "2"}), no_cache_filter=("a",)
        )
        assert set(some.titles(StepDone)) == {"COPY one /one", "RUN cat /one > /a"}

    in_engine(root, work)


def test_link_leaves_the_directories_that_are_there_as_they_are(root: Path) -> None:
    text = (
        "FROM busybox\nRUN mkdir -m 700 /n && chown 3 /n\n"
        "COPY --link --chown=7:8 one /n/new/\nCOPY --link . /n\nCOPY --link one /\n"
        "RUN stat -c '%a %u %g %n' /n /n/new /n/new/one /n/one /etc\n"
    )

    async def work(engine: Built) -> None:
        outcome = await engine.build(text, engine.context({"one": "1"}))
        assert outcome.output == (
            b"700 3 0 /n\n755 7 8 /n/new\n644 7 8 /n/new/one\n644 0 0 /n/one\n755 0 0 /etc\n"
        )

    in_engine(root, work)


def test_only_arguments_that_a_step_uses_change_it(root: Path) -> None:
    text = "FROM busybox\nARG used=1\nRUN echo $used\nARG other\nWORKDIR /x\n"

    async def work(engine: Built) -> None:
        await engine.build(text)
        proxied = await engine.build(text, args={"HTTP_PROXY": "http://p"})
        assert proxied.titles(StepDone) == []
        other = await engine.build(text, args={"other": "2"})
        assert other.titles(StepDone) == []
        used = await engine.build(text, args={"used": "2"})
        assert used.titles(StepDone) == ["RUN echo 2"]
        assert b"2\n" in used.output

    in_engine(root, work)


def test_the_same_build_in_two_engines_has_the_same_digest(root: Path, tmp_path: Path) -> None:
    text = (
        "FROM busybox\nCOPY f /f\nRUN date > /etc/same; echo x > /etc/same; mkdir /d\nWORKDIR /w\n"
    )

    async def work(engine: Built) -> str:
        outcome = await engine.build(text, engine.context({"f": "f"}), no_cache=True)
        return outcome.finished.image_id

    first = in_engine(root, work)
    time.sleep(1.1)  # the clock is what must not show
    assert in_engine(root, work) == first


def test_mounts_of_run(root: Path) -> None:
    async def work(engine: Built) -> None:
        outcome = await engine.build(
            "FROM busybox AS other\nRUN echo stage > /from-stage\n"
            "FROM busybox\n"
            "RUN --mount=target=/ctx --mount=from=other,source=/from-stage,target=/one"
            " --mount=type=cache,target=/cache --mount=type=tmpfs,target=/t,size=1m"
            " --mount=type=secret,id=key,mode=0440,uid=7 --mount=type=secret,id=key,env=KEY"
            " --mount=type=bind,target=/rw,rw"
            " cat /ctx/f /one; echo kept >> /cache/f; df -k /t | tail -1; ls -ln /run/secrets;"
            " test $KEY = hush && cat /run/secrets/key; touch /rw/new && ls /rw\n"
            "RUN --mount=type=cache,target=/cache cat /cache/f\n"
            "RUN ls -d /ctx /one /cache /t /run/secrets /rw 2>&1; true\n",
            engine.context({"f": "context\n"}),
            secrets=Secrets(key=b"hush"),
        )
        text = outcome.output.decode()
        assert "context\nstage\n" in text
        assert " 1024 " in text
        assert "-r--r-----" in text
        assert "hush" in text
        assert "kept\n" in text
        assert text.count("No such file") == 6
        image = await engine.image(outcome)
        base = await engine.images.inspect("busybox")
        assert image.chain == base.chain  # nothing of the mounts is in a layer
        database = b"".join(path.read_bytes() for path in (engine.root / "data").glob("wherry.db*"))
        assert b"hush" not in database
        missing = await engine.build(
            "FROM busybox\nRUN --mount=type=secret,id=nope,required=true true\n"
        )
        assert isinstance(missing.error, NotFound)

    in_engine(root, work)


def test_a_failed_command_ends_the_build_with_its_code_and_its_last_words(root: Path) -> None:
    async def work(engine: Built) -> None:
        outcome = await engine.build("FROM busybox\nRUN echo last words; exit 3\nRUN echo not me\n")
        assert isinstance(outcome.error, BuildFailed)
        assert outcome.error.exit_code == 3
        assert outcome.error.tail == b"last words\n"
        assert outcome.titles(StepFailed) == ["RUN echo last words; exit 3"]
        assert engine.leftovers() == []
        outcome = await engine.build('FROM busybox\nRUN ["/nope"]\n')
        assert outcome.error is not None
        assert "/nope" in str(outcome.error)
        assert engine.leftovers() == []

    in_engine(root, work)


def test_stages_run_side_by_side_and_those_that_nothing_needs_not_at_all(root: Path) -> None:
    async def work(engine: Built) -> None:
        # Each waits for the other, through a cache mount: one after the other they would never end.
        wait = "--mount=type=cache,id=meet,target=/m"
        text = (
            f"FROM busybox AS a\nRUN {wait} touch /m/a; until [ -e /m/b ]; do sleep 0.05; done; echo > /o\n"
            f"FROM busybox AS b\nRUN {wait} touch /m/b; until [ -e /m/a ]; do sleep 0.05; done; echo > /o\n"
            "FROM busybox AS unneeded\nRUN exit 1\n"
            "FROM scratch\nCOPY --from=a /o /a\nCOPY --from=b /o /b\n"
        )
        outcome = await engine.build(text)
        assert outcome.finished
        only = await engine.build(text, target="a")
        assert only.titles(StepCached) != []

    in_engine(root, work)


def test_two_builds_of_one_step_share_the_work(root: Path) -> None:
    async def work(engine: Built) -> None:
        text = "FROM busybox\nRUN echo shared; sleep 0.5; cat /proc/sys/kernel/random/uuid > /id\n"
        first, second = await asyncio.gather(engine.build(text), engine.build(text))
        assert first.finished.image_id == second.finished.image_id
        assert first.output == second.output == b"shared\n"
        records = await engine.builds.disk_usage()
        assert sum("echo shared" in record.description for record in records) == 1

    in_engine(root, work)


def test_a_build_that_is_cancelled_leaves_nothing(root: Path) -> None:
    async def work(engine: Built) -> None:
        request = BuildRequest(b"FROM busybox\nRUN echo started; sleep 1000\n", build_id="one")
        told: list[Progress] = []
        try:
            async for event in engine.builds.build(request, secrets=Secrets()):
                told.append(event)
                if isinstance(event, StepOutput):
                    engine.builds.cancel("one")
        except Exception as error:
            told.append(error)  # type: ignore[arg-type]
        assert isinstance(told[-1], Exception)
        assert engine.leftovers() == []
        assert engine.builds._sharing._works == {}  # type: ignore[attr-defined]

    in_engine(root, work)


_KILLED = """
import asyncio, sys
from pathlib import Path
from tests.build.building import Secrets, in_engine
from wherry.model.build import BuildRequest, StepOutput

async def work(engine):
    text = b"FROM busybox\\nRUN echo first > /first\\nRUN echo second; sleep 1000\\n"
    async for event in engine.builds.build(BuildRequest(text), secrets=Secrets()):
        if isinstance(event, StepOutput):
            print("running", flush=True)

in_engine(Path(sys.argv[1]), work)
"""


def test_a_daemon_killed_in_a_build_leaves_nothing_and_the_next_goes_on(root: Path) -> None:
    in_engine(root, lambda engine: engine.images.inspect("busybox"))
    with subprocess.Popen(
        [sys.executable, "-c", _KILLED, str(root)], stdout=subprocess.PIPE, cwd=Path.cwd()
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"running\n"
        os.kill(process.pid, signal.SIGKILL)

    async def work(engine: Built) -> None:
        deadline = time.monotonic() + 30
        while engine.leftovers() and time.monotonic() < deadline:
            await asyncio.sleep(0.02)
        assert engine.leftovers() == []
        outcome = await engine.build("FROM busybox\nRUN echo first > /first\nRUN echo third\n")
        assert outcome.titles(StepCached) == ["RUN echo first > /first"]

    in_engine(root, work)


def test_prune_and_disk_usage(root: Path) -> None:
    async def work(engine: Built) -> None:
        outcome = await engine.build(
            "FROM busybox\nRUN --mount=type=cache,id=pruned,target=/c dd if=/dev/zero of=/c/f bs=1k"
            " count=100\nRUN dd if=/dev/zero of=/big bs=1k count=50\n"
        )
        records = {record.description: record for record in await engine.builds.disk_usage()}
        assert records["cached mount pruned"].size == 102_400
        assert records["RUN dd if=/dev/zero of=/big bs=1k count=50"].size == 51_200
        nothing = await engine.builds.prune(Pruning({"label": ["a=b"]}, everything=True))
        assert nothing.ids == ()
        nothing = await engine.builds.prune(Pruning({"until": ["24h"], "label!": ["a=b"]}))
        assert nothing.ids == ()
        await engine.images.remove(outcome.finished.image_id, force=True, prune=True)
        mounts = await engine.builds.prune(Pruning({"type": ["exec.cachemount"], "id": ["pruned"]}))
        assert mounts.ids == ("mount:pruned",)
        assert mounts.space == 102_400
        gone = await engine.builds.prune(Pruning({}, everything=True))
        assert gone.space >= 51_200
        assert await engine.builds.disk_usage() == []

    in_engine(root, work)


def test_squash_makes_one_layer_of_what_was_built(root: Path) -> None:
    async def work(engine: Built) -> None:
        text = (
            "FROM busybox\nRUN mkdir /d && echo 1 > /d/one && echo gone > /gone && ln -s x /link\n"
            "RUN rm /gone /bin/ash && echo 2 > /d/two && rm -r /d && mkdir /d && echo 3 > /d/three\n"
        )
        plain = await engine.build(text)
        outcome = await engine.build(text, squash=True)
        image = await engine.image(outcome)
        base = await engine.images.inspect("busybox")
        assert len(image.layers) == len(base.layers) + 1
        look = "RUN ls /d / && ls /bin | wc -l && readlink /link && cat /d/*\n"
        seen: list[bytes] = []
        for made in (plain, outcome):
            await engine.images.tag((await engine.image(made)).id.hex, "squashed", "x")
            seen.append((await engine.build(f"FROM squashed:x\n{look}", no_cache=True)).output)
        assert seen[0] == seen[1]

    in_engine(root, work)


def test_check_only_tells_and_builds_nothing(root: Path) -> None:
    async def work(engine: Built) -> None:
        outcome = await engine.build("FROM busybox\nRUN exit 1\nMAINTAINER x\n", check_only=True)
        assert [getattr(event, "rule", "") for event in outcome.events] == [
            "MaintainerDeprecated",
            "",
        ]
        failing = await engine.build("# check=error=true\nFROM busybox\nMAINTAINER x\n")
        assert failing.error is not None
        assert "MaintainerDeprecated" in str(failing.error)

    in_engine(root, work)


def test_a_cache_goes_by_folder_and_by_image_with_its_mounts(root: Path, tmp_path: Path) -> None:
    text = (
        "FROM busybox AS a\nRUN --mount=type=cache,id=given,target=/c echo kept > /c/f; echo 1 > /one\n"
        "FROM busybox\nCOPY --from=a /one /one\nRUN echo 2 > /two\nRUN true\n"
    )
    folder = str(tmp_path / "cache")
    to = CacheRef("local", (("dest", folder), ("mode", "max"), ("mounts", "true")))

    async def give(engine: Built) -> str:
        outcome = await engine.build(
            text, no_cache=True, cache_to=(to, CacheRef("inline")), tags=("given:x",)
        )
        return outcome.finished.image_id

    async def by_image(engine: Built) -> None:
        await engine.builds.prune(Pruning({}, everything=True))
        outcome = await engine.build(text, cache_from=(CacheRef("inline", (("ref", "given:x"),)),))
        # The stage that is not in the image is made again, and comes to the same.
        assert len(outcome.titles(StepDone)) == 1
        assert outcome.titles(StepCached)[-2:] == ["RUN echo 2 > /two", "RUN true"]

    async def by_folder(engine: Built) -> None:
        outcome = await engine.build(
            text + "RUN --mount=type=cache,id=given,target=/c cat /c/f\n",
            cache_from=(CacheRef("local", (("src", folder),)),),
        )
        assert outcome.titles(StepDone) == ["RUN --mount=type=cache,id=given,target=/c cat /c/f"]
        assert outcome.output == b"kept\n"

    in_engine(root, give)
    in_engine(root, by_image)
    other = Path(tempfile.mkdtemp(prefix="wherry-", dir="/var/tmp"))
    try:
        in_engine(other, by_folder)
    finally:
        remove_engine(other)


def test_a_cache_that_lies_is_refused_and_the_build_goes_on(root: Path, tmp_path: Path) -> None:
    folder = tmp_path / "cache"

    async def work(engine: Built) -> None:
        to = CacheRef("local", (("dest", str(folder)),))
        await engine.build("FROM busybox\nRUN echo lie > /lie\n", cache_to=(to,), no_cache=True)
        await engine.builds.prune(Pruning({}, everything=True))
        await engine.images.prune({"dangling": ["false"], "until": ["0s"]})
        for blob in (folder / "blobs/sha256").iterdir():
            blob.write_bytes(blob.read_bytes().replace(b"lie", b"eil"))
        outcome = await engine.build(
            "FROM busybox\nRUN echo lie > /lie\n",
            cache_from=(
                CacheRef("local", (("src", str(folder)),)),
                CacheRef("local", (("src", "/nowhere"),)),
            ),
        )
        assert outcome.finished
        warnings = [event for event in outcome.events if isinstance(event, BuildWarning)]
        assert len(warnings) == 2

    in_engine(root, work)


def test_a_long_dockerfile_is_read_beside_the_loop(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A megabyte of it takes seconds, and may be anybody's."""
    looked: list[bool] = []

    def watched(work: Callable[..., Any]) -> Callable[..., Any]:
        def look(*args: Any) -> Any:
            looked.append(threading.current_thread() is threading.main_thread())
            return work(*args)

        return look

    for name in ("parse", "check", "plan_graph"):
        monkeypatch.setattr(solve, name, watched(getattr(solve, name)))

    async def work(engine: Built) -> None:
        assert (await engine.build("FROM scratch\nLABEL a=b\n")).finished
        assert (await engine.build("FROM scratch\nLABEL a=b\n" + "# long\n" * 20_000)).finished

    in_engine(root, work)
    assert looked == [True] * 3 + [False] * 3
