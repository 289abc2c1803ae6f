"""One contract for every snapshotter, on real file systems and real mounts."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import pytest

from tests.storage.trees import Node, archive, directory, file, link, mounted, read_tree
from wherry.kernel.failpoints import configure
from wherry.kernel.paths import remove_path
from wherry.model.errors import Full, Invalid, NotFound
from wherry.model.ids import Digest
from wherry.storage.layers import Kind, pack, unpack
from wherry.storage.overlay import OverlaySnapshotter
from wherry.storage.snapshots import OverlayView, Snapshotter
from wherry.testing.snapshots import PlainCopySnapshotter

BASE, TOP, OTHER = Digest.of(b"base"), Digest.of(b"top"), Digest.of(b"other")
KEY = "0123456789ab"


@pytest.fixture(autouse=True)
def no_failpoints() -> Iterator[None]:
    yield
    configure("")


def add_layer(
    snapshots: Snapshotter, chain: Digest, parents: Sequence[Digest], stream: BytesIO
) -> None:
    with snapshots.new_layer(chain, parents) as target:
        unpack(stream, target, parents=snapshots.parent_paths(parents))


@contextmanager
def shown(view: OverlayView, tmp_path: Path) -> Iterator[Path]:
    """Mount the view as its documentation says."""
    if not view.lowers and view.upper is not None:
        yield view.upper
    elif view.upper is None and len(view.lowers) == 1:
        yield view.lowers[0]
    else:
        lowers = list(view.lowers)
        target = tmp_path / "mount"
        target.mkdir(exist_ok=True)
        options = f"lowerdir={':'.join(map(str, lowers))},redirect_dir=off,metacopy=off,index=off"
        if view.upper is not None:
            options += f",upperdir={view.upper},workdir={view.work}"
        command = ["mount", "-t", "overlay", "overlay", "-o", options, str(target)]
        subprocess.run(command, check=True, timeout=20)
        try:
            yield target
        finally:
            subprocess.run(["umount", str(target)], check=True, timeout=20)


def files(tree: dict[bytes, Node]) -> dict[str, bytes | int | None]:
    return {path.decode(): node.content for path, node in tree.items() if node.kind == "-"}


class SnapshotterContract:
    """What every snapshotter promises."""

    def make(self, root: Path) -> Snapshotter:
        raise NotImplementedError

    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        return tmp_path / "snapshots"

    @pytest.fixture
    def snapshots(self, root: Path) -> Snapshotter:
        snapshots = self.make(root)
        add_layer(
            snapshots,
            BASE,
            [],
            archive(
                directory("./", 0o711, uid=1, gid=2, mtime_ns=3 * 10**9, xattrs={"user.r": b"1"}),
                directory("etc", 0o750, uid=5, mtime_ns=10**9),
                file("etc/passwd", b"root", mode=0o640, gid=7, mtime_ns=2 * 10**9 + 1),
                file("etc/gone", b"x"),
                file("opq/old", b"x"),
                file("tool", b"t", xattrs={"user.t": b"1"}),
                link("hard", "tool", Kind.HARDLINK),
                link("soft", "/etc/passwd"),
                directory("cut/deep"),
                file("cut/deep/f", b"x"),
            ),
        )
        add_layer(
            snapshots,
            TOP,
            [BASE],
            archive(
                file("etc/.wh.gone"),
                file("etc/new", b"n"),
                file("opq/.wh..wh..opq"),
                file("opq/new", b"n"),
                file(".wh.cut"),
            ),
        )
        return snapshots

    def test_layers_come_and_go(self, snapshots: Snapshotter, root: Path) -> None:
        assert set(snapshots.layers()) == {BASE, TOP}
        assert snapshots.layer_path(TOP) == root / "layers" / TOP.hex
        assert snapshots.has_layer(TOP)
        assert not snapshots.has_layer(OTHER)
        assert snapshots.parent_paths([BASE, TOP]) == (
            snapshots.layer_path(TOP),
            snapshots.layer_path(BASE),
        )
        for _ in range(2):
            for grave in snapshots.retire_layer(TOP):
                remove_path(grave)
        assert set(snapshots.layers()) == {BASE}

    def test_a_container_sees_its_chain(self, snapshots: Snapshotter, tmp_path: Path) -> None:
        view = snapshots.prepare(KEY, [BASE, TOP])
        assert snapshots.view_of(KEY, [BASE, TOP]) == view
        with shown(view, tmp_path) as top:
            tree = read_tree(top)
        assert files(tree) == {
            "etc/passwd": b"root",
            "etc/new": b"n",
            "opq/new": b"n",
            "tool": b"t",
            "hard": b"t",
        }
        root = tree[b""]
        assert (root.mode, root.uid, root.gid, root.mtime_ns) == (0o711, 1, 2, 3 * 10**9)
        assert root.xattrs.get("user.r") == b"1"
        assert (tree[b"etc"].mode, tree[b"etc"].uid) == (0o750, 5)
        passwd = tree[b"etc/passwd"]
        assert (passwd.mode, passwd.gid, passwd.mtime_ns) == (0o640, 7, 2 * 10**9 + 1)
        assert tree[b"hard"].first_name == tree[b"tool"].first_name != b""
        assert tree[b"tool"].xattrs["user.t"] == b"1"
        assert tree[b"soft"].content == b"/etc/passwd"

    def test_containers_do_not_see_each_other(self, snapshots: Snapshotter, tmp_path: Path) -> None:
        before = read_tree(snapshots.layer_path(BASE)), read_tree(snapshots.layer_path(TOP))
        with shown(snapshots.prepare("one", [BASE, TOP]), tmp_path) as top:
            (top / "tool").write_bytes(b"mine")
            (top / "etc/passwd").unlink()
        with shown(snapshots.prepare("two", [BASE, TOP]), tmp_path) as top:
            assert (top / "tool").read_bytes() == b"t"
            assert (top / "etc/passwd").exists()
        with shown(snapshots.prepare("one", [BASE, TOP]), tmp_path) as top:  # found, not made
            assert (top / "tool").read_bytes() == b"mine"
            assert not (top / "etc/passwd").exists()
        after = read_tree(snapshots.layer_path(BASE)), read_tree(snapshots.layer_path(TOP))
        assert after == before
        assert set(snapshots.keys()) == {"one", "two"}

    def test_read_only_views(self, snapshots: Snapshotter, tmp_path: Path) -> None:
        view = snapshots.view([BASE, TOP])
        assert view.upper is None
        with shown(view, tmp_path) as top:
            assert files(read_tree(top))["etc/new"] == b"n"
            assert not (top / "cut").exists()
        with shown(snapshots.view([BASE]), tmp_path) as top:
            assert (top / "cut/deep/f").exists()
        with shown(snapshots.view([]), tmp_path) as top:
            assert os.listdir(top) == []
            assert stat.S_IMODE(top.stat().st_mode) == 0o755

    def test_an_empty_chain_is_an_empty_writable_root(
        self, snapshots: Snapshotter, tmp_path: Path
    ) -> None:
        with shown(snapshots.prepare(KEY, []), tmp_path) as top:
            assert os.listdir(top) == []
            assert stat.S_IMODE(top.stat().st_mode) == 0o755
            (top / "f").write_bytes(b"")
        assert [str(change.path) for change in snapshots.changes(KEY, [])] == ["/f"]

    def test_removing_a_key_leaves_the_rest_of_its_folder(
        self, snapshots: Snapshotter, root: Path
    ) -> None:
        snapshots.prepare(KEY, [BASE])
        (root / "containers" / KEY / "log").write_bytes(b"line")
        snapshots.remove(KEY)
        snapshots.remove(KEY)
        snapshots.remove("never-there")
        assert os.listdir(root / "containers" / KEY) == ["log"]
        assert list(snapshots.keys()) == []
        assert os.listdir(root / "trash") == []
        with pytest.raises(NotFound, match=f"No such snapshot: {KEY}"):
            snapshots.view_of(KEY, [BASE])
        with pytest.raises(NotFound):
            list(snapshots.changes(KEY, [BASE]))

    def test_what_is_missing_is_named(self, snapshots: Snapshotter, root: Path) -> None:
        for ask in (
            lambda: snapshots.prepare(KEY, [BASE, OTHER]),
            lambda: snapshots.view([OTHER]),
            lambda: snapshots.new_layer(Digest.of(b"x"), [OTHER]).__enter__(),
        ):
            with pytest.raises(NotFound, match=f"No such layer: {OTHER}"):
                ask()
        assert list(snapshots.keys()) == []

    @pytest.mark.parametrize("key", ["", ".", "..", "a/b", "/etc", "a\0b"])
    def test_bad_keys_are_refused(self, snapshots: Snapshotter, key: str) -> None:
        for ask in (lambda: snapshots.prepare(key, [BASE]), lambda: snapshots.remove(key)):
            with pytest.raises(Invalid, match="invalid snapshot key"):
                ask()

    def test_a_failed_layer_leaves_nothing(self, snapshots: Snapshotter, root: Path) -> None:
        with pytest.raises(Invalid, match="leads outside"):
            add_layer(snapshots, OTHER, [BASE], archive(file("a/b"), file("../evil")))
        with pytest.raises(KeyError), snapshots.new_layer(OTHER, []) as target:
            (target / "f").write_bytes(b"")
            raise KeyError
        configure("durable.before-sync=error:ENOSPC")
        with pytest.raises(Full):
            add_layer(snapshots, OTHER, [BASE], archive(file("a")))
        assert not snapshots.has_layer(OTHER)
        assert os.listdir(root / "making") == []

    def test_two_that_make_the_same_layer_both_succeed(
        self, snapshots: Snapshotter, root: Path
    ) -> None:
        barrier = threading.Barrier(2, timeout=20)
        problems: list[BaseException] = []

        def make() -> None:
            try:
                with snapshots.new_layer(OTHER, [BASE]) as target:
                    (target / "f").write_bytes(b"")
                    barrier.wait()
            except BaseException as problem:
                problems.append(problem)

        threads = [threading.Thread(target=make) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert problems == []
        assert os.listdir(snapshots.layer_path(OTHER)) == ["f"]
        assert os.listdir(root / "making") == []

    @pytest.mark.parametrize(
        ("where", "present"),
        [
            ("durable.before-sync", False),
            ("durable.before-rename", False),
            ("durable.after-rename", True),
        ],
    )
    def test_after_a_crash_a_layer_is_whole_or_absent(
        self, root: Path, where: str, present: bool
    ) -> None:
        code = f"""
