"""What is known of each step of a build, as its events tell it."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Object = dict[str, Any]

_SECOND = 1_000_000_000
_KEPT = 1 << 16
"""Bytes of a step's output that are kept for the end."""

WAITING, RUNNING, DONE, CACHED, FAILED, CANCELED = range(6)


class Vertex:
    """One step, or other piece of work. Times are nanoseconds of the engine's clock."""

    __slots__ = ("ended", "name", "number", "output", "rest", "started", "state", "transfers")

    def __init__(self, number: int, name: str) -> None:
        self.number = number
        self.name = name
        self.state = WAITING
        self.started = 0
        self.ended = 0
        self.output: list[str] = []
        """Whole lines with the second at which they came: `0.123 hello`."""
        self.rest = b""
        self.transfers: dict[str, Object] = {}

    def seconds(self, now: int) -> float:
        """Return how long it has taken."""
        if not self.started:
            return 0.0
        return max((self.ended or now) - self.started, 0) / _SECOND

    def take(self, data: bytes, now: int, *, whole: bool = False) -> list[str]:
        """Take output in; return the lines that it completed (with `whole`, what is left too)."""
        *lines, self.rest = (self.rest + data).split(b"\n")
        if whole and self.rest:
            lines.append(self.rest)
            self.rest = b""
        stamp = f"{self.seconds(now):.3f}"
        # What is before a carriage return was overwritten on a terminal.
        texts = [line.rstrip(b"\r").rpartition(b"\r")[2] for line in lines]
        found = [f"{stamp} {text.decode('utf-8', 'replace')}" for text in texts]
        self.output += found
        while len(self.output) > 1 and sum(map(len, self.output)) > _KEPT:
            del self.output[: len(self.output) // 2]
        return found


def vertex_name(step: Object) -> str:
    """Return `[build 2/4] RUN make`, or the title alone for what is no step of a stage.

    Where several platforms are built for it is `[linux/arm64 build 2/4] RUN make`.
    """
    if not step.get("stage_number"):
        return step["title"]
    stage: str = step.get("stage") or ""
    if stage.isdecimal():
        stage = "" if stage == "0" else f"stage-{stage}"
    place = f"{step['stage_number']}/{step['stage_total']}"
    words = " ".join(word for word in (step.get("platform"), stage, place) if word)
    return f"[{words}] {step['title']}"


class Vertices:
    """All of them, by the engine's id, in the order in which they came up."""

    def __init__(self) -> None:
        self.all: dict[int, Vertex] = {}
        self.warnings: list[Object] = []
        self.failed: Vertex | None = None
        self.excerpt = ""
        """Where in the Dockerfile the step stands that failed."""

    def of(self, step: Object) -> Vertex | None:
        """Return the vertex of a step; None for an instruction that only changes the configuration."""
        if step.get("number") and not step.get("stage_number"):
            return None
        found = self.all.get(step["id"])
        if found is None:
            found = Vertex(len(self.all) + 1, vertex_name(step))
            self.all[step["id"]] = found
        return found

    def take(self, event: Object) -> Vertex | None:
        """Take in one event; return the vertex that it is about."""
        kind: str = event["type"]
        if kind == "warning":
            self.warnings.append(event)
            return None
        step: Object | None = event.get("step")
        vertex = self.of(step) if step else None
        if vertex is None:
            return None
        if kind == "started":
            vertex.state, vertex.started = RUNNING, event["at"]
        elif kind == "cached":
            vertex.state = CACHED
            vertex.started = vertex.ended = event["at"]
        elif kind == "done":
            vertex.state, vertex.ended = DONE, event["at"]
        elif kind == "failed":
            vertex.state = CANCELED if event.get("canceled") else FAILED
            vertex.ended = event["at"]
            if vertex.state == FAILED:
                self.failed = vertex
                self.excerpt = event.get("excerpt") or ""
        elif kind == "transfer":
            vertex.transfers[event["name"]] = event
        return vertex
