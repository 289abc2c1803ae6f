"""Attached streams: frames to their descriptors, pipes and terminals, detach keys, sizes, signals."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import socket
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.cli.fake_engine import Answer, FakeEngine
from wherry.cli import start
from wherry.cli.failure import Failure
from wherry.cli.stream import AttachedStream
from wherry.cli.terminal import KeyWatch, parse_keys
from wherry.model.frames import encode

SOURCE = str(Path(start.__file__).parents[2])
PROGRAM = [sys.executable, "-S", "-c"]
PROGRAM += [
    f"import sys; sys.path.insert(0, {SOURCE!r}); from wherry.cli.start import main; main()"
]


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("ctrl-p,ctrl-q", b"\x10\x11"),
        ("a", b"a"),
        ("ctrl-a,x", b"\x01x"),
        ("ctrl-@,ctrl-[,ctrl-\\,ctrl-],ctrl-^,ctrl-_", b"\x00\x1b\x1c\x1d\x1e\x1f"),
        ("ctrl-A", b"\x01"),
    ],
)
def test_detach_keys(text: str, keys: bytes) -> None:
    assert parse_keys(text) == keys


@pytest.mark.parametrize("text", ["", "ctrl-", "ctrl-aa", "ab", "ctrl-1", "a,,b"])
def test_bad_detach_keys(text: str) -> None:
    with pytest.raises(Failure, match="invalid detach keys"):
        parse_keys(text)


@given(
    st.text("abc", min_size=1, max_size=3),
    st.text("abcx", max_size=30),
    st.lists(st.integers(min_value=1, max_value=4), max_size=30),
)
def test_keys_are_found_however_they_arrive(keys: str, typed: str, cuts: list[int]) -> None:
    watch = KeyWatch(keys.encode())
    out = b""
    rest = typed
    for cut in [*cuts, len(typed) + 1]:
        out += watch.feed(rest[:cut].encode())
        rest = rest[cut:]
    if keys not in typed:
        assert not watch.found
        assert typed.encode().startswith(out)
        assert len(typed) - len(out) < len(keys)
    if watch.found:
        assert keys in typed
        assert typed.encode().startswith(out + keys.encode())


def attached_pair(**options: bool) -> tuple[AttachedStream, socket.socket]:
    """A stream and the engine's end of it."""
    ours, theirs = socket.socketpair()
    stdin = options.get("stdin", False)
    return AttachedStream(ours, b"", multiplexed=True, stdin=stdin), theirs


def test_frames_go_to_their_descriptors(capfd: pytest.CaptureFixture[str]) -> None:
    stream, theirs = attached_pair()
    data = b"".join(encode(1 + i % 2, f"{i} ".encode()) for i in range(3000))
    threading.Thread(target=lambda: (theirs.sendall(data), theirs.close()), daemon=True).start()
    assert stream.run()
    out, err = capfd.readouterr()
    assert out == "".join(f"{i} " for i in range(0, 3000, 2))
    assert err == "".join(f"{i} " for i in range(1, 3000, 2))


def echo_frames(theirs: socket.socket) -> None:
    """Send back everything as frames until the caller has closed its end."""
    with theirs:
        while data := theirs.recv(1 << 16):
            theirs.sendall(encode(1, data))


class Engine:
    """A fake engine whose container `x` echoes what it is sent."""

    def __init__(self, path: Path) -> None:
        self.fake = FakeEngine(path)
        self.exit = threading.Event()
        self.fake.route("POST", "/containers/create", Answer.of({"Id": "x"}, 201))
        self.fake.route("POST", "/containers/x/start", Answer(204))
        self.fake.route("POST", "/containers/x/kill", self._killed)
        self.fake.route("POST", "/containers/x/resize", Answer(200))
        self.fake.route("POST", "/containers/x/wait", self._wait)

    def _wait(self, _request: object) -> Answer:
        return Answer.of({"StatusCode": 7})

    def _killed(self, _request: object) -> Answer:
        self.exit.set()
        return Answer(204)

    def paths(self) -> list[str]:
        """What was asked, in order."""
        return [request.path for request in self.fake.requests]


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    made = Engine(tmp_path / "s")
    yield made
    made.fake.close()