import sys
from pathlib import Path
from wherry.model.ids import Digest
from {self.make(root).__module__} import {type(self.make(root)).__name__} as make
with make(Path(sys.argv[1])).new_layer(Digest.of(b"base"), []) as target:
    (target / "f").write_bytes(b"content")
"""
        result = subprocess.run(
            [sys.executable, "-c", code, root],
            env=os.environ | {"WHERRY_FAILPOINTS": f"{where}=kill"},
            timeout=20,
        )
        assert result.returncode == -9
        snapshots = self.make(root)
        assert snapshots.has_layer(BASE) is present
        assert os.listdir(root / "making") == []
        if present:
            assert (snapshots.layer_path(BASE) / "f").read_bytes() == b"content"

    def test_a_removal_cut_short_is_finished_at_the_next_opening(self, root: Path) -> None:
        self.make(root)
        (root / "trash/abc/deep").mkdir(parents=True)
        (root / "making/def").mkdir()
        self.make(root)
        assert os.listdir(root / "trash") == os.listdir(root / "making") == []

    def test_usage_is_the_sum_of_the_files_sizes(
        self, snapshots: Snapshotter, tmp_path: Path
    ) -> None:
        tree = tmp_path / "tree"
        (tree / "a/b").mkdir(parents=True)
        (tree / "a/f").write_bytes(b"x" * 100_000)
        os.link(tree / "a/f", tree / "a/b/again")
        with open(tree / "sparse", "wb") as out:
            out.truncate(1 << 30)
        os.symlink("0123456789", tree / "link")
        assert snapshots.usage(tree) == 100_000 + (1 << 30) + 10

    def test_changes(self, snapshots: Snapshotter, tmp_path: Path) -> None:
        chain = [BASE, TOP]
        with shown(snapshots.prepare(KEY, chain), tmp_path) as top:
            (top / "etc/passwd").write_bytes(b"changed")
            (top / "tool").unlink()
            (top / "new/sub").mkdir(parents=True)
            (top / "new/sub/f").write_bytes(b"")
            os.chmod(top / "opq", 0o700)
        assert [(c.path, c.kind.value) for c in snapshots.changes(KEY, chain)] == [
            ("/etc", "C"),
            ("/etc/passwd", "C"),
            ("/new", "A"),
            ("/new/sub", "A"),
            ("/new/sub/f", "A"),
            ("/opq", "C"),
            ("/tool", "D"),
        ]


class TestOverlay(SnapshotterContract):
    """Overlay keeps the contract, and shares what it can."""

    def make(self, root: Path) -> Snapshotter:
        return OverlaySnapshotter(root)

    def test_nothing_is_copied_for_a_container(self, snapshots: Snapshotter, root: Path) -> None:
        view = snapshots.prepare(KEY, [BASE, TOP])
        assert view == OverlayView(
            (snapshots.layer_path(TOP), snapshots.layer_path(BASE)),
            root / "containers" / KEY / "upper",
            root / "containers" / KEY / "work",
        )
        assert view.upper is not None
        assert os.listdir(view.upper) == []

    def test_a_crash_while_preparing_leaves_no_half_upper(
        self, snapshots: Snapshotter, root: Path
    ) -> None:
        configure("overlay.before-upper=error:EIO")
        with pytest.raises(OSError, match="failpoint"):
            snapshots.prepare(KEY, [BASE])
        configure("")
        assert list(snapshots.keys()) == []
        assert snapshots.prepare(KEY, [BASE]).upper
        assert os.listdir(root / "making") == []

    def test_a_commit_shows_the_same_tree(self, snapshots: Snapshotter, tmp_path: Path) -> None:
        chain = [BASE, TOP]
        view = snapshots.prepare(KEY, chain)
        with shown(view, tmp_path) as top:
            (top / "etc/passwd").unlink()
            (top / "etc/fresh").write_bytes(b"1")
            subprocess.run(["rm", "-r", top / "opq"], check=True, timeout=20)
            (top / "opq").mkdir()
            (top / "opq/other").write_bytes(b"2")
            subprocess.run(["mv", top / "etc", top / "etc2"], check=True, timeout=20)
            expected = read_tree(top)
        assert view.upper is not None
        out = BytesIO()
        pack(view.upper, out.write, whiteouts=True, root_entry=True)
        add_layer(snapshots, OTHER, chain, BytesIO(out.getvalue()))
        with shown(snapshots.prepare("again", [*chain, OTHER]), tmp_path) as top:
            assert read_tree(top) == expected

    def test_two_hundred_layers(self, root: Path, tmp_path: Path) -> None:
        snapshots = self.make(root)
        chain: list[Digest] = []
        for n in range(130):
            digest = Digest.of(b"%d" % n)
            with snapshots.new_layer(digest, chain[-1:]) as target:
                (target / f"f{n}").write_bytes(b"")
            chain.append(digest)
        assert len(snapshots.prepare(KEY, chain).lowers) == 130


class TestPlainCopy(SnapshotterContract):
    """The copy keeps it too."""

    def make(self, root: Path) -> Snapshotter:
        return PlainCopySnapshotter(root)


def test_mounted_helper_is_what_the_views_say(tmp_path: Path) -> None:
    low, high = tmp_path / "low", tmp_path / "high"
    low.mkdir()
    high.mkdir()
    (low / "f").write_bytes(b"1")
    with mounted(tmp_path / "m", [low], high) as merged:
        (merged / "f").unlink()
    assert stat.S_ISCHR((high / "f").lstat().st_mode)
