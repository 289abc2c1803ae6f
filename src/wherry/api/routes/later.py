"""What the Engine API has and this version of wherry has not: 501, and lists that are truly empty."""

from __future__ import annotations

import hashlib

from wherry.api.messages import Answer, Handler, Request, Response
from wherry.api.router import Route
from wherry.api.routes.shapes import json_answer
from wherry.model.errors import Unsupported

# Every other documented operation of API 1.51, by what it belongs to.
_LATER: dict[str, str] = {
    "attaching by WebSocket": "GET /containers/{id}/attach/ws",
    "building images": "POST /build; POST /build/cancel; POST /session",
    "searching and pushing images": "GET /images/search; POST /images/{name:all}/push",
    "registries": "POST /auth; GET /distribution/{name:all}/json",
    "volumes": "POST /volumes/create; GET /volumes/{name}; PUT /volumes/{name}; DELETE /volumes/{name}",
    "networks": (
        "POST /networks/create; GET /networks/{id}; DELETE /networks/{id}; "
        "POST /networks/{id}/connect; POST /networks/{id}/disconnect"
    ),
    "plugins": (
        "GET /plugins; GET /plugins/privileges; POST /plugins/pull; GET /plugins/{name:all}/json; "
        "DELETE /plugins/{name:all}; POST /plugins/{name:all}/enable; POST /plugins/{name:all}/disable; "
        "POST /plugins/{name:all}/upgrade; POST /plugins/create; POST /plugins/{name:all}/push; "
        "POST /plugins/{name:all}/set"
    ),
    "swarm": (
        "GET /nodes; GET /nodes/{id}; DELETE /nodes/{id}; POST /nodes/{id}/update; GET /swarm; "
        "POST /swarm/init; POST /swarm/join; POST /swarm/leave; POST /swarm/update; "
        "GET /swarm/unlockkey; POST /swarm/unlock; GET /services; POST /services/create; "
        "GET /services/{id}; DELETE /services/{id}; POST /services/{id}/update; "
        "GET /services/{id}/logs; GET /tasks; GET /tasks/{id}; GET /tasks/{id}/logs; GET /secrets; "
        "POST /secrets/create; GET /secrets/{id}; DELETE /secrets/{id}; POST /secrets/{id}/update; "
        "GET /configs; POST /configs/create; GET /configs/{id}; DELETE /configs/{id}; "
        "POST /configs/{id}/update"
    ),
    "checkpoints": (
        "GET /containers/{id}/checkpoints; POST /containers/{id}/checkpoints; "
        "DELETE /containers/{id}/checkpoints/{checkpoint}"
    ),
}


def _refusal(noun: str) -> Handler:
    async def refuse(request: Request) -> Answer:
        raise Unsupported(
            f"{request.method} {request.path}: {noun} is not in this version of wherry"
        )

    return refuse


def _network(name: str, driver: str) -> dict[str, object]:
    return {
        "Name": name,
        "Id": hashlib.sha256(f"wherry network {name}".encode()).hexdigest(),
        "Created": "0001-01-01T00:00:00Z",
        "Scope": "local",
        "Driver": driver,
        "EnableIPv4": True,
        "EnableIPv6": False,
        "IPAM": {"Driver": "default", "Options": None, "Config": None},
        "Internal": False,
        "Attachable": False,
        "Ingress": False,
        "ConfigFrom": {"Network": ""},
        "ConfigOnly": False,
        "Containers": {},
        "Options": {},
        "Labels": {},
    }


async def _networks(_: Request) -> Response:
    return json_answer([_network("host", "host"), _network("none", "null")])


def _constant(value: object) -> Handler:
    async def answer(_: Request) -> Answer:
        return json_answer(value)

    return answer


def later_routes() -> list[Route]:
    """Return the table. The lists and prunes are what `docker system prune` and Compose ask in passing."""
    routes = [
        Route("GET", "/networks", _networks),
        Route("POST", "/networks/prune", _constant({"NetworksDeleted": None})),
        Route("GET", "/volumes", _constant({"Volumes": [], "Warnings": None})),
        Route("POST", "/volumes/prune", _constant({"VolumesDeleted": [], "SpaceReclaimed": 0})),
        Route("POST", "/build/prune", _constant({"CachesDeleted": None, "SpaceReclaimed": 0})),
    ]
    for noun, operations in _LATER.items():
        for operation in operations.split(";"):
            method, pattern = operation.split()
            routes.append(Route(method, pattern, _refusal(noun)))
    return routes
