"""One line of output with its time, and the facts about its container that go with it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from wherry.model.containers import Container, Pairs
from wherry.model.errors import Invalid

LONGEST = 16 << 10
"""Bytes of one message; a longer line goes out in pieces, as with Docker."""
STDERR = 2


@dataclass(frozen=True, slots=True)
class Entry:
    """One message. `time` in nanoseconds since the epoch; `partial` where the line goes on."""

    time: int
    stream: int
    data: bytes
    partial: bool = False

    @property
    def source(self) -> str:
        """`stdout` or `stderr`."""
        return "stderr" if self.stream == STDERR else "stdout"


@dataclass(frozen=True, slots=True)
class Origin:
    """The container as messages tell of it."""

    id: str
    name: str
    image_id: str
    image_name: str
    command: str
    created: int
    tag: str
    extra: Pairs = ()
    """Labels and variables that were asked for."""


def origin_of(container: Container, options: dict[str, str], default_tag: str) -> Origin:
    """Return the facts about `container`; raises Invalid for a tag that is no template."""
    return Origin(
        container.id,
        container.name,
        str(container.image_id),
        container.image_name,
        " ".join(container.argv),
        container.created,
        render_tag(options.get("tag") or default_tag, container),
        extra_attributes(container, options),
    )


TAG_FIELDS = (
    *("Command", "DaemonName", "FullID", "FullName", "ID", "ImageFullID", "ImageFullName"),
    *("ImageID", "ImageName", "Name"),
)
_FIELD = re.compile(r"\{\{\s*\.?(\w+)\s*\}\}")


def render_tag(template: str, container: Container) -> str:
    """Return a tag such as `{{.ImageName}}/{{.Name}}/{{.ID}}` filled in. Raises Invalid."""
    check_tag(template)
    image = str(container.image_id)
    values = {
        "ID": container.id[:12],
        "FullID": container.id,
        "Name": container.name,
        "FullName": f"/{container.name}",
        "ImageID": image.partition(":")[2][:12],
        "ImageFullID": image,
        "ImageName": container.image_name,
        "ImageFullName": container.image_name,
        "Command": " ".join(container.argv),
        "DaemonName": "wherry",
    }

    return _FIELD.sub(lambda found: values[found[1]], template)


def check_tag(template: str) -> None:
    """Raise Invalid for what is no template of a tag."""
    for found in _FIELD.finditer(template):
        if found[1] not in TAG_FIELDS:
            raise Invalid(
                f"log-opt tag: there is no field {found[1]} in {template!r}",
                hint=f"there are {', '.join(TAG_FIELDS)}",
            )
    if "{{" in _FIELD.sub("", template):
        raise Invalid(f"log-opt tag: {template!r} is no template", hint="{{.Name}}/{{.ID}}")


def extra_attributes(container: Container, options: dict[str, str]) -> Pairs:
    """Return the labels and variables that labels, labels-regex, env and env-regex name, sorted."""
    found: dict[str, str] = {}
    environment: dict[str, str] = {}
    for entry in container.env:
        name, _, value = entry.partition("=")
        environment[name] = value
    for source, name in ((dict(container.labels), "labels"), (environment, "env")):
        wanted = {word for word in options.get(name, "").split(",") if word}
        pattern = options.get(f"{name}-regex")
        expression = re.compile(pattern) if pattern else None
        for key, value in source.items():
            if key in wanted or (expression is not None and expression.search(key)):
                found[key] = value
    return tuple(sorted(found.items()))


def details_of(container: Container, options: dict[str, str]) -> Pairs:
    """Return what `docker logs --details` shows before each line."""
    found = dict(extra_attributes(container, options))
    if template := options.get("tag"):
        found["tag"] = render_tag(template, container)
    return tuple(sorted(found.items()))


class Cutter:
    """Pieces of the two streams to entries: whole lines without their ends, long ones in pieces."""

    def __init__(self) -> None:
        self._rest: dict[int, bytes] = {}
        self._times: dict[int, int] = {}

    def feed(self, stream: int, time: int, data: bytes) -> list[Entry]:
        """Return the entries that are complete with `data`, which came at `time`."""
        out: list[Entry] = []
        rest = self._rest.get(stream, b"")
        at = self._times.get(stream, time) if rest else time
        rest += data
        start = 0
        while (end := rest.find(b"\n", start)) >= 0:
            while end - start > LONGEST:
                out.append(Entry(at, stream, rest[start : start + LONGEST], True))
                start += LONGEST
            out.append(Entry(at, stream, rest[start:end].removesuffix(b"\r")))
            start, at = end + 1, time
        while len(rest) - start >= LONGEST:
            out.append(Entry(at, stream, rest[start : start + LONGEST], True))
            start += LONGEST
        self._rest[stream], self._times[stream] = rest[start:], at
        return out

    def finish(self) -> list[Entry]:
        """Return what was left without an end."""
        out = [Entry(self._times[key], key, rest) for key, rest in self._rest.items() if rest]
        self._rest.clear()
        return out
