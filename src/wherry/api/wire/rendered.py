"""What was rendered of containers, kept until they change: a dashboard asks for the same every second.

A container and its view are frozen, so that the same object has the same text. Only how long ago something
was changes by itself.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import dataclass

from wherry.api.versions import Version
from wherry.api.wire.codec import encode
from wherry.api.wire.container import render_item, render_status
from wherry.model.views import ContainerView

# Stands where the status goes; a container's own texts cannot guess it.
_MARK = secrets.token_hex(16)
_SPARE = 256


@dataclass(frozen=True, slots=True)
class _Item:
    """An entry as it was last written, in two parts: its state is between them."""

    view: ContainerView
    before: bytes
    after: bytes


class RenderedItems:
    """Entries of GET /containers/json as JSON."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, Version], _Item] = {}

    def render(self, views: Iterable[ContainerView], now: int, version: Version) -> bytes:
        """Return the whole answer; `now` in nanoseconds since the epoch."""
        pieces: list[bytes] = []
        for view in views:
            key = view.container.id, version
            item = self._known.get(key)
            if item is None or item.view is not view:
                item = self._known[key] = _make(view, version)
            status = encode(render_status(view.container.state, now)).rstrip()
            pieces.append(item.before + status + item.after)
        while len(self._known) > 2 * len(pieces) + _SPARE:
            del self._known[next(iter(self._known))]
        return b"[" + b",".join(pieces) + b"]\n"


def _make(view: ContainerView, version: Version) -> _Item:
    text = encode({**render_item(view, 0, version), "Status": _MARK}).rstrip()
    before, _, after = text.partition(f'"{_MARK}"'.encode())
    return _Item(view, before, after)


class RenderedContainers:
    """Answers of GET /containers/{id}/json."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[ContainerView, bytes]] = {}

    def get(self, view: ContainerView) -> bytes | None:
        """Return what `put` was told for an equal view."""
        known = self._known.get(view.container.id)
        if known is None or known[0].container is not view.container or known[0] != view:
            return None
        return known[1]

    def put(self, view: ContainerView, text: bytes) -> None:
        """Keep `text`."""
        self._known.pop(view.container.id, None)
        self._known[view.container.id] = view, text
        while len(self._known) > _SPARE:
            del self._known[next(iter(self._known))]
