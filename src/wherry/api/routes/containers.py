"""Containers: made, started, stopped, changed, removed, shown."""

from __future__ import annotations

import time
from dataclasses import replace

from wherry.api.devices import number_of, path_of
from wherry.api.messages import Request, Response
from wherry.api.router import Route
from wherry.api.routes.shapes import JSON, done, json_answer, read_json
from wherry.api.services import Containers, Engine
from wherry.api.wire.bodies import UpdateBody
from wherry.api.wire.codec import decode, encode
from wherry.api.wire.container import Surroundings, render_container
from wherry.api.wire.create import parse_restart, read_create
from wherry.api.wire.filters import CONTAINERS, CONTAINERS_PRUNE, parse_filters
from wherry.api.wire.network import with_old_aliases
from wherry.api.wire.older import adapt_update
from wherry.api.wire.rendered import RenderedContainers, RenderedItems
from wherry.api.wire.resources import parse_limits
from wherry.model.errors import Invalid, NotFound, Unsupported
from wherry.model.literals import parse_number

_PLATFORMS = (1, 41)
_NO_OLD_ALIASES = (1, 45)
_STOP_SIGNALS = (1, 42)
_CHANGED_ONLY_BY_CREATE = ("Devices", "DeviceCgroupRules", "Ulimits", "CgroupParent")


