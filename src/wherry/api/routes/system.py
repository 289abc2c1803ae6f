"""The engine itself: ping, version, info, events, disk usage."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator

from wherry.api.messages import Request, Response
from wherry.api.router import Route
from wherry.api.routes.shapes import JSON, json_answer
from wherry.api.services import Services
from wherry.api.wire.build import render_cache
from wherry.api.wire.codec import encode, listed, parse_time
from wherry.api.wire.container import render_item
from wherry.api.wire.events import render_event
from wherry.api.wire.filters import EVENTS, parse_filters
from wherry.api.wire.image import render_image_item, shared_sizes
from wherry.api.wire.older import adapt_info
from wherry.api.wire.system import render_info, render_version_answer
from wherry.api.wire.volume import render_volume
from wherry.model.errors import Invalid

_PING = (
    # "1" is the builder whose requests reach this API, so that `docker build` shows why it is refused.
    ("Builder-Version", "1"),
    ("Cache-Control", "no-cache, no-store, must-revalidate"),
    ("Pragma", "no-cache"),
    ("Swarm", "inactive"),
)
_USAGE = frozenset(("container", "image", "volume", "build-cache"))


def pong(request: Request) -> Response:
    """Answer GET and HEAD /_ping."""
    body = b"OK" if request.method == "GET" else b""
    return Response(200, body, "text/plain; charset=utf-8", _PING)


class SystemRoutes:
    """`/_ping`, `/version`, `/info`, `/events`, `/system/df`."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._listeners = 0

    def routes(self) -> list[Route]:
        """Return the table."""
        return [
            Route("GET", "/_ping", self.ping, pong),
            Route("HEAD", "/_ping", self.ping, pong),
            Route("GET", "/version", self.version),
            Route("GET", "/info", self.info),
            Route("GET", "/events", self.events),
            Route("GET", "/system/df", self.usage),
        ]

    async def ping(self, request: Request) -> Response:
        """GET and HEAD /_ping."""
        return pong(request)

    async def version(self, _: Request) -> Response:
        """GET /version."""
        return json_answer(render_version_answer(self._services.engine.facts()))

    async def info(self, request: Request) -> Response:
        """GET /info."""
        engine = self._services.engine
        answer = render_info(engine.facts(), await engine.counts(), self._listeners)
        adapt_info(answer, request.version)
        answer["NFd"] = len(os.listdir("/proc/self/fd"))
        answer["NGoroutines"] = len(asyncio.all_tasks())
        return json_answer(answer)

    async def events(self, request: Request) -> Response:
        """GET /events: what was, and what comes until the client goes or `until` is there."""
        filters = parse_filters(request.text("filters"), EVENTS)
        since, until = _bound(request, "since"), _bound(request, "until")
        if since and until and until < since:
            raise Invalid(
                f"`since` time ({request.text('since')}) cannot be after `until` time "
                f"({request.text('until')})"
            )
        events = self._services.events.subscribe(since=since, until=until, filters=filters)

        async def lines() -> AsyncIterator[bytes]:
            self._listeners += 1
            try:
                async for event in events:
                    yield encode(render_event(event, request.version))
            finally:
                self._listeners -= 1

        return Response(200, lines(), JSON, early=True)

    async def usage(self, request: Request) -> Response:
        """GET /system/df."""
        typed = request.version >= (1, 42)
        kinds = frozenset(request.query.get("type", _USAGE)) if typed else _USAGE
        if unknown := kinds - _USAGE:
            raise Invalid(f"unknown object type: {', '.join(sorted(unknown))}")
        answer: dict[str, object] = {
            "LayersSize": 0,
            "Images": None,
            "Containers": None,
            "Volumes": None,
            "BuildCache": None,
        }
        if "image" in kinds:
            images = await self._services.images.list(everything=False, filters={})
            used = await self._services.images.container_counts()
            shared = shared_sizes(images)
            answer["LayersSize"] = await self._services.images.disk_usage()
            answer["Images"] = [
                render_image_item(
                    image,
                    request.version,
                    containers=used.get(str(image.id), 0),
                    shared=shared[str(image.id)],
                )
                # As Docker's: at no version words for what has no name, nor an empty list.
                | {"RepoTags": listed(image.names), "RepoDigests": listed(image.repo_digests)}
                for image in images
            ]
        if "container" in kinds:
            views = await self._services.containers.list(
                everything=True, limit=0, size=True, filters={}
            )
            now = time.time_ns()
            answer["Containers"] = [render_item(view, now, request.version) for view in views]
        if "volume" in kinds:
            usage = await self._services.volumes.usage()
            answer["Volumes"] = [render_volume(view) for view in usage]
        if "build-cache" in kinds:
            records = await self._services.builds.disk_usage()
            answer["BuildCache"] = render_cache(records, parents=typed)
            size = sum(record.size for record in records)
            if size and not typed:
                answer["BuilderSize"] = size
        return json_answer(answer)


def _bound(request: Request, name: str) -> int:
    """Return a bound in nanoseconds, 0 where none is given: `since=0` is the epoch, so everything."""
    text = request.text(name)
    return max(parse_time(text, name), 1) if text else 0
