"""Volumes on disk: whole, or not there, whatever ends the process meanwhile."""

from __future__ import annotations

import errno
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry.kernel.linux import LINUX
from wherry.kernel.paths import remove_path
from wherry.model.errors import Conflict, Full, Invalid, NotFound, StartFailed
from wherry.model.volumes import Volume
from wherry.storage import volume_mounts
from wherry.storage.database import Database
from wherry.storage.layers.lower import LowerTree
from wherry.storage.layers.merge import merge_directory
from wherry.storage.volume_mounts import VolumeMount, check_options, mount_of, open_volume, perform
from wherry.storage.volumes import VolumeStore, check_volume_name


@contextmanager
def mounted_over(path: Path) -> Iterator[None]:
    """Something is mounted on `path`, so that it can be neither moved nor removed."""
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(path)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(path)], check=True)


class House:
    """A database and a root; `open` reads them anew, as the next daemon does."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def open(self) -> VolumeStore:
        return VolumeStore(Database(self.root / "db"), self.root / "volumes")

    def crash(self, code: str, failpoint: str) -> None:
        """Run `code` with `store` open in a process that a failpoint kills."""
        text = (
            "import sys, os; from pathlib import Path;"
            "from wherry.model.volumes import Volume;"
            "from wherry.storage.database import Database;"
            "from wherry.storage.volumes import VolumeStore;"
            "root = Path(sys.argv[1]);"
            "store = VolumeStore(Database(root / 'db'), root / 'volumes')\n" + code
        )
        done = subprocess.run(
            [sys.executable, "-c", text, str(self.root)],
            env=os.environ | {"WHERRY_FAILPOINTS": f"{failpoint}=kill"},
            check=False,
            timeout=30,
        )
        assert done.returncode == -9, "the failpoint was not reached"


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


def names(store: VolumeStore) -> list[str]:
    return sorted(volume.name for volume in store)


def test_a_volume_is_kept(house: House) -> None:
    volume = Volume("data", 5, (("a", "b"),), (("type", "tmpfs"),))
    store = house.open()
    assert store.add(volume) is volume
    assert store.add(Volume("data", 6)) is volume
    assert store.path("data").is_dir()
    assert store.path("data").stat().st_mode & 0o7777 == 0o755
    assert (house.root / "volumes").stat().st_mode & 0o077 == 0
    again = house.open()
    assert list(again) == [volume]
    assert len(again) == 1


def test_a_volume_is_removed(house: House) -> None:
    store = house.open()
    store.add(Volume("data", 5))
    (store.path("data") / "x").write_text("x")
    (grave,) = store.remove("data")
    assert not (house.root / "volumes/data").exists()
    assert (grave / "_data/x").exists()
    with pytest.raises(NotFound, match="get data: no such volume"):
        store.remove("data")
    assert names(house.open()) == []
    assert not grave.exists(), "the next opening sweeps the trash"


def test_half_made_is_not_there(house: House) -> None:
    house.crash("store.add(Volume('data', 5))", "volumes.before-row")
    assert (house.root / "volumes/data/_data").is_dir()
    assert names(house.open()) == []
    assert not (house.root / "volumes/data").exists()


@pytest.mark.parametrize("failpoint", ["volumes.removing", "volumes.buried"])
def test_a_removal_is_finished(house: House, failpoint: str) -> None:
    store = house.open()
    store.add(Volume("data", 5))
    (store.path("data") / "x").write_text("x")
    house.crash("store.remove('data')", failpoint)
    assert names(house.open()) == []
    left = [p.name for p in (house.root / "volumes").iterdir()]
    assert sorted(left) == [".making", ".trash"]
    assert not any((house.root / "volumes/.trash").iterdir())


def test_a_directory_that_cannot_be_moved_away(house: House) -> None:
    store = house.open()
    store.add(Volume("data", 5))
    with mounted_over(house.root / "volumes/data"):
        with pytest.raises(Conflict, match="remove data: .*busy"):
            store.remove("data")
        assert names(store) == ["data"]
        house.crash("store.remove('data')", "volumes.removing")
        assert names(house.open()) == ["data"]  # and the daemon starts
    store = house.open()
    store.remove("data")
    assert names(house.open()) == []


def test_trash_that_cannot_be_removed_holds_nothing_up(house: House) -> None:
    store = house.open()
    store.add(Volume("data", 5))
    (store.path("data") / "below").mkdir()
    store.add(Volume("other", 5))
    (grave,) = store.remove("data")
    with mounted_over(grave / "_data/below"):
        assert names(house.open()) == ["other"]
        assert grave.exists()
    house.open()
    assert not grave.exists()


def test_content_is_there_whole_or_not_at_all(house: House) -> None:
    house.open().add(Volume("data", 5))
    code = "with store.filling('data') as place:\n (place / 'a').write_text('a')"
    house.crash(code, "volumes.before-filled")
    store = house.open()
    assert store.is_empty("data")
    assert not any((house.root / "volumes/.making").iterdir())
    with store.filling("data") as place:
        (place / "a").write_text("a")
    assert not store.is_empty("data")
    assert store.usage("data") == 1


def test_filling_that_fails_leaves_nothing(house: House) -> None:
    store = house.open()
    store.add(Volume("data", 5))
    with pytest.raises(ZeroDivisionError), store.filling("data") as place:
        (place / "a").write_text("a")
        _ = 1 / 0
    assert store.is_empty("data")


def test_an_error_while_filling_is_told(house: House) -> None:
    store = house.open()
    store.add(Volume("data", 5))
    with pytest.raises(FileExistsError), store.filling("data") as place:
        (place / "a").mkdir()
        (place / "a").mkdir()
    with pytest.raises(Full, match="no space left on the device: volume data"):
        with store.filling("data"):
            raise OSError(errno.ENOSPC, "full")
    assert store.is_empty("data")
    assert not any((house.root / "volumes/.making").iterdir())


def test_filling_does_not_replace_what_came_meanwhile(house: House) -> None:
    store = house.open()
    store.add(Volume("data", 5))
    with store.filling("data") as place:
        (place / "a").write_text("a")
        (store.path("data") / "mine").write_text("mine")
    assert os.listdir(store.path("data")) == ["mine"]


def test_the_volumes_of_a_lost_database_come_back(house: House) -> None:
    store = house.open()
    for name in ("full", "bare"):
        store.add(Volume(name, 5))
    (store.path("full") / "x").write_text("precious")
    for path in house.root.glob("db*"):
        path.unlink()
    store = house.open()
    assert names(store) == ["full"]
    assert (store.path("full") / "x").read_text() == "precious"


def test_a_directory_that_someone_took_away(house: House) -> None:
    store = house.open()
    store.add(Volume("data", 5))
    remove_path(house.root / "volumes/data")
    assert store.is_empty("data")
    assert store.ensure("data").is_dir()
    remove_path(house.root / "volumes/data")
    assert store.remove("data") == ()
    assert names(house.open()) == []


def test_a_link_in_the_root_is_no_volume(house: House, tmp_path: Path) -> None:
    house.open()
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret/x").write_text("x")
    (house.root / "volumes/link").symlink_to(tmp_path / "secret")
    assert names(house.open()) == []
    assert (tmp_path / "secret/x").exists()


@given(st.text(max_size=300))
def test_names(name: str) -> None:
    fine = re.fullmatch(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{1,254}", name) is not None
    try:
        check_volume_name(name)
    except Invalid as error:
        assert not fine
        assert error.message.startswith(f"create {name}: ")
    else:
        assert fine
        assert "/" not in name
        assert name not in (".", "..")


@given(st.dictionaries(st.sampled_from(["type", "device", "o", "size", "x"]), st.just("1")))
def test_options(options: dict[str, str]) -> None:
    """What is taken can be planned: a device and a type, or neither."""
    try:
        check_options("vv", options)
    except Invalid:
        assert "x" in options or "size" in options or {"type", "device"} - set(options)
    else:
        assert (mount_of(tuple(options.items())) is None) == (not options)


def test_options_are_taken_apart() -> None:
    options = (("type", "none"), ("device", "/srv"), ("o", "rbind,,ro"))
    wanted = mount_of(options)
    assert wanted is not None
    assert wanted == VolumeMount("none", "/srv", ("rbind", "ro"))
    assert wanted.bind
    assert mount_of(None) is None
    assert mount_of(()) is None


@pytest.fixture
def opened() -> Iterator[Callable[[dict[str, str]], int]]:
    fds: list[int] = []

    def open_(options: dict[str, str]) -> int:
        fds.append(open_volume(LINUX, Volume("vv", 0, None, tuple(options.items())), "/place"))
        return fds[-1]

    yield open_
    for fd in fds:
        os.close(fd)


def test_a_file_system_is_attached_nowhere(opened: Callable[[dict[str, str]], int]) -> None:
    before = Path("/proc/self/mountinfo").read_text()
    fd = opened({"type": "tmpfs", "device": "tmpfs", "o": "size=64k,mode=1700,uid=3,noexec"})
    assert os.fstat(fd).st_uid == 3
    assert os.statvfs(fd).f_blocks * os.statvfs(fd).f_frsize == 64 << 10
    assert os.statvfs(fd).f_flag & os.ST_NOEXEC
    assert Path("/proc/self/mountinfo").read_text() == before


def test_a_bind_is_a_copy(opened: Callable[[dict[str, str]], int], tmp_path: Path) -> None:
    (tmp_path / "x").write_text("x")
    fd = opened({"type": "none", "device": str(tmp_path), "o": "bind,ro"})
    assert os.statvfs(fd).f_flag & os.ST_RDONLY
    assert os.path.exists(f"/proc/self/fd/{fd}/x")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"type": "none", "device": "/no/such", "o": "bind"}, "no such file or directory"),
        ({"type": "ext4", "device": "/no/such"}, "no such file or directory"),
        ({"type": "no-such-fs", "device": "x"}, "no such device"),
        ({"type": "nfs", "device": ":/x", "o": "addr=no-such-host.invalid"}, "error resolving"),
        ({"type": "tmpfs", "device": "tmpfs", "o": "nonsense=1"}, "invalid argument"),
    ],
)
def test_what_cannot_be_mounted(
    opened: Callable[[dict[str, str]], int], options: dict[str, str], reason: str
) -> None:
    with pytest.raises(StartFailed) as failed:
        opened(options)
    assert failed.value.message.startswith("error while mounting volume '/place': ")
    assert ("failed to mount" in failed.value.message) == (not reason.startswith("error resolving"))
    assert reason in failed.value.message


def test_passwords_are_not_told(opened: Callable[[dict[str, str]], int]) -> None:
    with pytest.raises(StartFailed) as failed:
        opened({"type": "cifs", "device": "//h/x", "o": "addr=no-such.invalid,password=secret"})
    assert "secret" not in str(failed.value)


def test_a_directory_of_several_layers_is_copied(tmp_path: Path) -> None:
    top, bottom, target = (tmp_path / name for name in ("top", "bottom", "target"))
    for folder in (top / "d", bottom / "d/sub", target):
        folder.mkdir(parents=True)
    (bottom / "d/old").write_text("old")
    (bottom / "d/gone").write_text("gone")
    (bottom / "d/sub/deep").write_text("deep")
    (top / "d/new").write_text("new")
    os.mknod(top / "d/gone", 0o20000, os.makedev(0, 0))
    (bottom / "way").symlink_to("/d/../d")
    (bottom / "out").symlink_to("../../../etc")
    os.chmod(top / "d", 0o2711)
    os.chown(top / "d", 7, 8)
    os.setxattr(top / "d/new", "user.k", b"v")
    root = os.open(target, os.O_RDONLY)
    with LowerTree((top, bottom)) as lower:
        assert lower.resolve(b"/way/sub") == b"d/sub"
        assert lower.resolve(b"out") is None
        assert lower.resolve(b"/") == b""
        assert lower.resolve(b"d/gone") is None
        merge_directory(lower, b"d", root)
    os.close(root)
    assert sorted(os.listdir(target)) == ["new", "old", "sub"]
    assert (target / "sub/deep").read_text() == "deep"
    assert os.getxattr(target / "new", "user.k") == b"v"
    status = target.stat()
    assert (status.st_mode & 0o7777, status.st_uid, status.st_gid) == (0o2711, 7, 8)


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with LowerTree((tmp_path,)) as lower:
        assert lower.resolve(b"a/x") is None


# -- servers -----------------------------------------------------------------------------------


class FakeMounts:
    """What the kernel is asked for to mount a file system, without one that has any."""

    def __init__(self) -> None:
        self.kind = ""
        self.asked: list[str] = []
        self.attributes = 0

    def fsopen(self, kind: bytes) -> int:
        self.kind = kind.decode()
        return os.open("/dev/null", os.O_RDONLY)

    def fsconfig(self, context: int, command: int, key: bytes | None, value: bytes | None) -> None:
        if key is not None:
            self.asked.append(key.decode() + (f"={value.decode()}" if value is not None else ""))

    def fsmount(self, context: int, attributes: int) -> int:
        self.attributes = attributes
        return os.open("/dev/null", os.O_RDONLY)

    def mount_setattr(self, *_: object, **__: object) -> None:
        pass


ADDRESSES = {"server": ["2001:db8::7", "192.0.2.7"], "six": ["2001:db8::6"]}


@pytest.mark.parametrize(
    ("kind", "device", "options", "asked"),
    [
        ("nfs", ":/x", "addr=server,rw,vers=4,hard", "source=:/x addr=192.0.2.7 vers=4 hard"),
        ("nfs", ":/x", "addr=192.0.2.1,nolock,soft", "source=:/x addr=192.0.2.1 nolock soft"),
        ("nfs4", "server:/x", "addr=server,ro", "source=server:/x ro addr=192.0.2.7"),
        ("nfs", ":/x", "addr=six", "source=:/x addr=2001:db8::6"),
        ("nfs", "server:/x", "rw", "source=server:/x addr=192.0.2.7"),
        ("nfs", "[2001:db8::1]:/x", "hard", "source=[2001:db8::1]:/x hard addr=2001:db8::1"),
        ("cifs", "//server/s", "username=u,password=p", "source=//server/s username=u password=p ip=192.0.2.7"),
        ("cifs", "//other/s", "addr=server", "source=//other/s ip=192.0.2.7"),
        ("smb3", "\\\\server\\s", "ip=192.0.2.9", "source=\\\\server\\s ip=192.0.2.9"),
        ("ext4", "/dev/x", "ro,data=ordered", "source=/dev/x ro data=ordered"),
        ("tmpfs", "tmpfs", "ro,size=1m", "source=tmpfs size=1m"),
    ],
)  # fmt: skip
def test_what_a_server_s_volume_asks_of_the_kernel(
    kind: str, device: str, options: str, asked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def look_up(name: str, _: object) -> list[tuple[object, ...]]:
        found = ADDRESSES.get(name, [name])
        families = [socket.AF_INET6 if ":" in one else socket.AF_INET for one in found]
        return [(family, 0, 0, "", (one, 0)) for family, one in zip(families, found, strict=True)]

    monkeypatch.setattr(volume_mounts.socket, "getaddrinfo", look_up)
    kernel = FakeMounts()
    os.close(perform(kernel, VolumeMount(kind, device, tuple(options.split(",")))))  # type: ignore[arg-type]
    assert kernel.kind == kind
    assert kernel.asked == asked.split(" ")
    assert kernel.attributes & 1 == ("ro" in options.split(","))
