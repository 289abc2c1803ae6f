"""Programs of another machine: a static qemu that is installed nowhere, and an arm64 busybox."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / ".venv/foreign"
"""Where `make test` has unpacked them. bin/ in it goes last into the PATH of the tests' engines."""
_NAMES = ("sh", "cat", "ls", "mount", "sleep", "uname")


def find_emulator() -> Path:
    """Return the qemu, or skip the test where there is none: it is fetched for amd64 alone."""
    found = [path for path in FOLDER.glob("bin/qemu-aarch64*") if path.is_file()]
    if not found:
        pytest.skip("no qemu for arm64 here: `make test` fetches one on amd64")
    return found[0]


def foreign_root() -> bytes:
    """Return a root file system with an arm64 busybox, as tar."""
    busybox = FOLDER / "busybox"
    if not busybox.exists():
        pytest.skip("the package mirror has no arm64 busybox")
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        data = busybox.read_bytes()
        entry = tarfile.TarInfo("bin/busybox")
        entry.size, entry.mode = len(data), 0o755
        archive.addfile(entry, io.BytesIO(data))
        for name in _NAMES:
            link = tarfile.TarInfo(f"bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            archive.addfile(link)
    return out.getvalue()
