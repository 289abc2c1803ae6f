"""Layers onto disk: metadata to the nanosecond, whiteouts as overlay takes them, nothing outside."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.storage.trees import archive, directory, file, link, mounted, read_tree
from wherry.model.errors import Full, Invalid
from wherry.storage.layers import DEFAULT_LIMITS, Entry, Kind, Limits, unpack
from wherry.storage.layers.acl import parse_acl

OPAQUE = "trusted.overlay.opaque"
SECOND = 10**9


@pytest.fixture
def target(tmp_path: Path) -> Path:
    path = tmp_path / "target"
    path.mkdir()
    return path


@contextmanager
def untouched(outside: Path) -> Iterator[None]:
    """Fail when anything in `outside` changes."""
    outside.mkdir(exist_ok=True)
    (outside / "victim").write_bytes(b"intact")
    before = read_tree(outside)
    yield
    assert read_tree(outside) == before


def test_metadata_is_exactly_the_archives(target: Path) -> None:
    capability = bytes.fromhex("0100000200040000000000000000000000000000")
    capability_3 = bytes.fromhex("0100000300040000000000000000000000000000e8030000")
    acl = parse_acl(b"u::rwx,u:55:r--,g::r-x,m::r-x,o::---")
    stream = archive(
        directory("./", 0o711, uid=1, gid=2, mtime_ns=5 * SECOND),
        directory("d", 0o2751, uid=3, gid=4, mtime_ns=SECOND + 7),
        file("d/f", b"data", mode=0o6755, uid=5, gid=6, mtime_ns=-3 * SECOND + 1),
        file("d/none", b"", mode=0),
        file("d/all", b"", mode=0o7777),
        file("d/cap", b"x", xattrs={"security.capability": capability, "user.x": b"\0"}),
        file("d/cap3", b"x", xattrs={"security.capability": capability_3}),
        file("d/acl", b"", mode=0o750, xattrs={"system.posix_acl_access": acl}),
        directory(
            "d/dacl", mtime_ns=SECOND, xattrs={"system.posix_acl_default": acl, "user.d": b"1"}
        ),
        file("d/dacl/child", b"", mode=0o644),
        link("d/link", "/nowhere"),
        (Entry(b"d/char", Kind.CHAR, 0o620, 0, 5, major=5, minor=1, mtime_ns=9), b""),
        (Entry(b"d/block", Kind.BLOCK, 0o660, 0, 6, major=259, minor=70_000), b""),
        (Entry(b"d/pipe", Kind.FIFO, 0o777, mtime_ns=SECOND), b""),
    )
    result = unpack(stream, target)
    assert (result.entries, result.size, result.skipped) == (14, 6, ())
    tree = read_tree(target)
    root, inner, plain = tree[b""], tree[b"d"], tree[b"d/f"]
    assert (root.mode, root.uid, root.gid, root.mtime_ns) == (0o711, 1, 2, 5 * SECOND)
    assert (inner.mode, inner.uid, inner.gid, inner.mtime_ns) == (0o2751, 3, 4, SECOND + 7)
    assert (plain.mode, plain.uid, plain.gid) == (0o6755, 5, 6)
    assert (plain.mtime_ns, plain.content) == (-3 * SECOND + 1, b"data")
    assert (tree[b"d/none"].mode, tree[b"d/all"].mode) == (0, 0o7777)
    assert tree[b"d/cap"].xattrs == {"security.capability": capability, "user.x": b"\0"}
    assert tree[b"d/cap3"].xattrs == {"security.capability": capability_3}
    assert tree[b"d/acl"].xattrs == {"system.posix_acl_access": acl}
    assert tree[b"d/dacl"].xattrs == {"system.posix_acl_default": acl, "user.d": b"1"}
    assert tree[b"d/dacl"].mtime_ns == SECOND
    assert tree[b"d/dacl/child"].xattrs == {}
    assert tree[b"d/link"].content == b"/nowhere"
    assert (tree[b"d/char"].content, tree[b"d/char"].mode) == (os.makedev(5, 1), 0o620)
    assert tree[b"d/block"].content == os.makedev(259, 70_000)
    assert (tree[b"d/pipe"].kind, tree[b"d/pipe"].mode) == ("p", 0o777)


def test_an_odd_umask_changes_nothing(target: Path) -> None:
    previous = os.umask(0o777)
    try:
        unpack(archive(directory("a/b", 0o755), file("a/b/c", mode=0o644)), target)
    finally:
        os.umask(previous)
    tree = read_tree(target)
    assert (tree[b"a"].mode, tree[b"a/b"].mode, tree[b"a/b/c"].mode) == (0o755, 0o755, 0o644)


def test_a_target_that_hands_down_group_and_permissions_changes_nothing(tmp_path: Path) -> None:
    subprocess.run(["setfacl", "-d", "-m", "u:7:rwx", tmp_path], check=True, timeout=20)
    os.chown(tmp_path, 0, 99)
    os.chmod(tmp_path, 0o2777)
    target = tmp_path / "target"
    target.mkdir()
    unpack(archive(file("a/b", mode=0o640), directory("c", 0o711)), target)
    for node in read_tree(target).values():
        assert (node.gid, node.xattrs) == (0, {})
        assert node.mode in (0o755, 0o640, 0o711)


@pytest.mark.parametrize(
    "command",
    [
        ["tar", "--format=posix", "--xattrs", "--xattrs-include=*", "--acls", "--numeric-owner"],
        pytest.param(
            ["bsdtar", "--format=pax", "--xattrs", "--acls", "--numeric-owner"],
            marks=pytest.mark.skipif(not shutil.which("bsdtar"), reason="bsdtar is not installed"),
        ),
    ],
    ids=["gnu", "bsd"],
)
def test_what_other_tars_write_comes_out_the_same(
    target: Path, tmp_path: Path, command: list[str]
) -> None:
    source = tmp_path / "source"
    (source / "dir/sub").mkdir(parents=True)
    (source / "dir/file").write_bytes(b"x" * 70_000)
    os.link(source / "dir/file", source / "dir/hard")
    os.symlink("x" * 200, source / "dir/soft")
    (source / "dir" / ("long" * 50)).write_bytes(b"")
    os.close(os.open(os.fsencode(source) + b"/caf\xc3\xa9 \xff", os.O_CREAT | os.O_WRONLY))
    os.mknod(source / "dir/null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.mkfifo(source / "dir/pipe")
    os.chown(source / "dir/file", 70_000, 3_000_000)
    os.chmod(source / "dir/sub", 0o3775)
    os.setxattr(source / "dir/file", "user.note", b"\0binary\n")
    run = {"check": True, "timeout": 20}
    subprocess.run(["setcap", "cap_net_admin+ep", source / "dir/file"], **run)
    subprocess.run(["setfacl", "-m", "u:1234:rwx,g:4242:r--", source / "dir/sub"], **run)
    subprocess.run(["setfacl", "-m", "d:u:1234:rwx,d:o:---", source / "dir/sub"], **run)
    made = subprocess.run([*command, "-C", source, "-cf", "-", "."], capture_output=True, **run)
    unpack(BytesIO(made.stdout), target)
    assert read_tree(target) == read_tree(source)


def test_sparse_files_stay_sparse(target: Path, tmp_path: Path) -> None:
    with open(tmp_path / "sparse", "wb") as out:
        out.seek(40 << 20)
        out.write(b"end" * 5000)
        out.truncate(60 << 20)
    command = ["tar", "-C", tmp_path, "-S", "-cf", "-", "sparse"]
    data = subprocess.run(command, check=True, capture_output=True, timeout=20).stdout
    unpack(BytesIO(data), target)
    status = (target / "sparse").stat()
    assert (status.st_size, status.st_blocks * 512 < 1 << 20) == (60 << 20, True)
    assert (target / "sparse").read_bytes() == (tmp_path / "sparse").read_bytes()


def test_implied_directories_are_as_they_are_below(target: Path, tmp_path: Path) -> None:
    below, far = tmp_path / "below", tmp_path / "far"
    for layer in (below, far):
        layer.mkdir()
    unpack(
        archive(
            directory("./", 0o701, mtime_ns=4),
            directory("srv/www", 0o2770, uid=33, gid=33, mtime_ns=99, xattrs={"user.a": b"1"}),
            directory("hidden/x", 0o700),
            directory("replaced/x", 0o711),
        ),
        far,
    )
    unpack(
        archive(directory("srv", 0o751, uid=1), file("hidden/.wh..wh..opq"), file(".wh.replaced")),
        below,
        parents=[far],
    )
    unpack(
        archive(file("srv/www/index"), file("hidden/x/f"), file("replaced/x/f"), file("new/dir/f")),
        target,
        parents=[below, far],
    )
    tree, lower = read_tree(target), read_tree(far)
    assert tree[b"srv/www"] == lower[b"srv/www"]
    assert tree[b""] == lower[b""]
    assert (tree[b"srv"].mode, tree[b"srv"].uid) == (0o751, 1)
    for path in (b"hidden/x", b"replaced", b"replaced/x", b"new", b"new/dir"):
        assert (tree[path].mode, tree[path].uid) == (0o755, 0), path


def test_whiteouts_hide_what_is_below_and_nothing_else(target: Path, tmp_path: Path) -> None:
    below = tmp_path / "below"
    below.mkdir()
    unpack(
        archive(
            *(file(f"{top}/{name}", b"old") for top in "abcdef" for name in ("x", "y", "z/deep")),
            file("gone", b"old"),
        ),
        below,
    )
    unpack(
        archive(
            file("a/.wh.x"),  # plain
            file("b/.wh..wh..opq"),  # opaque first, then a sibling
            file("b/new", b"new"),
            file("c/new", b"new"),  # sibling first, then opaque
            file("c/.wh..wh..opq"),
            file("d/.wh.z"),  # removed and added by the same layer, either way round
            file("d/z/other", b"new"),
            file("e/z/other", b"new"),
            file("e/.wh.z"),
            file("f/x", b"new"),
            file("f/.wh.x"),
            file("f/.wh.y"),
            file("f/y", b"new"),
            file(".wh.gone"),
            file(".wh.was-never-there"),
            file("f/.wh..wh.plnk"),  # aufs bookkeeping
        ),
        target,
        parents=[below],
    )
    with mounted(tmp_path / "m", [target, below]) as merged:
        files = {
            path.decode(): node.content
            for path, node in read_tree(merged).items()
            if node.kind == "-"
        }
    old, new = b"old", b"new"
    assert files == {
        "a/y": old, "a/z/deep": old,
        "b/new": new,
        "c/new": new,
        "d/x": old, "d/y": old, "d/z/other": new,
        "e/x": old, "e/y": old, "e/z/other": new,
        "f/x": new, "f/y": new, "f/z/deep": old,
    }  # fmt: skip
    status = (target / "a/x").lstat()
    assert stat.S_ISCHR(status.st_mode)
    assert status.st_rdev == 0


def test_an_opaque_root_hides_every_layer(target: Path, tmp_path: Path) -> None:
    below = tmp_path / "below"
    below.mkdir()
    unpack(archive(file("a/f"), file("b"), file("c/f", b"old")), below)
    unpack(archive(file("c/new", b"new"), file(".wh..wh..opq"), file("d")), target, parents=[below])
    with mounted(tmp_path / "m", [target, below]) as merged:
        assert set(read_tree(merged, top=False)) == {b"c", b"c/new", b"d"}


@pytest.mark.parametrize("name", [".wh.", "a/.wh..", ".wh...", "a/.wh..."])
def test_whiteouts_of_no_name_are_refused(target: Path, name: str) -> None:
    with pytest.raises(Invalid, match="a whiteout of no name"):
        unpack(archive(directory("a"), file(name)), target)


def test_a_zero_device_is_a_whiteout(target: Path) -> None:
    unpack(archive((Entry(b"gone", Kind.CHAR, 0o600, 5, 5), b"")), target)
    status = (target / "gone").lstat()
    assert (stat.S_ISCHR(status.st_mode), status.st_rdev) == (True, 0)


def test_the_last_of_duplicates_wins(target: Path) -> None:
    unpack(
        archive(
            file("a", b"1"),
            file("a", b"2", mode=0o600),
            directory("b", 0o700),
            file("b/kept"),
            directory("b", 0o711, uid=9),
            directory("c"),
            file("c/lost"),
            file("c", b"file"),
            file("d", b"file"),
            directory("d", 0o750),
            link("e", "a"),
            file("e", b"not through the link"),
            file("f"),
            link("f", "a", Kind.HARDLINK),
            link("f", "a", Kind.HARDLINK),
            link("a", "a", Kind.HARDLINK),
        ),
        target,
    )
    tree = read_tree(target, top=False)
    assert set(tree) == {b"a", b"b", b"b/kept", b"c", b"d", b"e", b"f"}
    assert (tree[b"a"].content, tree[b"a"].mode) == (b"2", 0o600)
    assert (tree[b"b"].mode, tree[b"b"].uid) == (0o711, 9)
    assert tree[b"c"].content == b"file"
    assert (tree[b"d"].kind, tree[b"d"].mode) == ("d", 0o750)
    assert tree[b"e"].content == b"not through the link"
    assert tree[b"f"].first_name == tree[b"a"].first_name == b"a"


def test_a_directory_replaced_by_a_link_is_left_alone(target: Path) -> None:
    unpack(
        archive(
            directory("real", 0o700, mtime_ns=1),
            directory("a", 0o777, uid=7),
            file("a/x"),
            link("a", "real"),
            file("a/y", b"through the link"),
        ),
        target,
    )
    tree = read_tree(target)
    assert tree[b"real/y"].content == b"through the link"
    assert (tree[b"real"].mode, tree[b"real"].uid, tree[b"real"].mtime_ns) == (0o700, 0, 1)


@pytest.mark.parametrize(
    "name", ["/../x", "../x", "a/../../x", "../../../../../../tmp/x", "..", "a/../..", "./../x"]
)
def test_names_that_lead_outside_are_refused_by_name(
    target: Path, tmp_path: Path, name: str
) -> None:
    with untouched(tmp_path / "outside"):
        for kind in ("file", "directory", "link", "whiteout"):
            item = {
                "file": file(name, b"evil"),
                "directory": directory(name, 0o777),
                "link": link("ok", name, Kind.HARDLINK),
                "whiteout": file(f"{name}/.wh.victim"),
            }[kind]
            with pytest.raises(Invalid) as problem:
                unpack(archive(file("a/b"), item), target)
            named = f"archive entry {os.fsdecode(item[0].name)!r}"
            assert problem.value.message.startswith(named)
    assert set(os.listdir(tmp_path)) == {"target", "outside"}


def test_absolute_names_and_links_stay_inside(target: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    with untouched(outside):
        unpack(_with_outside_inside(outside), target)
    inside = target / str(outside).lstrip("/")
    assert (inside / "planted").read_bytes() == b"4"
    assert (inside / "planted2").read_bytes() == b"5"
    assert (target / "hard").read_bytes() == b"4"
    assert (target / "etc/absolute").read_bytes() == b"1"
    assert (target / "etc/twice").read_bytes() == b"2"
    assert (target / "etc/dots").read_bytes() == b"3"


def _with_outside_inside(outside: Path) -> BytesIO:
    """The links lead to a path that exists outside, and inside the target as well."""
    return archive(
        directory(str(outside)),
        file("/etc/absolute", b"1"),
        file("//etc//./twice", b"2"),
        file("etc/a/../dots", b"3"),
        link("escape", str(outside)),
        file("escape/planted", b"4"),
        link("up", "../../../../../.." + str(outside)),
        file("up/planted2", b"5"),
        file("up/.wh.victim"),
        directory("up/sub", 0o777, uid=5),
        link("hard", "escape/planted", Kind.HARDLINK),
    )


@pytest.mark.parametrize(
    "items",
    [
        [link("l", "{outside}"), file("l/victim", b"evil")],
        [link("l", "{outside}/victim"), file("l", b"evil"), file("l/x")],
        [link("h", "{outside}/victim", Kind.HARDLINK)],
        [link("h", "../outside/victim", Kind.HARDLINK)],
        [link("l", "../outside"), link("h", "l/victim", Kind.HARDLINK)],
        [link("l", "{outside}/victim"), link("h", "l", Kind.HARDLINK), file("h/x")],
        [link("l", "/proc/self/root"), file("l/{outside}/victim", b"evil")],
        [link("l", "loop"), link("loop", "l"), file("loop/x")],
        [file("f"), file("f/x")],
        [link("h", "", Kind.HARDLINK)],
        [directory("d"), link("h", "d", Kind.HARDLINK)],
        [link("s", "")],
        [file("")],
        [file("n" * 256)],
    ],
    ids=str,
)
def test_escapes_are_refused_and_touch_nothing(
    target: Path, tmp_path: Path, items: list[tuple[Entry, bytes]]
) -> None:
    outside = tmp_path / "outside"

    def inserted(value: bytes) -> bytes:
        return value.replace(b"{outside}", os.fsencode(outside))

    entries = [
        (entry._replace(name=inserted(entry.name), link=inserted(entry.link)), content)
        for entry, content in items
    ]
    with untouched(outside), pytest.raises(Invalid, match="archive entry"):
        unpack(archive(*entries), target)


@pytest.mark.parametrize(
    "name", ["trusted.overlay.redirect", "trusted.overlay.opaque", "user.overlay.metacopy"]
)
def test_overlay_attributes_are_refused(target: Path, name: str) -> None:
    for item in (file("f", xattrs={name: b"/etc/shadow"}), directory("d", xattrs={name: b"y"})):
        with pytest.raises(Invalid, match=f"{name} is reserved"):
            unpack(archive(item), target)


def test_a_full_disk_says_so_and_names_the_entry(target: Path) -> None:
    mount = ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(target)]
    subprocess.run(mount, check=True, timeout=20)
    try:
        with pytest.raises(Full, match="no space left.*'second'"):
            unpack(archive(file("first", bytes(1000)), file("second", bytes(400_000))), target)
    finally:
        subprocess.run(["umount", str(target)], check=True, timeout=20)


def test_limits_reach_the_reader(target: Path) -> None:
    with pytest.raises(Invalid, match="'f3'.*more than 3 entries"):
        unpack(archive(*(file(f"f{n}") for n in range(5))), target, limits=Limits(entries=3))
    assert DEFAULT_LIMITS.entries == 1_000_000


def test_the_stream_is_read_to_its_end(target: Path) -> None:
    stream = BytesIO(archive(file("a")).getvalue() + bytes(5_000_000))
    unpack(stream, target)
    assert stream.read() == b""


def test_many_directories_deep_and_wide(target: Path) -> None:
    items = [file("/".join(["d"] * depth) + f"/f{depth}", b"1") for depth in range(1, 300, 7)]
    items += [file(f"wide{n % 150}/f{n}", b"2") for n in range(450)]
    unpack(archive(*items), target)
    assert sum(node.kind == "-" for node in read_tree(target).values()) == len(items)


tree_names = st.sampled_from(
    ["a", "b", "a/b", "a/a", "a/b/c", "b/.wh.a", ".wh.b", "a/.wh..wh..opq", "../a", "/a"]
)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(tree_names, st.sampled_from("fdlhH"), tree_names), min_size=1, max_size=8)
)
def test_any_order_of_names_and_kinds_stays_inside(items: list[tuple[str, str, str]]) -> None:
    def made(name: str, kind: str, target: str) -> tuple[Entry, bytes]:
        match kind:
            case "f":
                return file(name, b"x")
            case "d":
                return directory(name)
            case "l":
                return link(name, target)
            case "h":
                return link(name, target, Kind.HARDLINK)
            case _:
                return link(name, "/a/../../b")

    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder, "target")
        target.mkdir()
        before = os.listdir(folder)
        try:
            unpack(archive(*(made(*item) for item in items)), target)
        except Invalid:
            pass
        assert os.listdir(folder) == before
