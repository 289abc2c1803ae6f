"""The daemon's life with fakes behind it: locks, signals, reload, stop. Real processes, real signals."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from wherry.daemon import halt
from wherry.daemon.config import Config
from wherry.daemon.locks import Locks, holder_of
from wherry.model.errors import Conflict

SECONDS = 15.0
REPOSITORY = Path(__file__).resolve().parents[2]


class Daemon:
    """wherryd over fakes, with roots under `root`."""

    def __init__(self, root: Path, *options: str, env: dict[str, str] | None = None) -> None:
        self.root = root
        self.socket = root / "run.sock"
        self.log = root / "log"
        self.roots = ["--data-root", str(root / "data"), "--exec-root", str(root / "run")]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.daemon.fake_wiring", *self.roots, *options],
                cwd=REPOSITORY,
                env=os.environ | (env or {}),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def said(self) -> str:
        return self.log.read_text()

    def wait_for(self, text: str) -> None:
        deadline = time.monotonic() + SECONDS
        while text not in self.said():
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < deadline, f"no {text!r} in:\n{self.said()}"
            time.sleep(0.01)

    def ready(self) -> Daemon:
        self.wait_for("has started")
        return self

    def ends(self) -> int:
        return self.process.wait(SECONDS)

    def ping(self) -> bytes:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(SECONDS)
            connection.connect(str(self.socket))
            connection.sendall(b"GET /_ping HTTP/1.1\r\nConnection: close\r\n\r\n")
            return connection.recv(1000)


@contextmanager
def daemon(root: Path, *options: str, env: dict[str, str] | None = None) -> Iterator[Daemon]:
    running = Daemon(root, *options, env=env)
    try:
        yield running
    finally:
        if running.process.poll() is None:
            running.process.kill()
            running.process.wait()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_until_a_signal(tmp_path: Path, number: signal.Signals) -> None:
    pidfile = tmp_path / "p" / "pid"
    with daemon(tmp_path, "--pidfile", str(pidfile)) as it:
        it.ready()
        assert it.ping().startswith(b"HTTP/1.1 200 OK")
        assert pidfile.read_text() == f"{it.process.pid}\n"
        assert holder_of(tmp_path / "run") == it.process.pid
        it.process.send_signal(number)
        assert it.ends() == 0
        assert "fakes closed" in it.said()
    assert not it.socket.exists() and not pidfile.exists()
    assert holder_of(tmp_path / "run") is None


def test_systemd_is_told(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(SECONDS)
        with daemon(tmp_path, env={"NOTIFY_SOCKET": str(tmp_path / "notify")}) as it:
            assert systemd.recv(100).startswith(b"READY=1")
            it.process.send_signal(signal.SIGHUP)
            assert systemd.recv(100).startswith(b"RELOADING=1\nMONOTONIC_USEC=")
            assert systemd.recv(100) == b"READY=1"
            it.process.send_signal(signal.SIGTERM)
            assert systemd.recv(100) == b"STOPPING=1"
            assert it.ends() == 0


def test_one_daemon_for_one_root(tmp_path: Path) -> None:
    with daemon(tmp_path) as first:
        first.ready()
        for options in (
            (),
            ("--exec-root", str(tmp_path / "other")),
            ("--data-root", str(tmp_path / "other")),
            ("--data-root", str(tmp_path / "o1"), "--exec-root", str(tmp_path / "o2"),
             "--pidfile", str(tmp_path / "run" / "wherryd.pid")),
        ):  # fmt: skip
            with daemon(tmp_path, *options) as second:
                assert second.ends() == 1
                assert f"another wherryd, whose pid is {first.process.pid}" in second.said()
            first.log.write_text("")
        assert first.ping().startswith(b"HTTP/1.1 200 OK")


def test_a_killed_daemon_is_no_hindrance(tmp_path: Path) -> None:
    with daemon(tmp_path) as first:
        first.ready()
        first.process.kill()
        first.ends()
    assert first.socket.exists()
    first.log.write_text("")
    with daemon(tmp_path) as second:
        second.ready()
        assert second.ping().startswith(b"HTTP/1.1 200 OK")


def test_what_keeps_it_from_starting_is_said_in_one_line(tmp_path: Path) -> None:
    with daemon(tmp_path, env={"WHERRY_FAKE_FAILURE": "1"}) as it:
        assert it.ends() == 1
        assert it.said() == "wherryd: this machine is a fake\n"
    assert not it.socket.exists()


def test_reload(tmp_path: Path) -> None:
    file = tmp_path / "daemon.json"
    file.write_text("{}")
    with daemon(tmp_path, "--config-file", str(file)) as it:
        it.ready()
        it.ping()
        assert "page not found" not in it.said() and "level=debug" not in it.said()
        file.write_text('{"debug": true, "labels": ["a=b"]}')
        it.process.send_signal(signal.SIGHUP)
        it.wait_for("configuration reloaded")
        assert "fakes follow ('a=b',)" in it.said()
        assert "changes only" not in it.said()
        file.write_text('{"debug": true, "labels": ["a=b"], "mtu": 1400}')
        it.process.send_signal(signal.SIGHUP)
        it.wait_for("mtu changes only when wherryd starts again")
        file.write_text('{"debog": true}')
        it.process.send_signal(signal.SIGHUP)
        it.wait_for("the configuration stays as it was")
        assert it.ping()


def test_stop_ends_the_daemon_of_these_roots(tmp_path: Path) -> None:
    stop = [sys.executable, "-m", "tests.daemon.fake_wiring"]
    with daemon(tmp_path) as it:
        it.ready()
        done = subprocess.run(
            [*stop, *it.roots, "stop"], cwd=REPOSITORY, capture_output=True, timeout=SECONDS, check=False
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, b"")
        assert it.ends() == 0
    again = subprocess.run(
        [*stop, *it.roots, "stop", "--timeout=1"], cwd=REPOSITORY, timeout=SECONDS, check=False
    )
    assert again.returncode == 0


STUBBORN = """
import signal, sys, time
from pathlib import Path
from wherry.daemon import halt
from wherry.daemon.config import Config
from wherry.daemon.locks import Locks
signal.signal(signal.SIGTERM, signal.SIG_IGN)
locks = Locks()
locks.take(Path(sys.argv[1]), Path(sys.argv[2]), None)
print("locked", flush=True)
time.sleep(60)
"""


def test_a_daemon_that_does_not_answer_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(halt, "DAEMON_SECONDS", 0.2)
    config = Config(data_root=tmp_path / "data", exec_root=tmp_path / "run")
    with subprocess.Popen(
        [sys.executable, "-c", STUBBORN, config.data_root, config.exec_root], stdout=subprocess.PIPE
    ) as stubborn:
        assert stubborn.stdout is not None and stubborn.stdout.readline() == b"locked\n"
        halt.end_daemon(config.exec_root)
        assert stubborn.wait(SECONDS) == -signal.SIGKILL
    halt.end_daemon(config.exec_root)


def test_it_is_small(tmp_path: Path) -> None:
    with daemon(tmp_path) as it:
        it.ready()
        status = Path(f"/proc/{it.process.pid}/status").read_text()
        resident = int(status.partition("VmRSS:")[2].split()[0])
        loaded = Path(f"/proc/{it.process.pid}/maps").read_text()
    assert "libssl" not in loaded
    assert resident < 40_000, f"{resident} KiB"


def test_idle_it_does_nothing(tmp_path: Path) -> None:
    with daemon(tmp_path) as it:
        it.ready()

        def used() -> tuple[int, ...]:
            status = Path(f"/proc/{it.process.pid}/status").read_text()
            return tuple(
                int(line.split()[1]) for line in status.splitlines() if "ctxt_switches" in line
            )

        # What start-up leaves may take a while on a busy machine, and some seconds later it tidies up.
        deadline = time.monotonic() + 30
        before = None
        while before != (now := used()):
            assert time.monotonic() < deadline
            before = now
            time.sleep(1)


def test_locks_are_taken_together_or_not_at_all(tmp_path: Path) -> None:
    with Locks() as first, Locks() as second:
        first.take(tmp_path / "a", tmp_path / "b", None)
        with pytest.raises(Conflict, match=str(os.getpid())):
            second.take(tmp_path / "c", tmp_path / "b", None)
        with Locks() as third:
            third.take(tmp_path / "c", tmp_path / "d", tmp_path / "pid")
            assert (tmp_path / "pid").read_text() == f"{os.getpid()}\n"
        assert not (tmp_path / "pid").exists()
