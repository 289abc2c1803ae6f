"""Progress as lines that are only added: `#5 [2/3] RUN make`, `#5 0.123 cc -o x`, `#5 DONE 1.2s`."""

from __future__ import annotations

from wherry.cli.building.vertices import CANCELED, FAILED, RUNNING, Vertex, Vertices
from wherry.cli.units import human_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Object = dict[str, Any]


class Plain:
    """Shows events as BuildKit's `--progress=plain` does."""

    def __init__(self, write: Callable[[str], object], now: Callable[[], int]) -> None:
        self._write = write
        self._now = now
        self._last: Vertex | None = None
        self._named: set[int] = set()

    def take(self, event: Object, vertices: Vertices, data: bytes) -> None:
        """Show one event that `vertices` took in already; `data` is an output's bytes."""
        step: Object | None = event.get("step")
        vertex = vertices.of(step) if step else None
        if vertex is None:
            return
        kind: str = event["type"]
        lines: list[str] = []
        if kind == "output":
            lines = vertex.take(data, self._now())
        elif kind == "transfer":
            if event["done"]:
                lines = [f"{event['name']} {_amount(event)} done".replace("  ", " ")]
        elif kind in ("done", "failed"):
            lines = vertex.take(b"", self._now(), whole=True)
            if kind == "done":
                lines.append(f"DONE {vertex.seconds(0):.1f}s")
            elif vertex.state == CANCELED:
                lines.append("CANCELED")
            else:
                lines.append(f"ERROR: {event['message'].partition(chr(10))[0]}")
        elif kind == "cached":
            lines = ["CACHED"]
        if lines or kind == "started":
            self._show(vertex, lines)

    def _show(self, vertex: Vertex, lines: list[str]) -> None:
        text = ""
        if self._last is not vertex:
            if self._last is not None:
                text += "\n" if self._last.state != RUNNING else f"#{self._last.number} ...\n\n"
            text += f"#{vertex.number} {vertex.name}\n"
        self._last = vertex
        self._write(text + "".join(f"#{vertex.number} {line}\n" for line in lines))

    def tick(self) -> None:
        """Nothing changes by itself."""

    def close(self) -> None:
        """Say nothing more."""


def _amount(event: Object) -> str:
    return human_size(event["current"]) if event["current"] else ""


def failure_tail(vertex: Vertex) -> str:
    """Return the last lines of what a failed step wrote, between rules."""
    if vertex.state != FAILED or not vertex.output:
        return ""
    rule = "-" * 6 + "\n"
    lines = "".join(f"{line}\n" for line in vertex.output[-20:])
    return f"{rule} > {vertex.name}:\n{lines}{rule}"
