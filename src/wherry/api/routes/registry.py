"""The registry that the engine keeps: wherry's own, nothing of Docker's is like it."""

from __future__ import annotations

import msgspec

from wherry.api.messages import Request, Response
from wherry.api.router import Route
from wherry.api.routes.shapes import done, json_answer, read_json
from wherry.api.services import Registry
from wherry.api.wire.codec import decode
from wherry.model.views import RegistryStatus


class StartBody(msgspec.Struct):
    """The flags of `wherry registry serve`, as they stand on a command line."""

    arguments: list[str] = msgspec.field(name="Arguments", default_factory=list[str])


class RegistryRoutes:
    """Routes below /wherry/registry."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def routes(self) -> list[Route]:
        """Return them."""
        return [
            Route("GET", "/wherry/registry", self.status),
            Route("POST", "/wherry/registry/start", self.start),
            Route("POST", "/wherry/registry/stop", self.stop),
        ]

    async def status(self, request: Request) -> Response:
        """GET /wherry/registry"""
        return json_answer(_render(self._registry.status()))

    async def start(self, request: Request) -> Response:
        """POST /wherry/registry/start"""
        body = decode(StartBody, await read_json(request) or b"{}")
        return json_answer(_render(await self._registry.start(tuple(body.arguments))))

    async def stop(self, request: Request) -> Response:
        """POST /wherry/registry/stop"""
        return done(await self._registry.stop())


def _render(status: RegistryStatus) -> dict[str, object]:
    return {
        "Running": status.running,
        "Addresses": list(status.addresses),
        "Root": status.root,
        "Pid": status.pid,
    }
