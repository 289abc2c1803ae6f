"""Walks by descriptor: inside the root whatever the links say, and trees removed whole."""

from __future__ import annotations

import errno
import os
import resource
import stat
import subprocess
import threading
import time
from pathlib import Path

import pytest

from wherry.kernel import paths
from wherry.kernel.paths import (
    make_dirs_in_root,
    open_file_in_root,
    open_in_root,
    remove_path,
    remove_tree,
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "root"
    path.mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/secret").write_bytes(b"outside")
    return path


def opened(root: Path, path: str | bytes, flags: int = os.O_RDONLY, **options: int) -> str:
    fd = os.open(root, os.O_PATH)
    try:
        found = open_in_root(fd, path, flags, **options)
    finally:
        os.close(fd)
    try:
        assert not os.get_inheritable(found)
        return os.readlink(f"/proc/self/fd/{found}")
    finally:
        os.close(found)


def test_links_resolve_as_inside_the_root(root: Path) -> None:
    (root / "etc").mkdir()
    (root / "etc/f").write_bytes(b"")
    os.symlink("/etc", root / "absolute")
    os.symlink("../../../../etc", root / "etc/climbing")
    for path in ("etc/f", "/etc/f", "absolute/f", "etc/climbing/f", "../../etc/f", b"etc//./f"):
        assert opened(root, path) == f"{root}/etc/f"
    assert opened(root, "") == opened(root, "/") == opened(root, "..") == str(root)


def test_nothing_outside_is_reached(root: Path) -> None:
    os.symlink(root.parent / "outside", root / "link")
    os.symlink("../outside", root / "up")
    os.symlink("/proc/self/root", root / "magic")
    for path in ("link/secret", "up/secret", "../outside/secret", f"{root.parent}/outside/secret"):
        with pytest.raises(FileNotFoundError):
            opened(root, path)
    with pytest.raises(OSError, match="symbolic links") as problem:
        opened(Path("/"), f"/proc/{os.getpid()}/root")
    assert problem.value.errno == errno.ELOOP
    with pytest.raises(OSError, match="NUL"):
        opened(root, b"a\0b")


def test_modes_and_resolve_are_passed_on(root: Path) -> None:
    opened(root, "made", os.O_CREAT | os.O_WRONLY | os.O_EXCL, mode=0o600)
    assert (root / "made").stat().st_mode & 0o777 == 0o600
    os.symlink("made", root / "link")
    with pytest.raises(OSError) as problem:
        opened(root, "link", resolve=paths.RESOLVE_NO_SYMLINKS)
    assert problem.value.errno == errno.ELOOP


def test_a_link_swapped_midway_leads_nowhere_outside(root: Path) -> None:
    (root / "a/b").mkdir(parents=True)
    (root / "a/b/secret").write_bytes(b"inside")
    os.symlink(root.parent / "outside", root / "evil")
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            os.rename(root / "a/b", root / "a/c")
            os.rename(root / "evil", root / "a/b")
            os.rename(root / "a/b", root / "evil")
            os.rename(root / "a/c", root / "a/b")

    thread = threading.Thread(target=swap)
    thread.start()
    fd = os.open(root, os.O_PATH)
    reached = tries = 0
    deadline = time.monotonic() + 20
    try:
        while (tries < 3000 or not reached) and time.monotonic() < deadline:
            tries += 1
            try:
                found = open_in_root(fd, "a/../a/b/secret", os.O_RDONLY)
            except FileNotFoundError:
                continue
            reached += 1
            assert os.read(found, 10) == b"inside"
            os.close(found)
    finally:
        stop.set()
        thread.join()
        os.close(fd)
    assert reached


def test_directories_are_made_inside_with_mode_and_owner(root: Path) -> None:
    (root / "real").mkdir()
    os.symlink("/real", root / "link")
    fd = os.open(root, os.O_PATH)
    previous = os.umask(0o077)
    try:
        made = make_dirs_in_root(fd, "link/x/./y//z", 0o755, owner=(5, 6))
        assert os.readlink(f"/proc/self/fd/{made}") == f"{root}/real/x/y/z"
        os.close(made)
        os.close(make_dirs_in_root(fd, "/link/x/y/z"))
        status = (root / "real/x/y").stat()
        assert (status.st_mode & 0o7777, status.st_uid, status.st_gid) == (0o755, 5, 6)
        assert (root / "real").stat().st_uid == 0
        (root / "file").write_bytes(b"")
        with pytest.raises(NotADirectoryError):
            make_dirs_in_root(fd, "file/x")
        os.symlink(root.parent / "outside/new", root / "out")
        with pytest.raises(FileNotFoundError):
            make_dirs_in_root(fd, "out/x")
    finally:
        os.umask(previous)
        os.close(fd)
    assert os.listdir(root.parent / "outside") == ["secret"]


def test_trees_are_removed_without_following(root: Path) -> None:
    top = root / "top"
    (top / "sub/deep").mkdir(parents=True)
    os.symlink(root.parent / "outside", top / "link")
    os.symlink(root.parent / "outside", top / "sub/link")
    os.mkfifo(top / "sub/fifo")
    os.close(os.open(os.fsencode(top) + b"/\xff\xfe", os.O_CREAT | os.O_WRONLY))
    (top / "sub/deep").chmod(0)
    remove_path(top)
    assert os.listdir(root) == []
    assert os.listdir(root.parent / "outside") == ["secret"]
    os.symlink(root.parent / "outside", top)
    remove_path(top)
    assert os.listdir(root.parent / "outside") == ["secret"]
    remove_path(top)
    remove_path(root / "none/none")


def test_a_tree_deeper_than_any_path_or_stack_is_removed(root: Path) -> None:
    fd = os.open(root, os.O_RDONLY)
    top = os.dup(fd)
    for level in range(3000):
        os.mkdir("d", dir_fd=fd)
        os.close(os.open(f"f{level}", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
        below = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    before = len(os.listdir("/proc/self/fd"))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before + 60, hard))
    try:
        remove_tree(top, b"d")
        assert os.listdir(top) == ["f0"]
        assert len(os.listdir("/proc/self/fd")) == before
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        os.close(top)
        subprocess.run(["rm", "-rf", root / "d"], timeout=20)  # what is left after a failure


def test_names_that_are_no_names_are_refused(root: Path) -> None:
    fd = os.open(root, os.O_RDONLY)
    try:
        for name in ("", ".", "..", "a/b"):
            with pytest.raises(OSError, match="not a name"):
                remove_tree(fd, name)
        with pytest.raises(FileNotFoundError):
            remove_tree(fd, "none", missing_ok=False)
        remove_tree(fd, "none")
    finally:
        os.close(fd)


@pytest.mark.parametrize("where", ["top", "top/mnt"])
def test_other_mounts_are_not_entered(root: Path, where: str) -> None:
    (root / where).mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", root / where], check=True, timeout=20)
    try:
        (root / where / "precious").write_bytes(b"")
        with pytest.raises(OSError) as problem:
            remove_path(root / "top")
        assert problem.value.errno in (errno.EXDEV, errno.EBUSY)
        assert (root / where / "precious").exists()
    finally:
        subprocess.run(["umount", root / where], check=True, timeout=20)


def test_a_tree_that_is_written_meanwhile_is_removed(root: Path) -> None:
    stop = threading.Event()
    (root / "top/sub").mkdir(parents=True)

    def write() -> None:
        n = 0
        while not stop.is_set() and n < 300:
            n += 1
            try:
                (root / f"top/sub/{n}").mkdir()
                (root / f"top/sub/{n}/f").write_bytes(b"")
            except OSError:
                continue

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for _ in range(50):
            try:
                remove_path(root / "top")
                break
            except OSError as problem:
                assert problem.errno == errno.ENOTEMPTY
    finally:
        stop.set()
        thread.join()
    remove_path(root / "top")
    assert not (root / "top").exists()


@pytest.mark.parametrize(
    ("path", "found"),
    [
        (b"a/file", b"a/file"),
        (b"up", b"a/file"),
        (b"a/../../../a/./file", b"a/file"),
        (b"absolute", b"a/file"),
        (b"..", b""),
    ],
)
def test_walking_by_components_finds_what_openat2_finds(
    root: Path, path: bytes, found: bytes
) -> None:
    (root / "a").mkdir()
    (root / "a/file").write_text("x")
    (root / "up").symlink_to("../../../../a/file")
    (root / "absolute").symlink_to("/a/../a/file")
    fd = os.open(root, os.O_RDONLY)
    try:
        there = paths._walk(fd, path, os.O_PATH, 0, follow=True)
        try:
            expected = os.stat(os.fsencode(root) + b"/" + found)
            assert os.path.samestat(os.fstat(there), expected)
        finally:
            os.close(there)
        (root / "loop").symlink_to("loop")
        with pytest.raises(OSError) as caught:
            paths._walk(fd, b"loop/x", os.O_PATH, 0, follow=True)
        assert caught.value.errno == errno.ELOOP
        with pytest.raises(OSError):
            paths._walk(fd, b"up", os.O_PATH, 0, follow=False)
    finally:
        os.close(fd)


def test_a_file_to_read_is_a_regular_one_and_nothing_else_is_opened(root: Path) -> None:
    (root / "file").write_text("inside")
    (root / "link").symlink_to("/file")
    (root / "folder").mkdir()
    os.mknod(root / "zero", stat.S_IFCHR | 0o666, os.makedev(1, 5))
    os.mkfifo(root / "pipe")
    # A writer: whoever opens it to read gets a line.
    writer = os.open(root / "pipe", os.O_RDWR)
    fd = os.open(root, os.O_PATH)
    try:
        os.write(writer, b"line\n")
        for name in ("file", "link", "/../file"):
            with open(open_file_in_root(fd, name), "rb") as file:
                assert file.read() == b"inside"
        for name in ("folder", "zero", "pipe", "."):
            with pytest.raises(OSError) as refused:
                open_file_in_root(fd, name)
            assert refused.value.errno == errno.EINVAL
        with pytest.raises(FileNotFoundError):
            open_file_in_root(fd, "missing")
    finally:
        os.close(fd)
        os.close(writer)
