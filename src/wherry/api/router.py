"""From method and path to a handler."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from urllib.parse import unquote

from wherry.api.messages import Answer, ClientGone, Handler, Request, Response
from wherry.api.status import error_response, known_error, render_error
from wherry.api.versions import CURRENT, check_version, split_version
from wherry.model.errors import Internal, WherryError

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Route:
    """`pattern` is a path such as `/images/{name:all}/json`: `{x}` catches a segment, `{x:all}` any."""

    method: str
    pattern: str
    handler: Handler


def _compile(pattern: str) -> Callable[[str], re.Match[str] | None]:
    expression = re.sub(r"\{(\w+):all\}", r"(?P<\1>.+)", pattern)
    return re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", expression)).fullmatch


class Router:
    """Finds the handler of a request and turns its errors into responses. Satisfies `Handler`."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._fixed: dict[tuple[str, str], Handler] = {}
        self._caught: dict[
            tuple[str, str], list[tuple[Callable[[str], re.Match[str] | None], Handler]]
        ] = {}
        for route in routes:
            if "{" not in route.pattern:
                self._fixed[route.method, route.pattern] = route.handler
                continue
            key = route.method, route.pattern.split("/", 2)[1]
            self._caught.setdefault(key, []).append((_compile(route.pattern), route.handler))

    def _find(self, method: str, path: str) -> tuple[Handler, dict[str, str]] | None:
        handler = self._fixed.get((method, path))
        if handler is not None:
            return handler, {}
        for match, handler in self._caught.get((method, path.split("/", 2)[1]), ()):
            found = match(path)
            if found is not None:
                return handler, {name: unquote(text) for name, text in found.groupdict().items()}
        return None

    async def __call__(self, request: Request) -> Answer:
        """Answer `request`; nothing but cancellation and a lost client is raised."""
        raw = request.target.partition("?")[0]
        if not raw.startswith("/"):
            # A proxy's form, http://host/path.
            raw = "/" + raw.partition("://")[2].partition("/")[2]
        version, path = split_version(raw)
        try:
            found = self._find(request.method, path)
            if found is None:
                # Docker says 404 for a wrong method too.
                return (
                    Response(200)
                    if request.method == "OPTIONS"
                    else render_error("page not found", 404)
                )
            request.path = path
            request.version = CURRENT if version is None else check_version(version)
            handler, request.parameters = found
            return await handler(request)
        except WherryError as error:
            log.debug("%s %s: %s", request.method, request.target, error)
            return error_response(error)
        except ClientGone:
            raise
        except Exception as error:
            known = known_error(error)
            if isinstance(known, Internal):
                log.exception("%s %s", request.method, request.target)
            return error_response(known)
