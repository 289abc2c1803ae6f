"""The names that images have for machines (GOARCH), by those that the kernel has (uname(2))."""

from __future__ import annotations

import platform

ARCHITECTURES = {
    "x86_64": ("amd64", ""),
    "aarch64": ("arm64", "v8"),
    "armv7l": ("arm", "v7"),
    "armv6l": ("arm", "v6"),
    "i686": ("386", ""),
    "i386": ("386", ""),
    "loongarch64": ("loong64", ""),
}
"""Architecture and variant."""


def host_architecture() -> tuple[str, str]:
    """Return architecture and variant of the machine that this runs on."""
    return architecture_of(platform.machine())


def architecture_of(machine: str) -> tuple[str, str]:
    """Return architecture and variant that `machine` stands for; a name that is not the kernel's is its own."""
    return ARCHITECTURES.get(machine, (machine, ""))
