"""The archive reader against other writers, against nonsense, and against archives that lie."""

from __future__ import annotations

import os
import random
import resource
import subprocess
import tarfile
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.storage.trees import archive, directory, file, link
from wherry.model.errors import Invalid
from wherry.storage.layers import Entry, Kind, Limits, TarReader, TarWriter, header, pax
from wherry.storage.layers.acl import parse_acl


class Trickle:
    """A stream that gives out a few bytes at a time."""

    def __init__(self, data: bytes, step: int = 7) -> None:
        self._data, self._step, self._at = data, step, 0

    def read(self, n: int, /) -> bytes:
        piece = self._data[self._at : self._at + min(n, self._step)]
        self._at += len(piece)
        return piece


def read_everything(data: bytes, **options: object) -> list[tuple[Entry, bytes]]:
    reader = TarReader(BytesIO(data), **options)  # type: ignore[arg-type]
    return [(entry, reader.read()) for entry in reader]


def raw_header(name: bytes, size: int, flag: bytes = b"0") -> bytes:
    return header.render_block(header.Block(name, 0o644, 0, 0, size, 0, flag, b"", 0, 0))


SAMPLE = [
    directory("d", 0o1777, uid=5, gid=6, mtime_ns=1_500_000_000 * 10**9),
    file("d/empty"),
    file("d/data", b"x" * 1300, mode=0o4755, uid=1000, mtime_ns=12 * 10**9),
    file("d/" + "n" * 200 + "/" + "m" * 90, b"long"),
    file(b"d/\xff\xfe bytes", b"odd", xattrs={"user.a": b"\0\n="}),
    link("d/soft", "t" * 180),
    link("d/hard", "d/data", Kind.HARDLINK),
    (Entry(b"d/null", Kind.CHAR, 0o666, major=1, minor=3), b""),
    (Entry(b"d/pipe", Kind.FIFO, 0o600), b""),
    file("d/precise", b"1", mtime_ns=-1_500_000_001),
    file("d/huge-ids", b"", uid=4_000_000_000, gid=2_097_152),
]


def test_what_is_written_is_read() -> None:
    assert read_everything(archive(*SAMPLE).getvalue()) == SAMPLE


def test_short_reads_change_nothing() -> None:
    data = archive(*SAMPLE).getvalue()
    reader = TarReader(Trickle(data))
    assert [(entry, reader.read()) for entry in reader] == SAMPLE


def test_unread_content_is_passed_over() -> None:
    entries = list(TarReader(BytesIO(archive(*SAMPLE).getvalue())))
    assert entries == [entry for entry, _ in SAMPLE]


@pytest.mark.parametrize(
    "form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT], ids=str
)
def test_python_writes(form: int) -> None:
    out = BytesIO()
    name = "a" * 120 + "/" + "b" * 60 if form == tarfile.USTAR_FORMAT else "x" * 300
    target = "c" * 90 if form == tarfile.USTAR_FORMAT else "c" * 300
    with tarfile.open(fileobj=out, mode="w", format=form) as writer:
        info = tarfile.TarInfo(name)
        info.size, info.mode, info.mtime, info.uid = 5, 0o640, 1234, 99
        if form == tarfile.GNU_FORMAT:
            info.uid = 3_000_000_000
        writer.addfile(info, BytesIO(b"hello"))
        soft = tarfile.TarInfo("soft")
        soft.type, soft.linkname = tarfile.SYMTYPE, target
        writer.addfile(soft)
    (first, content), (second, _) = read_everything(out.getvalue())
    assert (first.name, content, first.mode, first.uid) == (
        name.encode(),
        b"hello",
        0o640,
        info.uid,
    )
    assert first.mtime_ns == 1234 * 10**9
    assert (second.kind, second.link) == (Kind.SYMLINK, target.encode())


