"""The command-line clients as callables, bound to one engine."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from functools import cached_property
from pathlib import Path

_HERE = Path(__file__).resolve()
_UNPACKED = _HERE.parents[2] / ".venv/docker-client/usr/bin/docker"


def find_docker() -> str | None:
    """Return the docker client: on PATH, or where set-up unpacks it."""
    return shutil.which("docker") or (str(_UNPACKED) if _UNPACKED.exists() else None)


class Client:
    """`client("run", "--rm", IMAGE, "true")` runs one command and returns what it printed."""

    def __init__(self, command: list[str], host: str, home: Path) -> None:
        self.command = command
        self.host = host
        # The caller's own contexts, TLS settings and configuration must not reach the test.
        settings = ("DOCKER_", "WHERRY_HOST", "WHERRY_CONTEXT")
        self.env = {k: v for k, v in os.environ.items() if not k.startswith(settings)}
        self.env |= {"DOCKER_HOST": host, "DOCKER_CONFIG": str(home), "HOME": str(home)}
        # A buildx that is installed on the machine would take the client's builds over.
        self.env["DOCKER_BUILDKIT"] = "0"

    def __call__(
        self, *words: str, check: bool = True, stdin: str | None = None, timeout: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """Run the command to its end, `stdin` on its standard input (nothing there when None).

        Raises AssertionError with everything it printed when `check` and it failed, and
        subprocess.TimeoutExpired after `timeout` seconds.
        """
        data = None if stdin is None else stdin.encode()
        done = self.raw(*words, check=check, stdin=data, timeout=timeout)
        out, err = (text.decode(errors="replace") for text in (done.stdout, done.stderr))
        return subprocess.CompletedProcess(done.args, done.returncode, out, err)

    def raw(
        self, *words: str, check: bool = True, stdin: bytes | None = None, timeout: float = 60
    ) -> subprocess.CompletedProcess[bytes]:
        """Do the same with bytes in and bytes out."""
        done = subprocess.run(
            [*self.command, *words],
            env=self.env,
            input=b"" if stdin is None else stdin,
            capture_output=True,
            timeout=timeout,
            check=False,
        )
        if check:
            assert done.returncode == 0, (
                f"{' '.join([*self.command, *words])} ended with {done.returncode}\n"
                f"stdout: {done.stdout.decode(errors='replace')}\n"
                f"stderr: {done.stderr.decode(errors='replace')}"
            )
        return done

    def line(self, *words: str, timeout: float = 60) -> str:
        """Run the command and return its standard output without the white space around it."""
        return self(*words, timeout=timeout).stdout.strip()

    @cached_property
    def version(self) -> tuple[int, ...]:
        """The client's own version. Debian 12 ships a docker client of 20.10, which lacks flags."""
        return tuple(int(part) for part in re.findall(r"\d+", self.line("--version"))[:3])

    def popen(self, *words: str) -> subprocess.Popen[bytes]:
        """Start the command with pipes on all three streams."""
        pipe = subprocess.PIPE
        return subprocess.Popen(
            [*self.command, *words], env=self.env, stdin=pipe, stdout=pipe, stderr=pipe
        )
