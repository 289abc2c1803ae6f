"""Networks: made, shown, connected, removed."""

from __future__ import annotations

from wherry.api.messages import Request, Response
from wherry.api.router import Route
from wherry.api.routes.shapes import done, json_answer, read_json
from wherry.api.services import Networks
from wherry.api.wire.filters import NETWORKS, NETWORKS_PRUNE, parse_filters
from wherry.api.wire.network import (
    parse_connect,
    parse_disconnect,
    parse_network,
    render_network,
    render_repaired,
)
from wherry.model.errors import Invalid
from wherry.model.literals import parse_bool

_LISTED_WITHOUT_CONTAINERS = (1, 28)


class NetworkRoutes:
    """`/networks/…`."""

    def __init__(self, networks: Networks) -> None:
        self._networks = networks

    def routes(self) -> list[Route]:
        """Return the table."""
        return [
            Route("GET", "/networks", self.list),
            Route("POST", "/networks/create", self.create),
            Route("POST", "/networks/prune", self.prune),
            Route("GET", "/networks/{id}", self.inspect),
            Route("DELETE", "/networks/{id}", self.remove),
            Route("POST", "/networks/{id}/connect", self.connect),
            Route("POST", "/networks/{id}/disconnect", self.disconnect),
            Route("POST", "/wherry/networks/repair", self.repair),
        ]

    async def list(self, request: Request) -> Response:
        """GET /networks."""
        filters = parse_filters(request.text("filters"), NETWORKS)
        views = await self._networks.list(filters)
        if request.version < _LISTED_WITHOUT_CONTAINERS:
            views = [await self._networks.inspect(view.network.id) for view in views]
        return json_answer([render_network(view) for view in views])

    async def create(self, request: Request) -> Response:
        """POST /networks/create; CheckDuplicate is what is always done."""
        network_id, warning = await self._networks.create(parse_network(await read_json(request)))
        return json_answer({"Id": network_id, "Warning": warning}, 201)

    async def inspect(self, request: Request) -> Response:
        """GET /networks/{id}; `verbose` adds what only swarm services have."""
        verbose = request.text("verbose")
        try:
            parse_bool(verbose or "0")
        except Invalid as error:
            raise Invalid(f"invalid value for verbose: {verbose}: {error.message}") from None
        view = await self._networks.inspect(request.parameters["id"], request.text("scope"))
        return json_answer(render_network(view))

    async def remove(self, request: Request) -> Response:
        """DELETE /networks/{id}."""
        await self._networks.remove(request.parameters["id"])
        return done()

    async def connect(self, request: Request) -> Response:
        """POST /networks/{id}/connect."""
        ref = request.parameters["id"]
        container, wish = parse_connect(await read_json(request), ref)
        await self._networks.connect(ref, container, wish)
        return Response(200)

    async def disconnect(self, request: Request) -> Response:
        """POST /networks/{id}/disconnect."""
        container, force = parse_disconnect(await read_json(request))
        await self._networks.disconnect(request.parameters["id"], container, force=force)
        return Response(200)

    async def prune(self, request: Request) -> Response:
        """POST /networks/prune."""
        filters = parse_filters(request.text("filters"), NETWORKS_PRUNE)
        return json_answer({"NetworksDeleted": await self._networks.prune(filters) or None})

    async def repair(self, _: Request) -> Response:
        """POST /wherry/networks/repair: rules and links that somebody took away are made anew."""
        return json_answer(render_repaired(await self._networks.repair()))
