"""What a run leaves on the machine: processes, mounts, cgroups, links, nftables tables, folders."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from dataclasses import dataclass, fields
from pathlib import Path

_WORD = "wherry"
_FOLDERS = ("/run", "/tmp", "/var/tmp", "/var/lib")
# Kept on purpose: the lock by which two runs of the tests know of each other.
LOCK = Path("/tmp/wherry-tests.lock")


@dataclass(frozen=True, slots=True)
class Footprint:
    """What is there at one moment; each entry is a line a person can act on."""

    processes: frozenset[str]
    mounts: frozenset[str]
    cgroups: frozenset[str]
    links: frozenset[str]
    tables: frozenset[str]
    folders: frozenset[str]

    def beyond(self, before: Footprint) -> list[str]:
        """Return what is here and was not there `before`, sorted by kind."""
        return [
            f"{field.name}: {entry}"
            for field in fields(self)
            for entry in sorted(getattr(self, field.name) - getattr(before, field.name))
        ]


def read_footprint(token: str) -> Footprint:
    """Return what is on the machine now that names wherry or `token`; links and tables all."""
    return Footprint(
        frozenset(
            f"{pid} {command}"
            for pid, command in (processes_naming(_WORD) | processes_naming(token)).items()
        ),
        frozenset(
            line
            for line in Path("/proc/self/mountinfo").read_text().splitlines()
            if _WORD in line or token in line
        ),
        frozenset(_cgroups()),
        frozenset(os.listdir("/sys/class/net")),
        frozenset(_tables()),
        frozenset(
            str(path)
            for folder in _FOLDERS
            for path in Path(folder).glob(f"*{_WORD}*")
            if path != LOCK
        ),
    )


def wait_for_nothing_beyond(before: Footprint, token: str, seconds: float = 20.0) -> list[str]:
    """Return what is left beyond `before` once it no longer shrinks away, `seconds` at most."""
    deadline = time.monotonic() + seconds
    while (left := read_footprint(token).beyond(before)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return left


def processes_naming(token: str) -> dict[int, str]:
    """Return pid and command line of the processes that name `token`, this one left out.

    A process names it in its command line, its environment or the path of its cgroup. In the midst of an
    exec it has neither of the first two.
    """
    found: dict[int, str] = {}
    word = token.encode()
    for entry in os.scandir("/proc"):
        if not entry.name.isdecimal() or int(entry.name) == os.getpid():
            continue
        try:
            command = _read(f"/proc/{entry.name}/cmdline")
            if any(
                word in text
                for text in (
                    command,
                    _read(f"/proc/{entry.name}/environ"),
                    _read(f"/proc/{entry.name}/cgroup"),
                )
            ):
                words = command.replace(b"\0", b" ").decode(errors="replace").strip()
                found[int(entry.name)] = words or _read(f"/proc/{entry.name}/comm").decode()
        except OSError:  # it ended while being read
            continue
    return found


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _cgroups() -> list[str]:
    """Return the cgroups that name wherry, and all below them: an engine's, and its containers'."""
    top = "/sys/fs/cgroup"
    return [folder for folder, _, _ in os.walk(top) if _WORD in folder]


def _tables() -> list[str]:
    if shutil.which("nft") is None:
        return []
    listed = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=False)
    return listed.stdout.splitlines()
