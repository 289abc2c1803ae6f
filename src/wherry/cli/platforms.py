"""A platform, `linux/arm64/v8`, in its normal form."""

from __future__ import annotations

import os

from wherry.cli.failure import Failure
from wherry.model.literals import quote

_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-"
_SYSTEMS = (
    "linux",
    "windows",
    "darwin",
    "freebsd",
    "netbsd",
    "openbsd",
    "solaris",
    "plan9",
    "wasip1",
)
_MACHINES: dict[str, tuple[str, str]] = {
    "i386": ("386", ""),
    "x86_64": ("amd64", ""),
    "x86-64": ("amd64", ""),
    "amd64": ("amd64", ""),
    "aarch64": ("arm64", ""),
    "arm64": ("arm64", ""),
    "armhf": ("arm", ""),
    "armel": ("arm", "v6"),
    "386": ("386", ""),
    "arm": ("arm", ""),
    "ppc64le": ("ppc64le", ""),
    "s390x": ("s390x", ""),
    "riscv64": ("riscv64", ""),
    "loong64": ("loong64", ""),
    "mips64le": ("mips64le", ""),
}


def normalise(text: str) -> str:
    """Return `text` as `os/machine[/variant]`, and the empty text as it is. Raises Failure."""
    if not text:
        return ""
    parts = text.split("/")
    for i, part in enumerate(parts):
        if part and not part.strip(_LETTERS):
            continue
        if i == 0:
            raise _bad(
                f"{quote(part)} is an invalid OS component of {quote(text)}: OSAndVersion specifier"
                ' component must match "^([A-Za-z0-9_-]+)(?:\\\\(([A-Za-z0-9_.-]*)\\\\))?$"'
            )
        raise _bad(
            f"{quote(part)} is an invalid component of {quote(text)}: platform specifier component"
            ' must match "^[A-Za-z0-9_.-]+$"'
        )
    words = [part.lower() for part in parts]
    if len(words) == 1:
        if words[0] in _SYSTEMS:
            machine = _MACHINES.get(os.uname().machine, (os.uname().machine, ""))
            return _joined(words[0], *machine)
        if words[0] in _MACHINES:
            return _joined("linux", *_MACHINES[words[0]])
        raise _bad(f"{quote(text)}: unknown operating system or architecture")
    if len(words) > 3:
        raise _bad(f"{quote(text)}: cannot parse platform specifier")
    machine, variant = _MACHINES.get(words[1], (words[1], ""))
    if len(words) == 3:
        variant = words[2]
    if machine == "arm" and variant.isdecimal():
        variant = f"v{variant}"
    if (machine, variant) == ("amd64", "v1") or (machine, variant) == ("arm64", "8"):
        variant = ""
    return _joined(words[0], machine, variant)


def _joined(system: str, machine: str, variant: str) -> str:
    return f"{system}/{machine}/{variant}" if variant else f"{system}/{machine}"


def _bad(why: str) -> Failure:
    return Failure(f"error parsing specified platform: {why}: invalid argument")


def as_json(text: str) -> str:
    """Return the platform as the JSON that image routes take in their query. Raises Failure."""
    from wherry.client import wire

    system, machine, *variant = normalise(text).split("/")
    platform = {"architecture": machine, "os": system}
    if variant:
        platform["variant"] = variant[0]
    return wire.encode(platform)
