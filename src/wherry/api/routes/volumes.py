"""`/volumes…`."""

from __future__ import annotations

from wherry.api.messages import Request, Response
from wherry.api.router import Route
from wherry.api.routes.shapes import done, json_answer, read_json
from wherry.api.services import Volumes
from wherry.api.wire.filters import VOLUMES, VOLUMES_PRUNE, parse_filters
from wherry.api.wire.volume import parse_volume, render_volume
from wherry.model.errors import Invalid, Unavailable

_ANONYMOUS_ONLY = (1, 42)
"""Since this version a prune leaves named volumes alone, unless all=1 is among its filters."""


class VolumeRoutes:
    """Volumes of the local driver; those of a cluster need a swarm."""

    def __init__(self, volumes: Volumes) -> None:
        self._volumes = volumes

    def routes(self) -> list[Route]:
        """Return the table."""
        return [
            Route("GET", "/volumes", self.list),
            Route("POST", "/volumes/create", self.create),
            Route("POST", "/volumes/prune", self.prune),
            Route("GET", "/volumes/{name}", self.inspect),
            Route("PUT", "/volumes/{name}", self.update),
            Route("DELETE", "/volumes/{name}", self.remove),
        ]

    async def list(self, request: Request) -> Response:
        """GET /volumes."""
        try:
            filters = parse_filters(request.text("filters"), VOLUMES)
        except Invalid as error:
            if error.message == "invalid filter":
                raise Invalid(f"error reading volume filters: {error.message}") from None
            raise
        views = await self._volumes.list(filters)
        return json_answer({"Volumes": [render_volume(view) for view in views], "Warnings": None})

    async def create(self, request: Request) -> Response:
        """POST /volumes/create."""
        wanted = parse_volume(await read_json(request))
        return json_answer(render_volume(await self._volumes.create(wanted)), 201)

    async def inspect(self, request: Request) -> Response:
        """GET /volumes/{name}."""
        return json_answer(render_volume(await self._volumes.inspect(request.parameters["name"])))

    async def update(self, request: Request) -> Response:
        """PUT /volumes/{name}."""
        await request.read()
        raise Unavailable("volume update only valid for cluster volumes, but swarm is unavailable")

    async def remove(self, request: Request) -> Response:
        """DELETE /volumes/{name}."""
        await self._volumes.remove(request.parameters["name"], force=request.flag("force"))
        return done()

    async def prune(self, request: Request) -> Response:
        """POST /volumes/prune."""
        filters = parse_filters(request.text("filters"), VOLUMES_PRUNE)
        everything = request.version < _ANONYMOUS_ONLY
        pruned = await self._volumes.prune(filters, everything=everything)
        return json_answer({"VolumesDeleted": list(pruned.deleted), "SpaceReclaimed": pruned.space})
