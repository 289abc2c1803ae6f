"""Contexts as they come in: archives of anyone, folders that change, and what stands for them."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.build.copies import listing
from wherry.build.context.store import ContextStore
from wherry.model.build import ContextKind, ContextRef
from wherry.model.errors import Invalid, NotFound, WherryError


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ContextStore]:
    store = ContextStore(tmp_path / "contexts")
    yield store
    store.close()


def there(store: ContextStore) -> list[str]:
    """The trees, without those being removed."""
    return [path.name for path in store.root.iterdir() if not path.name.startswith(".gone-")]


Member = tuple[str, bytes | str | int, dict[str, object]]


def archive(*members: Member) -> io.BytesIO:
    """Bytes are a file, a text a link of the type given, a number another type."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, what, more in members:
            info = tarfile.TarInfo(name)
            if isinstance(what, str):
                info.type, info.linkname = tarfile.SYMTYPE, what
            elif isinstance(what, bytes):
                info.size = len(what)
            for key, value in more.items():
                setattr(info, key, value)
            tar.addfile(info, io.BytesIO(what) if isinstance(what, bytes) else None)
    return io.BytesIO(out.getvalue())


def shown(store: ContextStore, tree_id: str) -> dict[str, str]:
    return listing(store.tree(tree_id).path / "files")


def test_an_archive(store: ContextStore) -> None:
    tree = store.receive(
        archive(
            ("./", 0, {"type": tarfile.DIRTYPE, "mode": 0o711}),
            ("./Dockerfile", b"FROM scratch", {"uid": 1000, "gid": 1000}),
            ("deep/er/file", b"x", {"mode": 0o4755}),
            ("deep", 0, {"type": tarfile.DIRTYPE, "mode": 0o700, "uid": 5}),
            ("link", "/etc/passwd", {}),
            ("hard", "deep/er/file", {"type": tarfile.LNKTYPE}),
            ("pipe", 0, {"type": tarfile.FIFOTYPE}),
        )
    )
    assert shown(store, tree) == {
        "Dockerfile": "-rw-r--r-- 0:0",
        "deep": "drwx------ 0:0",
        "deep/er": "drwxr-xr-x 0:0",
        "deep/er/file": "-rwsr-xr-x 0:0",
        "hard": "-rwsr-xr-x 0:0",
        "link": "lrwxrwxrwx 0:0 -> /etc/passwd",
        "pipe": "prw-r--r-- 0:0",
    }
    assert store.read(tree, "Dockerfile") == b"FROM scratch"
    with pytest.raises(NotFound):
        store.read(tree, "link")  # inside the tree there is none
    with pytest.raises(Invalid):
        store.read(tree, "pipe")
    path = store.tree(tree).path
    store.release(tree)
    assert not path.exists()
    with pytest.raises(NotFound):
        store.tree(tree)


def test_an_archive_that_stops_behind_its_last_byte(store: ContextStore) -> None:
    """As the docker client sends with `build -f -`: no padding, no end mark."""
    data = archive(("a", b"1" * 600, {}), ("b", b"22", {})).getvalue()
    tree = store.receive(io.BytesIO(data[: data.index(b"22") + 2]))
    assert store.read(tree, "b") == b"22"
    with pytest.raises(Invalid, match="truncated"):
        store.receive(io.BytesIO(data[: data.index(b"22") + 1]))


def test_a_compressed_archive(store: ContextStore) -> None:
    data = gzip.compress(archive(("a", b"1", {})).getvalue())
    assert shown(store, store.receive(io.BytesIO(data))) == {"a": "-rw-r--r-- 0:0"}


@pytest.mark.parametrize(
    "members",
    [
        [("../out", b"!", {})],
        [("a/../../out", b"!", {})],
        [("out", "../../../out", {"type": tarfile.LNKTYPE})],
        [("out", "nothing", {"type": tarfile.LNKTYPE})],
        [("d", 0, {"type": tarfile.DIRTYPE}), ("l", "d", {"type": tarfile.LNKTYPE})],
        [("f", b"", {}), ("f/in", b"!", {})],
        [("gone", "nowhere", {}), ("gone/in", b"!", {})],
        [("", "", {"type": tarfile.SYMTYPE})],
    ],
)
def test_a_hostile_archive_is_refused(
    store: ContextStore, tmp_path: Path, members: list[Member]
) -> None:
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(Invalid):
        store.receive(archive(*members))
    assert sorted(tmp_path.rglob("*")) == before  # nothing half-made, nothing outside


