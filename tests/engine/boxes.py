"""Containers as tests want them: without a network, named by the test, gone afterwards."""

from __future__ import annotations

import secrets
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.harness.clients import Client

# A shell that answers TERM at once: `sleep` as pid 1 would ignore it.
SLEEP = ("sh", "-c", "trap 'exit 0' TERM; sleep 3600 & wait")


class Runner:
    """`run("-e", "A=b", run.image, "env")` is `docker run --rm --network none …`."""

    def __init__(self, docker: Client, image: str) -> None:
        self.docker = docker
        self.image = image

    def __call__(self, *words: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run to the end; options as of Client."""
        return self.docker("run", "--rm", "--network", "none", *words, **options)

    def sh(self, script: str, *flags: str, **options: Any) -> str:
        """Run a script in busybox with these flags; return its standard output."""
        return self(*flags, self.image, "sh", "-c", script, **options).stdout

    def code(self, script: str, *flags: str, **options: Any) -> int:
        """Run a script in busybox with these flags; return the exit code."""
        return self(*flags, self.image, "sh", "-c", script, check=False, **options).returncode

    def refused(self, *flags: str) -> str:
        """Run `true` with flags that must be refused (125); return what the client said."""
        done = self(*flags, self.image, "true", check=False)
        assert done.returncode == 125, f"{done.returncode}: {done.stdout}{done.stderr}"
        return done.stderr


class Boxes:
    """Makes named containers; removes them, and named images, on exit."""

    def __init__(self, docker: Client, image: str) -> None:
        self.docker = docker
        self.image = image
        self._names: list[str] = []
        self._images: list[str] = []
        self._volumes: list[str] = []

    def __enter__(self) -> Boxes:
        return self

    def __exit__(self, *_: object) -> None:
        if self._names:
            self.docker("rm", "-f", "-v", *self._names, check=False)
        if self._images:
            self.docker("image", "rm", "-f", *self._images, check=False)
        if self._volumes:
            self.docker("volume", "rm", "-f", *self._volumes, check=False)

    def name(self) -> str:
        """Return a name for a container, which is removed at the end if it is there."""
        self._names.append(f"wt-{secrets.token_hex(4)}")
        return self._names[-1]

    def image_name(self) -> str:
        """Return a name for an image, which is removed at the end if it is there."""
        self._images.append(f"wt-{secrets.token_hex(4)}:1")
        return self._images[-1]

    def volume_name(self) -> str:
        """Return a name for a volume, which is removed at the end if it is there."""
        self._volumes.append(f"wt-{secrets.token_hex(4)}")
        return self._volumes[-1]

    def volume(self, *flags: str) -> str:
        """`docker volume create FLAGS NAME`; return the name."""
        name = self.volume_name()
        self.docker("volume", "create", *flags, name)
        return name

    def run(self, *words: str) -> str:
        """`docker run -d --name NAME --network none WORDS`; return the name."""
        name = self.name()
        self.docker("run", "-d", "--name", name, "--network", "none", *words)
        return name

    def create(self, *words: str) -> str:
        """`docker create --name NAME --network none WORDS`; return the name."""
        name = self.name()
        self.docker("create", "--name", name, "--network", "none", *words)
        return name

    def sleeper(self, *flags: str) -> str:
        """Start a container that does nothing until TERM; return its name."""
        return self.run(*flags, self.image, *SLEEP)

    def sh(self, script: str, *flags: str) -> str:
        """Start a script in busybox, detached; return the container's name."""
        return self.run(*flags, self.image, "sh", "-c", script)

    def exec(self, name: str, script: str, *flags: str, **options: Any) -> str:
        """Run a script in a running container; return its standard output."""
        return self.docker("exec", *flags, name, "sh", "-c", script, **options).stdout

    def imported(self, tar: bytes, *changes: str) -> str:
        """Import an archive as an image; return its name."""
        name = self.image_name()
        words = [word for change in changes for word in ("-c", change)]
        self.docker.raw("import", *words, "-", name, stdin=tar)
        return name


@contextmanager
def started(client: Client, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    """A running client with pipes on its streams; killed on exit if it still runs."""
    process = client.popen(*words)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                with suppress(OSError):  # what was never written meets a closed pipe
                    stream.close()


def eventually(check: Callable[[], object], seconds: float = 30.0) -> None:
    """Wait until `check()` is true; AssertionError after `seconds`."""
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, f"not so after {seconds} s"
        time.sleep(0.02)


def running(marker: str) -> list[str]:
    """Return the pids of the processes that have the word in their command line."""
    found: list[str] = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if marker.encode() in entry.read_bytes():
                found.append(entry.parent.name)
        except OSError:
            continue
    return found
