"""Messages for log collectors by their specifications, without a container."""

from __future__ import annotations

import gzip
import json
import zlib
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.containers.fakes import make_container
from wherry.containers.log_settings import parse_log_config
from wherry.containers.shipping import fluentd, gelf, journald, options, syslog
from wherry.containers.shipping.entries import LONGEST, Cutter, Entry, origin_of, render_tag
from wherry.containers.shipping.shipper import Place
from wherry.model.containers import LogConfig
from wherry.model.errors import Invalid

AT = 1_700_000_000_123_456_789
ENTRY = Entry(AT, 1, b"hello")
BOX = replace(
    make_container("web"), labels=(("a", "1"), ("b", "2")), env=("X=5", "Y=6"), image_name="bb"
)
ORIGIN = origin_of(BOX, {"labels": "a", "env-regex": "^X"}, "{{.ImageName}}/{{.Name}}")


def test_an_origin_has_what_was_asked_for() -> None:
    assert ORIGIN.tag == "bb/web"
    assert ORIGIN.extra == (("X", "5"), ("a", "1"))
    assert render_tag("{{ .ID }}-{{.FullName}}", BOX) == f"{BOX.id[:12]}-/web"
    with pytest.raises(Invalid, match="no field Nonsense"):
        render_tag("{{.Nonsense}}", BOX)
    with pytest.raises(Invalid, match="is no template"):
        render_tag("{{if .ID}}x", BOX)


@given(st.lists(st.tuples(st.sampled_from((1, 2)), st.binary(max_size=60)), max_size=20))
def test_lines_come_out_whole_however_they_were_cut(pieces: list[tuple[int, bytes]]) -> None:
    cutter = Cutter()
    entries = [e for n, (stream, data) in enumerate(pieces) for e in cutter.feed(stream, n, data)]
    entries += cutter.finish()
    for stream in (1, 2):
        whole = b"".join(data for key, data in pieces if key == stream)
        lines = whole.removesuffix(b"\n").split(b"\n") if whole else []
        got = [entry.data for entry in entries if entry.stream == stream]
        assert got == [
            line.removesuffix(b"\r") if number < whole.count(b"\n") else line
            for number, line in enumerate(lines)
        ]


def test_a_long_line_goes_out_in_pieces() -> None:
    cutter = Cutter()
    entries = cutter.feed(1, 7, b"x" * (2 * LONGEST + 5) + b"\n")
    assert [(len(e.data), e.partial) for e in entries] == [
        (LONGEST, True),
        (LONGEST, True),
        (5, False),
    ]


def test_syslog_formats() -> None:
    style = syslog.Style(3, "rfc5424micro", "host", 42)
    assert (
        syslog.render(ENTRY, ORIGIN, style)
        == b"<30>1 2023-11-14T22:13:20.123456Z host bb/web 42 bb/web - hello\n"
    )
    assert syslog.render(replace(ENTRY, stream=2), ORIGIN, style).startswith(b"<27>1 ")
    counted = syslog.render(ENTRY, ORIGIN, replace(style, form="rfc5424", counted=True))
    size, _, rest = counted.partition(b" ")
    assert len(rest) == int(size) and not rest.endswith(b"\n")
    old = syslog.render(ENTRY, ORIGIN, replace(style, form="rfc3164"))
    assert old.startswith(b"<30>Nov 1") and old.endswith(b" host bb/web[42]: hello\n")
    assert syslog.facility_number("local7") == 23 and syslog.facility_number("x") is None


def test_gelf_messages_and_their_chunks() -> None:
    message = gelf.render(Entry(AT, 2, b"caf\xc3\xa9 \xff"), ORIGIN, "host")
    found = json.loads(message)
    assert found["version"] == "1.1" and found["short_message"] == "café \ufffd"
    assert found["level"] == 3 and found["timestamp"] == 1_700_000_000.123
    assert (found["_container_name"], found["_a"], found["_tag"]) == ("web", "1", "bb/web")
    assert gzip.decompress(gelf.compress(message, "gzip", 1)) == message
    assert zlib.decompress(gelf.compress(message, "zlib", 9)) == message
    datagrams = list(gelf.chunks(b"z" * 5000, b"12345678"))
    assert len(datagrams) == 4 and all(len(one) <= gelf.CHUNK for one in datagrams)
    assert datagrams[1][:12] == b"\x1e\x0f12345678\x01\x04"
    assert b"".join(one[12:] for one in datagrams) == b"z" * 5000


def test_fluentd_messages() -> None:
    tag, moment, record, option = msgspec.msgpack.decode(
        fluentd.render(ENTRY, ORIGIN, sub_second=True, chunk="c1")
    )
    assert tag == "bb/web" and option == {"chunk": "c1"}
    assert moment.code == 0 and int.from_bytes(moment.data[4:]) == 123_456_789
    assert record["log"] == "hello" and record["source"] == "stdout" and record["X"] == "5"
    assert fluentd.acknowledged(msgspec.msgpack.encode({"ack": "c1"})) == "c1"
    assert fluentd.acknowledged(b"\x81\xa3ac") is None


