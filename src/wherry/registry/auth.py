"""Authentication as registries ask for it: Basic, and bearer tokens fetched from a token server.

    request > 401, WWW-Authenticate: Bearer realm="…",service="…",scope="…" > token server > request
A token is kept until shortly before it expires, and fetched anew when a registry refuses it earlier.
Source: distribution's "Token Authentication Specification" and "OAuth2 Token Authentication"; RFC 9110, 11.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol
from urllib.parse import urlencode, urlsplit, urlunsplit

import msgspec

from wherry.model.errors import Invalid, Unauthorized, Unavailable
from wherry.registry.credentials import ANONYMOUS, Credentials
from wherry.registry.endpoints import Endpoint, Origin
from wherry.registry.faults import refusal

_LARGEST_ANSWER: Final = 1 << 20
_LONGEST_TOKEN: Final = 64 << 10
# The specification's default, and how much earlier a token counts as expired.
_DEFAULT_SECONDS: Final = 60
_EARLY_SECONDS: Final = 10
_LONGEST_SECONDS: Final = 365 * 24 * 3600
_CLIENT: Final = "wherry"

_SCHEME = re.compile(r"\s*([A-Za-z][A-Za-z0-9_-]*)(?:\s+|$|(?=,))")
_PARAMETER = re.compile(r'\s*([A-Za-z0-9_-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s",]+))\s*(?:,|$)')


@dataclass(frozen=True, slots=True)
class Challenge:
    """One way in that a 401 offers."""

    scheme: str
    """Lower case."""
    parameters: Mapping[str, str]


def parse_challenges(header: str) -> list[Challenge]:
    """Return the challenges of a WWW-Authenticate header; what is malformed ends the list."""
    found: list[Challenge] = []
    position = 0
    while position < len(header):
        scheme = _SCHEME.match(header, position)
        if scheme is None:
            break
        position = scheme.end()
        parameters: dict[str, str] = {}
        while parameter := _PARAMETER.match(header, position):
            name, quoted, plain = parameter.groups()
            value = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else plain
            parameters.setdefault(name.lower(), value)
            position = parameter.end()
        found.append(Challenge(scheme[1].lower(), parameters))
        rest = header[position:]
        position += len(rest) - len(rest.lstrip(" ,\t"))
    return found


def lacks_rights(header: str) -> bool:
    """Whether a 401 says that who is known may not do this (RFC 6750, 3.1): no password would help."""
    return any(
        challenge.parameters.get("error") == "insufficient_scope"
        for challenge in parse_challenges(header)
    )


@dataclass(frozen=True, slots=True)
class TokenAnswer:
    """A token server's answer."""

    status: int
    reason: str
    body: bytes


class Fetch(Protocol):
    """What fetches from a token server: given method, URL, headers and a form, redirects followed."""

    def __call__(
        self, method: str, url: str, headers: Mapping[str, str], form: bytes | None, limit: int
    ) -> TokenAnswer:
        """Return the answer. Raises Unavailable."""
        ...


class _Token(msgspec.Struct):
    token: str | None = ""
    access_token: str | None = ""
    refresh_token: str | None = ""
    expires_in: int | float | None = None


class NoCredentials(Unauthorized):
    """The registry wants a name and a password, and there are none."""