def echoing(engine: Engine, *, frames: bool) -> None:
    """Let the attach route echo, as frames or raw."""

    def serve(connection: socket.socket) -> None:
        while data := connection.recv(1 << 16):
            connection.sendall(encode(1, data) if frames else data)

    engine.fake.upgrade("/containers/x/attach", serve)


@pytest.mark.parametrize("source", ["pipe", "file"])
def test_a_pipeline_ends_where_its_input_does(engine: Engine, tmp_path: Path, source: str) -> None:
    echoing(engine, frames=True)
    data = os.urandom(5_000_000)
    (tmp_path / "data").write_bytes(data)
    command = [*PROGRAM, "-H", engine.fake.url, "run", "-i", "img", "cat"]
    if source == "file":
        with open(tmp_path / "data", "rb") as file:
            done = subprocess.run(command, stdin=file, capture_output=True, timeout=60)
    else:
        done = subprocess.run(command, input=data, capture_output=True, timeout=60)
    assert done.stdout == data
    assert (done.returncode, done.stderr) == (7, b"")


def test_order_of_run(engine: Engine) -> None:
    engine.fake.route("POST", "/containers/x/attach", Answer(raw=b""))
    done = subprocess.run(
        [*PROGRAM, "-H", engine.fake.url, "run", "img"], stdin=subprocess.DEVNULL, timeout=30
    )
    assert done.returncode == 7
    verbs = [path.rpartition("/")[2] for path in engine.paths()]
    assert verbs == ["create", "attach", "wait", "start"]


