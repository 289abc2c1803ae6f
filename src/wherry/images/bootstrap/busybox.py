"""A busybox image from the machine's own static busybox: one program and a link for each applet."""

from __future__ import annotations

import os
import re
import shutil
import struct
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from wherry.images.making import NewImage, WriteLayer
from wherry.model.errors import Invalid, Unsupported
from wherry.model.ids import DEFAULT_TAG, Reference
from wherry.model.images import ImageConfig
from wherry.model.moments import render_rfc3339
from wherry.storage.layers import Entry, Kind, TarWriter

_HINT = "install it: apt-get install busybox-static"
_INTERPRETER = 3  # PT_INTERP, elf(5)
_VERSION = re.compile(r"BusyBox v(\d+)\.(\d+)\.(\d+)")
_APPLET = re.compile(r"(?:[a-z]+/)*[A-Za-z0-9_.\-\[]+")
_SECOND = 10**9
_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PASSWD = b"""root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/usr/sbin:/bin/false
bin:x:2:2:bin:/bin:/bin/false
sys:x:3:3:sys:/dev:/bin/false
mail:x:8:8:mail:/var/spool/mail:/bin/false
www-data:x:33:33:www-data:/var/www:/bin/false
operator:x:37:37:Operator:/var:/bin/false
nobody:x:65534:65534:nobody:/home:/bin/false
"""
_GROUP = b"""root:x:0:
daemon:x:1:
bin:x:2:
sys:x:3:
adm:x:4:
tty:x:5:
disk:x:6:
mail:x:8:
kmem:x:9:
www-data:x:33:
utmp:x:43:
staff:x:50:
users:x:100:
nogroup:x:65534:
"""
_SHADOW = b"root:*:::::::\nnobody:*:::::::\n"
_NSSWITCH = b"passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n"
_FILES = {
    "etc/group": (0o644, _GROUP),
    "etc/nsswitch.conf": (0o644, _NSSWITCH),
    "etc/passwd": (0o644, _PASSWD),
    "etc/shadow": (0o600, _SHADOW),
}
_DIRECTORIES = {
    "bin": 0o755,
    "dev": 0o755,
    "etc": 0o755,
    "home": 0o755,
    "proc": 0o555,
    "root": 0o700,
    "run": 0o755,
    "sbin": 0o755,
    "sys": 0o555,
    "tmp": 0o1777,
    "usr": 0o755,
    "usr/bin": 0o755,
    "usr/sbin": 0o755,
    "var": 0o755,
    "var/tmp": 0o1777,
}


@dataclass(frozen=True, slots=True)
class Planned:
    """What to make: the layer's writer, and the rest of the image."""

    write_layer: WriteLayer
    new: NewImage


def plan_busybox(reference: Reference, options: Mapping[str, str]) -> Planned:
    """Return the busybox image for this machine. The same busybox always gives the same image.

    Raises Unsupported where there is no static busybox, Invalid for a tag that is not its version.
    """
    if options:
        raise Invalid(f"busybox has no option {sorted(options)[0]!r}")
    program = _find()
    data = program.read_bytes()
    if not is_static(data):
        raise Unsupported(f"{program} is not statically linked", hint=_HINT)
    version, applets = _ask(program)
    tags = {DEFAULT_TAG, version, version.rpartition(".")[0], version.partition(".")[0]}
    if reference.tag not in tags:
        raise Invalid(
            f"the busybox here is {version}, not {reference.tag}",
            hint="name it busybox, and tag it afterwards",
        )
    made = int(program.stat().st_mtime)

    def write(out: Callable[[bytes], object]) -> None:
        _write_layer(TarWriter(out), data, applets, made * _SECOND)

    return Planned(
        write,
        NewImage(
            config=ImageConfig(env=(_PATH,), command=("sh",)),
            created=render_rfc3339(made * _SECOND),
            created_by=f"wherry image bootstrap busybox # {version}",
            reference=reference,
        ),
    )


def is_static(data: bytes) -> bool:
    """Whether `data` is a Linux program that needs no loader (elf(5): no PT_INTERP)."""
    if len(data) < 64 or data[:4] != b"\x7fELF" or data[4] not in (1, 2) or data[5] not in (1, 2):
        return False
    order = "<" if data[5] == 1 else ">"
    wide = data[4] == 2
    layout, at = ("Q", 32) if wide else ("I", 28)
    (offset,) = struct.unpack_from(order + layout, data, at)
    size, count = struct.unpack_from(order + "HH", data, 54 if wide else 42)
    if not count or not size or offset + size * count > len(data):
        return False
    kinds = [struct.unpack_from(order + "I", data, offset + n * size)[0] for n in range(count)]
    return _INTERPRETER not in kinds


def _find() -> Path:
    for candidate in (shutil.which("busybox"), "/bin/busybox", "/usr/bin/busybox"):
        if candidate and os.access(candidate, os.X_OK):
            return Path(candidate).resolve()
    raise Unsupported("there is no busybox on this machine", hint=_HINT)


def _ask(program: Path) -> tuple[str, list[str]]:
    """Return busybox's version and the paths of its applets, without a leading slash."""
    try:
        banner = subprocess.run(
            [program, "--help"], capture_output=True, text=True, timeout=10, check=False
        ).stdout
        listing = subprocess.run(
            [program, "--list-full"], capture_output=True, text=True, timeout=10, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise Unsupported(f"{program} does not run: {error}", hint=_HINT) from error
    version = _VERSION.search(banner)
    applets = sorted({line for line in listing.split() if _APPLET.fullmatch(line)})
    if version is None or not applets:
        raise Unsupported(f"{program} is no busybox", hint=_HINT)
    return ".".join(version.groups()), applets


def _write_layer(tar: TarWriter, data: bytes, applets: list[str], mtime_ns: int) -> None:
    directories = dict(_DIRECTORIES)
    for applet in applets:
        directories.setdefault(os.path.dirname(applet) or "bin", 0o755)
    for name, mode in sorted(directories.items()):
        tar.add_directory(name, mode=mode, mtime_ns=mtime_ns)
    tar.add_file("bin/busybox", data, mode=0o755, mtime_ns=mtime_ns)
    for applet in applets:
        name = applet if "/" in applet else f"bin/{applet}"
        if name != "bin/busybox":
            link = Entry(
                name.encode(), Kind.SYMLINK, 0o777, mtime_ns=mtime_ns, link=b"/bin/busybox"
            )
            tar.add(link)
    for name, (mode, content) in _FILES.items():
        tar.add_file(name, content, mode=mode, mtime_ns=mtime_ns)
    tar.finish()