class Authorizer:
    """Knows what to put into Authorization for one registry. Thread safe."""

    def __init__(
        self,
        credentials: Credentials,
        fetch: Fetch,
        *,
        plain_allowed: Callable[[Origin], bool],
    ) -> None:
        """`plain_allowed` tells whether credentials may go to an origin without TLS."""
        self.keeping = False
        """Whether a token server is asked for an identity token as well, for `login`."""
        self._credentials = credentials
        self._fetch = fetch
        self._plain_allowed = plain_allowed
        self._lock = threading.Lock()
        self._challenges: dict[Origin, Challenge] = {}
        self._tokens: dict[tuple[Origin, tuple[str, ...]], tuple[str, float]] = {}
        self._fetching: dict[tuple[Origin, tuple[str, ...]], threading.Lock] = {}
        self.identity_token = ""
        """A refresh token that a token server gave, for `login` to keep."""

    def header(self, endpoint: Endpoint, scopes: tuple[str, ...]) -> str:
        """Return the header's value for a request, empty where none is known to be needed."""
        credentials = self._of(endpoint)
        if credentials.registry_token:
            return f"Bearer {credentials.registry_token}"
        with self._lock:
            challenge = self._challenges.get(endpoint.origin)
            known = self._tokens.get((endpoint.origin, scopes))
        if challenge is None:
            return ""
        if challenge.scheme == "basic":
            return credentials.basic
        if known is not None and known[1] > time.monotonic():
            return f"Bearer {known[0]}"
        return self._new_token(endpoint, challenge, scopes, known[0] if known else "")

    def answer(
        self, endpoint: Endpoint, offered: str, scopes: tuple[str, ...], used: str
    ) -> str | None:
        """Return the header to try after a 401 that offers `offered`; None where nothing is left to try.

        `used` is the header that was refused. Raises Unauthorized with a token server's words, and
        NoCredentials.
        """
        credentials = self._of(endpoint)
        challenges = {challenge.scheme: challenge for challenge in parse_challenges(offered)}
        bearer, basic = challenges.get("bearer"), challenges.get("basic")
        if credentials.registry_token:
            return None
        if bearer is not None:
            with self._lock:
                self._challenges[endpoint.origin] = bearer
            refused = used.removeprefix("Bearer ")
            header = self._new_token(endpoint, bearer, scopes, refused)
            return header if header != used else None
        if basic is not None:
            self._check_plain(endpoint.origin)
            if not credentials.basic:
                raise NoCredentials("no basic auth credentials")
            with self._lock:
                self._challenges[endpoint.origin] = basic
            return credentials.basic if credentials.basic != used else None
        return None

    def _of(self, endpoint: Endpoint) -> Credentials:
        # A mirror is somebody else: it must not see what its upstream is shown.
        return ANONYMOUS if endpoint.mirror else self._credentials

    def _check_plain(self, origin: Origin) -> None:
        if origin.scheme == "http" and not self._plain_allowed(origin):
            raise Unauthorized(f"credentials are not sent to {origin} without TLS")

    def _new_token(
        self, endpoint: Endpoint, challenge: Challenge, scopes: tuple[str, ...], refused: str
    ) -> str:
        key = (endpoint.origin, scopes)
        with self._lock:
            fetching = self._fetching.setdefault(key, threading.Lock())
        with fetching:
            with self._lock:
                known = self._tokens.get(key)
            # Another thread fetched one while this one waited.
            if known and known[0] != refused and known[1] > time.monotonic():
                return f"Bearer {known[0]}"
            token, seconds = self._fetch_token(endpoint, challenge, scopes)
            with self._lock:
                self._tokens[key] = (token, time.monotonic() + max(seconds - _EARLY_SECONDS, 1))
            return f"Bearer {token}"

    def _fetch_token(
        self, endpoint: Endpoint, challenge: Challenge, scopes: tuple[str, ...]
    ) -> tuple[str, float]:
        realm = challenge.parameters.get("realm", "")
        try:
            server = Origin.parse(realm)
        except Invalid as error:
            raise Unauthorized(
                f"{endpoint.origin} names no usable token server: {error.message}"
            ) from None
        credentials = self._of(endpoint)
        service = challenge.parameters.get("service", "")
        wanted = list(scopes) or challenge.parameters.get("scope", "").split()
        if credentials.given:
            self._check_plain(server)
        if credentials.identity_token:
            form = {
                "grant_type": "refresh_token",
                "service": service,
                "client_id": _CLIENT,
                "scope": " ".join(wanted),
                "refresh_token": credentials.identity_token,
            }
            headers = {"Content-Type": "application/x-www-form-urlencoded"}
            answer = self._fetch("POST", realm, headers, urlencode(form).encode(), _LARGEST_ANSWER)
        else:
            query: list[tuple[str, str]] = [("service", service)] if service else []
            query += [("scope", scope) for scope in wanted]
            if credentials.username:
                query.append(("account", credentials.username))
                if self.keeping:
                    query += [("client_id", _CLIENT), ("offline_token", "true")]
            headers = {"Authorization": credentials.basic} if credentials.basic else {}
            answer = self._fetch("GET", _with_query(realm, query), headers, None, _LARGEST_ANSWER)
        return self._read(answer, server)

    def _read(self, answer: TokenAnswer, server: Origin) -> tuple[str, float]:
        if answer.status // 100 != 2:
            problem = refusal(answer.status, answer.reason, answer.body)
            if answer.status in (400, 401):
                message = problem.message
                if not problem.code:
                    message = "unauthorized: incorrect username or password"
                raise Unauthorized(message)
            if answer.status == 403 or problem.temporary:
                raise problem
            # Not Refused: its 404 would say that the image is missing.
            raise Unavailable(f"{server} gives no tokens: {problem.message}")
        try:
            token = msgspec.json.decode(answer.body, type=_Token)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise Unavailable(f"{server}: unable to decode token response") from None
        text = token.token or token.access_token
        if not text or len(text) > _LONGEST_TOKEN or not text.isascii() or not text.isprintable():
            raise Unavailable(
                f"{server}: authorization server did not include a token in the response"
            )
        self.identity_token = token.refresh_token or ""
        return text, float(min(token.expires_in or _DEFAULT_SECONDS, _LONGEST_SECONDS))


def _with_query(url: str, query: list[tuple[str, str]]) -> str:
    parts = urlsplit(url)
    joined = "&".join(text for text in (parts.query, urlencode(query)) if text)
    return urlunsplit((parts.scheme, parts.netloc, parts.path, joined, ""))


__all__ = ["Authorizer", "Challenge", "Fetch", "NoCredentials", "TokenAnswer", "parse_challenges"]
