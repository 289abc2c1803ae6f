"""COPY and ADD: every expectation is what Docker 28.5 with BuildKit did with the same files."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.build.copies import FolderTree, add_step, copy_step, listing, perform
from wherry.build.copying import Copying
from wherry.build.dockerfile.syntax import Heredoc
from wherry.model.errors import Invalid, NotFound

OLD = 1577836800  # 2020-01-01


@pytest.fixture
def copying(tmp_path: Path) -> Copying:
    return Copying(tmp_path / "work")


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """The context that was given to Docker."""
    top = tmp_path / "context"
    (top / "src/sub/deep").mkdir(parents=True)
    (top / "src2").mkdir()
    (top / "em/pty").mkdir(parents=True)
    for name, text in (("a1.txt", "1"), ("a2.txt", "2"), ("b1.md", "3"), ("we*ird.txt", "star")):
        (top / name).write_text(text)
    (top / "src/sub/f").write_text("f")
    (top / "src/d").write_text("d")
    (top / "src/d").chmod(0o640)
    os.link(top / "src/d", top / "src/hard")
    (top / "src/sub").chmod(0o700)
    (top / "src/link").symlink_to("d")
    (top / "src2/sub").write_text("x")
    (top / "src2/dir").symlink_to("/etc")
    (top / "lsrc").symlink_to("/src")
    (top / "gone").symlink_to("/abs/x")
    (top / "src/sub/f").chmod(0o4755)
    for name in ("src/d", "src/sub", "src"):
        os.utime(top / name, (OLD, OLD))
    return top


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The stage's tree, with the traps that were in Docker's."""
    top = tmp_path / "root"
    (top / "o/dir/sub").mkdir(parents=True)
    (top / "o/dir").chmod(0o711)
    (top / "o/dir/sub").chmod(0o711)
    os.chown(top / "o/dir", 7, 8)
    os.chown(top / "o/dir/sub", 7, 8)
    (top / "o/al").symlink_to("dir")
    (top / "o/sub").symlink_to("dir")
    (top / "o/out").symlink_to("/../../nowhere")
    (top / "o/q/d").mkdir(parents=True)
    (top / "o/file").write_text("old")
    (top / "etc").mkdir()
    (top / "etc/passwd").write_text("joe:x:777:778::/:/bin/sh\n")
    (top / "etc/group").write_text("users:x:100:\n")
    return top


def added(root: Path, before: dict[str, str]) -> dict[str, str]:
    return {k: v for k, v in listing(root).items() if before.get(k) != v}


