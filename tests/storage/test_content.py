"""Blobs: verified, permanent or absent, never half."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from wherry.kernel.failpoints import configure
from wherry.model.errors import Conflict, Full, Invalid, NotFound
from wherry.model.ids import Digest
from wherry.storage.content import ContentStore
from wherry.storage.durable import write_file

HELLO = Digest.of(b"hello")


@pytest.fixture
def store(tmp_path: Path) -> ContentStore:
    return ContentStore(tmp_path)


@pytest.fixture(autouse=True)
def no_failpoints() -> Iterator[None]:
    yield
    configure("")


def leftovers(root: Path) -> list[str]:
    return os.listdir(root / "ingest")


def test_what_is_put_is_read(store: ContentStore, tmp_path: Path) -> None:
    assert store.put(b"hello") == store.put(b"hello") == HELLO
    assert store.read(HELLO) == b"hello"
    with store.open(HELLO) as blob:
        assert blob.read() == b"hello"
    assert (store.size(HELLO), store.has(HELLO), list(store.digests())) == (5, True, [HELLO])
    assert store.path(HELLO) == tmp_path / "blobs/sha256" / HELLO.hex
    assert leftovers(tmp_path) == []
    store.remove(HELLO)
    store.remove(HELLO)
    assert not store.has(HELLO)
    for ask in (store.open, store.read, store.size):
        with pytest.raises(NotFound, match=f"No such blob: {HELLO}"):
            ask(HELLO)


def test_a_blob_is_known_by_the_digest_that_it_was_named_by(
    store: ContentStore, tmp_path: Path
) -> None:
    named = Digest("sha512", hashlib.sha512(b"hello").hexdigest())
    with store.writer("sha512") as writer:
        writer.write(b"hello")
        assert writer.commit(named) == named
    assert store.read(named) == b"hello"
    assert not store.has(HELLO)
    assert list(store.digests()) == [named]
    assert store.path(named) == tmp_path / "blobs/sha512" / named.hex
    with store.writer("sha512") as writer, pytest.raises(Invalid):
        writer.write(b"other")
        writer.commit(named)
    store.remove(named)
    assert list(store.digests()) == []


def test_a_wrong_digest_or_size_leaves_nothing(store: ContentStore, tmp_path: Path) -> None:
    for expected, size in ((Digest.of(b"other"), None), (HELLO, 6)):
        with store.writer() as writer:
            writer.write(b"hel")
            writer.write(memoryview(b"lo"))
            with pytest.raises(Invalid, match="mismatch"):
                writer.commit(expected, size=size)
            with pytest.raises(Conflict):
                writer.write(b"more")
    assert (list(store.digests()), leftovers(tmp_path)) == ([], [])
    with store.writer() as writer:
        writer.write(b"hello")
        assert writer.commit(HELLO, size=5) == HELLO


def test_a_writer_left_early_leaves_nothing(store: ContentStore, tmp_path: Path) -> None:
    before = threading.active_count()
    with pytest.raises(KeyError), store.writer() as writer:
        writer.write(b"x" * 1_000_000)
        raise KeyError
    with store.writer():
        pass
    assert (list(store.digests()), leftovers(tmp_path)) == ([], [])
    assert threading.active_count() == before


def test_large_blobs_are_bounded_when_read_whole(store: ContentStore) -> None:
    digest = store.put(bytes(3_000_000))
    assert digest == Digest.of(bytes(3_000_000))
    with pytest.raises(Invalid, match="has 3000000 bytes"):
        store.read(digest, limit=2_999_999)


def test_many_writers_at_once(store: ContentStore, tmp_path: Path) -> None:
    def write(n: int) -> None:
        for _ in range(5):
            with store.writer() as writer:
                for _ in range(20):
                    writer.write(b"%d" % (n % 3) * 70_000)
                writer.commit()

    threads = [threading.Thread(target=write, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(list(store.digests())) == 3
    assert leftovers(tmp_path) == []
    for digest in store.digests():
        assert Digest.of(store.read(digest)) == digest


def test_a_full_disk_says_so(store: ContentStore, tmp_path: Path) -> None:
    configure("durable.before-sync=error:ENOSPC")
    with pytest.raises(Full, match="no space left"):
        store.put(b"hello")
    assert leftovers(tmp_path) == []
    configure("")
    assert store.put(b"hello") == HELLO


def test_a_disk_that_really_is_full(tmp_path: Path) -> None:
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(tmp_path)]
    subprocess.run(mount, check=True, timeout=20)
    try:
        store = ContentStore(tmp_path)
        with pytest.raises(Full), store.writer() as writer:
            for _ in range(100):
                writer.write(bytes(10_000))
        assert leftovers(tmp_path) == []
        assert store.put(b"hello") == HELLO
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True, timeout=20)


CRASH = """
import sys
from pathlib import Path
from wherry.storage.content import ContentStore
ContentStore(Path(sys.argv[1])).put(b"hello")
"""


@pytest.mark.parametrize(
    ("where", "present"),
    [
        ("content.before-commit", False),
        ("durable.before-sync", False),
        ("durable.before-rename", False),
        ("durable.after-rename", True),
    ],
)
def test_after_a_crash_a_blob_is_whole_or_absent(tmp_path: Path, where: str, present: bool) -> None:
    result = subprocess.run(
        [sys.executable, "-c", CRASH, tmp_path],
        env=os.environ | {"WHERRY_FAILPOINTS": f"{where}=kill"},
        timeout=20,
    )
    assert result.returncode == -9
    store = ContentStore(tmp_path)
    assert store.has(HELLO) is present
    assert leftovers(tmp_path) == []
    assert store.put(b"hello") == HELLO


def test_files_are_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "config"
    write_file(path, b"one", mode=0o640)
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"one", 0o640)
    configure("durable.before-rename=error:ENOSPC")
    with pytest.raises(Full):
        write_file(path, b"two")
    assert (path.read_bytes(), os.listdir(tmp_path)) == (b"one", ["config"])
