"""Log drivers that send elsewhere, with collectors of the test's own."""

from __future__ import annotations

import contextlib
import gzip
import json
import re
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.engine.boxes import Boxes, eventually
from tests.harness.clients import Client
from tests.harness.engine import Engine


class Collector:
    """Takes what comes on a stream socket of its own, or as datagrams."""

    def __init__(self, listener: socket.socket) -> None:
        self.listener = listener
        self.datagrams: list[bytes] = []
        self.data = b""
        self._open: list[socket.socket] = []
        threading.Thread(target=self._run, daemon=True).start()

    @property
    def port(self) -> int:
        return self.listener.getsockname()[1]

    def _run(self) -> None:
        try:
            if self.listener.type == socket.SOCK_DGRAM:
                while True:
                    self.datagrams.append(self.listener.recv(1 << 16))
            while True:
                connection, _ = self.listener.accept()
                self._open.append(connection)
                threading.Thread(target=self._take, args=(connection,), daemon=True).start()
        except OSError:
            return

    def _take(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := connection.recv(1 << 16):
                self.data += data

    def close(self) -> None:
        # A thread that waits in accept(2) keeps the port taken until it is told.
        for one in (self.listener, *self._open):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()


Listen = Callable[..., Collector]


@pytest.fixture(scope="module")
def neighbour(nothing_left: None, wherry_for: Callable[[Engine], Client]) -> Iterator[Engine]:
    """An engine on the machine's own network, where the collectors are."""
    with Engine.on_the_machine() as engine:
        wherry_for(engine)("image", "bootstrap", "busybox")
        yield engine


@pytest.fixture
def boxes(neighbour: Engine, docker_for: Callable[[Engine], Client]) -> Iterator[Boxes]:
    with Boxes(docker_for(neighbour), "busybox") as boxes:
        yield boxes


@pytest.fixture
def collector() -> Iterator[Listen]:
    """`collector("udp")`, `collector("tcp", port)`, `collector("unixgram", path)`."""
    made: list[Collector] = []

    def listen(kind: str, place: int | str = 0) -> Collector:
        family = socket.AF_UNIX if kind == "unixgram" else socket.AF_INET
        stream = socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM
        listener = socket.socket(family, stream)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        address: Any = place if family == socket.AF_UNIX else ("127.0.0.1", place)
        listener.bind(address)
        if kind == "tcp":
            listener.listen()
        made.append(Collector(listener))
        return made[-1]

    yield listen
    for one in made:
        one.close()


SAY = "echo out; echo err >&2; sleep 600"


def test_syslog_over_udp_and_a_unix_socket(boxes: Boxes, collector: Listen, tmp_path: Path) -> None:
    udp, unix = collector("udp"), collector("unixgram", str(tmp_path / "log"))
    for found, address in (
        (udp, f"udp://127.0.0.1:{udp.port}"),
        (unix, f"unixgram://{tmp_path}/log"),
    ):
        box = boxes.run(
            *("--log-driver", "syslog", "--log-opt", f"syslog-address={address}"),
            *("--log-opt", "syslog-format=rfc5424", "--log-opt", "tag={{.Name}}"),
            *("--log-opt", "syslog-facility=local0", boxes.image, "sh", "-c", SAY),
        )
        eventually(lambda found=found: len(found.datagrams) == 2)
        out, err = sorted(found.datagrams, reverse=True)
        assert out.startswith(b"<134>1 ") and f" {box} ".encode() in out and b"- out" in out
        assert err.startswith(b"<131>1 ")
        # What is sent elsewhere can be read here too.
        assert boxes.docker("logs", box).stdout == "out\n"


def test_gelf_over_udp_and_tcp(boxes: Boxes, collector: Listen) -> None:
    udp, tcp = collector("udp"), collector("tcp")
    for found, scheme in ((udp, "udp"), (tcp, "tcp")):
        box = boxes.run(
            *("--log-driver", "gelf", "-l", "team=x", "--log-opt", "labels=team"),
            *("--log-opt", f"gelf-address={scheme}://127.0.0.1:{found.port}"),
            *(boxes.image, "sh", "-c", SAY),
        )
        eventually(lambda found=found: len(found.datagrams) == 2 or found.data.count(b"\0") == 2)
        raw = [gzip.decompress(one) for one in found.datagrams] or found.data.split(b"\0")[:2]
        messages = {json.loads(one)["short_message"]: json.loads(one) for one in raw}
        assert set(messages) == {"out", "err"}
        assert messages["out"]["_container_name"] == box and messages["out"]["_team"] == "x"
        assert messages["err"]["level"] == 3


def test_fluentd(boxes: Boxes, collector: Listen) -> None:
    tcp = collector("tcp")
    boxes.run(
        *("--log-driver", "fluentd", "--log-opt", f"fluentd-address=127.0.0.1:{tcp.port}"),
        *("--log-opt", "tag=box.{{.Name}}", boxes.image, "echo", "hello"),
    )

    def came() -> bool:
        try:
            tag, _, record = msgspec.msgpack.decode(tcp.data)[:3]
        except msgspec.DecodeError:
            return False
        return tag.startswith("box.wt-") and record["log"] == "hello"

    eventually(came)


@pytest.mark.parametrize(
    ("driver", "option", "words"),
    [
        ("gelf", "gelf-address=tcp://127.0.0.1:1", "cannot connect to GELF endpoint: 127.0.0.1:1"),
        (
            "fluentd",
            "fluentd-address=127.0.0.1:1",
            "dial tcp 127.0.0.1:1: connect: connection refused",
        ),
        ("syslog", "syslog-address=tcp://127.0.0.1:1", "failed to initialize logging driver"),
        ("gelf", "gelf-address=http://x", "gelf: endpoint needs to be TCP or UDP"),
        ("syslog", "nonsense=1", "unknown log opt 'nonsense' for syslog log driver"),
    ],
)
def test_what_cannot_be_is_refused(boxes: Boxes, driver: str, option: str, words: str) -> None:
    done = boxes.docker(
        *("run", "--name", boxes.name(), "--network", "none", "--log-driver", driver),
        *("--log-opt", option, boxes.image, "true"),
        check=False,
    )
    assert done.returncode == 125 and words in done.stderr, done.stderr


def test_a_collector_that_goes_away_holds_nobody_up_and_misses_nothing(
    boxes: Boxes, collector: Listen
) -> None:
    first = collector("tcp")
    port = first.port
    box = boxes.run(
        *("--log-driver", "gelf", "--log-opt", f"gelf-address=tcp://127.0.0.1:{port}"),
        *(
            "-i",
            boxes.image,
            "sh",
            "-c",
            "echo a; read x; echo b; seq 1000; touch /done; sleep 600",
        ),
    )
    eventually(lambda: b'"a"' in first.data)
    first.close()
    boxes.docker("exec", box, "sh", "-c", "echo go > /proc/1/fd/0", check=False)
    with boxes.docker.popen("attach", box) as client:
        assert client.stdin is not None
        client.stdin.write(b"go\n")
        client.stdin.flush()
        eventually(
            lambda: boxes.docker("exec", box, "test", "-e", "/done", check=False).returncode == 0
        )
        client.kill()
    second = collector("tcp", port)
    eventually(lambda: b'"1000"' in second.data, 30)
    messages = [json.loads(one)["short_message"] for one in second.data.split(b"\0") if one]
    assert messages[-1000:] == [str(n) for n in range(1, 1001)]


def test_the_last_lines_of_a_removed_container_arrive(boxes: Boxes, collector: Listen) -> None:
    tcp = collector("tcp")
    boxes.docker(
        *("run", "--rm", "--network", "none", "--log-driver", "gelf", "--log-opt"),
        *(f"gelf-address=tcp://127.0.0.1:{tcp.port}", boxes.image, "seq", "2000"),
    )
    eventually(lambda: tcp.data.count(b"\0") == 2000)


def test_a_killed_daemon_goes_on_where_it_was(
    neighbour: Engine, boxes: Boxes, collector: Listen
) -> None:
    engine, tcp = neighbour, collector("tcp")
    boxes.docker(
        *(
            "run",
            "-d",
            "--name",
            boxes.name(),
            "--network",
            "none",
            "--log-driver",
            "gelf",
            "--log-opt",
        ),
        *(f"gelf-address=tcp://127.0.0.1:{tcp.port}", "busybox", "sh", "-c"),
        "n=0; while [ $n -lt 300 ]; do n=$((n+1)); echo line $n; usleep 5000; done; sleep 600",
    )
    eventually(lambda: b"line 20" in tcp.data)
    engine.crash()
    engine.start()
    eventually(lambda: b"line 300" in tcp.data, 30)
    seen = {json.loads(one)["short_message"] for one in tcp.data.split(b"\0") if one}
    assert {f"line {n}" for n in range(1, 301)} <= seen
    assert tcp.data.count(b"\0") < 600, "more was sent twice than a second's lines"


def test_details_show_labels_variables_and_tag(boxes: Boxes) -> None:
    box = boxes.run(
        *("--log-driver", "json-file", "--log-opt", "labels=a", "--log-opt", "env=B"),
        *("--log-opt", "tag=x", "-l", "a=7", "-e", "B=5", boxes.image, "echo", "hi"),
    )
    eventually(lambda: boxes.docker("logs", "--details", box).stdout == "B=5,a=7,tag=x hi\n")


# journald


class WithJournal(Engine):
    """An engine that sees `folder` as /run/systemd/journal, in a mount namespace of its own."""

    def __init__(self, folder: Path) -> None:
        super().__init__("--bridge", "none")
        self._own_network = False
        self.folder = folder

    def command(self, *argv: str) -> list[str]:
        script = (
            "mount -t tmpfs none /run/systemd && mkdir /run/systemd/journal &&"
            ' mount --bind "$0" /run/systemd/journal && exec "$@"'
        )
        words = ("unshare", "--mount", "--propagation", "private", "sh", "-c", script)
        return [*words, str(self.folder), *super().command(*argv)]


def decode_journal(message: bytes) -> dict[str, bytes]:
    """The fields of a message of the journal's native protocol. Raises ValueError."""
    fields: dict[str, bytes] = {}
    while message:
        head, _, rest = message.partition(b"\n")
        name, equals, value = head.partition(b"=")
        if equals:
            message = rest
        else:
            size = int.from_bytes(rest[:8], "little")
            value, message = rest[8 : 8 + size], rest[9 + size :]
            if rest[8 + size : 9 + size] != b"\n":
                raise ValueError(f"{head!r} is not ended by a newline")
        # systemd.journal-fields(7): what journald drops.
        if not re.fullmatch(rb"[A-Z][A-Z0-9_]{0,63}", name):
            raise ValueError(f"journald does not take the name {name!r}")
        fields[name.decode()] = value
    return fields


@pytest.fixture
def journal(
    tmp_path: Path, collector: Listen, docker_for: Callable[[Engine], Client], wherry_for: Any
) -> Iterator[tuple[Boxes, Collector, Path]]:
    """Boxes of an engine with a journal, and what the journal gets."""
    if not Path("/run/systemd").is_dir():
        pytest.skip("there is no /run/systemd to mount over")
    folder = tmp_path / "j"
    folder.mkdir()
    heard = collector("unixgram", str(folder / "socket"))
    with WithJournal(folder) as engine:
        wherry_for(engine)("image", "bootstrap", "busybox")
        with Boxes(docker_for(engine), "busybox") as boxes:
            yield boxes, heard, folder


def test_journald(journal: tuple[Boxes, Collector, Path]) -> None:
    """Its fields are right, and `docker logs` has what the journal has, all the options too."""
    boxes, heard, folder = journal
    docker = boxes.docker
    options = ("tag={{.ImageName}}/{{.Name}}", "labels=color,_odd", "env=WORD")
    name = boxes.run(
        "--log-driver", "journald", *(word for one in options for word in ("--log-opt", one)),
        "--label", "color=red", "--label", "_odd=1", "-e", "WORD=two\nlines", boxes.image,
        "sh", "-c", "echo out; echo err >&2; printf 'tab\\tand\\001'; echo; head -c 20000 /dev/zero | tr '\\0' x",
    )  # fmt: skip
    assert docker.line("wait", name) == "0"
    eventually(lambda: len(heard.datagrams) >= 5)
    messages = [decode_journal(one) for one in heard.datagrams]
    shown = json.loads(docker.line("inspect", name))[0]
    for number, fields in enumerate(messages, 1):
        assert fields["CONTAINER_ID_FULL"].decode() == shown["Id"]
        assert fields["CONTAINER_ID"].decode() == shown["Id"][:12]
        assert fields["CONTAINER_NAME"].decode() == name
        assert fields["IMAGE_NAME"] == b"busybox"
        assert fields["CONTAINER_TAG"] == fields["SYSLOG_IDENTIFIER"] == f"busybox/{name}".encode()
        assert fields["CONTAINER_LOG_ORDINAL"] == str(number).encode()
        assert (fields["COLOR"], fields["ODD"], fields["WORD"]) == (b"red", b"1", b"two\nlines")
        assert fields["SYSLOG_TIMESTAMP"].startswith(b"20")
    said = sorted((one["PRIORITY"], one["MESSAGE"]) for one in messages if len(one["MESSAGE"]) < 99)
    assert said == [(b"3", b"err"), (b"6", b"out"), (b"6", b"tab\tand\x01")]
    # A line of more than 16 KiB comes in parts, the last of them unmarked.
    long = [fields for fields in messages if fields["MESSAGE"].startswith(b"xx")]
    assert [len(fields["MESSAGE"]) for fields in long] == [16384, 20000 - 16384]
    assert [fields.get("CONTAINER_PARTIAL_MESSAGE") for fields in long] == [b"true", None]
    done = docker("logs", name)
    assert done.stdout.startswith("out\ntab\tand\x01") and done.stdout.endswith("x" * 20000)
    assert done.stderr == "err\n"
    # Which of two pipes was read last is nobody's promise.
    last = docker("logs", "--tail", "1", "--timestamps", name)
    assert (last.stdout + last.stderr).startswith("20")
    details = docker("logs", "--details", name).stdout
    assert "color=red" in details and "WORD=two%0Alines" in details
    # Who is to keep nothing reads nothing back.
    bare = boxes.run(
        *(
            "--log-driver",
            "journald",
            "--log-opt",
            "cache-disabled=true",
            boxes.image,
            "echo",
            "only",
        )
    )
    assert docker.line("wait", bare) == "0"
    eventually(lambda: decode_journal(heard.datagrams[-1])["MESSAGE"] == b"only")
    refused = docker("logs", bare, check=False)
    assert "configured logging driver does not support reading" in refused.stderr
    # Without a journal, a start is refused.
    again = boxes.run("--log-driver", "journald", boxes.image, "sh", "-c", "echo 1; sleep 600")
    eventually(lambda: decode_journal(heard.datagrams[-1])["MESSAGE"] == b"1")
    heard.close()
    (folder / "socket").unlink()
    refused = docker("restart", "-t", "0", again, check=False)
    assert "journald is not enabled on this host" in refused.stderr
