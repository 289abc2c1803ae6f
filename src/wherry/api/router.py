"""From method and path to a handler."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from urllib.parse import unquote

from wherry.api.messages import Answer, AtOnce, ClientGone, Handler, Request, Response
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
    at_once: AtOnce | None = None
    """Answers what it can without waiting; raising is as good as None."""


def _compile(pattern: str) -> Callable[[str], re.Match[str] | None]:
    expression = re.sub(r"\{(\w+):all\}", r"(?P<\1>.+)", pattern)
    return re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", expression)).fullmatch


class Router:
    """Finds the handler of a request and turns its errors into responses. Satisfies `Handler`, and `at_once` AtOnce."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._fixed: dict[tuple[str, str], Handler] = {}
        self._caught: dict[
            tuple[str, str], list[tuple[Callable[[str], re.Match[str] | None], Handler]]
        ] = {}
        self._fixed_now: dict[tuple[str, str], AtOnce] = {}
        self._caught_now: dict[
            tuple[str, str], tuple[Callable[[str], re.Match[str] | None], AtOnce]
        ] = {}
        for route in routes:
            if route.at_once is not None:
                self._add_at_once(route, route.at_once)
            if "{" not in route.pattern:
                self._fixed[route.method, route.pattern] = route.handler
                continue
            key = route.method, route.pattern.split("/", 2)[1]
            self._caught.setdefault(key, []).append((_compile(route.pattern), route.handler))

    def _add_at_once(self, route: Route, at_once: AtOnce) -> None:
        if "{" not in route.pattern:
            self._fixed_now[route.method, route.pattern] = at_once
            return
        key = route.method, route.pattern.split("/", 2)[1]
        assert key not in self._caught_now, f"a second route of {key} answers at once"
        self._caught_now[key] = _compile(route.pattern), at_once

    def at_once(self, request: Request) -> Response | None:
        """Answer where a route can do so without waiting."""
        raw = request.target.partition("?")[0]
        version, path = split_version(raw)
        answer = self._fixed_now.get((request.method, path))
        try:
            if answer is None:
                if (request.method, path) in self._fixed:
                    return None
                caught = self._caught_now.get((request.method, path[1:].partition("/")[0]))
                found = caught and caught[0](path)
                if not caught or not found:
                    return None
                answer = caught[1]
                request.parameters = {n: unquote(text) for n, text in found.groupdict().items()}
            request.path = path
            request.version = CURRENT if version is None else check_version(version)
            return answer(request)
        except Exception:
            # The handler meets the same, and says so.
            return None

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
