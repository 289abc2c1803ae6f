"""Colours, where they are wanted: on a terminal, and without NO_COLOR (no-color.org)."""

from __future__ import annotations

import os

BOLD, DIM, RED, GREEN, YELLOW, BLUE, CYAN = "1", "2", "31", "32", "33", "34", "36"


def wanted(descriptor: int) -> bool:
    """Whether what goes to `descriptor` may be coloured."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    return bool(os.environ.get("CLICOLOR_FORCE")) or os.isatty(descriptor)


class Style:
    """Paints text, or does not."""

    __slots__ = ("on",)

    def __init__(self, on: bool) -> None:
        self.on = on

    def __call__(self, code: str, text: str) -> str:
        """Return `text` in the SGR `code` when painting is on."""
        return f"\x1b[{code}m{text}\x1b[0m" if self.on and text else text


def width(descriptor: int = 1, default: int = 80) -> int:
    """Return the columns of the terminal at `descriptor`, or `default`."""
    try:
        return os.get_terminal_size(descriptor).columns or default
    except OSError:
        return default