def test_links_lead_nowhere_outside(store: ContextStore, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    tree = store.receive(
        archive(
            ("out", str(outside), {}),
            (str(outside).lstrip("/") + "/x", b"", {}),
            ("out/in", b"!", {}),
            ("up", "../../../../../..", {}),
            ("up/here", b"!", {}),
        )
    )
    assert list(outside.iterdir()) == []
    assert "here" in shown(store, tree)


@pytest.mark.parametrize("parent", range(6, 12))
def test_a_hard_link_where_more_directories_are_used_than_are_kept_open(
    store: ContextStore, parent: int
) -> None:
    files: list[Member] = [(f"d{n}/f", str(n).encode(), {}) for n in range(70)]
    link: Member = (f"d{parent}/hard", 0, {"type": tarfile.LNKTYPE, "linkname": "d0/f"})
    tree = store.receive(archive(*files, link))
    assert store.read(tree, f"d{parent}/hard") == b"0"


def test_the_last_of_one_name_counts(store: ContextStore) -> None:
    tree = store.receive(
        archive(
            ("a", b"1", {}),
            ("a", b"2", {"mode": 0o600}),
            ("b", "elsewhere", {}),
            ("b", b"file", {}),
            ("c/d", b"x", {}),
            ("c", b"now a file", {}),
            ("e", b"x", {}),
            ("e", 0, {"type": tarfile.DIRTYPE, "mode": 0o755}),
            ("e/f", b"in it", {}),
        )
    )
    assert {k: v[:10] for k, v in shown(store, tree).items()} == {
        "a": "-rw-------",
        "b": "-rw-r--r--",
        "c": "-rw-r--r--",
        "e": "drwxr-xr-x",
        "e/f": "-rw-r--r--",
    }
    assert store.read(tree, "a") == b"2"


def test_two_archives_of_the_same_files_are_one_tree(store: ContextStore) -> None:
    one = store.receive(archive(("a", b"1", {"mtime": 5, "uid": 7}), ("b", b"2", {})))
    two = store.receive(archive(("b", b"2", {}), ("./a", b"1", {"mtime": 9})))
    other = store.receive(archive(("b", b"3", {}), ("./a", b"1", {"mtime": 9})))
    assert store.tree(one).digest == store.tree(two).digest != store.tree(other).digest


def test_what_dockerignore_leaves_out(store: ContextStore) -> None:
    tree = store.receive(
        archive(
            ("keep/a", b"1", {}),
            ("drop", 0, {"type": tarfile.DIRTYPE, "mode": 0o750}),
            ("drop/b", b"2", {}),
            ("drop/c", b"3", {}),
            ("x.log", b"4", {}),
        )
    )
    ref = ContextRef(ContextKind.TREE, tree, ("drop", "*.log", "!drop/c"))
    view = store.open(ref)
    with view.open() as fd:
        found = listing(Path(f"/proc/self/fd/{fd}").resolve())
    assert set(found) == {"keep", "keep/a", "drop", "drop/c"}
    assert found["drop"].startswith("drwxr-x---")
    assert store.open(ref) is view  # made once
    assert store.open(ContextRef(ContextKind.TREE, tree, epoch=7)).epoch == 7
    store.release(tree)
    assert len(there(store)) == 1  # the empty one


def test_what_was_left_is_swept(store: ContextStore) -> None:
    store.receive(archive(("a", b"1", {})))
    again = ContextStore(store.root)
    assert len(there(again)) == 1
    with again.open(ContextRef()).open() as fd:
        assert os.listdir(fd) == []
    deadline = time.monotonic() + 20
    while len(os.listdir(again.root)) > 1:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    again.close()


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_broken_archives_are_refused_or_taken(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    good = bytearray(
        archive(
            ("a/b", b"12", {}), ("l", "a", {}), ("h", "a/b", {"type": tarfile.LNKTYPE})
        ).getvalue()
    )
    for _ in range(data.draw(st.integers(1, 5))):
        at = data.draw(st.integers(0, 2600))
        good[at] = data.draw(st.integers(0, 255))
    store = ContextStore(tmp_path_factory.mktemp("contexts"))
    try:
        store.receive(io.BytesIO(bytes(good)))
    except WherryError:
        assert len(there(store)) == 1
    finally:
        store.close()
