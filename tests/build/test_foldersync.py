"""A folder as a context: only what changed is sent, whatever anyone sends."""

from __future__ import annotations

import hashlib
import io
import os
import socket
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.build.copies import listing
from wherry.build.context.manifest import FolderEntry, decode, encode
from wherry.build.context.store import ContextStore
from wherry.client import foldersync
from wherry.client.foldersync import Folder
from wherry.model import folder as codec
from wherry.model.errors import Invalid, NotFound, WherryError


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ContextStore]:
    store = ContextStore(tmp_path / "contexts")
    yield store
    store.close()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(foldersync, "_SETTLED", 0)  # the test's own files are always young
    top = tmp_path / "folder"
    (top / "deep/er").mkdir(parents=True)
    for name in ("a", "b", "deep/c", "deep/er/d"):
        (top / name).write_text(name)
    (top / "empty").touch()
    (top / "deep").chmod(0o700)
    (top / "link").symlink_to("/etc/passwd")
    os.link(top / "a", top / "again")
    os.mkfifo(top / "pipe")
    return top


Sync = Callable[..., tuple[str, list[str]]]


@pytest.fixture
def sync(store: ContextStore, folder: Path) -> Sync:
    """Syncs the folder; returns the tree's id and the names that were sent."""

    def sync(*ignore: str) -> tuple[str, list[str]]:
        client = Folder(str(folder), ignore)
        assert client.digest() == hashlib.sha256(client.manifest()).hexdigest()
        lacking = store.begin_sync("here", client.manifest())
        names = [os.fsdecode(client.paths[number]) for number in lacking.numbers]
        if lacking.tree:
            return lacking.tree, names
        content = b"".join(client.pieces(lacking.numbers))
        return store.finish_sync(lacking.sync, io.BytesIO(content)), names

    return sync


def files(store: ContextStore, tree: str) -> Path:
    return store.tree(tree).path / "files"


def test_only_what_changed_is_sent(store: ContextStore, folder: Path, sync: Sync) -> None:
    first, sent = sync()
    assert sent == ["a", "b", "deep/c", "deep/er/d"]
    assert listing(files(store, first)) == listing(folder)
    assert os.path.samefile(files(store, first) / "a", files(store, first) / "again")
    store.release(first)
    assert sync() == (first, [])  # and the tree is held again
    (folder / "deep/c").write_text("C")
    second, sent = sync()
    assert sent == ["deep/c"]
    assert (files(store, second) / "deep/c").read_text() == "C"
    assert (files(store, first) / "deep/c").read_text() == "deep/c"  # a build still holds it
    assert os.path.samefile(files(store, first) / "b", files(store, second) / "b")
    store.release(first)
    with pytest.raises(NotFound):
        store.tree(first)
    assert store.tree(first_digest_of(store, folder)).digest == store.tree(second).digest


def first_digest_of(store: ContextStore, folder: Path) -> str:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        tar.add(folder, ".")
    return store.receive(io.BytesIO(out.getvalue()))


def test_a_mode_or_a_name_is_a_change(store: ContextStore, folder: Path, sync: Sync) -> None:
    sync()
    (folder / "b").chmod(0o600)
    (folder / "deep/c").rename(folder / "deep/moved")
    (folder / "deep/er/d").unlink()
    (folder / "link").unlink()
    (folder / "link").mkdir()
    tree, sent = sync()
    assert set(sent) == {"b", "deep/moved"}
    assert listing(files(store, tree)) == listing(folder)


def test_a_change_that_leaves_size_and_time_is_seen(folder: Path, sync: Sync) -> None:
    sync()
    before = (folder / "b").stat()
    (folder / "b").write_text("x")
    os.utime(folder / "b", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert sync()[1] == ["b"]


def test_a_young_file_is_sent_again(
    folder: Path, sync: Sync, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(foldersync, "_SETTLED", 10**15)
    sync()
    assert sync()[1] == ["a", "b", "deep/c", "deep/er/d"]


def test_dockerignore(store: ContextStore, folder: Path, sync: Sync) -> None:
    tree, sent = sync("deep", "!deep/er/d", "a*", "pipe")
    assert sent == ["b", "deep/er/d"]
    assert set(listing(files(store, tree))) == {
        "b", "deep", "deep/er", "deep/er/d", "empty", "link",
    }  # fmt: skip
    assert listing(files(store, tree))["deep"].startswith("drwx------")


def test_a_socket_is_passed_over(store: ContextStore, folder: Path, sync: Sync) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "socket"))
        assert "socket" not in listing(files(store, sync()[0]))


