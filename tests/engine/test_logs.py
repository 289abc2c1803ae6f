"""`docker logs`: everything that was written, in order, from any moment, and not more than asked."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.engine.boxes import Boxes, eventually, started
from tests.engine.raw import Api, read_frames
from tests.harness.clients import Client

Inspect = Callable[[str, str], object]
STAMP = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z ")


@pytest.fixture(scope="module")
def ended(module_boxes: Boxes) -> str:
    """A container that wrote ten numbered lines to each stream and ended."""
    script = "for n in 0 1 2 3 4 5 6 7 8 9; do echo out$n; echo err$n >&2; done"
    name = module_boxes.sh(script)
    module_boxes.docker("wait", name)
    return name


def test_both_streams(docker: Client, ended: str) -> None:
    done = docker("logs", ended)
    assert done.stdout.split() == [f"out{n}" for n in range(10)]
    assert done.stderr.split() == [f"err{n}" for n in range(10)]


def kept(docker: Client, name: str) -> int:
    """How many lines the log has, of both streams."""
    done = docker("logs", name)
    return len((done.stdout + done.stderr).splitlines())


def one_by_one(docker: Client, boxes: Boxes, *commands: str) -> str:
    """Return a container that has ended, which said each line when the log had the one before."""
    waits = (f"until [ -e /go{n} ]; do sleep 0.02; done" for n in range(len(commands)))
    name = boxes.sh(
        "; ".join(f"{said}; {wait}" for said, wait in zip(commands, waits, strict=True))
    )
    for n in range(len(commands)):
        eventually(lambda n=n: kept(docker, name) == n + 1)
        docker("exec", name, "touch", f"/go{n}", check=False)
    docker("wait", name)
    return name


def test_order_across_streams(docker: Client, boxes: Boxes) -> None:
    # The two pipes are read in the order of arrival as far as it can be told: pauses make it certain.
    said = [word for n in (1, 2, 3) for word in (f"echo o{n}", f"echo e{n} >&2")]
    name = one_by_one(docker, boxes, *said)
    done = docker("logs", "-t", name)
    lines = sorted(done.stdout.splitlines() + done.stderr.splitlines())
    assert [line.split()[1] for line in lines] == ["o1", "e1", "o2", "e2", "o3", "e3"]


@pytest.mark.parametrize(
    ("tail", "count"), [("0", 0), ("1", 1), ("3", 3), ("1000", 10), ("all", 10)]
)
def test_tail(docker: Client, boxes: Boxes, tail: str, count: int) -> None:
    name = boxes.sh("seq 10")
    docker("wait", name)
    assert docker.line("logs", "--tail", tail, name).split() == [
        str(n) for n in range(11 - count, 11)
    ]


def test_tail_of_a_partial_last_line(docker: Client, boxes: Boxes) -> None:
    name = boxes.sh("printf 'one\\ntwo\\nthree'")
    docker("wait", name)
    assert docker("logs", "--tail", "2", name).stdout == "two\nthree"


def test_timestamps(docker: Client, ended: str) -> None:
    lines = docker("logs", "-t", ended).stdout.splitlines()
    assert len(lines) == 10
    assert all(STAMP.match(line) for line in lines)
    assert sorted(lines) == lines


def test_since_and_until(docker: Client, boxes: Boxes) -> None:
    name = one_by_one(docker, boxes, "echo 1", "echo 2", "echo 3")
    stamped = docker("logs", "-t", name).stdout.splitlines()
    middle = stamped[1].split()[0]
    assert docker.line("logs", "--since", middle, name).split() == ["2", "3"]
    assert docker.line("logs", "--until", middle, name).split() == ["1", "2"]
    assert docker.line("logs", "--since", middle, "--until", middle, name) == "2"
    assert docker.line("logs", "--since", "1h", name).split() == ["1", "2", "3"]
    assert docker.line("logs", "--until", "1h", name) == ""
    assert docker.line("logs", "--since", str(int(time.time()) + 100), name) == ""


def test_follow_ends_with_the_container(docker: Client, boxes: Boxes) -> None:
    name = boxes.sh("for n in 1 2 3 4; do echo $n; sleep 0.1; done; exit 5")
    done = docker("logs", "-f", name)
    assert (done.stdout.split(), done.returncode) == (["1", "2", "3", "4"], 0)


def test_follow_comes_at_once(docker: Client, boxes: Boxes) -> None:
    name = boxes.sh("while read line; do echo got $line; done", "-i")
    with (
        started(docker, "logs", "-f", name) as following,
        started(docker, "attach", name) as typing,
    ):
        assert typing.stdin and following.stdout
        for word in (b"one", b"two"):
            typing.stdin.write(word + b"\n")
            typing.stdin.flush()
            assert following.stdout.readline() == b"got " + word + b"\n"


def test_follow_of_the_tail(docker: Client, boxes: Boxes) -> None:
    name = boxes.sh("seq 100; sleep 0.5; echo end")
    eventually(lambda: len(docker.line("logs", name).split()) >= 100)
    assert docker.line("logs", "-f", "--tail", "2", name).split() == ["99", "100", "end"]


def test_follow_across_a_restart(docker: Client, boxes: Boxes) -> None:
    name = boxes.sh("echo run; sleep 60")
    eventually(lambda: docker.line("logs", name) == "run")
    docker("restart", "-t", "0", name)
    eventually(lambda: docker.line("logs", name).split() == ["run", "run"])


def test_logs_of_a_created_one(docker: Client, boxes: Boxes) -> None:
    assert docker.line("logs", boxes.create(boxes.image)) == ""


def test_terminal_logs_are_raw(docker: Client, boxes: Boxes) -> None:
    name = boxes.sh("echo out; echo err >&2", "-t")
    docker("wait", name)
    done = docker("logs", name)
    assert (done.stdout, done.stderr) == ("out\r\nerr\r\n", "")


def test_no_newline_at_the_end(docker: Client, boxes: Boxes) -> None:
    name = boxes.sh("printf a; printf b >&2")
    docker("wait", name)
    done = docker("logs", name)
    assert (done.stdout, done.stderr) == ("a", "b")


@pytest.mark.parametrize("size", [16_383, 16_384, 16_385, 65_536, 1_000_000])
def test_long_lines_are_whole(docker: Client, boxes: Boxes, size: int) -> None:
    name = boxes.sh(f"head -c {size} /dev/zero | tr '\\0' x; echo; echo end")
    docker("wait", name)
    assert docker("logs", name).stdout == "x" * size + "\nend\n"


def test_any_bytes(docker: Client, boxes: Boxes) -> None:
    name = boxes.sh(r"printf '\377\376\000\001\n\303\050\n'")
    docker("wait", name)
    # Docker keeps JSON text, which holds no bytes that are not UTF-8; what holds them must not change them.
    assert docker.raw("logs", name).stdout in (
        b"\xff\xfe\x00\x01\n\xc3\x28\n",
        "\ufffd\ufffd\x00\x01\n\ufffd(\n".encode(),
    )


def test_many_lines(docker: Client, boxes: Boxes) -> None:
    name = boxes.sh("seq 100000")
    docker("wait", name)
    assert docker("logs", name).stdout == "".join(f"{n}\n" for n in range(1, 100001))


def test_logs_while_it_writes(docker: Client, boxes: Boxes) -> None:
    """What is read of a growing log is its beginning, without a gap."""
    name = boxes.sh("seq 300000")
    whole = "".join(f"{n}\n" for n in range(1, 300001))
    for _ in range(6):
        assert whole.startswith(docker("logs", name).stdout)
    docker("wait", name)
    assert docker("logs", name).stdout == whole


def test_an_attach_to_what_has_ended(ended: str, api: Api, boxes: Boxes, docker: Client) -> None:
    """Its log is replayed, and then it is the end, or what waits for the next start."""
    path = f"/containers/{ended}/attach?logs=1&stdout=1&stderr=1"
    with api.upgrade(path) as connection:
        frames = read_frames(connection)
    said = {stream: b"".join(data for one, data in frames if one == stream) for stream in (1, 2)}
    assert said[1].split() == [b"out%d" % n for n in range(10)]
    assert said[2].split() == [b"err%d" % n for n in range(10)]
    with api.upgrade(f"/containers/{ended}/attach?stdout=1&stderr=1") as connection:
        assert connection.recv(100) == b""
    again = boxes.sh("echo run; echo no >&2")
    docker("wait", again)
    with api.upgrade(f"/containers/{again}/attach?logs=1&stream=1&stdout=1") as connection:
        one = b"\1\0\0\0\0\0\0\4run\n"
        assert connection.recv(100) == one
        docker("start", again)
        assert connection.recv(100) == one
        assert connection.recv(100) == b""
    bare = boxes.sh("echo x", "--log-driver", "none")
    docker("wait", bare)
    with api.upgrade(f"/containers/{bare}/attach?logs=1&stream=1&stdout=1") as connection:
        assert b"logging" in read_frames(connection)[0][1]
    # Who asks for no upgrade is told the old type, though the frames are the same.
    answer = api("POST", f"/containers/{ended}/attach", version="v1.51", logs=1, stdout=1)
    assert answer.headers["Content-Type"] == "application/vnd.docker.raw-stream"
    assert answer.body.startswith(b"\1\0\0\0")
    made = api("POST", f"/containers/{boxes.sleeper()}/exec", {"Cmd": ["true"]}, version="v1.51")
    answer = api("POST", f"/exec/{made.json()['Id']}/start", {}, version="v1.51")
    assert answer.headers["Content-Type"] == "application/vnd.docker.raw-stream"


@pytest.mark.parametrize("query", ["stream=1", "stream=1&stdin=1", "stream=1&logs=1"])
@pytest.mark.parametrize("running", [True, False])
def test_a_stream_of_nothing_ends_at_once(
    api: Api, boxes: Boxes, query: str, running: bool
) -> None:
    name = boxes.sleeper() if running else boxes.create(boxes.image, "true")
    with api.upgrade(f"/containers/{name}/attach?{query}", timeout=10) as connection:
        assert connection.recv(100) == b""


# Drivers


def test_driver_none(docker: Client, boxes: Boxes) -> None:
    name = boxes.sh("echo x", "--log-driver", "none")
    docker("wait", name)
    done = docker("logs", name, check=False)
    assert done.returncode == 1
    assert "configured logging driver does not support reading" in done.stderr


def test_driver_none_still_attaches(docker: Client, boxes: Boxes) -> None:
    words = ["run", "--rm", "--network", "none", "--log-driver", "none", boxes.image]
    assert docker.line(*words, "seq", "5000").split() == [str(n) for n in range(1, 5001)]


@pytest.mark.parametrize("driver", ["json-file", "local"])
def test_drivers(docker: Client, boxes: Boxes, inspect: Inspect, driver: str) -> None:
    name = boxes.sh("echo x; echo y >&2", "--log-driver", driver)
    docker("wait", name)
    done = docker("logs", name)
    assert (done.stdout, done.stderr) == ("x\n", "y\n")
    assert inspect(name, ".HostConfig.LogConfig.Type") == driver


def test_unknown_driver(docker: Client, boxes: Boxes) -> None:
    done = docker(
        "run", "--name", boxes.name(), "--log-driver", "nonsense", boxes.image, check=False
    )
    assert done.returncode == 125
    assert "nonsense" in done.stderr


@pytest.mark.parametrize("option", ["nonsense=1", "max-size=lots", "max-file=-1"])
def test_option_refused(docker: Client, boxes: Boxes, option: str) -> None:
    words = ["--log-driver", "json-file", "--log-opt", option]
    done = docker(
        "run", "--name", boxes.name(), "--network", "none", *words, boxes.image, "true", check=False
    )
    assert done.returncode == 125
    assert option.split("=")[0] in done.stderr or "invalid size" in done.stderr


def test_rotation(docker: Client, boxes: Boxes, is_wherry: bool) -> None:
    words = ["--log-driver", "json-file", "--log-opt", "max-size=10k", "--log-opt", "max-file=3"]
    name = boxes.sh("seq 20000", *words)
    docker("wait", name)
    lines = docker.line("logs", name).split()
    assert lines == [str(n) for n in range(20001 - len(lines), 20001)]
    assert 200 < len(lines) < 12000
    assert docker.line("logs", "--tail", "5", name).split() == lines[-5:]


def test_follow_through_rotation(docker: Client, boxes: Boxes) -> None:
    words = ["--log-opt", "max-size=20k", "--log-opt", "max-file=5"]
    script = "for n in $(seq 3000); do echo $n; [ $((n % 100)) = 0 ] && sleep 0.02; done"
    name = boxes.sh(script, *words)
    assert docker.line("logs", "-f", name).split()[-1] == "3000"


def test_logs_are_removed_with_the_container(
    docker: Client, boxes: Boxes, inspect: Inspect
) -> None:
    name = boxes.sh("echo x")
    docker("wait", name)
    path = str(inspect(name, ".LogPath"))
    docker("rm", name)
    assert not path or not Path(path).exists()