@pytest.mark.parametrize("name", ["INT", "TERM", "HUP", "USR1"])
def test_signals_are_passed_on(engine: Engine, name: str) -> None:
    def serve(connection: socket.socket) -> None:
        connection.sendall(encode(1, b"up\n"))
        assert engine.exit.wait(20)

    engine.fake.upgrade("/containers/x/attach", serve)
    program = subprocess.Popen(
        [*PROGRAM, "-H", engine.fake.url, "run", "img"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    )
    assert program.stdout is not None
    assert program.stdout.read(3) == b"up\n"
    program.send_signal(getattr(signal, f"SIG{name}"))
    assert program.wait(20) == 7
    program.stdout.close()
    kills = [r.query for r in engine.fake.requests if r.path.endswith("/kill")]
    assert kills == [{"signal": f"SIG{name}"}]


class Terminal:
    """A program on a terminal of its own."""

    def __init__(self, arguments: list[str]) -> None:
        self.pid, self.descriptor = pty.fork()
        if self.pid == 0:
            os.environ["NO_COLOR"] = "1"
            os.execv(arguments[0], arguments)
        self.seen = b""
        self.code: int | None = None

    def read_until(self, words: bytes, timeout: float = 20) -> None:
        """Read until `words` have been seen."""
        end = time.monotonic() + timeout
        while words not in self.seen:
            assert time.monotonic() < end, f"no {words!r} in {self.seen!r}"
            ready, _, _ = select.select([self.descriptor], [], [], 0.2)
            if ready:
                try:
                    self.seen += os.read(self.descriptor, 4096)
                except OSError:
                    break
        assert words in self.seen, self.seen

    def type(self, data: bytes) -> None:
        """Type."""
        os.write(self.descriptor, data)

    def resize(self, rows: int, columns: int) -> None:
        """Change the terminal's size, which signals the program."""
        fcntl.ioctl(self.descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def wait(self, timeout: float = 20) -> int:
        """Return the exit code."""
        end = time.monotonic() + timeout
        while self.code is None:
            assert time.monotonic() < end, "the program does not end"
            ready, _, _ = select.select([self.descriptor], [], [], 0.02)
            if ready:
                try:
                    self.seen += os.read(self.descriptor, 4096)
                except OSError:
                    pass
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.code = os.waitstatus_to_exitcode(status)
        return self.code

    def close(self) -> None:
        """End the program if it still runs."""
        if self.code is None:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self.descriptor)


@pytest.fixture
def terminal(engine: Engine) -> Iterator[Callable[..., Terminal]]:
    opened: list[Terminal] = []

    def make(*arguments: str) -> Terminal:
        opened.append(Terminal([*PROGRAM, "-H", engine.fake.url, *arguments]))
        return opened[-1]

    yield make
    for each in opened:
        each.close()


def test_a_terminal_is_raw_and_restored(engine: Engine, terminal: Callable[..., Terminal]) -> None:
    def serve(connection: socket.socket) -> None:
        connection.sendall(b"ready")
        got = b""
        while len(got) < 3:
            got += connection.recv(100)
        connection.sendall(f"got {got.hex()}".encode())

    engine.fake.upgrade("/containers/x/attach", serve)
    screen = terminal("run", "-it", "img")
    screen.read_until(b"ready")
    local = termios.tcgetattr(screen.descriptor)[3]
    assert not local & (termios.ECHO | termios.ICANON | termios.ISIG)
    screen.type(b"a\x03\r")
    screen.read_until(b"got 61030d")
    assert screen.wait() == 7


def test_detach_keys_leave_the_container(engine: Engine, terminal: Callable[..., Terminal]) -> None:
    got = b""

    def serve(connection: socket.socket) -> None:
        nonlocal got
        connection.sendall(b"ready")
        while data := connection.recv(100):
            got += data

    engine.fake.upgrade("/containers/x/attach", serve)
    screen = terminal("run", "-it", "--detach-keys", "ctrl-a,b", "img")
    screen.read_until(b"ready")
    screen.type(b"hi\x01x\x01b")
    assert screen.wait() == 0
    engine.fake.wait_for_upgrades(1)
    assert got == b"hi\x01x"
    assert "/containers/x/kill" not in engine.paths()


def test_the_size_follows(engine: Engine, terminal: Callable[..., Terminal]) -> None:
    echoing(engine, frames=False)
    screen = terminal("run", "-it", "img")
    screen.type(b"x")
    screen.read_until(b"x")
    screen.resize(33, 99)
    end = time.monotonic() + 20
    while {"h": "33", "w": "99"} not in [
        r.query for r in engine.fake.requests if r.path.endswith("/resize")
    ]:
        assert time.monotonic() < end, "no resize was asked for"
        time.sleep(0.01)
    screen.type(b"\x10\x11")
    assert screen.wait() == 0


def test_no_terminal_no_tty(engine: Engine) -> None:
    done = subprocess.run(
        [*PROGRAM, "-H", engine.fake.url, "run", "-it", "img"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=30,
    )
    assert (done.returncode, done.stderr) == (1, b"the input device is not a TTY\n")


def test_pull_progress_redraws_on_a_terminal(
    engine: Engine, terminal: Callable[..., Terminal]
) -> None:
    lines = [
        b'{"status":"Pulling fs layer","progressDetail":{},"id":"l1"}',
        b'{"status":"Downloading","progressDetail":{"current":500,"total":1000},"id":"l1"}',
        b'{"status":"Pull complete","progressDetail":{},"id":"l1"}',
        b'{"status":"Status: Downloaded"}',
    ]
    engine.fake.route("POST", "/images/create", Answer(200, b"\n".join(lines)))
    screen = terminal("pull", "debian")
    assert screen.wait() == 0
    assert b"\x1b[2Kl1: Pull complete" in screen.seen
    assert b"Status: Downloaded" in screen.seen


def test_an_error_in_a_stream_of_progress(engine: Engine) -> None:
    lines = [
        b'{"status":"Extracting","id":"a"}',
        b'{"errorDetail":{"message":"no space"},"error":"no space"}',
    ]
    engine.fake.route("POST", "/wherry/images/bootstrap", Answer(200, b"\n".join(lines)))
    done = subprocess.run(
        [*PROGRAM, "-H", engine.fake.url, "image", "bootstrap", "debian:x", "--variant", "minbase"],
        capture_output=True,
        timeout=30,
    )
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.splitlines() == [b"a: Extracting", b"no space"]
    assert engine.fake.requests[0].query == {"name": "debian:x", "variant": "minbase"}


def test_bootstrap_prints_the_id(engine: Engine) -> None:
    lines = [b'{"status":"Made","id":"a"}', b'{"aux":{"ID":"sha256:abc"}}']
    engine.fake.route("POST", "/wherry/images/bootstrap", Answer(200, b"\n".join(lines)))
    done = subprocess.run(
        [*PROGRAM, "-H", engine.fake.url, "image", "bootstrap", "busybox"],
        capture_output=True,
        timeout=30,
    )
    assert (done.returncode, done.stdout) == (0, b"sha256:abc\n")
    assert engine.fake.requests[0].query == {"name": "busybox"}
