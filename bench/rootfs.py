"""What the measured containers run: a busybox image, and a Debian tree of about 190 MB, as tars."""

from __future__ import annotations

import io
import shutil
import subprocess
import tarfile
from pathlib import Path

MEGABYTE = 1_000_000
LINES = "/lines"  # one megabyte of lines, in every bench image
_WIDTH = 100
_APPLETS = "cat cp date dd echo head kill mkdir rm sh sleep true wc yes".split()


def busybox_tar(cache: Path) -> Path:
    """Return a tar of a root file system: the machine's static busybox and a file of lines."""
    target = cache / "busybox.tar"
    if target.exists():
        return target
    busybox = shutil.which("busybox")
    if busybox is None:
        raise SystemExit("no busybox on this machine: apt-get install busybox-static")
    partial = target.with_suffix(".partial")
    with tarfile.open(partial, "w") as tar:
        for folder in ("bin", "tmp", "proc", "sys", "dev", "etc"):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(entry)
        _add(tar, "bin/busybox", Path(busybox).read_bytes(), 0o755)
        for applet in _APPLETS:
            link = tarfile.TarInfo(f"bin/{applet}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
        _add(tar, LINES.lstrip("/"), one_megabyte_of_lines(), 0o644)
    return partial.rename(target)


def one_megabyte_of_lines() -> bytes:
    """Return 10,000 numbered lines of 100 bytes."""
    return b"".join(
        f"{number:06d} ".encode().ljust(_WIDTH - 1, b".") + b"\n"
        for number in range(MEGABYTE // _WIDTH)
    )


def lines_command(megabytes: int) -> list[str]:
    """Return the command that prints so many megabytes of lines from one process."""
    return ["cat", *[LINES] * megabytes]


def debian_tar(cache: Path) -> Path:
    """Return a tar of a small Debian, made once by mmdebstrap from the machine's package mirror."""
    target = cache / "debian.tar"
    if not target.exists():
        partial = cache / "debian.partial.tar"
        subprocess.run(
            ["mmdebstrap", "--quiet", "--variant=minbase", "--include=python3-minimal"]
            + [_codename(), str(partial)],
            check=True,
        )
        partial.rename(target)
    return target


def input_file(cache: Path, megabytes: int) -> Path:
    """Return a file of so many megabytes of lines, for standard input."""
    target = cache / f"input-{megabytes}.txt"
    if not target.exists():
        piece = one_megabyte_of_lines()
        with target.open("wb") as file:
            for _ in range(megabytes):
                file.write(piece)
    return target


def _add(tar: tarfile.TarFile, name: str, data: bytes, mode: int) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(data), mode
    tar.addfile(entry, io.BytesIO(data))


def _codename() -> str:
    for line in Path("/etc/os-release").read_text().splitlines():
        if line.startswith("VERSION_CODENAME="):
            return line.partition("=")[2].strip('"')
    return "stable"