@pytest.mark.parametrize("form", ["v7", "oldgnu", "gnu", "ustar", "posix"])
def test_gnu_tar_writes(form: str, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d/f").write_bytes(b"content" * 999)
    os.utime(tmp_path / "d/f", ns=(7, 1_234_567_890_123_456_789))
    os.symlink("f", tmp_path / "d/s")
    os.link(tmp_path / "d/f", tmp_path / "d/h")
    command = ["tar", "-C", tmp_path, "--sort=name", f"--format={form}", "-cf", "-", "d"]
    data = subprocess.run(command, check=True, capture_output=True, timeout=20).stdout
    found = {entry.name: (entry, content) for entry, content in read_everything(data)}
    assert found[b"d/"][0].kind is Kind.DIRECTORY
    assert found[b"d/f"][1] == b"content" * 999
    assert found[b"d/s"][0].link == b"f"
    assert (found[b"d/h"][0].kind, found[b"d/h"][0].link) == (Kind.HARDLINK, b"d/f")
    precise = form == "posix"
    assert found[b"d/f"][0].mtime_ns == 1_234_567_890 * 10**9 + (123_456_789 if precise else 0)


@pytest.mark.parametrize("version", ["oldgnu", "0.0", "0.1", "1.0"])
def test_sparse_files_are_read_with_their_holes(version: str, tmp_path: Path) -> None:
    expected = bytearray(3_000_000)
    with open(tmp_path / "sparse", "wb") as out:
        for at in [4096 * 3, *range(100_000, 2_900_000, 131_072)]:
            at -= at % 4096
            out.seek(at)
            out.write(b"data" * 1024)
            expected[at : at + 4096] = b"data" * 1024
        out.truncate(len(expected))
    form = ["--format=oldgnu"] if version == "oldgnu" else [f"--sparse-version={version}"]
    posix = [] if version == "oldgnu" else ["--format=posix"]
    command = ["tar", "-C", tmp_path, *posix, *form, "-S", "-cf", "-", "sparse"]
    data = subprocess.run(command, check=True, capture_output=True, timeout=20).stdout
    assert len(data) < 300_000
    ((entry, content),) = read_everything(data)
    assert (entry.name, entry.size) == (b"sparse", len(expected))
    assert entry.sparse
    assert content == expected
    reader = TarReader(Trickle(data, 4099))
    (entry,) = [entry for entry in [reader.next_entry()] if entry]
    assert b"".join(iter(lambda: reader.read(1000), b"")) == expected


def test_every_truncation_is_refused_and_names_the_entry() -> None:
    data = archive(*SAMPLE).getvalue()
    for cut in range(0, len(data) - 1024, 512):
        for at in (cut, cut + 100):
            with pytest.raises(Invalid, match=r"truncated|no entry") as problem:
                read_everything(data[:at])
            assert at < 1024 or "archive entry" in problem.value.message


def test_a_lenient_reader_takes_an_end_between_entries() -> None:
    data = archive(*SAMPLE).getvalue()
    assert read_everything(data[:-1024], strict_end=False) == SAMPLE
    assert read_everything(b"", strict_end=False) == []
    with pytest.raises(Invalid, match="truncated"):
        read_everything(data[:-1025], strict_end=False)


def test_one_zero_block_ends_an_archive() -> None:
    assert read_everything(archive(*SAMPLE).getvalue()[:-512]) == SAMPLE


def test_a_header_of_ten_gigabytes_is_refused_without_the_memory() -> None:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for flag in (b"x", b"g", b"L", b"K"):
        data = raw_header(b"liar", 8_000_000_000, flag) + bytes(10_000)
        with pytest.raises(Invalid, match="'liar'.*headers of 8000000512 bytes"):
            read_everything(data)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < 50_000


def test_extended_headers_that_never_end_are_refused() -> None:
    once = pax.render_records({b"comment": b"c" * 1000})
    one = raw_header(b"more", len(once), b"x") + once.ljust(1024, b"\0")
    with pytest.raises(Invalid, match="'more'.*extended headers"):
        read_everything(one * 3000)
    grows = b"".join(
        raw_header(b"global", 1024, b"g")
        + pax.render_records({b"k%d" % n: b"v" * 1000}).ljust(1024, b"\0")[:1024]
        + raw_header(b"f", 0)
        for n in range(1200)
    )
    with pytest.raises(Invalid, match="keep growing"):
        read_everything(grows)


def test_ten_gigabytes_declared_in_ten_kilobytes_are_refused() -> None:
    data = raw_header(b"big", 8_000_000_000) + bytes(10_000)
    with pytest.raises(Invalid, match="'big'.*truncated"):
        read_everything(data)
    with pytest.raises(Invalid, match="'big'.*declares more than"):
        read_everything(data, limits=Limits(total=1 << 30))


def test_more_entries_than_the_limit_are_refused() -> None:
    one = raw_header(b"f", 0)

    class Endless:
        def read(self, n: int, /) -> bytes:
            return one * 2048

    with pytest.raises(Invalid, match="more than 20000 entries"):
        for _ in TarReader(Endless(), Limits(entries=20_000)):
            pass


def test_names_are_bounded() -> None:
    with pytest.raises(Invalid, match="longer than 4095"):
        read_everything(archive(file("a/" * 2500)).getvalue())


@pytest.mark.parametrize(
    ("records", "problem"),
    [
        (b"12 mtime=x1\n", "not a time"),
        (b"99 path=short\n", "malformed"),
        (b"path=none\n", "no length"),
        (b"11 path=a\0b\n", "malformed|NUL"),
        (b"12 path=a\0b\n", "NUL"),
        (b"18 uid=4294967295\n", "owner"),
        (b"10 uid=-1\n", "not a decimal"),
        (b"11 size=1_0\n", "not a decimal|malformed"),
        (b"30 mtime=999999999999999999999\n", "not a time|range|malformed"),
        (b"18 SCHILY.xattr.=1\n"[:19], "no usable name|malformed"),
        (b"27 SCHILY.acl.access=bogus\n", "ACL"),
        (b"20 GNU.sparse.major=1\n", "malformed"),
    ],
)
def test_malformed_records_are_refused(records: bytes, problem: str) -> None:
    data = raw_header(b"p", len(records), b"x") + records.ljust(512, b"\0")
    with pytest.raises(Invalid, match=problem):
        read_everything(data + raw_header(b"f", 0) + bytes(1024))


@pytest.mark.parametrize(
    "entries",
    ["5,10", "0,5,2,5", "0,600", "100,512", "0,x", "0,-5"],
    ids=["odd cover", "overlap", "past end", "outside", "text", "negative"],
)
def test_lying_sparse_maps_are_refused(entries: str) -> None:
    records = pax.render_records({b"GNU.sparse.map": entries.encode(), b"GNU.sparse.size": b"512"})
    data = raw_header(b"p", len(records), b"x") + records.ljust(512, b"\0")
    data += raw_header(b"sparse", 512) + bytes(512 + 1024)
    with pytest.raises(Invalid, match="sparse"):
        read_everything(data)


def test_a_sparse_map_that_never_ends_is_refused() -> None:
    """Blocks that say there are more and hold no piece: a megabyte of them is read, not all there are."""
    header = bytearray(raw_header(b"sparse", 512, b"S"))
    header[482] = 1
    header[148:156] = b"        "
    header[148:156] = b"%06o\0 " % sum(header[:512])
    more = bytearray(512)
    more[504] = 1
    data = BytesIO(bytes(header[:512]) + bytes(more) * 16384)
    with pytest.raises(Invalid, match="'sparse'.*truncated or too large"):
        list(TarReader(data))
    assert data.tell() < 4 << 20


def test_unknown_types_and_broken_checksums_are_refused() -> None:
    with pytest.raises(Invalid, match="'volume'.*unknown type"):
        read_everything(raw_header(b"volume", 0, b"M") + bytes(1024))
    broken = bytearray(archive(*SAMPLE).getvalue())
    broken[512 + 3] ^= 1
    with pytest.raises(Invalid, match="'d'.*checksum"):
        read_everything(bytes(broken))


def test_signed_checksums_of_old_tars_are_accepted() -> None:
    block = bytearray(raw_header(b"caf\xe9", 0))
    block[148:156] = b" " * 8
    signed = sum(byte - 256 if byte > 127 else byte for byte in block)
    block[148:156] = b"%06o\0 " % signed
    ((entry, _),) = read_everything(bytes(block) + bytes(1024))
    assert entry.name == b"caf\xe9"


def test_libarchive_attributes_and_acl_text() -> None:
    records = pax.render_records(
        {
            b"LIBARCHIVE.xattr.user.caf%C3%A9": b"aGVsbG8",
            b"SCHILY.acl.access": b"user::rwx,user:bob:r-x:502,group::r-x,mask::r-x,other::---",
        }
    )
    data = raw_header(b"p", len(records), b"x") + records.ljust(512, b"\0") + raw_header(b"f", 0)
    ((entry, _),) = read_everything(data + bytes(1024))
    assert entry.xattrs["user.café"] == b"hello"
    assert entry.xattrs["system.posix_acl_access"] == parse_acl(
        b"u::rwx\ng::r-x\nu:502:r-x # bob\nm::r-x\no::---"
    )


def test_acl_entries_of_names_alone_are_left_out() -> None:
    assert parse_acl(b"u::rwx,u:bob:rwx,g::r-x,g:adm:r-x,m::r-x,o::---") == parse_acl(
        b"user::rwx,group::r-x,mask::r-x,other::---"
    )


@pytest.mark.parametrize("text", [b"bogus", b"u:x", b"u::rwz", b"m:5:rwx", b"u:4294967295:rwx"])
def test_malformed_acls_are_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match="ACL"):
        parse_acl(text)


