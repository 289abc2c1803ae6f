"""One build as it is shown: events in, the chosen form of progress out, the result kept."""

from __future__ import annotations

import _thread
import os
import sys
import time
from binascii import a2b_base64

from wherry.cli.building.plain import Plain, failure_tail
from wherry.cli.building.vertices import Vertices
from wherry.cli.failure import Failure
from wherry.cli.style import YELLOW, Style, wanted
from wherry.client import wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    import threading
    from collections.abc import Callable
    from typing import Any

    from wherry.cli.building.board import Board
    from wherry.cli.session import Session

    Object = dict[str, Any]

FORMS = ("auto", "none", "plain", "quiet", "rawjson", "tty")
_TICK = 0.1
_LOCAL = -1


class Shown:
    """A context: progress is drawn while it lasts, and the end is told on leaving."""

    def __init__(self, session: Session, form: str, *, check: bool = False) -> None:
        if form not in FORMS:
            raise Failure(f"invalid progress mode: {form}: one of {', '.join(FORMS)}")
        self._session = session
        self.check = check
        self.to_standard_output = False
        """An output goes there."""
        self.result: Object | None = None
        self._vertices = Vertices()
        self._lock = _thread.allocate_lock()
        self._form = form
        terminal = form == "tty" or (form == "auto" and os.isatty(2))
        self._view: Plain | Board | None = None
        self._ticker: threading.Thread | None = None
        self._over: threading.Event | None = None
        if terminal:
            self._draw()
        elif form in ("auto", "plain"):
            self._view = Plain(_write, time.time_ns)

    def _draw(self) -> None:
        # Not at the top: a build that shows nothing, or lines, needs neither.
        import threading

        from wherry.cli.building.board import Board

        self._view = Board(self._vertices, _write, time.time_ns, 2)
        self._over = threading.Event()
        self._ticker = threading.Thread(
            target=self._tick, args=(self._over, self._view), daemon=True
        )

    def __enter__(self) -> Shown:
        if self._ticker is not None:
            self._ticker.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._over is not None and self._ticker is not None:
            self._over.set()
            self._ticker.join()
        if self._view is not None:
            self._view.close()
            if not self.check:
                self._report_end()
            elif kind is not None and self._vertices.warnings:
                # `# check=error=true`: what was found, then the error.
                self.report_check()

    def _tick(self, over: threading.Event, board: Board) -> None:
        while not over.wait(_TICK):
            with self._lock:
                board.tick()

    def locally(self, title: str, work: Callable[[], None]) -> None:
        """Show a piece of work of the client's own."""
        step: Object = {"id": _LOCAL, "title": title}
        self._event({"type": "started", "step": step, "at": time.time_ns()})
        try:
            work()
        except BaseException as error:
            self._event(
                {"type": "failed", "step": step, "at": time.time_ns(), "message": str(error)}
            )
            raise
        self._event({"type": "done", "step": step, "at": time.time_ns()})

    def take(self, event: Object) -> None:
        """Take in one line of the engine's. Raises Failure where it is an error."""
        problem: Object | None = event.get("errorDetail")
        if problem is not None:
            raise Failure(f"failed to build: {problem['message']}")
        if event["type"] == "finished":
            self.result = event
            self._finished(event)
            return
        self._event(event)

    def _event(self, event: Object) -> None:
        with self._lock:
            if self._form == "rawjson":
                sys.stderr.write(wire.encode(event) + "\n")
            self._vertices.take(event)
            if self._view is not None:
                data = a2b_base64(event["data"]) if event["type"] == "output" else b""
                self._view.take(event, self._vertices, data)

    def _finished(self, event: Object) -> None:
        """What is the end of every build has no step of the engine's: the image and its names."""
        if not event.get("image_id") or not event["stored"] or self._form == "rawjson":
            return
        now = time.time_ns()
        step: Object = {"id": _LOCAL - 1, "title": "exporting to image"}
        self._event({"type": "started", "step": step, "at": now})
        lines = [f"writing image {event['image_id']} done"]
        lines += [f"naming to {name} done" for name in event.get("names") or ()]
        for line in lines:
            said: Object = {"name": line.removesuffix(" done"), "current": 0, "total": 0}
            self._event({"type": "transfer", "step": step, **said, "done": True})
        self._event({"type": "done", "step": step, "at": now})

    def _report_end(self) -> None:
        failed = self._vertices.failed
        if failed is not None:
            _write(failure_tail(failed))
            if self._vertices.excerpt:
                _write(f"{self._vertices.excerpt}\n")
        found = [w for w in self._vertices.warnings if w["rule"]]
        for notice in self._vertices.warnings:
            if not notice["rule"]:
                _write(f"[Warning] {notice['message']}\n")
        if found:
            plural = "warning" if len(found) == 1 else "warnings"
            head = f"{len(found)} {plural} found (see them all with --check):"
            _write(f"\n {Style(wanted(2))(YELLOW, head)}\n")
            for w in found:
                _write(f" - {w['rule']}: {w['message']} (line {w['line']})\n")

    def report_check(self) -> int:
        """Print what the checks found; return the exit code."""
        found = [w for w in self._vertices.warnings if w["rule"]]
        if not found:
            self._session.line("Check complete, no warnings found.")
            return 0
        some = "1 warning has" if len(found) == 1 else f"{len(found)} warnings have"
        self._session.line(f"Check complete, {some} been found!")
        for w in found:
            url = f" - {w['url']}" if w["url"] else ""
            self._session.line(f"\nWARNING: {w['rule']}{url}\n{w['message']}")
            if w["excerpt"]:
                self._session.line(w["excerpt"].rstrip("\n"))
        return 1


def _write(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()