@pytest.mark.parametrize(
    ("sources", "to", "more", "expected"),
    [
        (["a1.txt"], "/n", {}, {"n": "-rw-r--r-- 0:0"}),
        (["a1.txt"], "/n/", {}, {"n": "drwxr-xr-x 0:0", "n/a1.txt": "-rw-r--r-- 0:0"}),
        (["a1.txt"], "/o/al", {}, {"o/dir/a1.txt": "-rw-r--r-- 0:0"}),
        (["a1.txt"], "/o/out", {}, {"nowhere": "-rw-r--r-- 0:0"}),
        (
            ["a1.txt"],
            "/o/out/",
            {},
            {"nowhere": "drwxr-xr-x 0:0", "nowhere/a1.txt": "-rw-r--r-- 0:0"},
        ),
        (["../../a1.txt"], "/n", {}, {"n": "-rw-r--r-- 0:0"}),
        (["nope*"], "/n/", {}, {}),
        (["src2/sub", "nope*"], "/n/", {}, {"n": "drwxr-xr-x 0:0", "n/sub": "-rw-r--r-- 0:0"}),
        (
            ["s*/s*"],
            "/n/",
            {},
            {
                "n": "drwxr-xr-x 0:0",
                "n/deep": "drwxr-xr-x 0:0",
                "n/f": "-rwsr-xr-x 0:0",
                "n/sub": "-rw-r--r-- 0:0",
            },
        ),
        (
            ["[ab]?.*"],
            "/n/",
            {},
            {
                "n": "drwxr-xr-x 0:0",
                "n/a1.txt": "-rw-r--r-- 0:0",
                "n/a2.txt": "-rw-r--r-- 0:0",
                "n/b1.md": "-rw-r--r-- 0:0",
            },
        ),
        (["we\\*ird.txt"], "/n", {}, {"n": "-rw-r--r-- 0:0"}),
        (
            ["lsrc"],
            "/n",
            {"excludes": ("sub", "hard")},
            {"n": "drwxr-xr-x 0:0", "n/d": "-rw-r----- 0:0", "n/link": "lrwxrwxrwx 0:0 -> d"},
        ),
        (
            ["src"],
            "/n/",
            {"excludes": ("**/f", "src/d", "!d", "hard", "link", "sub/deep")},
            {"n": "drwxr-xr-x 0:0", "n/d": "-rw-r----- 0:0", "n/sub": "drwx------ 0:0"},
        ),
        (["a1.txt"], "/n", {"excludes": ("a1.txt",)}, {"n": "-rw-r--r-- 0:0"}),
        (
            ["a1.txt"],
            "/n/",
            {"chown": "joe"},
            {"n": "drwxr-xr-x 777:778", "n/a1.txt": "-rw-r--r-- 777:778"},
        ),
        (["a1.txt"], "/n", {"chown": ":users"}, {"n": "-rw-r--r-- 0:100"}),
        (["a1.txt"], "/n", {"chown": "joe:users"}, {"n": "-rw-r--r-- 777:100"}),
        (["a1.txt"], "/n", {"chown": "55"}, {"n": "-rw-r--r-- 55:55"}),
        (
            ["src"],
            "/n/",
            {"chmod": "750", "chown": "12:34"},
            {
                "n": "drwxr-x--- 12:34",
                "n/d": "-rwxr-x--- 12:34",
                "n/hard": "-rwxr-x--- 12:34",
                "n/link": "lrwxrwxrwx 12:34 -> d",
                "n/sub": "drwxr-x--- 12:34",
                "n/sub/deep": "drwxr-x--- 12:34",
                "n/sub/f": "-rwxr-x--- 12:34",
            },
        ),
        (
            ["a1.txt"],
            "/n/",
            {"chmod": "4755"},
            {"n": "drwxr-xr-x 0:0", "n/a1.txt": "-rwsr-xr-x 0:0"},
        ),
        (["a1.txt"], "/n/", {"chmod": "0"}, {"n": "d--------- 0:0", "n/a1.txt": "---------- 0:0"}),
        (
            ["a1.txt"],
            "/n/",
            {"chmod": "u+x,g-r,o=,a+t"},
            {"n": "drwxr-xr-x 0:0", "n/a1.txt": "-rwx-----T 0:0"},
        ),
        (
            ["src"],
            "/n",
            {"chmod": "a=,u+X", "excludes": ("hard", "link")},
            {
                "n": "drwxr-xr-x 0:0",
                "n/d": "---------- 0:0",
                "n/sub": "d--x------ 0:0",
                "n/sub/deep": "d--x------ 0:0",
                "n/sub/f": "---x------ 0:0",
            },
        ),
        (
            ["src"],
            "/o/dir",
            {"excludes": ("hard", "link")},
            {
                "o/dir/d": "-rw-r----- 0:0",
                "o/dir/sub": "drwx------ 0:0",
                "o/dir/sub/deep": "drwxr-xr-x 0:0",
                "o/dir/sub/f": "-rwsr-xr-x 0:0",
            },
        ),
        (
            ["./src/./sub/f"],
            "/n/",
            {"parents": True},
            {"n": "drwxr-xr-x 0:0", "n/sub": "drwx------ 0:0", "n/sub/f": "-rwsr-xr-x 0:0"},
        ),
        (
            ["src/s*"],
            "/n/",
            {"parents": True},
            {
                "n": "drwxr-xr-x 0:0",
                "n/src": "drwxr-xr-x 0:0",
                "n/src/sub": "drwx------ 0:0",
                "n/src/sub/deep": "drwxr-xr-x 0:0",
                "n/src/sub/f": "-rwsr-xr-x 0:0",
            },
        ),
        # A link that is named stays one; those on the way are followed.
        (
            ["src/link", "./src/**/link", "./lsrc/./d"],
            "/n/",
            {"parents": True},
            {
                "n": "drwxr-xr-x 0:0",
                "n/d": "-rw-r----- 0:0",
                "n/src": "drwxr-xr-x 0:0",
                "n/src/link": "lrwxrwxrwx 0:0 -> d",
            },
        ),
        # --exclude is about paths below the pivot then, and may be about what is named itself.
        (
            ["src/./sub", "src/./d", "src/./hard", "src/./**"],
            "/n/",
            {"parents": True, "excludes": ("sub/f", "d", "hard", "link", "/sub")},
            {
                "n": "drwxr-xr-x 0:0",
                "n/sub": "drwx------ 0:0",
                "n/sub/deep": "drwxr-xr-x 0:0",
            },
        ),
        (
            ["a1.txt"],
            "/n/",
            {"chmod": "1777"},
            {"n": "drwxr-xr-x 0:0", "n/a1.txt": "-rwxrwxrwt 0:0"},
        ),
        (["a1.txt"], "/n", {"chown": "joe:"}, {"n": "-rw-r--r-- 777:0"}),
    ],
)
def test_what_a_copy_brings(
    copying: Copying,
    files: Path,
    root: Path,
    sources: list[str],
    to: str,
    more: dict[str, object],
    expected: dict[str, str],
) -> None:
    before = listing(root)
    perform(copying, copy_step(*sources, to=to, **more), files, root)
    assert added(root, before) == expected


