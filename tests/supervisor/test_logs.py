"""Reading logs agrees with a simple model; hostile files harm nobody; a full disk costs bytes, not containers."""

from __future__ import annotations

import os
import random
import shutil
import struct
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wherry.kernel.inotify import IN_CREATE, IN_MODIFY, Inotify
from wherry.supervisor.logs.opened import OpenSegment
from wherry.supervisor.logs.reader import LogReader
from wherry.supervisor.logs.render import Stamp
from wherry.supervisor.logs.segment import ERR, OUT, RECORD, Record
from wherry.supervisor.logs.writer import LogWriter, ReaderBehind
from wherry.supervisor.messages import LogSettings

Pieces = list[tuple[int, int, bytes]]


def build(directory: str, pieces: Pieces, most: int) -> None:
    """Write (time, stream, data) as a log whose segments hold at most about `most` bytes."""
    segment = OpenSegment(directory, 1)
    for at, stream, data in pieces:
        if segment.size >= most:
            segment = OpenSegment(directory, segment.number + 1)
        os.pwrite(segment.data(stream), data, segment.sizes[stream])
        segment.append([Record(at, segment.sizes[stream], len(data), stream)])
        segment.sizes[stream] += len(data)


def demultiplex(data: bytes) -> dict[int, bytes]:
    streams = {OUT: b"", ERR: b""}
    while data:
        stream, length = struct.unpack(">BxxxI", data[:8])
        assert len(data) >= 8 + length
        streams[stream] += data[8 : 8 + length]
        data = data[8 + length :]
    return streams


def model(
    pieces: Pieces, since: int, until: int, tail: int, streams: set[int], stamps: bool
) -> dict[int, bytes]:
    """What is to be read, worked out byte by byte."""
    lines: list[tuple[int, int, list[tuple[int, int]]]] = []  # (stream, start time, bytes)
    current: dict[int, list[tuple[int, int]]] = {}
    for at, stream, data in pieces:
        for byte in data:
            if stream not in current:
                current[stream] = []
                lines.append((stream, at, current[stream]))
            current[stream].append((at, byte))
            if byte == 10:
                del current[stream]
    lines = [line for line in lines if line[0] in streams]
    if tail >= 0:
        lines = lines[-tail:] if tail else []
    out = {OUT: b"", ERR: b""}
    for stream, start, body in lines:
        if start < since:
            continue
        text = bytes(byte for at, byte in body if not until or at <= until)
        if text and stamps:
            text = Stamp().render(start) + b" " + text
        out[stream] += text
    return out


pieces_of = st.lists(
    st.tuples(
        st.integers(0, 3),
        st.sampled_from([OUT, ERR]),
        st.text("ab\n", min_size=1, max_size=8).map(str.encode),
    ),
    max_size=30,
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    pieces_of,
    st.integers(60, 400),
    st.integers(0, 50),
    st.integers(0, 50),
    st.integers(-1, 12),
    st.sampled_from([{OUT}, {ERR}, {OUT, ERR}]),
    st.booleans(),
)
def test_reading_agrees_with_the_model(
    steps: Pieces,
    most: int,
    since: int,
    until: int,
    tail: int,
    streams: set[int],
    stamps: bool,
) -> None:
    now, pieces = 1, []
    for step, stream, data in steps:
        now += step
        pieces.append((now, stream, data))
    with tempfile.TemporaryDirectory() as directory:
        build(directory, pieces, most)
        read = LogReader(directory).read(since, until, tail, OUT in streams, ERR in streams, stamps)
        assert demultiplex(b"".join(read)) == model(pieces, since, until, tail, streams, stamps)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(pieces_of, st.integers(60, 400), st.lists(st.integers(0, 30), max_size=4))
def test_following_reads_everything_once(pieces: Pieces, most: int, stops: list[int]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        seen = b""
        with LogReader(directory).open() as tail:
            segment = OpenSegment(directory, 1)
            for number, (at, stream, data) in enumerate(pieces):
                if number in stops:
                    seen += b"".join(tail.read())
                if segment.size >= most:
                    segment = OpenSegment(directory, segment.number + 1)
                os.pwrite(segment.data(stream), data, segment.sizes[stream])
                segment.append([Record(at, segment.sizes[stream], len(data), stream)])
                segment.sizes[stream] += len(data)
            seen += b"".join(tail.read())
            assert list(tail.read()) == []
        assert demultiplex(seen) == model(pieces, 0, 0, -1, {OUT, ERR}, False)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.binary(max_size=200), st.binary(max_size=50), st.integers(0, 1 << 64), st.integers(-1, 5))
def test_a_hostile_index_harms_nobody(index: bytes, data: bytes, since: int, tail: int) -> None:
    with tempfile.TemporaryDirectory() as directory:
        Path(directory, "000001.idx").write_bytes(index)
        Path(directory, "000001.out").write_bytes(data)
        Path(directory, "000002.idx").write_bytes(index[5:])
        Path(directory, "000009.err").write_bytes(data)
        Path(directory, "notes.txt").write_text("not ours")
        for stamps in (False, True):
            read = LogReader(directory).read(since, 0, tail, timestamps=stamps)
            out = b"".join(read)
            assert len(out) < 100 * (len(data) + 200)
        writer = LogWriter(LogSettings("json-file", directory), lambda: None)
        feed(writer, b"more\n")
        cursor = writer.attach(frozenset({OUT, ERR}), replay=True)
        while cursor.take(1000):
            pass
        with LogReader(directory).open() as log:
            assert demultiplex(b"".join(log.read()))[OUT].endswith(b"more\n")


