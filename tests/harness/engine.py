"""A private wherryd, with roots and a socket of its own under one short temporary folder.

It lives in a network namespace of its own, so that its bridges, rules and ports are nowhere on the machine.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.harness.foreign import FOLDER
from tests.harness.hosts import Host
from tests.harness.leaks import processes_naming

START_SECONDS = 60.0
STOP_SECONDS = 120.0
"""More than what `wherryd stop` gives the daemon, the containers and the keeper together (`daemon.halt`)."""


def script(name: str) -> str:
    """Return the path of the installed command `name`, beside the running interpreter."""
    return str(Path(sys.executable).with_name(name))


class Engine:
    """One engine under `root`. A context manager: started on entry, and all of it gone on exit.

    `host` is what DOCKER_HOST takes. `log` holds everything the daemon printed. `network` is the host it
    lives on, None for the machine itself: it then makes no bridge there.
    """

    def __init__(self, *options: str, root: Path | None = None, host: Host | None = None) -> None:
        """`host` is one of the test's, which closes it; without one the engine gets a new one."""
        # A socket's path has 107 bytes at most, so the folder's name is short.
        self.root = root or Path(tempfile.mkdtemp(prefix="wherry-", dir="/var/tmp"))
        self.data_root = self.root / "data"
        self.exec_root = self.root / "run"
        self.socket = self.root / "api.sock"
        self.log = self.root / "wherryd.log"
        self.host = f"unix://{self.socket}"
        self.options = options
        self.network: Host | None = host
        self._own_network = host is None
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Engine:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @classmethod
    def on_the_machine(cls, *options: str) -> Engine:
        """Return an engine that has the machine's network, to fetch what images are made of."""
        made = cls("--bridge", "none", *options)
        made._own_network = False
        return made

    def command(self, *argv: str) -> list[str]:
        """Return the argument vector that runs `argv` on the engine's host."""
        if self._own_network and self.network is None:
            self.network = Host("engine")
        return self.network.command(*argv) if self.network is not None else list(argv)

    @property
    def roots(self) -> list[str]:
        """The options that tell this engine from others."""
        return ["--data-root", str(self.data_root), "--exec-root", str(self.exec_root)]

    @property
    def pid(self) -> int:
        """The pid of the daemon, which must be running."""
        assert self.process is not None
        return self.process.pid

    def start(self) -> None:
        """Start the daemon and wait until it answers; AssertionError with its log otherwise."""
        # Of this moment: a test takes failpoints away before it starts an engine again.
        environment = os.environ | {"PATH": f"{os.environ['PATH']}:{FOLDER}/bin"}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command(script("wherryd"), *self.roots, "-H", self.host, *self.options),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=environment,
            )
        deadline = time.monotonic() + START_SECONDS
        while not self.answers():
            code = self.process.poll()
            assert code is None, f"wherryd ended with {code}:\n{self.tail()}"
            assert time.monotonic() < deadline, f"wherryd does not answer:\n{self.tail()}"
            time.sleep(0.01)

    def answers(self) -> bool:
        """Whether the daemon answers /_ping now."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(30)
            try:
                connection.connect(str(self.socket))
                connection.sendall(b"GET /_ping HTTP/1.1\r\nHost: e\r\nConnection: close\r\n\r\n")
                return b" 200 " in connection.recv(64)
            except OSError:
                return False

    def crash(self) -> None:
        """Kill the daemon with SIGKILL; containers and their keeper are left running."""
        self._end(signal.SIGKILL)

    def halt(self) -> None:
        """End the daemon with SIGTERM; containers and their keeper are left running."""
        self._end(signal.SIGTERM)

    def restart(self) -> None:
        """End the daemon politely and start it again."""
        self.halt()
        self.start()

    def _end(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)
        self.process.wait(STOP_SECONDS)
        self.process = None

    def tail(self, lines: int = 40) -> str:
        """The last lines of the daemon's log."""
        with contextlib.suppress(FileNotFoundError):
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
        return ""

    def stop(self) -> subprocess.CompletedProcess[bytes]:
        """Run `wherryd stop` to its end. Raises subprocess.TimeoutExpired."""
        return subprocess.run(
            self.command(script("wherryd"), *self.roots, "stop"),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=STOP_SECONDS,
            check=False,
        )

    def close(self) -> None:
        """Stop the daemon, every container, the supervisor and the keeper; remove the folder.

        AssertionError when `wherryd stop` fails or leaves a process; those are then killed.
        """
        try:
            stopped = self.stop()
        except subprocess.TimeoutExpired as error:
            said = (error.stderr or b"") + b" and has not ended"
            stopped = subprocess.CompletedProcess[bytes](error.cmd, -1, b"", said)
        if self.process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(STOP_SECONDS)
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()
            self.process = None
        left = wait_until_gone(str(self.root))
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        log = self.tail()
        shutil.rmtree(self.root, ignore_errors=True)
        if self._own_network and self.network is not None:
            self.network.close()
            self.network = None
        assert stopped.returncode == 0, f"wherryd stop: {stopped.stderr.decode()}\n{log}"
        assert not left, f"wherryd stop left {left}\n{log}"


def wait_until_gone(token: str, seconds: float = 20.0) -> dict[int, str]:
    """Wait for the end of every process that names `token`; return those left, pid to command."""
    deadline = time.monotonic() + seconds
    while (left := processes_naming(token)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return left