@pytest.mark.parametrize(
    ("source", "to", "message"),
    [
        ("nope", "/n", '"/nope": not found'),
        ("gone", "/n", '"/gone": not found'),
        ("a1.txt", "/o/file/", "mkdir /o/file: not a directory"),
        ("src", "/o/file", "cannot copy to non-directory: /o/file"),
        ("src", "/o", "cannot copy to non-directory: /o/sub"),
        ("src", "/o/q", "cannot replace to directory /o/q/d with file"),
        ("src2", "/o/dir", "cannot replace to directory /o/dir/sub with file"),
    ],
)
def test_what_a_copy_refuses(
    copying: Copying, files: Path, root: Path, source: str, to: str, message: str
) -> None:
    with pytest.raises((Invalid, NotFound)) as caught:
        perform(copying, copy_step(source, to=to), files, root)
    assert caught.value.message == message


@pytest.mark.parametrize("chmod", ["9999", "zz", "u~x", "77777"])
def test_a_wrong_chmod(copying: Copying, files: Path, root: Path, chmod: str) -> None:
    with pytest.raises(Invalid, match="chmod"):
        perform(copying, copy_step("a1.txt", to="/n", chmod=chmod), files, root)


def test_a_name_that_the_stage_does_not_know(copying: Copying, files: Path, root: Path) -> None:
    with pytest.raises(NotFound, match="nobodyx"):
        perform(copying, copy_step("a1.txt", to="/n", chown="nobodyx"), files, root)


def test_hard_links_stay_links(copying: Copying, files: Path, root: Path) -> None:
    perform(copying, copy_step("src", to="/n"), files, root)
    assert (root / "n/d").stat().st_ino == (root / "n/hard").stat().st_ino
    assert (root / "n/d").stat().st_ino != (files / "src/d").stat().st_ino


