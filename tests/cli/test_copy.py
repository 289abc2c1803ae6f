"""`wherry cp`: Docker's rules of where, and hostile archives that stay inside."""

from __future__ import annotations

import base64
import io
import json
import os
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.cli.fake_engine import Answer, FakeEngine, Request
from wherry.cli import start
from wherry.cli.failure import Failure
from wherry.cli.safetar import Unpacker
from wherry.cli.tarstream import TarStream
from wherry.cli.verbs.copy import split_place

DIRECTORY = 1 << 31


def member(name: str, data: bytes = b"", **more: object) -> tuple[tarfile.TarInfo, bytes]:
    """One entry of an archive."""
    info = tarfile.TarInfo(name)
    info.size = len(data)
    info.mode = 0o644
    for key, value in more.items():
        setattr(info, key, value)
    return info, data


def archive(*entries: tuple[tarfile.TarInfo, bytes]) -> bytes:
    """The entries as a tar."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as made:
        for info, data in entries:
            made.addfile(info, io.BytesIO(data))
    return out.getvalue()


def unpack(data: bytes, target: Path) -> None:
    """Unpack as `cp` does, names as they are."""
    with (
        tarfile.open(fileobj=io.BytesIO(data), mode="r|") as source,
        Unpacker(source, str(target), owners=False) as unpacker,
    ):
        for info in source:
            unpacker.unpack(info, info.name)
        unpacker.finish()


def stat_header(name: str, mode: int, link: str = "") -> dict[str, str]:
    """The API's stat of a path."""
    facts = {"name": name, "size": 1, "mode": mode, "mtime": "", "linkTarget": link}
    encoded = base64.b64encode(json.dumps(facts).encode()).decode()
    return {"X-Docker-Container-Path-Stat": encoded, "Content-Type": "application/x-tar"}


SYMLINK = {"type": tarfile.SYMTYPE}
HARDLINK = {"type": tarfile.LNKTYPE}


@pytest.mark.parametrize(
    "entries",
    [
        [member("../out", b"x")],
        [member("a/../../out", b"x")],
        [member("a", linkname="..", **SYMLINK), member("a/out", b"x")],
        [member("a", linkname="/", **SYMLINK), member("a/out", b"x")],
        [member("l", linkname="../out", **HARDLINK)],
        [member("a", linkname="..", **SYMLINK), member("l", linkname="a/secret", **HARDLINK)],
        [member("a", linkname="../victim", **SYMLINK), member("a", type=tarfile.DIRTYPE)],
    ],
    ids=lambda e: e[-1][0].name,
)
def test_cve_2019_14271_nothing_leaves_the_target(
    entries: list[tuple[tarfile.TarInfo, bytes]], tmp_path: Path
) -> None:
    target = tmp_path / "target"
    target.mkdir()
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "victim").mkdir(mode=0o751)
    before = sorted(os.listdir(tmp_path)), (tmp_path / "victim").stat().st_mode
    with pytest.raises(Failure, match="unpack"):
        unpack(archive(*entries), target)
    assert (sorted(os.listdir(tmp_path)), (tmp_path / "victim").stat().st_mode) == before
    assert (tmp_path / "secret").stat().st_nlink == 1


def test_a_link_at_the_name_is_replaced_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()
    (tmp_path / "victim").write_text("victim")
    unpack(
        archive(member("a", linkname=str(tmp_path / "victim"), **SYMLINK), member("a", b"new")),
        target,
    )
    assert (tmp_path / "victim").read_text() == "victim"
    assert (target / "a").read_text() == "new"


def test_modes_times_and_links_are_kept(tmp_path: Path) -> None:
    unpack(
        archive(
            member("d", type=tarfile.DIRTYPE, mode=0o750, mtime=1000),
            member("d/f", b"data", mode=0o4755, mtime=2000),
            member("d/h", linkname="d/f", **HARDLINK),
            member("d/s", linkname="f", **SYMLINK),
            member("d/p", type=tarfile.FIFOTYPE),
        ),
        tmp_path,
    )
    folder, file = (tmp_path / "d").stat(), (tmp_path / "d/f").stat()
    assert (folder.st_mode & 0o7777, folder.st_mtime) == (0o750, 1000)
    assert (file.st_mode & 0o7777, file.st_mtime, file.st_nlink) == (0o4755, 2000, 2)
    assert os.readlink(tmp_path / "d/s") == "f"
    assert (tmp_path / "d/p").is_fifo()


NAMES = st.text(
    st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1
).filter(lambda name: name not in (".", "..") and len(name.encode()) < 200)


