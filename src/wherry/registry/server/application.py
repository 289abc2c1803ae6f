"""The registry as one handler: path to target, target and method to rights, then to who answers."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable
from typing import Final, assert_never

from wherry import __version__
from wherry.http.messages import Answer, ClientGone, Request, Response
from wherry.http.style import Style
from wherry.model.errors import WherryError
from wherry.registry.server.access import TOKEN_PATH, Gate, Visitor
from wherry.registry.server.blobs import BlobRoutes
from wherry.registry.server.faults import Code, Fault, fault_response, plain_fault
from wherry.registry.server.logins import LoginRoutes
from wherry.registry.server.manifests import ManifestRoutes
from wherry.registry.server.metrics import CONTENT_TYPE, Metrics
from wherry.registry.server.rights import DELETE, PULL, PUSH
from wherry.registry.server.targets import (
    Base,
    BlobAt,
    Catalog,
    ManifestAt,
    Referrers,
    Tags,
    Target,
    UploadAt,
    Uploads,
    parse_target,
)
from wherry.registry.server.tokens import Scope

log = logging.getLogger(__name__)

METRICS_PATH: Final = "/metrics"
STYLE: Final = Style(
    fields=(
        "Docker-Distribution-Api-Version: registry/2.0\r\nX-Content-Type-Options: nosniff\r\n"
        f"Server: wherry/{__version__}\r\n"
    ),
    render_fault=plain_fault,
    render_error=fault_response,
    idle_seconds=120.0,
    stall_seconds=60.0,
    body_limit=1 << 20,
)
# What each method asks for, by target; a method that is missing here is answered 405.
_READ: Final = {"GET": (PULL,), "HEAD": (PULL,)}
_METHODS: Final[dict[type[Target], dict[str, tuple[str, ...]]]] = {
    Base: {"GET": (), "HEAD": ()},
    Catalog: {"GET": ()},
    Tags: _READ,
    ManifestAt: {**_READ, "PUT": (PULL, PUSH), "DELETE": (DELETE,)},
    BlobAt: {**_READ, "DELETE": (DELETE,)},
    Uploads: {"POST": (PULL, PUSH)},
    UploadAt: dict.fromkeys(("GET", "HEAD", "PATCH", "PUT", "DELETE"), (PULL, PUSH)),
    Referrers: _READ,
}


class Application:
    """Satisfies `http.messages.Handler`."""

    def __init__(
        self,
        gate: Gate,
        blobs: BlobRoutes,
        manifests: ManifestRoutes,
        metrics: Metrics,
        *,
        read_only: bool = False,
        deletes: bool = True,
        shows_metrics: bool = True,
    ) -> None:
        self._gate = gate
        self._blobs = blobs
        self._manifests = manifests
        self._logins = LoginRoutes(gate)
        self._metrics = metrics
        self._read_only = read_only
        self._deletes = deletes
        self._shows_metrics = shows_metrics

    async def __call__(self, request: Request) -> Answer:
        """Answer `request`; nothing but cancellation and a lost client is raised."""
        start = time.perf_counter()
        route, response = "none", None
        try:
            route, work = self._route(request)
            response = await work
        except WherryError as error:
            response = fault_response(error)
            if response.status == 401 and "authorization" in request.headers:
                self._metrics.refused_logins += 1
        except (ClientGone, ConnectionError):
            raise
        except Exception as error:
            log.exception("%s %s", request.method, request.target[:300])
            response = fault_response(
                Fault(Code.UNKNOWN, f"internal error of wherry: {type(error).__name__}")
            )
        seconds = time.perf_counter() - start
        self._metrics.observe(_known(request.method), route, response.status, seconds)
        if log.isEnabledFor(logging.DEBUG):
            target = request.target[:300]
            log.debug("%s %s: %d, %.1f ms", request.method, target, response.status, seconds * 1e3)
        return response

    def _route(self, request: Request) -> tuple[str, Awaitable[Response]]:
        path = request.target.partition("?")[0]
        if path == TOKEN_PATH and request.method in ("GET", "POST"):
            get = request.method == "GET"
            return "token", self._logins.get(request) if get else self._logins.post(request)
        if path == METRICS_PATH and self._shows_metrics and request.method == "GET":
            return "metrics", metrics_answer(self._metrics)
        target = parse_target(path, request.method)
        if target is None:
            raise Fault(Code.UNSUPPORTED, "no such endpoint", status=404)
        return type(target).__name__.lower(), self._answer(request, target)

    async def _answer(self, request: Request, target: Target) -> Response:
        methods = _METHODS[type(target)]
        actions = methods.get(request.method)
        allowed = (("Allow", ", ".join(methods)),)
        if actions is None:
            raise Fault(Code.UNSUPPORTED, f"no {request.method} here", headers=allowed)
        visitor = await self._gate.visitor(request)
        if isinstance(target, Base | Catalog):
            self._gate.require_known(request, visitor)
        else:
            scope = Scope("repository", target.repository, frozenset(actions))
            self._gate.require(request, visitor, (scope,))
        # Said after the rights were looked at: what is switched off is nobody else's business.
        if self._read_only and {PUSH, DELETE}.intersection(actions):
            raise Fault(Code.UNSUPPORTED, "this registry is read-only", headers=allowed)
        if not self._deletes and DELETE in actions:
            raise Fault(Code.UNSUPPORTED, "this registry deletes nothing", headers=allowed)
        return await self._dispatch(request, target, visitor)

    def _dispatch(self, request: Request, target: Target, visitor: Visitor) -> Awaitable[Response]:
        method = request.method
        match target:
            case Base():
                return _base()
            case Catalog():
                return self._manifests.catalog(request, visitor)
            case Tags():
                return self._manifests.tags(request, target)
            case Referrers():
                return self._manifests.referrers(request, target)
            case ManifestAt():
                by_method = {"PUT": self._manifests.put, "DELETE": self._manifests.delete}
                return by_method.get(method, self._manifests.get)(request, target)
            case BlobAt():
                return (self._blobs.delete if method == "DELETE" else self._blobs.get)(
                    request, target
                )
            case Uploads():
                return self._blobs.begin(request, target, visitor)
            case UploadAt():
                changing = {
                    "PATCH": self._blobs.append,
                    "PUT": self._blobs.finish,
                    "DELETE": self._blobs.cancel,
                }
                return changing.get(method, self._blobs.progress)(request, target)
            case _:
                assert_never(target)


async def _base() -> Response:
    return Response(200, b"{}", "application/json")


async def metrics_answer(metrics: Metrics) -> Response:
    """Return the answer to whoever collects metrics."""
    return Response(200, metrics.render().encode(), CONTENT_TYPE)


def _known(method: str) -> str:
    """Return the method as a label: a client must not make up as many as it likes."""
    known = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
    return method if method in known else "other"
