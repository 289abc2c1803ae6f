"""Requests to registries: connections kept and reused, redirects followed, 401 answered.

Blocking, and safe for several threads; a `Stop` given with a request wakes whoever waits in it.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final
from urllib.parse import urlsplit

from wherry.model.errors import Invalid
from wherry.registry.auth import Authorizer, TokenAnswer, lacks_rights
from wherry.registry.credentials import Credentials
from wherry.registry.dialling import dial, proxy_header
from wherry.registry.endpoints import (
    Endpoint,
    Origin,
    Proxies,
    Trust,
    is_insecure,
    is_loopback,
    join_url,
)
from wherry.registry.faults import DENIED, Refused, refusal
from wherry.registry.messages import Answer, BrokenConnection, Connection, NotSpoken
from wherry.registry.stopping import Stop

_MOST_REDIRECTS: Final = 10
_REDIRECTS: Final = (301, 302, 303, 307, 308)
_LARGEST_REFUSAL: Final = 64 << 10
_MOST_IDLE: Final = 8
_WARNING: Final = re.compile(r'299 - "((?:[^"\\]|\\.)*)"')
_LONGEST_WARNINGS: Final = 4096
_MOST_WARNINGS: Final = 20
# A TLS server written in Go says this to a client without TLS.
_WANTS_TLS: Final = b"HTTP request to an HTTPS server"

Body = bytes | Callable[[], Iterable[bytes]] | None


@dataclass(frozen=True, slots=True)
class Request:
    """One request. `url` is absolute; a body that is a function can be sent more than once."""

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    body: Body = None
    length: int | None = None
    """Bytes of a body that is a function."""
    scopes: tuple[str, ...] = ()
    expected: tuple[int, ...] = (200,)
    """Answers that are returned; others are raised as Refused."""
    secret: bool = False
    """Whether the body is for nobody but the origin that it is sent to."""


class Session:
    """Connections for the time of one operation. Close it."""

    def __init__(
        self,
        credentials: Credentials,
        proxies: Proxies,
        insecure: tuple[str, ...],
        stop: Stop,
        agent: str,
    ) -> None:
        self.stop = stop
        self.warnings: list[str] = []
        """What registries asked to have told, in the order that it came."""
        self._proxies = proxies
        self._insecure = insecure
        self._agent = agent
        self._lock = threading.Lock()
        self._idle: dict[tuple[Origin, Trust], list[Connection]] = {}
        self._closed = False
        self.authorizer = Authorizer(
            credentials, self._fetch_token, plain_allowed=self._plain_allowed
        )

    def close(self) -> None:
        """Close what is idle; connections in use are closed when their answers end."""
        with self._lock:
            self._closed = True
            idle = [connection for pool in self._idle.values() for connection in pool]
            self._idle.clear()
        for connection in idle:
            connection.close()

    def send(self, endpoint: Endpoint, request: Request, stop: Stop | None = None) -> Answer:
        """Return the answer to `request`, its body unread: read it to its end, or close it.

        Raises Refused, Unauthorized, Unreachable, Untrusted, BrokenConnection, Stopped.
        """
        stop = stop or self.stop
        authorizer = self.authorizer
        own = _same_origin(request.url, endpoint)
        header = authorizer.header(endpoint, request.scopes) if own else ""
        answer = self._follow(endpoint, request, header, stop)
        for _ in range(2):
            # What a storage behind a redirect asks for, the registry's credentials are not for.
            if answer.status != 401 or not own or answer.origin != str(endpoint.origin):
                break
            offered = answer.headers.get("www-authenticate", "")
            problem = self._refused(answer)
            tried = authorizer.answer(endpoint, offered, request.scopes, header)
            if tried is None:
                raise problem if problem.code == "DENIED" else problem.as_kind()
            header = tried
            answer = self._follow(endpoint, request, header, stop)
        if answer.status in request.expected:
            return answer
        raise self._refused(answer)

    def _refused(self, answer: Answer) -> Refused:
        retry = answer.headers.get("retry-after", "")
        seconds = float(retry) if retry.isdecimal() and len(retry) < 6 else 0
        try:
            body = answer.read_all(_LARGEST_REFUSAL)
        except BrokenConnection:
            body = b""
            answer.close()
        if answer.status == 400 and _WANTS_TLS in body:
            raise NotSpoken("the server wants TLS")
        if answer.status == 401 and lacks_rights(answer.headers.get("www-authenticate", "")):
            return Refused(401, "DENIED", DENIED)
        return refusal(answer.status, answer.reason, body, retry_after=seconds)

    def _follow(
        self, endpoint: Endpoint, request: Request, authorization: str, stop: Stop
    ) -> Answer:
        """Send and follow redirects; what is meant for the registry is told to no one else."""
        own = dict(endpoint.headers)
        if authorization:
            own["Authorization"] = authorization
        headers = dict(request.headers)
        if _same_origin(request.url, endpoint):
            headers |= own
        answer = self._once(endpoint, request, headers, stop)
        for _ in range(_MOST_REDIRECTS):
            if answer.status not in _REDIRECTS or answer.status in request.expected:
                return answer
            location = answer.headers.get("location", "")
            answer.close()
            url = join_url(request.url, location)
            before, after = Origin.parse(request.url), Origin.parse(url)
            if before.scheme == "https" and after.scheme == "http":
                raise Invalid(f"refused a redirect from {before} to {after}: it leaves TLS")
            if after != before:
                for name in own:
                    headers.pop(name, None)
                if request.secret:
                    raise Invalid(
                        f"refused a redirect from {before} to {after}: it takes secrets along"
                    )
            method = request.method
            if answer.status == 303 and method != "HEAD":
                request = replace(request, method="GET", body=None)
            request = replace(request, url=url)
            answer = self._once(endpoint, request, headers, stop)
        answer.close()
        raise Invalid(
            f"refused more than {_MOST_REDIRECTS} redirects at {Origin.parse(request.url)}"
        )

    def _once(
        self, endpoint: Endpoint, request: Request, headers: Mapping[str, str], stop: Stop
    ) -> Answer:
        origin = Origin.parse(request.url)
        trust = endpoint.trust if origin == endpoint.origin else self._foreign_trust(origin)
        connection = self._take(origin, trust)
        if connection is not None:
            try:
                return self._exchange(connection, origin, trust, request, headers, stop)
            except BrokenConnection:
                # It may have been closed while idle, at any time (RFC 9112, 9.3.1). A PATCH says
                # "from there on", and may have been taken in part.
                stop.check()
                if request.method == "PATCH":
                    raise
        connection = dial(origin, trust, self._proxies, stop)
        return self._exchange(connection, origin, trust, request, headers, stop)

    def _exchange(
        self,
        connection: Connection,
        origin: Origin,
        trust: Trust,
        request: Request,
        headers: Mapping[str, str],
        stop: Stop,
    ) -> Answer:
        parts = urlsplit(request.url)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        complete = {"Host": origin.authority, "User-Agent": self._agent, **headers}
        through = proxy_header(origin, self._proxies)
        if through is not None:
            target = f"{origin}{target}"
            if through:
                complete["Proxy-Authorization"] = through
        body = request.body
        if isinstance(body, bytes):
            complete["Content-Length"] = str(len(body))
        elif body is not None:
            complete["Content-Length"] = str(request.length or 0)
        elif request.method in ("POST", "PUT", "PATCH"):
            complete["Content-Length"] = "0"
        whole = True
        try:
            with stop.waking(connection.abort):
                connection.send_head(request.method, target, complete)
                if body is not None:
                    whole = _send_body(connection, body)
                answer = connection.answer(request.method)
        except BaseException as error:
            connection.close()
            if isinstance(error, BrokenConnection):
                stop.check()
            raise
        answer.origin = str(origin)
        self._note_warnings(answer)
        answer.begin(lambda good: self._give_back(connection, origin, trust, good and whole))
        return answer

    def _note_warnings(self, answer: Answer) -> None:
        """Keep what a registry wants its users told, each text once (distribution-spec, "Warnings")."""
        field = answer.headers.get("warning", "")
        if not field:
            return
        for text in _WARNING.findall(field[:_LONGEST_WARNINGS]):
            plain = "".join(c if c.isprintable() else "?" for c in re.sub(r"\\(.)", r"\1", text))
            with self._lock:
                if plain not in self.warnings and len(self.warnings) < _MOST_WARNINGS:
                    self.warnings.append(plain)

    def _take(self, origin: Origin, trust: Trust) -> Connection | None:
        while True:
            with self._lock:
                pool = self._idle.get((origin, trust))
                if not pool:
                    return None
                connection = pool.pop()
            # An idle connection that has something to say has been closed.
            if not connection.ready():
                return connection
            connection.close()

    def _give_back(
        self, connection: Connection, origin: Origin, trust: Trust, reusable: bool
    ) -> None:
        with self._lock:
            pool = self._idle.setdefault((origin, trust), [])
            if reusable and not self._closed and len(pool) < _MOST_IDLE:
                pool.append(connection)
                return
        connection.close()

    def _foreign_trust(self, origin: Origin) -> Trust:
        return Trust(verify=not self._plain_allowed(origin))

    def _plain_allowed(self, origin: Origin) -> bool:
        return is_loopback(origin.host) or is_insecure(origin.host, origin.port, self._insecure)

    def _fetch_token(
        self, method: str, url: str, headers: Mapping[str, str], form: bytes | None, limit: int
    ) -> TokenAnswer:
        origin = Origin.parse(url)
        server = Endpoint(origin, trust=self._foreign_trust(origin))
        own = {name: value for name, value in headers.items() if name == "Authorization"}
        others = {name: value for name, value in headers.items() if name not in own}
        server = replace(server, headers=tuple(own.items()))
        request = Request(method, url, others, form, secret=form is not None)
        answer = self._follow(server, request, "", self.stop)
        return TokenAnswer(answer.status, answer.reason, answer.read_all(limit))


def _same_origin(url: str, endpoint: Endpoint) -> bool:
    return Origin.parse(url) == endpoint.origin


def _send_body(connection: Connection, body: Body) -> bool:
    """Send `body`; return whether all of it went out: a refusal comes before the end."""
    try:
        if isinstance(body, bytes):
            connection.send(body)
        elif body is not None:
            for piece in body():
                connection.send(piece)
                if connection.ready():
                    return False
    except BrokenConnection:
        # Whatever it said before it closed is worth more than that it closed.
        if not connection.ready():
            raise
        return False
    return True
