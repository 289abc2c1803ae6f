"""Trees to archives and back: the round trip is a law, and other tars read what is written."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import subprocess
import tarfile
import tempfile
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.storage.trees import Node, read_tree
from wherry.model.errors import Invalid, NotFound
from wherry.storage.layers import Kind, TarReader, pack, unpack

ACL_ACCESS = "system.posix_acl_access"
CAPABILITY_V2 = bytes.fromhex("0100000200040000000000000000000000000000")

names = st.binary(min_size=1, max_size=255).filter(
    lambda name: (
        b"/" not in name
        and b"\0" not in name
        and name not in (b".", b"..")
        and not name.startswith(b".wh.")
    )
)
short_names = names.map(lambda name: name[:40]).filter(
    lambda name: name not in (b".", b"..") and not name.startswith(b".wh.")
)
modes = st.integers(0, 0o7777)
ids = st.sampled_from([0, 0, 0, 1, 1000, 65535, 2_097_152])
times = st.integers(0, 4 * 10**9).map(lambda n: n * 10**9 // 2) | st.integers(0, 2**33 * 10**9)
xattrs = st.dictionaries(
    st.text("abcdef=.é\n", min_size=1, max_size=12).map(lambda name: "user." + name),
    st.binary(max_size=60),
    max_size=2,
)


@st.composite
def nodes(draw: st.DrawFn, depth: int = 0) -> tuple[Node, dict[bytes, object]]:
    kind = draw(st.sampled_from("-----llpcd" + "ddd" * (depth < 3)))
    common = (draw(modes), draw(ids), draw(ids), draw(times))
    children: dict[bytes, object] = {}
    match kind:
        case "-":
            node = Node("-", *common, draw(st.binary(max_size=1500)), draw(xattrs))
        case "l":
            node = Node("l", 0o777, *common[1:], draw(names))
        case "p":
            node = Node("p", *common)
        case "c":
            node = Node("c", *common, os.makedev(draw(st.integers(1, 300)), 7))
        case _:
            node = Node("d", *common, None, draw(xattrs))
            children = draw(
                st.dictionaries(short_names, st.deferred(lambda: nodes(depth + 1)), max_size=4)
            )
    return node, children


trees = st.dictionaries(short_names, nodes(), max_size=5)


def build(parent: bytes, tree: dict[bytes, object]) -> None:
    for name, (node, children) in tree.items():  # type: ignore[misc]
        path = parent + b"/" + name
        match node.kind:
            case "d":
                os.mkdir(path)
                build(path, children)
            case "-":
                with open(path, "xb") as file:
                    file.write(node.content)
            case "l":
                os.symlink(node.content, path)
            case "p":
                os.mkfifo(path)
            case _:
                os.mknod(path, stat.S_IFCHR, node.content)
        os.chown(path, node.uid, node.gid, follow_symlinks=False)
        if node.kind != "l":
            os.chmod(path, node.mode)
        for key, value in node.xattrs.items():
            os.setxattr(path, key, value, follow_symlinks=False)
        os.utime(path, ns=(node.mtime_ns, node.mtime_ns), follow_symlinks=False)


def packed(root: Path | int, **options: object) -> bytes:
    out = BytesIO()
    pack(root, out.write, **options)  # type: ignore[arg-type]
    return out.getvalue()


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(tree=trees, root=nodes().filter(lambda item: item[0].kind == "d"))
def test_unpack_of_pack_is_the_same_tree(tree: dict[bytes, object], root: tuple) -> None:
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "source"), Path(folder, "target")
        target.mkdir()
        build(os.fsencode(folder), {b"source": (root[0], tree)})
        first = packed(source, root_entry=True)
        unpack(BytesIO(first), target)
        assert read_tree(target) == read_tree(source)
        assert packed(target, root_entry=True) == first
        for path in (source, target):
            path.chmod(0o700)


def test_hard_links_are_kept_and_counted_once(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    (source / "b").mkdir(parents=True)
    target.mkdir()
    (source / "b/one").write_bytes(b"x" * 5000)
    os.link(source / "b/one", source / "a")
    os.symlink("a", source / "l1")
    os.link(source / "l1", source / "l2", follow_symlinks=False)
    data = packed(source)
    kinds = {entry.name: (entry.kind, entry.link) for entry in TarReader(BytesIO(data))}
    assert kinds[b"b/one"] == (Kind.HARDLINK, b"a")
    assert kinds[b"l2"] == (Kind.HARDLINK, b"l1")
    unpack(BytesIO(data), target)
    assert (target / "a").stat().st_ino == (target / "b/one").stat().st_ino
    assert read_tree(target, top=False) == read_tree(source, top=False)


def test_capabilities_and_acls_travel(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    (source / "ping").write_bytes(b"#!")
    (source / "shared").mkdir()
    run = {"check": True, "timeout": 20}
    subprocess.run(["setcap", "cap_net_raw+ep", source / "ping"], **run)
    subprocess.run(["setfacl", "-m", "u:1234:rwx,d:g:77:r-x", source / "shared"], **run)
    (source / "shared/inner").write_bytes(b"")
    unpack(BytesIO(packed(source)), target)
    assert read_tree(target, top=False) == read_tree(source, top=False)
    caps = subprocess.run(["getcap", target / "ping"], capture_output=True, text=True, **run)
    assert "cap_net_raw=ep" in caps.stdout
    acl = subprocess.run(
        ["getfacl", "-n", target / "shared"], capture_output=True, text=True, cwd="/", **run
    )
    assert "user:1234:rwx" in acl.stdout
    assert "default:group:77:r-x" in acl.stdout


def test_capabilities_of_root_id_zero_are_written_in_the_form_all_tools_read(
    tmp_path: Path,
) -> None:
    file = tmp_path / "tool"
    file.write_bytes(b"")
    version_3 = bytes.fromhex("0100000300040000000000000000000000000000") + bytes(4)
    os.setxattr(file, "security.capability", version_3)
    (entry,) = TarReader(BytesIO(packed(tmp_path)))
    assert entry.xattrs["security.capability"] == CAPABILITY_V2


def test_overlay_marks_become_whiteouts_or_stay_devices(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "plain").mkdir()
    os.setxattr(tmp_path / "etc", "trusted.overlay.opaque", b"y")
    os.setxattr(tmp_path / "plain", "trusted.overlay.origin", b"secret")
    os.mknod(tmp_path / "etc/gone", stat.S_IFCHR, 0)
    (tmp_path / "etc/new").write_bytes(b"1")
    (tmp_path / ".wh.odd").write_bytes(b"")
    out = BytesIO()
    result = pack(tmp_path, out.write, whiteouts=True)
    entries = list(TarReader(BytesIO(out.getvalue())))
    assert [entry.name for entry in entries] == [
        b"etc/",
        b"etc/.wh..wh..opq",
        b"etc/.wh.gone",
        b"etc/new",
        b"plain/",
    ]
    assert all(entry.size == 0 for entry in entries if b".wh." in entry.name)
    assert "trusted.overlay" not in str([entry.xattrs for entry in entries])
    assert result.skipped == ("'.wh.odd': a layer cannot hold such a name",)
    literal = {entry.name: entry.kind for entry in TarReader(BytesIO(packed(tmp_path)))}
    assert literal[b"etc/gone"] is Kind.CHAR
    assert literal[b".wh.odd"] is Kind.FILE


def test_sockets_are_skipped_and_named(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        out = BytesIO()
        assert pack(tmp_path, out.write).skipped == ("'s': a socket",)
    assert list(TarReader(BytesIO(out.getvalue()))) == []


def test_part_of_a_tree_under_another_name(tmp_path: Path) -> None:
    (tmp_path / "usr/lib/deep").mkdir(parents=True)
    (tmp_path / "usr/lib/deep/f").write_bytes(b"1")
    (tmp_path / "usr/lib/g").write_bytes(b"2")
    os.symlink("/usr/lib", tmp_path / "lib")
    os.symlink("nowhere", tmp_path / "dangling")

    def names(**options: object) -> list[bytes]:
        return [entry.name for entry in TarReader(BytesIO(packed(tmp_path, **options)))]

    assert names(path=b"usr/lib", prefix=b"L") == [b"L/", b"L/g", b"L/deep/", b"L/deep/f"]
    assert names(path=b"/lib/deep/", prefix=b"x") == [b"x/", b"x/f"]
    assert names(path=b"lib/g") == [b"g"]
    assert names(path=b"lib/g", prefix=b"other") == [b"other"]
    assert names(path=b"lib") == [b"lib"]
    assert names(path=b"dangling") == [b"dangling"]
    assert names(root_entry=True)[0] == b"./"
    assert names(include=lambda path: not path.startswith(b"usr")) == [b"dangling", b"lib"]
    with pytest.raises(NotFound):
        names(path=b"usr/none")
    with pytest.raises(NotFound):
        names(path=b"none/none")


def test_links_of_the_tree_lead_nowhere_outside(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"s")
    root = tmp_path / "root"
    root.mkdir()
    os.symlink(outside, root / "out")
    os.symlink("../outside", root / "up")
    for path in (b"out/secret", b"up/secret", b"../outside/secret"):
        with pytest.raises(NotFound):
            packed(root, path=path)
    assert [e.kind for e in TarReader(BytesIO(packed(root)))] == [Kind.SYMLINK] * 2


def test_a_directory_swapped_for_a_link_midway_leads_nowhere(tmp_path: Path) -> None:
    outside, root = tmp_path / "outside", tmp_path / "root"
    (outside / "sub").mkdir(parents=True)
    (outside / "sub/secret").write_bytes(b"secret")
    (root / "swap/sub").mkdir(parents=True)
    os.symlink(outside, root / "other")
    swapped: list[bytes] = []

    def include(path: bytes) -> bool:
        if path == b"swap/sub":  # listed as a directory, and opened afterwards
            os.rename(root / "swap", root / "third")
            os.rename(root / "other", root / "swap")
            swapped.append(path)
        return True

    assert b"secret" not in packed(root, include=include)
    assert swapped


def test_owners_and_times_are_mapped(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"")
    os.chown(tmp_path / "f", 7, 8)
    os.utime(tmp_path / "f", ns=(5, 2_000_000_000_123_456_789))
    data = packed(tmp_path, owner=lambda uid, gid: (uid + 100, gid + 200), clamp_mtime=1_000)
    (entry,) = TarReader(BytesIO(data))
    assert (entry.uid, entry.gid, entry.mtime_ns) == (107, 208, 1_000 * 10**9)


def test_a_path_that_no_layer_can_hold_is_refused(tmp_path: Path) -> None:
    top = os.open(tmp_path, os.O_RDONLY)
    fd = os.dup(top)
    for _ in range(20):
        os.mkdir(b"d" * 250, dir_fd=fd)
        below = os.open(b"d" * 250, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    with pytest.raises(Invalid, match="path too long"):
        pack(top, lambda data: None)
    os.close(top)


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    source = tmp_path / "sample"
    (source / "dir/sub").mkdir(parents=True)
    (source / "dir/file").write_bytes(b"hello" * 1000)
    (source / "dir/sub" / ("n" * 120)).write_bytes(b"long")
    (source / "dir/sub" / ("é" * 60)).write_bytes(b"unicode")
    os.symlink("t" * 150, source / "longlink")
    os.link(source / "dir/file", source / "hard")
    os.mkfifo(source / "fifo")
    os.chown(source / "dir/file", 3_000_000, 5)
    os.chmod(source / "dir/sub", 0o1777)
    os.setxattr(source / "dir/file", "user.note", b"a\0\n=b")
    for path in (source / "dir/file", source / "dir"):
        os.utime(path, ns=(1, 1_700_000_000_987_654_321))
    return source


@pytest.mark.parametrize(
    "command",
    [
        ["tar", "--xattrs", "--xattrs-include=*", "-xpf", "-", "-C"],
        pytest.param(
            ["bsdtar", "--xattrs", "-xpf", "-", "-C"],
            marks=pytest.mark.skipif(not shutil.which("bsdtar"), reason="bsdtar is not installed"),
        ),
    ],
    ids=["gnu", "bsd"],
)
def test_other_tars_read_it(sample: Path, tmp_path: Path, command: list[str]) -> None:
    target = tmp_path / "target"
    target.mkdir()
    subprocess.run([*command, target], input=packed(sample), check=True, timeout=20)
    assert read_tree(target, top=False) == read_tree(sample, top=False)


def test_python_reads_it(sample: Path) -> None:
    with tarfile.open(fileobj=BytesIO(packed(sample))) as archive:
        file = archive.getmember("hard")
        assert (file.uid, file.size) == (3_000_000, 5000)
        assert archive.getmember("dir/file").linkname == "hard"
        assert archive.getmember("longlink").linkname == "t" * 150
        assert f"dir/sub/{'é' * 60}" in archive.getnames()


def test_a_file_that_shrinks_while_it_is_read_keeps_its_declared_size(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1" * 3_000_000)
    seen: list[bytes] = []

    def out(data: bytes) -> None:
        seen.append(bytes(data))
        os.truncate(tmp_path / "a", 10)

    pack(tmp_path, out)
    reader = TarReader(BytesIO(b"".join(seen)))
    (entry,) = reader
    assert entry.size == 3_000_000
