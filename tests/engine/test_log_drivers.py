"""Log drivers that send elsewhere, with collectors of the test's own."""

from __future__ import annotations

import contextlib
import gzip
import json
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