def test_times(copying: Copying, files: Path, root: Path) -> None:
    os.utime(root / "o/dir", (OLD - 5, OLD - 5))
    os.utime(root / "o", (OLD - 9, OLD - 9))
    perform(copying, copy_step("src/d", to="/o/dir/new/deep/d"), files, root)
    assert (root / "o/dir/new/deep/d").stat().st_mtime == OLD
    assert (root / "o/dir/new/deep").stat().st_mtime == OLD - 5  # of where it was made
    assert (root / "o/dir").stat().st_mtime == OLD - 5  # as it was
    perform(copying, copy_step("src", to="/o/dir"), files, root)
    assert (root / "o/dir").stat().st_mtime == OLD  # the source's
    assert (root / "o").stat().st_mtime == OLD - 9
    perform(copying, copy_step("a1.txt", to="/late"), files, root, epoch=OLD + 7)
    assert int((root / "late").stat().st_mtime) == OLD + 7


def test_a_stages_files_keep_their_owners(copying: Copying, root: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()
    perform(copying, copy_step("/o", to="/p", excludes=("file", "q")), root, target)
    assert listing(target) == {
        "p": "drwxr-xr-x 0:0",
        "p/al": "lrwxrwxrwx 0:0 -> dir",
        "p/dir": "drwx--x--x 7:8",
        "p/dir/sub": "drwx--x--x 7:8",
        "p/out": "lrwxrwxrwx 0:0 -> /../../nowhere",
        "p/sub": "lrwxrwxrwx 0:0 -> dir",
    }


def test_holes_and_large_files(copying: Copying, files: Path, root: Path) -> None:
    with (files / "sparse").open("wb") as file:
        file.seek(5 << 20)
        file.write(b"in the middle")
        file.truncate(9 << 20)
    (files / "large").write_bytes(os.urandom(3 << 20))
    (files / "edge").write_bytes(os.urandom(1 << 18))
    (files / "past").write_bytes(os.urandom((1 << 18) + 1))
    perform(copying, copy_step("sparse", "large", "edge", "past", to="/n/"), files, root)
    for name in ("sparse", "large", "edge", "past"):
        assert (root / "n" / name).read_bytes() == (files / name).read_bytes()
    assert (root / "n/sparse").stat().st_blocks * 512 < 1 << 20


def test_special_files(copying: Copying, files: Path, root: Path) -> None:
    os.mkfifo(files / "em/fifo", 0o644)
    os.mknod(files / "em/null", 0o20666, os.makedev(1, 3))
    (files / "em/null").chmod(0o666)
    perform(copying, copy_step("em", to="/n"), files, root)
    assert listing(root / "n") == {
        "fifo": "prw-r--r-- 0:0",
        "null": "crw-rw-rw- 0:0",
        "pty": "drwxr-xr-x 0:0",
    }


def test_heredocs(copying: Copying, root: Path) -> None:
    one, two = Heredoc("A", "hello\n"), Heredoc("B", "b\n")
    perform(copying, copy_step(to="/n/", files=(one, two)), None, root)
    perform(copying, copy_step(to="/m", files=(one,), chmod="700", chown="5:6"), None, root)
    assert (root / "n/A").read_text() + (root / "n/B").read_text() == "hello\nb\n"
    assert listing(root)["n/A"] == "-rw-r--r-- 0:0"
    assert listing(root)["m"] == "-rwx------ 5:6"


def tarred(folder: Path, words: str, name: str) -> None:
    subprocess.run(["tar", words, name, "ar"], cwd=folder, check=True, timeout=30)


@pytest.fixture
def archives(files: Path) -> Path:
    (files / "ar").mkdir()
    (files / "ar/t").write_text("t")
    os.chown(files / "ar/t", 44, 55)
    (files / "ar/t").chmod(0o4711)
    (files / "ar/l").symlink_to("t")
    (files / "ar").chmod(0o750)
    os.utime(files / "ar", (OLD, OLD))
    for words, name in (("cf", "x.tar"), ("czf", "x.tgz"), ("cjf", "x.tbz"), ("cJf", "x.txz")):
        tarred(files, words, name)
    (files / "trunc.tar").write_bytes((files / "x.tar").read_bytes()[:700])
    (files / "plain.gz").write_bytes(subprocess.check_output(["gzip"], input=b"plain"))
    return files


@pytest.mark.parametrize("name", ["x.tar", "x.tgz", "x.tbz", "x.txz"])
def test_add_takes_archives_apart(copying: Copying, archives: Path, root: Path, name: str) -> None:
    perform(copying, add_step(name, to="/n", chmod="700"), archives, root)
    assert listing(root / "n") == {
        "ar": "drwxr-x--- 0:0",
        "ar/l": "lrwxrwxrwx 0:0 -> t",
        "ar/t": "-rws--x--x 44:55",
    }
    assert (root / "n/ar").stat().st_mtime == OLD
    assert listing(root)["n"] == "drwxr-xr-x 0:0"


def test_add_with_another_owner(copying: Copying, archives: Path, root: Path) -> None:
    perform(copying, add_step("x.tar", to="/n/", chown="joe"), archives, root)
    assert listing(root / "n")["ar/t"] == "-rws--x--x 777:778"
    assert listing(root)["n"] == "drwxr-xr-x 777:778"


def test_add_leaves_alone_what_is_no_archive(copying: Copying, archives: Path, root: Path) -> None:
    perform(copying, add_step("plain.gz", "em", "a1.txt", to="/n/"), archives, root)
    perform(copying, add_step("x.tar", to="/m/", unpack=False), archives, root)
    assert set(listing(root / "n")) == {"plain.gz", "pty", "a1.txt"}
    assert set(listing(root / "m")) == {"x.tar"}
    with pytest.raises(Invalid, match="truncated"):
        perform(copying, add_step("trunc.tar", to="/k/"), archives, root)


def test_an_archive_cannot_leave_the_root(copying: Copying, archives: Path, root: Path) -> None:
    (archives / "ar/l").unlink()
    (archives / "ar/l").symlink_to("/../../../outside")
    tarred(archives, "cf", "one.tar")
    (archives / "ar/l").unlink()
    (archives / "ar/l").mkdir()
    (archives / "ar/l/in").write_text("!")
    subprocess.run(["tar", "rf", "one.tar", "ar/l/in"], cwd=archives, check=True, timeout=30)
    (root / "outside").mkdir()
    perform(copying, add_step("one.tar", to="/n/"), archives, root)
    assert (root / "outside/in").read_text() == "!"


class TestDigest:
    def test_times_do_not_count(self, copying: Copying, files: Path) -> None:
        step = copy_step("src", to="/n")
        before = copying.digest(step, FolderTree(files, "1"))
        os.utime(files / "src/d")
        assert copying.digest(step, FolderTree(files, "2")) == before

    @pytest.mark.parametrize("change", ["content", "mode", "owner", "name", "link", "gone"])
    def test_all_else_does(self, copying: Copying, files: Path, change: str) -> None:
        step = copy_step("src", to="/n")
        before = copying.digest(step, FolderTree(files, "1"))
        match change:
            case "content":
                (files / "src/d").write_text("e")
            case "mode":
                (files / "src/d").chmod(0o600)
            case "owner":
                os.chown(files / "src/d", 1, 1)
            case "name":
                (files / "src/d").rename(files / "src/d2")
            case "link":
                (files / "src/link").unlink()
                (files / "src/link").symlink_to("hard")
            case _:
                (files / "src/sub/deep").rmdir()
        assert copying.digest(step, FolderTree(files, "2")) != before

    def test_only_what_the_step_takes_counts(self, copying: Copying, files: Path) -> None:
        steps = [
            copy_step("a1.txt", to="/n"),
            copy_step("src", to="/n", excludes=("sub",)),
            copy_step("*.md", to="/n"),
        ]
        before = [copying.digest(step, FolderTree(files, "1")) for step in steps]
        (files / "a2.txt").write_text("changed")
        (files / "src/sub/f").write_text("changed")
        assert [copying.digest(step, FolderTree(files, "2")) for step in steps] == before

    def test_the_same_tree_is_read_once(self, copying: Copying, files: Path) -> None:
        step = copy_step("src", to="/n")
        before = copying.digest(step, FolderTree(files, "1"))
        (files / "src/d").write_text("changed")
        assert copying.digest(step, FolderTree(files, "1")) == before