@given(st.dictionaries(NAMES, st.binary(max_size=2000), min_size=1, max_size=5))
def test_a_folder_through_tar_is_itself(
    tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes]
) -> None:
    source, target = tmp_path_factory.mktemp("a"), tmp_path_factory.mktemp("b")
    for name, data in files.items():
        (source / name).write_bytes(data)
    stream = TarStream(str(source), "")
    data = b"".join(stream)
    assert stream.count == len(data)
    unpack(data, target)
    assert {p.name: p.read_bytes() for p in target.iterdir()} == files


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("web:/etc", ("web", "/etc")),
        ("/a:b", ("", "/a:b")),
        ("./a:b", ("", "./a:b")),
        ("file", ("", "file")),
        ("-", ("", "-")),
        ("web:", ("web", "")),
    ],
)
def test_places(text: str, place: tuple[str, str]) -> None:
    assert split_place(text) == place


@pytest.mark.parametrize(
    ("target", "made"),
    [
        ("folder", "folder/src/f"),
        ("folder/new", "folder/new/f"),
        ("folder/src2/", "folder/src2/f"),
    ],
)
def test_download_of_a_folder(target: str, made: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    data = archive(member("src", type=tarfile.DIRTYPE, mode=0o755), member("src/f", b"x"))
    with FakeEngine(tmp_path / "s") as engine:
        engine.route(
            "GET", "/containers/c/archive", Answer(200, data, stat_header("src", DIRECTORY))
        )
        assert (
            start.run(
                [
                    "-H",
                    engine.url,
                    "cp",
                    "c:/src",
                    str(tmp_path / target) + ("/" if target.endswith("/") else ""),
                ]
            )
            == 0
        )
        assert engine.requests[-1].query == {"path": "/src"}
    assert (tmp_path / made).read_bytes() == b"x"


def test_download_of_a_file_under_another_name(tmp_path: Path) -> None:
    data = archive(member("f", b"x"))
    with FakeEngine(tmp_path / "s") as engine:
        engine.route("GET", "/containers/c/archive", Answer(200, data, stat_header("f", 0o644)))
        assert start.run(["-H", engine.url, "cp", "c:/f", str(tmp_path / "g")]) == 0
    assert (tmp_path / "g").read_bytes() == b"x"


def test_upload(tmp_path: Path) -> None:
    (tmp_path / "d/sub").mkdir(parents=True)
    (tmp_path / "d/sub/f").write_bytes(b"y" * 70_000)
    (tmp_path / "d/l").symlink_to("sub/f")
    os.link(tmp_path / "d/sub/f", tmp_path / "d/sub/g")
    sent: list[Request] = []

    def put(request: Request) -> Answer:
        sent.append(request)
        return Answer(200)

    with FakeEngine(tmp_path / "s") as engine:
        engine.route("HEAD", "/containers/c/archive", Answer(200, b"", stat_header("t", DIRECTORY)))
        engine.route("PUT", "/containers/c/archive", put)
        assert start.run(["-H", engine.url, "cp", "-a", str(tmp_path / "d"), "c:/t"]) == 0
    assert sent[0].query == {"path": "/t", "noOverwriteDirNonDir": "true", "copyUIDGID": "true"}
    with tarfile.open(fileobj=io.BytesIO(sent[0].body)) as found:
        kinds = {m.name: (m.type, m.linkname) for m in found}
        content = found.extractfile("d/sub/f")
        assert content is not None and content.read() == b"y" * 70_000
    assert kinds["d/l"] == (tarfile.SYMTYPE, "sub/f")
    assert kinds["d/sub/g"] == (tarfile.LNKTYPE, "d/sub/f")


def test_a_broken_archive_is_said_to_be_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with FakeEngine(tmp_path / "s") as engine:
        answer = Answer(200, b"not a tar" * 100, stat_header("f", 0o644))
        engine.route("GET", "/containers/c/archive", answer)
        assert start.run(["-H", engine.url, "cp", "c:/f", str(tmp_path / "g")]) == 1
    assert "the engine sent no archive" in capsys.readouterr().err


def test_save_to_a_file_is_whole_or_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with FakeEngine(tmp_path / "s") as engine:
        engine.route("GET", "/images/get", Answer(200, chunks=(b"t", b"ar")))
        assert start.run(["-H", engine.url, "save", "-o", str(tmp_path / "o"), "a"]) == 0
        assert (tmp_path / "o").read_bytes() == b"tar"
        engine.route("GET", "/images/get", Answer.of({"message": "no such image"}, 404))
        assert start.run(["-H", engine.url, "save", "-o", str(tmp_path / "p"), "a"]) == 1
        assert start.run(["-H", engine.url, "save", "-o", str(tmp_path / "x/p"), "a"]) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["o", "s"]
    assert "no such file or directory" in capsys.readouterr().err
