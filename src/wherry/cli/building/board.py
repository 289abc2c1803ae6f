"""Progress on a terminal: a tree of the steps with their times, drawn over itself."""

from __future__ import annotations

import os
import unicodedata

from wherry.cli.building.vertices import CACHED, CANCELED, DONE, FAILED, RUNNING, Vertex, Vertices
from wherry.cli.style import BLUE, CYAN, DIM, RED, YELLOW, Style, wanted
from wherry.cli.units import human_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Object = dict[str, Any]

_LOG_LINES = 6


def _columns(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def clip(text: str, room: int) -> str:
    """Return `text` without control characters, in at most `room` columns."""
    clean = "".join(c for c in text.expandtabs(4) if c.isprintable())
    if _columns(clean) <= room:
        return clean
    while clean and _columns(clean) > room - 1:
        clean = clean[:-1]
    return clean + "…"


class Board:
    """The tree. Whoever calls `take` and `tick` sees to it that they do not run at once."""

    def __init__(
        self, vertices: Vertices, write: Callable[[str], object], now: Callable[[], int], fd: int
    ) -> None:
        self._vertices = vertices
        self._write = write
        self._now = now
        self._fd = fd
        self._style = Style(wanted(fd))
        self._begun = now()
        self._drawn = 0
        self._over = False

    def take(self, event: Object, vertices: Vertices, data: bytes) -> None:
        """Take in one event; it is drawn at the next tick."""
        step: Object | None = event.get("step")
        vertex = vertices.of(step) if step else None
        if vertex is not None and event["type"] in ("output", "done", "failed"):
            vertex.take(data, self._now(), whole=event["type"] != "output")

    def tick(self) -> None:
        """Draw the tree as it is now."""
        try:
            size = os.get_terminal_size(self._fd)
            columns, rows = size.columns or 80, size.lines or 24
        except OSError:
            columns, rows = 80, 24
        lines = self._lines(columns, max(rows - 1, 3))
        # Lines are cleared as they are rewritten, what is below the last too: nothing flickers.
        text = (f"\x1b[{self._drawn}A" if self._drawn else "") + "\x1b[?25l"
        text += "".join(f"\r{line}\x1b[K\n" for line in lines) + "\x1b[J"
        self._drawn = len(lines)
        self._write(text)

    def close(self) -> None:
        """Draw a last time and give the cursor back."""
        self._over = True
        self.tick()
        self._write("\x1b[?25h")

    def _lines(self, columns: int, rows: int) -> list[str]:
        now = self._now()
        vertices = list(self._vertices.all.values())
        ended = sum(v.state in (DONE, CACHED) for v in vertices)
        failed = any(v.state == FAILED for v in vertices)
        word = "Building" if not self._over else ("FAILED" if failed else "FINISHED")
        seconds = (now - self._begun) / 1e9
        head = f"[+] Building {seconds:.1f}s ({ended}/{len(vertices)})"
        if self._over:
            head += f" {word}"
        shown: list[tuple[Vertex, list[str]]] = [(v, self._of(v, now, columns)) for v in vertices]
        if not self._over:
            # What is over goes first where there is no room; what runs stays.
            spare = sum(len(text) for _, text in shown) - (rows - 1)
            for i, (vertex, text) in enumerate(shown):
                if spare > 0 and vertex.state != RUNNING:
                    spare -= len(text)
                    shown[i] = (vertex, [])
        body = [line for _, text in shown for line in text]
        if not self._over and len(body) > rows - 1:
            body = body[-(rows - 1) :]
        return [self._style(BLUE, clip(head, columns - 1)), *body]

    def _of(self, vertex: Vertex, now: int, columns: int) -> list[str]:
        took = f"{vertex.seconds(now):.1f}s"
        mark = {CACHED: "CACHED ", FAILED: "ERROR ", CANCELED: "CANCELED "}.get(vertex.state, "")
        name = clip(f" => {mark}{vertex.name}", columns - len(took) - 2)
        gap = " " * max(columns - _columns(name) - len(took) - 1, 1)
        colour = {RUNNING: "", FAILED: RED, CANCELED: YELLOW, CACHED: CYAN}.get(vertex.state, CYAN)
        line = self._style(colour, name) if colour else name
        lines = [f"{line}{gap}{took}"]
        if vertex.state == RUNNING:
            for transfer in list(vertex.transfers.values())[-_LOG_LINES:]:
                lines.append(clip(f" => => {_transfer(transfer)}", columns - 1))
            for text in vertex.output[-_LOG_LINES:]:
                said = clip(f" => => # {text.partition(' ')[2]}", columns - 1)
                lines.append(self._style(DIM, said))
        return lines


def _transfer(event: Object) -> str:
    amount = human_size(event["current"])
    if event["total"]:
        amount += f" / {human_size(event['total'])}"
    name: str = event["name"]
    return f"{name if len(name) < 40 else name[:40] + '…'} {amount}"
