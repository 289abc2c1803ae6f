"""Progress as the classic builder's stream: `Step 1/5 : FROM busybox`, ` ---> 0123456789ab`.

Steps of several stages may run at once; the stream shows them in their order, so what a later step
says waits here until those before it have ended.
"""

from __future__ import annotations

from collections.abc import Sequence

from wherry.api.wire.codec import encode
from wherry.model.build import (
    BuildWarning,
    Finished,
    Progress,
    StepCached,
    StepDone,
    StepFailed,
    StepOutput,
    StepRef,
    StepStarted,
    Transfer,
)
from wherry.model.errors import WherryError

_RED, _PLAIN = "\x1b[91m", "\x1b[0m"


def short(identifier: str) -> str:
    """Return an id as the stream shows it: twelve digits, no algorithm."""
    return identifier.rpartition(":")[2][:12]


def stream(text: str) -> bytes:
    """Return one line of the stream that shows `text`."""
    return encode({"stream": text})


class _Lines:
    """What one step has said, and whether it has ended."""

    __slots__ = ("container", "ended", "pending")

    def __init__(self) -> None:
        self.pending = b""
        self.ended = False
        self.container = ""


class Classic:
    """Turns events into lines; `feed` returns what can be sent now."""

    def __init__(
        self,
        *,
        quiet: bool = False,
        keep_containers: bool = False,
        before: Sequence[str] = (),
    ) -> None:
        """`before` are the instructions before the first FROM, which count as steps."""
        self._quiet = quiet
        self._keep = keep_containers
        self._before = tuple(before)
        self._cached: set[str] = set()
        """Stages whose last step was a result of the cache."""
        self._steps: dict[int, _Lines] = {}
        self._next = 1
        self._notices = b""

    def feed(self, event: Progress) -> bytes:
        """Take in one event."""
        if isinstance(event, Finished):
            return self._flush() + self._finish(event)
        if self._quiet:
            return b""
        match event:
            case StepStarted(step=step):
                self._start(step)
                if event.container:
                    lines = self._of(step)
                    lines.container = event.container
                    lines.pending += stream(f" ---> Running in {short(event.container)}\n")
            case StepCached(step=step):
                self._start(step)
                # A base image is no result of the cache: Docker shows its id alone.
                said = b"" if _is_base(step) else stream(" ---> Using cache\n")
                if said:
                    self._cached.add(step.stage)
                self._end(step, said, event.result)
            case StepOutput(step=step):
                text = event.data.decode("utf-8", "replace")
                self._add(step, stream(f"{_RED}{text}{_PLAIN}" if event.fd == 2 else text))
            case StepDone(step=step):
                self._end(step, self._removed(step) + self._unchanged(step), event.result)
            case StepFailed(step=step):
                self._add(step, self._removed(step))
                return self._flush()
            case Transfer():
                return self._transfer(event)
            case BuildWarning():
                # The classic builder has notices and no checks.
                if not event.rule:
                    self._notices += stream(f"[Warning] {event.message}\n")
        return self._ready()

    def _of(self, step: StepRef) -> _Lines:
        return self._steps.setdefault(step.number, _Lines())

    def _start(self, step: StepRef) -> None:
        if step.number:
            lines = self._of(step)
            shift = len(self._before)
            total = step.total + shift
            if step.number == 1:
                for number, text in enumerate(self._before, 1):
                    lines.pending += stream(f"Step {number}/{total} : {text}") + stream("\n")
            title = stream(f"Step {step.number + shift}/{total} : {step.written or step.title}")
            lines.pending += title + stream("\n")

    def _add(self, step: StepRef, data: bytes) -> None:
        if step.number:
            self._of(step).pending += data

    def _end(self, step: StepRef, said: bytes, result: str) -> None:
        if not step.number:
            return
        if result:
            said += stream(f" ---> {short(result)}\n")
        lines = self._of(step)
        lines.pending += said
        lines.ended = True

    def _unchanged(self, step: StepRef) -> bytes:
        """What changes the configuration alone costs nothing: it is as cached as what is below it."""
        if step.stage_number and not _is_base(step):
            self._cached.discard(step.stage)
        return stream(" ---> Using cache\n") if step.stage in self._cached else b""

    def _removed(self, step: StepRef) -> bytes:
        container = self._of(step).container if step.number else ""
        if not container or self._keep:
            return b""
        return stream(f" ---> Removed intermediate container {short(container)}\n")

    def _transfer(self, event: Transfer) -> bytes:
        detail = {"current": event.current, "total": event.total}
        status = "Download complete" if event.done else "Downloading"
        if event.step is None or not event.name:
            return b""
        return self._ready() + encode(
            {
                "status": status,
                "progressDetail": {} if event.done else detail,
                "id": short(event.name),
            }
        )

    def _ready(self) -> bytes:
        """Return what the step whose turn it is has said, and those after it that follow on."""
        out = b""
        while lines := self._steps.get(self._next):
            out += lines.pending
            lines.pending = b""
            if not lines.ended:
                break
            del self._steps[self._next]
            self._next += 1
        return out

    def _flush(self) -> bytes:
        out = b"".join(lines.pending for _, lines in sorted(self._steps.items()))
        self._steps.clear()
        return out

    def _finish(self, event: Finished) -> bytes:
        if self._quiet:
            return stream(f"{event.image_id}\n") if event.image_id else b""
        if not event.image_id:
            return b""
        out = encode({"aux": {"ID": event.image_id}}) + self._notices
        out += stream(f"Successfully built {short(event.image_id)}\n")
        return out + b"".join(stream(f"Successfully tagged {name}\n") for name in event.names)


def _is_base(step: StepRef) -> bool:
    return step.title[:5].upper() == "FROM "


def render_build_failure(error: WherryError) -> bytes:
    """Return the line that ends a stream; a command's exit code goes with it."""
    text = str(error)
    detail: dict[str, object] = {"message": text}
    if code := getattr(error, "exit_code", 0):
        detail = {"code": code, "message": text}
    return encode({"errorDetail": detail, "error": text})
