"""Archives made in memory: a busybox root, and roots crafted to hurt."""

from __future__ import annotations

import functools
import io
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterable
from pathlib import Path

Put = Callable[[tarfile.TarFile], None]


def directory(name: str, mode: int = 0o755) -> Put:
    """A folder."""

    def put(tar: tarfile.TarFile) -> None:
        info = tarfile.TarInfo(name)
        info.type, info.mode = tarfile.DIRTYPE, mode
        tar.addfile(info)

    return put


def file(name: str, data: bytes = b"", mode: int = 0o644, uid: int = 0, gid: int = 0) -> Put:
    """A regular file."""

    def put(tar: tarfile.TarFile) -> None:
        info = tarfile.TarInfo(name)
        info.size, info.mode, info.uid, info.gid = len(data), mode, uid, gid
        tar.addfile(info, io.BytesIO(data))

    return put


def symlink(name: str, target: str) -> Put:
    """A symbolic link."""

    def put(tar: tarfile.TarFile) -> None:
        info = tarfile.TarInfo(name)
        info.type, info.linkname, info.mode = tarfile.SYMTYPE, target, 0o777
        tar.addfile(info)

    return put


def tar_of(entries: Iterable[Put]) -> bytes:
    """Return the archive of these entries, in order."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for put in entries:
            put(tar)
    return out.getvalue()


def busybox_entries(*without: str) -> list[Put]:
    """A root around the machine's static busybox; `without` names entries to leave out."""
    program, applets = _busybox()
    folders = ["bin", "dev", "etc", "proc", "root", "sys", "tmp", "usr", "usr/bin", "var"]
    passwd = b"root:x:0:0:root:/root:/bin/sh\nwww-data:x:33:33::/var/www:/bin/false\n"
    group = b"root:x:0:\nwww-data:x:33:\nstaff:x:50:www-data\n"
    entries = [directory(n, 0o1777 if n == "tmp" else 0o755) for n in folders if n not in without]
    files = {"etc/passwd": passwd, "etc/group": group}
    entries += [file(name, data) for name, data in files.items() if name not in without]
    entries.append(file("bin/busybox", program, 0o755))
    entries += [symlink(f"bin/{name}", "busybox") for name in applets if name != "busybox"]
    return entries


@functools.cache
def busybox_tar() -> bytes:
    """A root file system with busybox and a link for each applet."""
    return tar_of(busybox_entries())


@functools.cache
def _busybox() -> tuple[bytes, tuple[str, ...]]:
    found = shutil.which("busybox")
    assert found, "the tests need busybox-static"
    path = Path(found)
    listed = subprocess.run([path, "--list"], capture_output=True, text=True, check=True)
    return path.read_bytes(), tuple(listed.stdout.split())