@given(st.integers(-(2**80), 2**80))
def test_times_are_read_as_written(nanoseconds: int) -> None:
    nanoseconds %= 2**55 * 10**9
    assert pax.parse_time(pax.render_time(nanoseconds)) == nanoseconds
    assert pax.parse_time(pax.render_time(-nanoseconds)) == -nanoseconds


@given(
    st.dictionaries(
        st.binary(min_size=1, max_size=30).filter(
            lambda key: b"=" not in key and not key.startswith(b"GNU.sparse")
        ),
        st.binary(max_size=1200),
        max_size=6,
    )
)
def test_records_are_read_as_written(records: dict[bytes, bytes]) -> None:
    assert pax.parse_records(pax.render_records(records)) == records


@given(st.integers(0, 2**63 - 1), st.sampled_from([8, 12]))
def test_base_256_numbers(value: int, width: int) -> None:
    value %= 1 << (8 * width - 8)
    assert header.parse_number((value | 1 << (8 * width - 1)).to_bytes(width, "big")) == value
    negative = -1 - (value >> 8)
    assert header.parse_number(negative.to_bytes(width, "big", signed=True)) == negative


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=3000))
def test_random_bytes_raise_only_invalid(data: bytes) -> None:
    for candidate in (data, raw_header(b"f", 600) + data, raw_header(b"p", 512, b"x") + data):
        try:
            read_everything(candidate)
        except Invalid:
            pass