def test_a_log_that_is_not_there_is_empty(tmp_path: Path) -> None:
    reader = LogReader(tmp_path / "nothing")
    assert list(reader.read()) == []
    assert list(reader.read(1, 2, 3)) == []


def feed(writer: LogWriter, data: bytes, stream: int = OUT) -> None:
    """Write `data` through a pipe, as a container's output."""
    read, write = os.pipe2(os.O_NONBLOCK)
    try:
        while data:
            data = data[os.write(write, data[:60000]) :]
            while True:
                try:
                    writer.move(read, stream)
                except BlockingIOError:
                    break
    finally:
        os.close(read)
        os.close(write)


def replayed(writer: LogWriter, stream: int) -> bytes:
    """What one who attaches with the logs is sent of a stream."""
    cursor = writer.attach(frozenset({stream}), replay=True)
    data = b""
    while piece := cursor.take(1 << 20):
        data += os.pread(piece.fd, piece.length, piece.offset)
    writer.detach(cursor)
    return data


def test_rotation_keeps_the_newest_and_replays_in_order(tmp_path: Path) -> None:
    writer = LogWriter(LogSettings("local", str(tmp_path), 9_990, 3), lambda: None)
    lines = [b"%06d\n" % number for number in range(10_000)]
    for at in range(0, 10_000, 50):
        feed(writer, b"".join(lines[at : at + 50]))
    names = sorted(path.name for path in tmp_path.glob("*.idx"))
    assert len(names) == 3
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 3 * 10_000 + 1000
    everything = b"".join(lines)
    kept = b"".join(LogReader(tmp_path, raw=True).read())
    assert len(kept) > 20_000 and everything.endswith(b"\n" + kept)
    assert b"".join(LogReader(tmp_path, raw=True).read(tail=3000)) == b"".join(lines[-3000:])
    assert replayed(writer, OUT) == kept
    oldest = tmp_path / names[0].replace("idx", "out")
    assert not kept.startswith(oldest.read_bytes()[:7]), "the test is to begin inside a line"


def test_only_a_stream_that_was_cut_inside_a_line_begins_with_the_next(tmp_path: Path) -> None:
    writer = LogWriter(LogSettings("local", str(tmp_path), 1000, 2), lambda: None)
    feed(writer, b"0123456\n" * 3)
    for number in range(400):
        feed(writer, b"%06d\n" % number)
    writer.close()
    writer = LogWriter(LogSettings("local", str(tmp_path), 1000, 2), lambda: None)
    writer.open_existing()
    feed(writer, b"rare\n", ERR)
    read = demultiplex(b"".join(LogReader(tmp_path).read()))
    assert {stream: replayed(writer, stream) for stream in (OUT, ERR)} == read
    assert read[ERR] == b"rare\n"
    for line in read[OUT].split(b"\n")[:-1]:
        assert len(line) == 6


def test_a_line_longer_than_the_log_is_shown_from_its_middle(tmp_path: Path) -> None:
    writer = LogWriter(LogSettings("local", str(tmp_path), 1000, 2), lambda: None)
    for _ in range(100):
        feed(writer, b"x" * 90)
    assert len(b"".join(LogReader(tmp_path, raw=True).read())) > 900
    assert len(b"".join(LogReader(tmp_path, raw=True).read(tail=1))) > 900
    assert len(replayed(writer, OUT)) > 900


def test_a_client_that_is_a_whole_log_behind_holds_the_writer(tmp_path: Path) -> None:
    told: list[int] = []
    writer = LogWriter(LogSettings("local", str(tmp_path), 1000, 3), lambda: told.append(1))
    cursor = writer.attach(frozenset({OUT}), replay=False)
    with pytest.raises(ReaderBehind):
        for _ in range(20):
            feed(writer, b"x" * 500)
    feed_all = os.pipe2(os.O_NONBLOCK)
    os.write(feed_all[1], b"insisted")
    assert writer.move(feed_all[0], OUT, insist=True) == 8
    read = b""
    while piece := cursor.take(100):
        read += os.pread(piece.fd, piece.length, piece.offset)
    assert read.endswith(b"insisted") and told
    feed(writer, b"again")
    for fd in feed_all:
        os.close(fd)


@contextmanager
def small_disk(path: Path) -> Iterator[Path]:
    """A file system of half a megabyte."""
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(path)], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