def test_a_file_that_cannot_be_read(folder: Path) -> None:
    client = Folder(str(folder))
    (folder / "b").unlink()
    (folder / "b").symlink_to("/etc/passwd")
    number = client.paths.index(b"b")
    with pytest.raises(OSError, match="symbolic links"):
        list(client.pieces([number]))


def test_folders_are_crowded_out(store: ContextStore, folder: Path) -> None:
    manifest = Folder(str(folder), ["**", "!empty"]).manifest()
    trees = [store.begin_sync(f"key {i}", manifest + entry(b"x%d" % i)).tree for i in range(20)]
    for tree in trees:
        store.release(tree)
    assert len(store.folders()) == 16
    with pytest.raises(NotFound):
        store.tree(trees[0])
    store.forget(trees[-1])
    with pytest.raises(NotFound):
        store.tree(trees[-1])


def entry(path: bytes, kind: int = codec.FILE, link: bytes = b"", size: int = 0) -> bytes:
    return encode([FolderEntry(path, kind, 0o644, size, link=link)])[len(encode([])) :]


@pytest.mark.parametrize(
    "manifest",
    [
        b"",
        b"something else",
        encode([]) + b"\1",
        encode([]) + entry(b"../x"),
        encode([]) + entry(b"/x"),
        encode([]) + entry(b"a//b"),
        encode([]) + entry(b"a/b"),
        encode([]) + entry(b"x") + entry(b"x"),
        encode([]) + entry(b"x") + entry(b"x/y"),
        encode([]) + entry(b"l", codec.SYMLINK, b"/etc") + entry(b"l/y"),
        encode([]) + entry(b"x", codec.HARDLINK, b"/etc/passwd"),
        encode([]) + entry(b"x", codec.SYMLINK),
        encode([]) + entry(b"x\0y"),
        encode([]) + entry(b"x", 9),
        encode([]) + entry(b""),
    ],
)
def test_a_hostile_manifest_is_refused(
    store: ContextStore, tmp_path: Path, manifest: bytes
) -> None:
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(Invalid):
        store.begin_sync("key", manifest)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    "content", [b"", b"\1", codec.LENGTH.pack(5) + b"1234", codec.LENGTH.pack(1) + b"12"]
)
def test_other_contents_than_the_wanted_ones(
    store: ContextStore, tmp_path: Path, content: bytes
) -> None:
    before = sorted(tmp_path.rglob("*"))
    lacking = store.begin_sync("key", encode([]) + entry(b"x", size=3))
    with pytest.raises(Invalid):
        store.finish_sync(lacking.sync, io.BytesIO(content))
    with pytest.raises(NotFound):
        store.finish_sync(lacking.sync, io.BytesIO(content))
    assert sorted(tmp_path.rglob("*")) == before


NAMES = st.binary(min_size=1, max_size=5).filter(
    lambda name: name not in (b".", b"..") and not set(name) & set(b"/\0")
)


@given(
    st.lists(
        st.tuples(
            NAMES, st.integers(0, 0o7777), st.integers(0, 1 << 40), st.integers(-(1 << 60), 1 << 60)
        ),
        unique_by=lambda made: made[0],
    )
)
def test_decode_is_encode_backwards(made: list[tuple[bytes, int, int, int]]) -> None:
    entries = [FolderEntry(name, codec.FILE, mode, size, time) for name, mode, size, time in made]
    assert decode(encode(entries)) == entries


@given(st.binary(max_size=200))
def test_any_bytes_are_a_manifest_or_invalid(data: bytes) -> None:
    for manifest in (data, encode([]) + data):
        try:
            decode(manifest)
        except WherryError:
            pass
