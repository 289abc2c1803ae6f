"""Killed with SIGKILL anywhere, a pull or push goes on where it was, and the image is whole."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.harness.registry import MadeImage, digest_of, make_image
from tests.transfer.liar import Liar
from tests.transfer.stores import Stores
from wherry.model.ids import Digest, Reference

KILLS = 100
MIB = 1 << 20


class Nursery:
    """The process that forks pulls; `run` does one, and kills it when the registry says so."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.transfer.nursery"],
            cwd=Path(__file__).parents[2],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._pid = 0
        self._ready = threading.Event()

    def run(self, verb: str, folder: Path, name: str, points: str = "") -> int:
        """Return the exit code, negative for a signal. `points` are failpoints of that process."""
        assert self._process.stdin and self._process.stdout
        self._ready.clear()
        self._process.stdin.write(f"{verb} {folder} {name} {points}\n")
        self._process.stdin.flush()
        self._pid = int(self._process.stdout.readline())
        self._ready.set()
        return int(self._process.stdout.readline().split()[1])

    def kill(self) -> None:
        """Kill what runs now."""
        assert self._ready.wait(20)
        with suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)

    def close(self) -> None:
        """End it."""
        assert self._process.stdin and self._process.stdout
        self._process.stdin.close()
        self._process.wait(20)
        self._process.stdout.close()


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    nursery = Nursery()
    yield nursery
    nursery.close()


def image_of(megabytes: int) -> MadeImage:
    """Return an image of two layers, `megabytes` in all."""
    half = megabytes * MIB // 2
    return make_image(
        [{"a": random.Random(1).randbytes(half)}, {"b": random.Random(2).randbytes(half)}]
    )


def test_a_pull_killed_a_hundred_times(nursery: Nursery, tmp_path: Path) -> None:
    image = image_of(48)
    total = sum(map(len, image.layers))
    chance = random.Random(5)
    with Liar() as liar:
        liar.add(image, "1")
        killed = 0
        aim = [0]

        def after(_: str, __: int) -> None:
            if killed < KILLS and sum(liar.sent.values()) >= aim[0]:
                nursery.kill()

        liar.after_piece = after
        while True:
            aim[0] = sum(liar.sent.values()) + chance.randrange(0, total // KILLS)
            code = nursery.run("pull", tmp_path, f"{liar.host}/a/b:1")
            if code == 0:
                break
            assert code == -signal.SIGKILL
            killed += 1
        sent = sum(liar.sent[digest_of(layer)] for layer in image.layers)
    assert killed >= KILLS // 2
    assert (sent - total) / killed < MIB
    with Stores(tmp_path) as stores:
        (identifier,) = stores.store.ids()
        assert str(identifier) == image.id
        assert stores.partials.size() == 0


def test_a_pull_killed_after_its_last_byte_fetches_nothing(
    nursery: Nursery, tmp_path: Path
) -> None:
    image = image_of(8)
    with Liar() as liar:
        liar.add(image, "1")
        total = sum(map(len, image.layers))
        liar.after_piece = lambda *_: (
            nursery.kill() if sum(liar.sent[digest_of(b)] for b in image.layers) == total else None
        )
        first = nursery.run("pull", tmp_path, f"{liar.host}/a/b:1")
        liar.after_piece = None
        liar.sent.clear()
        assert first in (0, -signal.SIGKILL)
        assert nursery.run("pull", tmp_path, f"{liar.host}/a/b:1") == 0
        assert sum(liar.sent[digest_of(layer)] for layer in image.layers) < MIB


def test_a_push_killed_again_and_again(nursery: Nursery, tmp_path: Path) -> None:
    image = image_of(24)
    total = sum(map(len, image.layers))
    chance = random.Random(6)
    with Liar() as liar:
        liar.add(image, "1")
        with Stores(tmp_path) as stores:
            pulled = stores.pull(f"{liar.host}/a:1").image
            stores.store.tag(pulled.id, Reference.parse(f"{liar.host}/b:1"))
        liar.blobs.clear()
        liar.sent.clear()
        killed = 0
        aim = [0]

        def after(_: str, __: int) -> None:
            if killed < 20 and liar.sent["upload"] >= aim[0]:
                nursery.kill()

        liar.after_piece = after
        while True:
            aim[0] = liar.sent["upload"] + chance.randrange(0, total // 20)
            code = nursery.run("push", tmp_path, f"{liar.host}/b:1")
            if code == 0:
                break
            assert code == -signal.SIGKILL
            killed += 1
        assert killed >= 5
        assert liar.sent["upload"] - total <= killed * MIB
        assert liar.blobs.keys() == image.blobs.keys()


@pytest.mark.parametrize(
    "point",
    [
        "download.after-piece",
        "trees.before-settle",
        "content.before-adopt",
        "content.before-commit",
        "durable.before-sync",
        "durable.before-rename",
        "durable.after-rename",
        "pull.before-register",
    ],
)
def test_a_pull_killed_at(nursery: Nursery, tmp_path: Path, point: str) -> None:
    image = image_of(2)
    with Liar() as liar:
        liar.add(image, "1")
        name = f"{liar.host}/a/b:1"
        assert nursery.run("pull", tmp_path, name, f"{point}=kill") == -signal.SIGKILL
        with Stores(tmp_path) as stores:
            # As the engine does at its start.
            stores.collector.sweep()
            assert list(stores.store.ids()) == []
        assert nursery.run("pull", tmp_path, name) == 0
        sent = sum(liar.sent[digest_of(layer)] for layer in image.layers)
        assert sent - sum(map(len, image.layers)) < MIB
    with Stores(tmp_path) as stores:
        whole(stores, image)


def whole(stores: Stores, image: MadeImage) -> None:
    """Fail unless the stores hold the image and nothing besides."""
    stores.collector.sweep()
    (identifier,) = stores.store.ids()
    assert str(identifier) == image.id
    assert stores.partials.size() == 0
    for digest in stores.content.digests():
        with stores.content.open(digest) as file:
            assert Digest.of(file.read()) == digest
    assert len(list(stores.snapshots.layers())) == len(image.layers)


@pytest.mark.parametrize("point", ["upload.before-finish", "content.before-commit"])
def test_a_push_killed_at(nursery: Nursery, tmp_path: Path, point: str) -> None:
    """The second is where what was made here is compressed."""
    plain = point == "content.before-commit"
    image = make_image([{"a": random.Random(3).randbytes(MIB)}], compress=not plain)
    with Liar() as liar:
        liar.add(image, "1")
        with Stores(tmp_path) as stores:
            pulled = stores.pull(f"{liar.host}/a:1").image
            stores.store.tag(pulled.id, Reference.parse(f"{liar.host}/b:1"))
            stores.places._database.query("DELETE FROM blob_places")  # pyright: ignore
        liar.blobs.clear()
        liar.sent.clear()
        name = f"{liar.host}/b:1"
        assert nursery.run("push", tmp_path, name, f"{point}=kill") == -signal.SIGKILL
        assert nursery.run("push", tmp_path, name) == 0
        assert liar.sent["upload"] <= max(map(len, liar.blobs.values())) + (64 << 10)
    with Stores(tmp_path) as stores:
        stores.collector.sweep()
        for digest in stores.content.digests():
            with stores.content.open(digest) as file:
                assert Digest.of(file.read()) == digest
