"""Beginnings of blobs: kept for who comes back, removed when nobody does, never under a writer's hands."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from wherry.model.ids import Digest
from wherry.storage.partials import Partials

ONE, TWO = Digest.of(b"one"), Digest.of(b"two")


def kept(partials: Partials, digest: Digest, data: bytes) -> None:
    fd = partials.open(digest)
    os.write(fd, data)
    os.close(fd)


def test_what_no_transfer_has_is_pruned(tmp_path: Path) -> None:
    partials = Partials(tmp_path)
    kept(partials, ONE, b"12345")
    held = partials.open(TWO)
    os.write(held, b"67")
    assert partials.size() == 7
    # As another engine's process would see it, or the same.
    assert Partials(tmp_path).prune() == 5
    assert not partials.path(ONE).exists() and partials.size() == 2
    os.close(held)
    assert partials.prune() == 2


def test_those_older_than(tmp_path: Path) -> None:
    partials = Partials(tmp_path)
    kept(partials, ONE, b"old")
    kept(partials, TWO, b"new")
    os.utime(partials.path(ONE), (1000, 1000))
    assert partials.prune(999) == 0
    assert partials.prune(2000) == 3
    assert partials.path(TWO).read_bytes() == b"new"
    # Opening does the same with what is older than a week.
    os.utime(partials.path(TWO), (1000, 1000))
    assert Partials(tmp_path).size() == 0


def test_who_opens_while_another_prunes_writes_to_what_is_there(tmp_path: Path) -> None:
    partials = Partials(tmp_path)
    stop = threading.Event()

    def prune() -> None:
        while not stop.is_set():
            partials.prune()

    pruning = threading.Thread(target=prune)
    pruning.start()
    try:
        for _ in range(500):
            fd = partials.open(ONE)
            os.write(fd, b"x")
            assert partials.path(ONE).stat().st_ino == os.fstat(fd).st_ino
            os.close(fd)
    finally:
        stop.set()
        pruning.join()