def test_archives_with_flipped_bytes_raise_only_invalid() -> None:
    source = BytesIO()
    writer = TarWriter(source.write)
    for entry, content in SAMPLE:
        writer.add(entry, content)
    records = pax.render_records({b"GNU.sparse.map": b"0,5,10,5", b"GNU.sparse.size": b"15"})
    writer.flush()
    source.write(raw_header(b"p", len(records), b"x") + records.ljust(512, b"\0"))
    source.write(raw_header(b"sparse", 10) + b"0123456789".ljust(512, b"\0") + bytes(1024))
    data = source.getvalue()
    assert read_everything(data)[-1][1] == b"01234\0\0\0\0\x0056789"
    dice = random.Random(1)
    refused = 0
    for _ in range(1500):
        broken = bytearray(data)
        start = dice.randrange(len(data) // 512) * 512
        for _ in range(dice.randint(1, 4)):
            broken[start + dice.randrange(512)] = dice.randrange(256)
        if dice.random() < 0.8:  # make the checksum right again, to get behind it
            broken[start + 148 : start + 156] = b" " * 8
            total = sum(broken[start : start + 512])
            broken[start + 148 : start + 156] = b"%06o\0 " % total
        try:
            read_everything(bytes(broken), limits=Limits(total=1 << 24))
        except Invalid:
            refused += 1
    assert 200 < refused < 1500


def test_a_sparse_map_of_empty_pieces_is_read_to_its_end() -> None:
    """As many as a header's megabyte has: a step for each, and no call within a call."""
    count = 100_000
    entries = b",".join([b"0,5", *[b"5,0"] * count, b"8,2"])
    records = pax.render_records({b"GNU.sparse.map": entries, b"GNU.sparse.size": b"12"})
    data = raw_header(b"p", len(records), b"x") + records + bytes(-len(records) % 512)
    data += raw_header(b"sparse", 7) + b"abcdefg".ljust(512, b"\0") + bytes(1024)
    ((entry, content),) = read_everything(data)
    assert entry.sparse is not None and len(entry.sparse) == count + 2
    assert content == b"abcde\0\0\0fg\0\0"
