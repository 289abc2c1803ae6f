"""What the Engine API has and this version of wherry has not: 501, and lists that are truly empty.

Looking for one thing among none is 404, as everywhere: `docker inspect NAME` asks for every kind in
turn and stops at any other answer. An engine that is in no swarm answers 503 to what needs one.
"""

from __future__ import annotations

from wherry.api.messages import Answer, Handler, Request, Response
from wherry.api.router import Route
from wherry.api.routes.shapes import json_answer
from wherry.api.swarm import NO_MANAGER
from wherry.model.errors import NotFound, Unavailable, Unsupported

# Every other documented operation of API 1.51, by what it belongs to.
_LATER: dict[str, str] = {
    "building by the BuildKit API": "POST /session",
    "plugins": ("GET /plugins/privileges; POST /plugins/pull; POST /plugins/create"),
    "swarm": "POST /swarm/init; POST /swarm/join",
    "checkpoints": (
        "GET /containers/{id}/checkpoints; POST /containers/{id}/checkpoints; "
        "DELETE /containers/{id}/checkpoints/{checkpoint}"
    ),
}

_SWARM = (
    "GET /nodes; GET /nodes/{id}; DELETE /nodes/{id}; POST /nodes/{id}/update; GET /swarm; "
    "POST /swarm/update; GET /swarm/unlockkey; POST /swarm/unlock; GET /services; "
    "POST /services/create; GET /services/{id}; DELETE /services/{id}; POST /services/{id}/update; "
    "GET /services/{id}/logs; GET /tasks; GET /tasks/{id}; GET /tasks/{id}/logs; GET /secrets; "
    "POST /secrets/create; GET /secrets/{id}; DELETE /secrets/{id}; POST /secrets/{id}/update; "
    "GET /configs; POST /configs/create; GET /configs/{id}; DELETE /configs/{id}; "
    "POST /configs/{id}/update"
)


# What asks for one plugin: there is none.
_PLUGIN = (
    "GET /plugins/{name:all}/json; DELETE /plugins/{name:all}; POST /plugins/{name:all}/enable; "
    "POST /plugins/{name:all}/disable; POST /plugins/{name:all}/upgrade; "
    "POST /plugins/{name:all}/push; POST /plugins/{name:all}/set"
)


class _Missing(NotFound):
    """A NotFound in the words that the API has for this kind of thing."""

    def __init__(self, noun: str, name: str, message: str) -> None:
        super().__init__(noun, name)
        self.message = message


def _refusal(noun: str) -> Handler:
    async def refuse(request: Request) -> Answer:
        raise Unsupported(
            f"{request.method} {request.path}: {noun} is not in this version of wherry"
        )

    return refuse


async def _no_plugin(request: Request) -> Response:
    name = request.parameters["name"]
    raise _Missing("plugin", name, f'plugin "{name}" not found')


async def _no_swarm(_: Request) -> Response:
    raise Unavailable(NO_MANAGER)


async def _no_member(_: Request) -> Response:
    raise Unavailable("This node is not part of a swarm")


def _constant(value: object) -> Handler:
    async def answer(_: Request) -> Answer:
        return json_answer(value)

    return answer


def later_routes() -> list[Route]:
    """Return the table. The lists and prunes are what `docker system prune` and Compose ask in passing."""
    routes = [
        Route("GET", "/plugins", _constant([])),
        Route("POST", "/swarm/leave", _no_member),
    ]
    tables = [(_SWARM, _no_swarm), (_PLUGIN, _no_plugin)]
    tables += [(operations, _refusal(noun)) for noun, operations in _LATER.items()]
    for operations, handler in tables:
        for operation in operations.split(";"):
            method, pattern = operation.split()
            routes.append(Route(method, pattern, handler))
    return routes