@pytest.mark.parametrize("attached", [False, True])
def test_a_full_disk_costs_bytes_and_says_so(tmp_path: Path, attached: bool) -> None:
    with small_disk(tmp_path / "disk") as disk:
        ballast = disk / "ballast"
        ballast.write_bytes(b"x" * (400 << 10))
        writer = LogWriter(LogSettings("json-file", str(disk / "logs"), 0, 5), lambda: None)
        cursor = writer.attach(frozenset({OUT}), replay=False) if attached else None
        feed(writer, b"first\n")
        flood = b"%099d\n" % 7 * 5000
        feed(writer, flood)  # the container is not held up
        seen = b""
        while cursor is not None and (piece := cursor.take(1 << 20)):
            seen += os.pread(piece.fd, piece.length, piece.offset)
        if attached:
            assert seen == b"first\n" + flood
        kept = b"".join(LogReader(disk / "logs", raw=True).read())
        ballast.unlink()
        time.sleep(1.1)
        feed(writer, b"last\n")
        text = b"".join(LogReader(disk / "logs", raw=True).read())
        assert text.startswith(b"first\n") and text.endswith(b"last\n")
        lost = len(b"first\n" + flood) - len(kept)
        assert lost > 0
        assert b"wherry: %d bytes of output are missing here" % lost in text
        if cursor is not None:
            writer.detach(cursor)
        writer.close()


@pytest.mark.parametrize("attached", [False, True])
def test_a_log_that_cannot_be_written_costs_bytes(tmp_path: Path, attached: bool) -> None:
    broken = tmp_path / "logs/000001.idx"
    broken.mkdir(parents=True)  # EISDIR: any error of the disk will do
    writer = LogWriter(LogSettings("json-file", str(tmp_path / "logs"), 0, 5), lambda: None)
    cursor = writer.attach(frozenset({OUT}), replay=True) if attached else None
    feed(writer, b"lost\n")
    if cursor is not None:
        piece = cursor.take(100)
        assert piece is not None
        assert os.pread(piece.fd, piece.length, piece.offset) == b"lost\n"
    broken.rmdir()
    time.sleep(1.1)  # the disk is tried again once a second
    feed(writer, b"kept\n")
    text = b"".join(LogReader(tmp_path / "logs", raw=True).read())
    assert b"wherry: 5 bytes of output are missing here" in text and text.endswith(b"kept\n")
    if cursor is not None:
        writer.detach(cursor)
    writer.close()


def test_the_log_of_a_removed_container_does_not_bring_its_folder_back(tmp_path: Path) -> None:
    settings = LogSettings("local", str(tmp_path / "container" / "logs"), 1000, 2)
    writer = LogWriter(settings, lambda: None)
    writer.open_existing()
    feed(writer, b"last words\n")
    writer.close()
    assert list(tmp_path.iterdir()) == []


def test_no_log_keeps_nothing(tmp_path: Path) -> None:
    writer = LogWriter(LogSettings("none", ""), lambda: None)
    feed(writer, b"x" * 100_000)
    cursor = writer.attach(frozenset({OUT}), replay=True)
    feed(writer, b"hello")
    piece = cursor.take(100)
    assert piece is not None and os.pread(piece.fd, piece.length, piece.offset) == b"hello"
    writer.detach(cursor)
    assert list(tmp_path.iterdir()) == []


def test_tail_and_since_do_not_scan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = 256 << 20
    line = b"%0127d\n" % 1
    writer = LogWriter(LogSettings("local", str(tmp_path), 0, 1), lambda: None)
    feed(writer, line)
    # The bulk is one hole with honest records: finding what is asked for reads next to nothing of it.
    segment = OpenSegment.existing(str(tmp_path), 1)
    os.truncate(tmp_path / "000001.out", size)
    base = time.time_ns()
    records = b"".join(Record(base + at, at, 128, OUT).pack() for at in range(128, size, 128))
    os.pwrite(segment._index, records, RECORD.size)  # pyright: ignore[reportPrivateUsage]
    os.pwrite(segment.data(OUT), line * 200, size - 200 * 128)
    segment.sizes[OUT] = size
    reader = LogReader(tmp_path, raw=True)
    pread, count = os.pread, 0

    def counting(fd: int, length: int, offset: int) -> bytes:
        nonlocal count
        data = pread(fd, length, offset)
        count += len(data)
        return data

    monkeypatch.setattr("wherry.supervisor.logs.scan.os.pread", counting)
    for since, tail in ((0, 100), (base + size - 100 * 128, -1)):
        count = 0
        assert b"".join(reader.read(since, 0, tail)) == line * 100
        assert 0 < count < 8 << 20, "of 256 MiB of text and 48 MiB of records"
    shutil.rmtree(tmp_path)


def test_stamps_are_rfc3339() -> None:
    assert Stamp().render(1795233286987770339) == b"2026-11-21T03:54:46.987770339Z"
    Stamp().render(random.getrandbits(64))


def test_inotify_tells_of_new_output(tmp_path: Path) -> None:
    with Inotify() as watcher:
        number = watcher.watch(tmp_path, IN_MODIFY | IN_CREATE)
        assert watcher.read() == []
        writer = LogWriter(LogSettings("local", str(tmp_path)), lambda: None)
        feed(writer, b"hello")
        events = watcher.read()
        assert (number, IN_CREATE, "000001.idx") in events
        assert (number, IN_MODIFY, "000001.idx") in events
