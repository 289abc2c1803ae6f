"""Streams of progress messages, as pull, load, import and bootstrap send them.

On a terminal each id keeps a line of its own, redrawn in place; elsewhere lines are only added.
"""

from __future__ import annotations

import os
import sys
import time

from wherry.cli.failure import Failure
from wherry.cli.style import CYAN, GREEN, Style, wanted, width
from wherry.cli.units import human_size
from wherry.client.wire import one

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    Object = dict[str, Any]

_REDRAW = 0.05
_BAR = 30


def show(messages: Iterable[Object], *, descriptor: int = 1, quiet: bool = False) -> list[Object]:
    """Show the messages to their end and return what they carried as `aux`.

    Raises Failure with the engine's error.
    """
    out = sys.stdout if descriptor == 1 else sys.stderr
    board = _Board(descriptor) if not quiet and os.isatty(descriptor) else None
    found: list[Object] = []
    for message in messages:
        if message.get("aux") is not None:
            found.append(message["aux"])
            continue
        problem: Object | None = message.get("errorDetail")
        if problem or message.get("error"):
            if board is not None:
                board.draw()
            raise Failure((problem or {}).get("message") or message["error"])
        if quiet:
            continue
        if board is not None:
            board.take(message)
        else:
            out.write(_plain(message))
    if board is not None:
        board.draw()
    out.flush()
    return found


def _plain(message: Object) -> str:
    if message.get("stream") is not None:
        return message["stream"]
    if message.get("progressDetail"):
        return ""
    identifier: str = message.get("id") or ""
    status: str = message.get("status") or ""
    if not status:
        return ""
    return f"{identifier}: {status}\n" if identifier else f"{status}\n"


class _Board:
    """The lines of the ids, on a terminal."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._style = Style(wanted(descriptor))
        self._columns = width(descriptor)
        self._lines: dict[str, Object] = {}
        self._drawn = 0
        self._last = 0.0

    def take(self, message: Object) -> None:
        """Take in one message and draw, now or soon."""
        identifier: str = message.get("id") or ""
        if not identifier:
            self._settle(message.get("stream") or f"{message.get('status', '')}\n")
            return
        self._lines[identifier] = message
        if time.monotonic() - self._last > _REDRAW:
            self.draw()

    def _settle(self, text: str) -> None:
        self.draw()
        self._lines.clear()
        self._drawn = 0
        self._write(text)

    def draw(self) -> None:
        """Draw every line at its place."""
        self._last = time.monotonic()
        text = f"\x1b[{self._drawn}A" if self._drawn else ""
        for identifier, message in self._lines.items():
            text += f"\r\x1b[2K{self._render(identifier, message)}\n"
        self._drawn = len(self._lines)
        self._write(text)

    def _render(self, identifier: str, message: Object) -> str:
        status: str = message.get("status") or ""
        detail: Object = one(message, "progressDetail")
        done, total = detail.get("current") or 0, detail.get("total") or 0
        room = max(self._columns - len(identifier) - 3, 10)
        finished = status.lower().endswith(("complete", "exists", "done"))
        name = self._style(GREEN if finished else CYAN, identifier)
        if not done:
            return f"{name}: {status[:room]}"
        amount = human_size(done)
        if total > 0:
            filled = min(_BAR * done // total, _BAR)
            bar = "=" * filled + (">" if filled < _BAR else "") + " " * (_BAR - filled - 1)
            amount = f"[{bar}] {amount}/{human_size(total)}"
        return f"{name}: {f'{status} {amount}'[:room]}"

    def _write(self, text: str) -> None:
        out = sys.stdout if self._descriptor == 1 else sys.stderr
        out.write(text)
        out.flush()