class ContainerRoutes:
    """`/containers/…` without streams and files."""

    def __init__(self, containers: Containers, engine: Engine) -> None:
        self._containers = containers
        self._engine = engine
        self._items = RenderedItems()
        self._inspected = RenderedContainers()
        self._inspected_old = RenderedContainers()

    def routes(self) -> list[Route]:
        """Return the table."""
        one = "/containers/{id}"
        # A legacy link's name has a slash: web/db.
        linked = "/containers/{id:all}"
        return [
            Route("GET", "/containers/json", self.list),
            Route("POST", "/containers/create", self.create),
            Route("POST", "/containers/prune", self.prune),
            Route("GET", f"{linked}/json", self.inspect, self.inspect_at_once),
            Route("POST", f"{one}/start", self.start),
            Route("POST", f"{one}/stop", self.stop),
            Route("POST", f"{one}/restart", self.restart),
            Route("POST", f"{one}/kill", self.kill),
            Route("POST", f"{one}/pause", self.pause),
            Route("POST", f"{one}/unpause", self.unpause),
            Route("POST", f"{one}/rename", self.rename),
            Route("POST", f"{one}/update", self.update),
            Route("POST", f"{one}/resize", self.resize),
            Route("GET", f"{one}/top", self.top),
            Route("GET", f"{one}/changes", self.changes),
            Route("DELETE", linked, self.remove),
            Route("GET", "/wherry/containers/{id}/plan", self.plan),
        ]

    async def create(self, request: Request) -> Response:
        """POST /containers/create."""
        spec, warnings = read_create(await read_json(request), number_of, request.version)
        if not spec.image:
            raise Invalid("config cannot be empty in order to create a container: no image named")
        platform = request.text("platform")
        if platform and request.version >= _PLATFORMS:
            spec = replace(spec, platform=platform)
        made = await self._containers.create(spec, request.text("name"))
        return json_answer({"Id": made.id, "Warnings": [*warnings, *made.warnings]}, 201)

    async def start(self, request: Request) -> Response:
        """POST /containers/{id}/start."""
        # {} and null pass, as they do in Docker: nothing that says something is as short.
        if len(await request.read()) > 7:
            raise Invalid(
                "starting container with non-empty request body was deprecated since API v1.22"
                " and removed in v1.24"
            )
        if request.text("checkpoint") or request.text("checkpoint-dir"):
            raise Unsupported("checkpoints are not in this version of wherry")
        return done(await self._containers.start(request.parameters["id"]))

    async def stop(self, request: Request) -> Response:
        """POST /containers/{id}/stop."""
        stopped = await self._containers.stop(
            request.parameters["id"], _timeout(request), _stop_signal(request)
        )
        return done(stopped)

    async def restart(self, request: Request) -> Response:
        """POST /containers/{id}/restart."""
        await self._containers.restart(
            request.parameters["id"], _timeout(request), _stop_signal(request)
        )
        return done()

    async def kill(self, request: Request) -> Response:
        """POST /containers/{id}/kill."""
        ref = request.parameters["id"]
        try:
            await self._containers.kill(ref, request.text("signal") or "KILL")
        except NotFound as error:
            error.message = f"cannot kill container: {ref}: {error.message}"
            raise
        return done()

    async def pause(self, request: Request) -> Response:
        """POST /containers/{id}/pause."""
        await self._containers.pause(request.parameters["id"])
        return done()

    async def unpause(self, request: Request) -> Response:
        """POST /containers/{id}/unpause."""
        await self._containers.unpause(request.parameters["id"])
        return done()

    async def rename(self, request: Request) -> Response:
        """POST /containers/{id}/rename."""
        name = request.text("name")
        if not name:
            raise Invalid("Neither old nor new names may be empty")
        await self._containers.rename(request.parameters["id"], name)
        return done()

    async def remove(self, request: Request) -> Response:
        """DELETE /containers/{id}."""
        await self._containers.remove(
            request.parameters["id"],
            force=request.flag("force"),
            volumes=request.flag("v"),
            link=request.flag("link"),
        )
        return done()

    async def update(self, request: Request) -> Response:
        """POST /containers/{id}/update."""
        body = decode(UpdateBody, await read_json(request))
        adapt_update(body, request.version)
        for name in _CHANGED_ONLY_BY_CREATE:
            if getattr(body, name):
                raise Unsupported(f"{name} cannot be changed by an update")
        limits = parse_limits(body, number_of, update=True)
        policy = body.RestartPolicy
        restart = parse_restart(policy) if policy is not None and policy.Name else None
        warnings = await self._containers.update(request.parameters["id"], limits, restart)
        return json_answer({"Warnings": list(warnings) or None})

    async def resize(self, request: Request) -> Response:
        """POST /containers/{id}/resize."""
        rows, columns = window_size(request)
        await self._containers.resize(request.parameters["id"], rows, columns)
        return Response(200)

    async def top(self, request: Request) -> Response:
        """GET /containers/{id}/top."""
        titles, rows = await self._containers.top(
            request.parameters["id"], request.text("ps_args") or "-ef"
        )
        return json_answer({"Processes": rows, "Titles": titles})

    async def changes(self, request: Request) -> Response:
        """GET /containers/{id}/changes."""
        found = await self._containers.changes(request.parameters["id"])
        return json_answer([{"Path": c.path, "Kind": c.kind} for c in found] or None)

    async def plan(self, request: Request) -> Response:
        """GET /wherry/containers/{id}/plan: the start plan as text."""
        text = await self._containers.plan(request.parameters["id"])
        return Response(200, text.encode("utf-8", "replace"), "text/plain; charset=utf-8")

    async def list(self, request: Request) -> Response:
        """GET /containers/json."""
        filters = parse_filters(request.text("filters"), CONTAINERS)
        limit = request.number("limit")
        # A status filter and a limit look at containers that do not run too, as Docker's do.
        everything = request.flag("all") or limit > 0 or "status" in filters
        views = await self._containers.list(
            everything=everything, limit=limit, size=request.flag("size"), filters=filters
        )
        now = time.time_ns()
        return Response(200, self._items.render(views, now, request.version), JSON)

    def inspect_at_once(self, request: Request) -> Response | None:
        """GET /containers/{id}/json of a container that is as it was when it was last asked for."""
        if "?" in request.target:
            return None
        view = self._containers.inspect_nowait(request.parameters["id"])
        text = self._rendered(request).get(view)
        return None if text is None else Response(200, text, JSON)

    async def inspect(self, request: Request) -> Response:
        """GET /containers/{id}/json."""
        view = await self._containers.inspect(request.parameters["id"], size=request.flag("size"))
        rendered = self._rendered(request)
        text = rendered.get(view)
        if text is None:
            shown = view
            if rendered is self._inspected_old:
                shown = replace(view, container=with_old_aliases(view.container))
            around = Surroundings(self._engine.facts().default_log_driver, path_of)
            text = encode(render_container(shown, around))
            rendered.put(view, text)
        return Response(200, text, JSON)

    def _rendered(self, request: Request) -> RenderedContainers:
        return self._inspected_old if request.version < _NO_OLD_ALIASES else self._inspected

    async def prune(self, request: Request) -> Response:
        """POST /containers/prune."""
        filters = parse_filters(request.text("filters"), CONTAINERS_PRUNE)
        pruned = await self._containers.prune(filters)
        return json_answer(
            {"ContainersDeleted": list(pruned.deleted) or None, "SpaceReclaimed": pruned.space}
        )


def _stop_signal(request: Request) -> str:
    return request.text("signal") if request.version >= _STOP_SIGNALS else ""


def _timeout(request: Request) -> int | None:
    return request.number("t") if request.text("t") else None


def window_size(request: Request) -> tuple[int, int]:
    """Return `h` and `w`. Raises Invalid with Docker's words."""
    sizes: list[int] = []
    for name, noun in (("h", "height"), ("w", "width")):
        text = request.text(name)
        size = parse_number(text, 65535)
        if size is None:
            reason = "value out of range" if text.isdecimal() else "invalid syntax"
            raise Invalid(f'invalid resize {noun} "{text}": {reason}')
        sizes.append(size)
    return sizes[0], sizes[1]
