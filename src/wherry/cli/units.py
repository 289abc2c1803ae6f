"""Sizes for people, digit for digit as Docker's client writes them."""

from __future__ import annotations

_DECIMAL = ("B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB")
_BINARY = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB")


def _scaled(size: float, base: float, names: tuple[str, ...], digits: int) -> str:
    step = 0
    while size >= base and step < len(names) - 1:
        size /= base
        step += 1
    return f"{size:.{digits}g}{names[step]}"


def human_size(size: float, digits: int = 4) -> str:
    """Return bytes in powers of 1000 with so many significant digits: `4.43MB`."""
    return _scaled(size, 1000.0, _DECIMAL, digits)


def binary_size(size: float) -> str:
    """Return bytes in powers of 1024 with four significant digits: `23.54GiB`."""
    return _scaled(size, 1024.0, _BINARY, 4)
