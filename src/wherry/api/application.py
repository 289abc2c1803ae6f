"""The whole API as one handler."""

from __future__ import annotations

from wherry.api.router import Route, Router
from wherry.api.routes.build import BuildRoutes
from wherry.api.routes.containers import ContainerRoutes
from wherry.api.routes.files import FileRoutes
from wherry.api.routes.images import ImageRoutes
from wherry.api.routes.later import later_routes
from wherry.api.routes.networks import NetworkRoutes
from wherry.api.routes.registries import RegistriesRoutes
from wherry.api.routes.registry import RegistryRoutes
from wherry.api.routes.streams import StreamRoutes
from wherry.api.routes.system import SystemRoutes
from wherry.api.routes.volumes import VolumeRoutes
from wherry.api.routes.websocket import WebSocketRoutes
from wherry.api.services import Services


def all_routes(services: Services) -> list[Route]:
    """Return every route; of two that match a path the first wins."""
    containers, images, engine = services.containers, services.images, services.engine
    registries = RegistriesRoutes(services.registries)
    return [
        *SystemRoutes(services).routes(),
        *ContainerRoutes(containers, engine).routes(),
        *StreamRoutes(containers, engine).routes(),
        *WebSocketRoutes(containers).routes(),
        *FileRoutes(containers).routes(),
        *registries.routes(),
        *ImageRoutes(images, engine, registries.pull).routes(),
        *NetworkRoutes(services.networks).routes(),
        *RegistryRoutes(services.registry).routes(),
        *VolumeRoutes(services.volumes).routes(),
        *BuildRoutes(services.builds, services.contexts).routes(),
        *later_routes(),
    ]


def application(services: Services) -> Router:
    """Return the handler that `server.Server` serves."""
    return Router(all_routes(services))