def test_journal_fields() -> None:
    data = journald.render(replace(ENTRY, data=b"two\nlines"), ORIGIN, 3)
    assert b"MESSAGE\n\x09\0\0\0\0\0\0\0two\nlines\n" in data
    assert b"CONTAINER_NAME=web\n" in data and b"PRIORITY=6\n" in data and b"A=1\n" in data
    assert journald.field_name("_9-my.label") == "MY_LABEL"


@pytest.mark.parametrize(
    ("driver", "chosen", "words"),
    [
        ("syslog", {"syslog-address": "nonsense"}, "unsupported scheme: ''"),
        ("syslog", {"syslog-facility": "zzz"}, "invalid syslog facility"),
        ("syslog", {"syslog-format": "zz"}, "Invalid syslog format"),
        ("syslog", {"foo": "bar"}, "unknown log opt 'foo' for syslog log driver"),
        ("gelf", {}, "gelf-address is a required parameter"),
        ("gelf", {"gelf-address": "http://x"}, "gelf: endpoint needs to be TCP or UDP"),
        (
            "gelf",
            {"gelf-address": "udp://h:9", "gelf-compression-type": "zz"},
            'unknown value "zz" for log opt "gelf-compression-type" for gelf log driver',
        ),
        (
            "fluentd",
            {"fluentd-address": "http://x"},
            "invalid fluentd-address (http://x): unsupported scheme: 'http'",
        ),
        ("fluentd", {"fluentd-retry-wait": "zz"}, 'time: invalid duration "zz"'),
        ("journald", {"foo": "bar"}, "unknown log opt 'foo' for journald log driver"),
        ("journald", {"cache-disabled": "x"}, "invalid value for option cache-disabled: x"),
        ("gelf", {"gelf-address": "udp://h"}, "please provide gelf-address as proto://host:port"),
        ("gelf", {"gelf-address": "udp://h:9", "foo": ""}, 'unknown log opt "foo" for gelf'),
        (
            "gelf",
            {"gelf-address": "udp://h:9", "gelf-tcp-max-reconnect": "3"},
            '"gelf-tcp-max-reconnect" is only valid for TCP',
        ),
        (
            "gelf",
            {"gelf-address": "tcp://h:9", "gelf-tcp-reconnect-delay": "x"},
            '"gelf-tcp-reconnect-delay" must be a positive integer',
        ),
        ("fluentd", {"fluentd-read-timeout": "1s"}, "unknown log opt 'fluentd-read-timeout'"),
        ("fluentd", {"fluentd-async-connect": "1"}, "unknown log opt 'fluentd-async-connect'"),
        ("fluentd", {"fluentd-async": "x"}, 'strconv.ParseBool: parsing "x": invalid syntax'),
        ("fluentd", {"fluentd-max-retries": "-1"}, 'strconv.ParseUint: parsing "-1"'),
        ("fluentd", {"fluentd-buffer-limit": "x"}, "invalid size: 'x'"),
        ("fluentd", {"fluentd-async-reconnect-interval": "11s"}, "between 100ms and 10s"),
        ("fluentd", {"fluentd-write-timeout": "-1s"}, "must be a duration that is non-negative"),
        ("fluentd", {"fluentd-write-timeout": "x"}, "value must be a duration: time: invalid"),
        ("fluentd", {"fluentd-address": "unix://"}, "(unix://): path is empty"),
        ("fluentd", {"fluentd-address": "h:1/x"}, "should not contain a path element"),
        ("local", {"max-size": "-1"}, "invalid value for max-size: -1: invalid size: '-1'"),
        ("json-file", {"compress": "x"}, 'strconv.ParseBool: parsing "x": invalid syntax'),
    ],
)
def test_mistakes_are_told_in_docker_s_words(
    driver: str, chosen: dict[str, str], words: str
) -> None:
    with pytest.raises(Invalid) as caught:
        parse_log_config(LogConfig(driver, tuple(chosen.items())), LogConfig())
    assert words in str(caught.value)


def test_destinations() -> None:
    def place(driver: str, **chosen: str) -> options.Destination:
        return options.destination(driver, {k.replace("_", "-"): v for k, v in chosen.items()})

    assert place("syslog") == options.Destination("unixgram", path="/dev/log")
    assert place("syslog", syslog_address="tcp+tls://h") == options.Destination(
        "tcp+tls", "h", 6514
    )
    assert place("syslog", syslog_address="udp://[::1]:9") == options.Destination("udp", "::1", 9)
    assert place("fluentd") == options.Destination("tcp", "127.0.0.1", 24224)
    assert place("fluentd", fluentd_address="h:1") == options.Destination("tcp", "h", 1)
    assert place("gelf", gelf_address="tcp://h:9") == options.Destination("tcp", "h", 9)


def test_sending_goes_on_where_its_place_cannot_be_written(tmp_path: Path) -> None:
    """A full disk ended it for good; here a file is in the way, whoever runs the test."""
    place = Place(tmp_path / "shipped")
    (tmp_path / "shipped.new").mkdir()
    place.sent(ENTRY)
    place.keep()
    assert Place(tmp_path / "shipped").time == 0
    (tmp_path / "shipped.new").rmdir()
    place.keep()
    assert Place(tmp_path / "shipped").time == AT
    assert Place(tmp_path / "shipped").unsent([ENTRY, replace(ENTRY, time=AT + 1)]) == [
        replace(ENTRY, time=AT + 1)
    ]
