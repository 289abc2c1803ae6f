"""`docker events`, and the progress lines of load, import and bootstrap."""

from __future__ import annotations

from wherry.api.versions import Version
from wherry.api.wire.codec import encode
from wherry.model.errors import WherryError
from wherry.model.events import Event
from wherry.model.views import Progress

_SECOND = 1_000_000_000


def render_event(event: Event, version: Version) -> dict[str, object]:
    """Return one event. Containers' and images' have the old fields status, id and from too."""
    attributes = dict(event.attributes)
    answer: dict[str, object] = {}
    if event.kind in ("container", "image"):
        answer = {"status": event.action, "id": event.actor}
        if "image" in attributes:
            answer["from"] = attributes["image"]
    return answer | {
        "Type": event.kind,
        "Action": event.action,
        "Actor": {"ID": event.actor, "Attributes": attributes},
        "scope": "local",
        "time": event.time // _SECOND,
        "timeNano": event.time,
    }


def render_progress(progress: Progress) -> bytes:
    """Return one line of a progress stream."""
    if progress.error:
        return render_failure(progress.error)
    answer: dict[str, object] = {}
    if progress.stream:
        answer["stream"] = progress.stream
    if progress.status:
        answer["status"] = progress.status
    if progress.current or progress.total:
        detail = {"current": progress.current}
        if progress.total:
            detail["total"] = progress.total
        answer["progressDetail"] = detail
    if progress.id:
        answer["id"] = progress.id
    if progress.aux:
        answer["aux"] = dict(progress.aux)
    return encode(answer)


def render_failure(error: WherryError | str) -> bytes:
    """Return the line that ends a progress stream whose status was sent already."""
    text = str(error)
    return encode({"errorDetail": {"message": text}, "error": text})
