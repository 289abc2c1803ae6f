"""`docker cp` into a tree that fights back: contained, and otherwise as Docker does it."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import pytest

from tests.storage.trees import archive, directory, file, link, read_tree
from wherry.model.errors import Invalid, NotFound
from wherry.storage.layers import Entry, Kind, Unpacked, extract, pack

SECOND = 10**9


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "root"
    (path / "data").mkdir(parents=True)
    return path


def put(root: Path, base: str, stream: BytesIO, **options: object) -> Unpacked:
    fd = os.open(root, os.O_PATH | os.O_DIRECTORY)
    try:
        return extract(stream, fd, base, **options)  # type: ignore[arg-type]
    finally:
        os.close(fd)


def test_hard_links_between_more_directories_than_are_kept_open(root: Path) -> None:
    files = [file(f"d{n}/f", b"%d" % n) for n in range(70)]
    links = [link(f"new{n}/hard", f"d{n * 37 % 70}/f", Kind.HARDLINK) for n in range(70)]
    put(root, "/data", archive(*files, *links))
    for n in range(70):
        assert (root / f"data/new{n}/hard").read_text() == str(n * 37 % 70)


def test_entries_arrive_with_their_metadata(root: Path) -> None:
    os.chmod(root / "data", 0o2777)  # hands down its group
    os.chown(root / "data", 0, 50)
    items = [
        directory("d", 0o750, uid=1, gid=2, mtime_ns=5 * SECOND + 1),
        file("d/f", b"data", mode=0o4711, uid=3, gid=4, mtime_ns=7),
        link("d/hard", "d/f", Kind.HARDLINK),
        link("d/soft", "/etc/passwd"),
        file("implied/deep/f", b"1"),
        file(".wh.plain", b"a plain name here"),
        (Entry(b"pipe", Kind.FIFO, 0o640, 9, 9), b""),
    ]
    result = put(root, "/data", archive(*items))
    assert (result.entries, result.size) == (7, 22)
    tree = read_tree(root / "data")
    assert (tree[b"d"].mode, tree[b"d"].uid, tree[b"d"].gid) == (0o750, 1, 2)
    assert tree[b"d"].mtime_ns == 5 * SECOND + 1
    assert (tree[b"d/f"].mode, tree[b"d/f"].uid, tree[b"d/f"].gid) == (0o4711, 3, 4)
    assert tree[b"d/f"].mtime_ns == 7
    assert tree[b"d/hard"].first_name == b"d/f"
    assert tree[b"d/soft"].content == b"/etc/passwd"
    assert (tree[b"implied/deep"].mode, tree[b"implied"].gid) == (0o755, 0)
    assert tree[b".wh.plain"].content == b"a plain name here"
    assert (tree[b"pipe"].mode, tree[b"pipe"].uid) == (0o640, 9)
    assert (tree[b""].mode, tree[b""].gid) == (0o2777, 50)


def test_owners_are_mapped(root: Path) -> None:
    stream = archive(file("f", uid=1, gid=2), file("new/g"), link("l", "f"))
    put(root, "data", stream, owner=lambda uid, gid: (uid + 100_000, gid + 200_000))
    tree = read_tree(root / "data", top=False)
    assert {(node.uid, node.gid) for node in tree.values()} == {
        (100_001, 200_002),
        (100_000, 200_000),
    }


def test_what_is_there_is_merged_or_replaced(root: Path) -> None:
    (root / "data/kept").mkdir()
    (root / "data/kept/old").write_bytes(b"old")
    (root / "data/dir").mkdir()
    (root / "data/dir/lost").write_bytes(b"")
    (root / "data/file").write_bytes(b"")
    os.symlink("kept", root / "data/link")
    stream = archive(
        directory(".", 0o700, uid=9),
        directory("kept", 0o711, uid=5),
        file("kept/new", b"new"),
        file("dir", b"file now"),
        directory("file", 0o750),
        directory("link", 0o755),
        file("link/inner", b"1"),
    )
    put(root, "data", stream)
    tree = read_tree(root / "data")
    assert (tree[b""].mode, tree[b""].uid) == (0o755, 0)
    assert (tree[b"kept"].mode, tree[b"kept"].uid) == (0o711, 5)
    assert {b"kept/old", b"kept/new", b"link/inner"} < set(tree)
    assert tree[b"dir"].content == b"file now"
    assert tree[b"file"].kind == "d"
    assert tree[b"link"].kind == "d"


@pytest.mark.parametrize(
    ("item", "problem"),
    [
        (file("dir"), "cannot overwrite directory 'dir' with non-directory"),
        (directory("file"), "cannot overwrite non-directory 'file' with directory"),
        (directory("link"), "cannot overwrite non-directory 'link' with directory"),
        (link("dir", "file"), "cannot overwrite directory"),
    ],
    ids=str,
)
def test_kinds_are_kept_where_asked_for(
    root: Path, item: tuple[Entry, bytes], problem: str
) -> None:
    (root / "data/dir").mkdir()
    (root / "data/file").write_bytes(b"")
    os.symlink("dir", root / "data/link")
    before = read_tree(root)
    with pytest.raises(Invalid, match=problem):
        put(root, "data", archive(item), no_overwrite_dir_non_dir=True)
    assert read_tree(root) == before
    put(root, "data", archive(file("file", b"new")), no_overwrite_dir_non_dir=True)
    assert (root / "data/file").read_bytes() == b"new"


def test_the_base_must_be_a_directory_inside(root: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (root / "file").write_bytes(b"")
    os.symlink(tmp_path / "outside", root / "absolute")
    os.symlink("../outside", root / "relative")
    os.symlink("/data", root / "fine")
    for base in ("none", "absolute", "relative", "../outside"):
        with pytest.raises(NotFound):
            put(root, base, archive(file("f")))
    with pytest.raises(Invalid, match="not a directory"):
        put(root, "file", archive(file("f")))
    put(root, "fine", archive(file("f")))
    assert (root / "data/f").exists()
    assert os.listdir(tmp_path / "outside") == []


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/..", "d/../.."])
def test_names_that_lead_outside_the_base_are_refused(root: Path, name: str) -> None:
    for item in (file(name), directory(name), link("h", name, Kind.HARDLINK)):
        with pytest.raises(Invalid, match="archive entry"):
            put(root, "data", archive(item))
    assert set(os.listdir(root)) == {"data"}


def test_links_in_the_container_are_followed_inside_only(root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (root / "real").mkdir()
    os.symlink("/real", root / "data/in")
    os.symlink(str(outside), root / "data/out")
    os.symlink("../../../outside", root / "data/up")
    put(root, "data", archive(file("in/f", b"1")))
    assert (root / "real/f").read_bytes() == b"1"
    for name in ("out/f", "up/f", "up/sub/f"):
        with pytest.raises(Invalid, match="archive entry"):
            put(root, "data", archive(file(name)))
    assert os.listdir(outside) == []


def test_a_truncated_upload_names_its_entry(root: Path) -> None:
    data = archive(file("a", b"1"), file("b", b"2" * 2000)).getvalue()
    with pytest.raises(Invalid, match="'b'.*truncated"):
        put(root, "data", BytesIO(data[:2500]))
    assert (root / "data/a").read_bytes() == b"1"


@contextmanager
def swapping(step: Callable[[], None]) -> Iterator[None]:
    """Take the step over and over in a thread, as a process of the container might."""
    stop = threading.Event()

    def run() -> None:
        while not stop.wait(0.001):  # the other side has to get something done in between
            try:
                step()
            except OSError:
                continue

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(30)


def test_cve_2018_15664_a_link_swapped_midway_leads_nowhere(root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (outside / "sub").mkdir(parents=True)
    (outside / "f").write_bytes(b"intact")
    (outside / "sub/f").write_bytes(b"intact")
    before = read_tree(outside)
    swap, away = root / "data/swap", root / "data/away"

    def exchange() -> None:
        swap.mkdir(exist_ok=True)
        os.rename(swap, away)
        os.symlink(outside, swap)
        shutil.rmtree(away)
        os.unlink(swap)

    stream = archive(
        file("swap/f", b"evil", uid=77),
        directory("swap/sub", 0o777, uid=77),
        file("swap/sub/f", b"evil"),
        link("swap/h", "swap/f", Kind.HARDLINK),
        file("swap/sub/new/deep", b"evil"),
    ).getvalue()
    done = tries = 0
    deadline = time.monotonic() + 20
    with swapping(exchange):
        while (tries < 300 or not done) and time.monotonic() < deadline:
            tries += 1
            try:
                put(root, "data", BytesIO(stream))
                done += 1
            except Invalid:
                pass
            fd = os.open(root, os.O_PATH)
            out = BytesIO()
            try:
                pack(fd, out.write, path=b"data")
            except NotFound:
                pass
            finally:
                os.close(fd)
            assert b"intact" not in out.getvalue()
    assert read_tree(outside) == before
    assert done


@pytest.mark.parametrize("name", ["swap/f", "swap/new/f"])
def test_cve_2018_15664_a_link_swapped_at_the_worst_moment(
    root: Path, tmp_path: Path, name: str
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (root / "data/swap").mkdir()
    stream = BytesIO(archive(file("first"), file(name, b"evil")).getvalue())

    def owner(uid: int, gid: int) -> tuple[int, int]:
        if (root / "data/first").exists() and not (root / "data/swap").is_symlink():
            os.rename(root / "data/swap", root / "data/away")
            os.symlink(outside, root / "data/swap")
        return uid, gid

    with pytest.raises(Invalid, match=f"'{name}'"):
        put(root, "data", stream, owner=owner)
    assert os.listdir(outside) == []
