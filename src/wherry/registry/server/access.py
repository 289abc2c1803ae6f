"""Who asks, and whether they may: basic and bearer authentication as Docker's clients speak them.

    request without credentials > 401, WWW-Authenticate: Bearer realm="…/auth/token",service=…,scope=…
    GET /auth/token?service=…&scope=…  with a password, or without > a signed token
    request with the token > done

Source: RFC 7617, RFC 6750, and Docker's "registry token authentication".
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from wherry.http.messages import Request
from wherry.registry.server.faults import Code, Fault, Headers
from wherry.registry.server.rights import ALL, Rights
from wherry.registry.server.tokens import Bearer, Scope, Tokens
from wherry.registry.server.users import Users

TOKEN_PATH: Final = "/auth/token"
_HOST: Final = re.compile(r"[A-Za-z0-9._-]+(?::[0-9]+)?|\[[0-9A-Fa-f:.]+\](?::[0-9]+)?")


@dataclass(frozen=True, slots=True)
class Policy:
    """How the registry authenticates."""

    users: Users | None
    """None: there are no passwords, everybody is nobody."""
    rights: Rights
    tokens: Tokens
    basic: bool = False
    """Ask for a password with each request instead of offering tokens."""
    scheme: str = "http"
    public_url: str = ""
    """Where clients reach the registry, when that is not what they name as Host."""
    realm: str = "wherry registry"


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who asks: a user, or nobody; `bearer` limits what a token is for."""

    user: str = ""
    bearer: Bearer | None = None
    presented: bool = False
    """Credentials came with the request, and were good."""


class Gate:
    """Decides for each request."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy

    async def visitor(self, request: Request) -> Visitor:
        """Return who asks. Raises Fault UNAUTHORIZED for credentials that are not good."""
        kind, _, value = request.headers.get("authorization", "").partition(" ")
        match kind.lower():
            case "":
                return Visitor()
            case "bearer":
                bearer = self.policy.tokens.verify(value.strip())
                if bearer is None:
                    raise self.challenge(request, (), error="invalid_token")
                return Visitor(bearer.user, bearer, presented=True)
            case "basic":
                user = await self.password(value)
                if user is None:
                    raise self.challenge(request, ())
                return Visitor(user, presented=True)
            case _:
                raise self.challenge(request, ())

    async def password(self, value: str) -> str | None:
        """Return the user that a Basic field's value proves, None where it proves none."""
        credentials = parse_basic(value)
        if credentials is None:
            return None
        if self.policy.users is None:
            # Nobody has a password here: any is as good as none, as Docker's registry has it.
            return ""
        user, password = credentials
        return user if await self.policy.users.verify(user, password) else None

    def may(self, visitor: Visitor, repository: str, action: str) -> bool:
        """Whether the visitor may do `action` (pull, push, delete) in `repository`."""
        if visitor.bearer is not None and not visitor.bearer.allows(
            "repository", repository, action
        ):
            return False
        # Asked again although the token says so: rights may have been taken away since.
        return action in self.policy.rights.allowed(visitor.user, repository)

    def require(self, request: Request, visitor: Visitor, scopes: Iterable[Scope]) -> None:
        """Raise Fault unless the visitor may do all of `scopes`.

        UNAUTHORIZED, with the way to a token that would do, or DENIED where none would.
        """
        wanted = tuple(scopes)
        if all(
            self.may(visitor, scope.name, action) for scope in wanted for action in scope.actions
        ):
            return
        hopeless = visitor.presented and visitor.bearer is None
        if hopeless or self.policy.users is None:
            raise Fault(
                Code.DENIED,
                "requested access to the resource is denied",
                detail=[str(scope) for scope in wanted],
            )
        error = "insufficient_scope" if visitor.bearer is not None else ""
        raise self.challenge(request, wanted, error=error)

    def require_known(self, request: Request, visitor: Visitor) -> None:
        """Raise Fault UNAUTHORIZED where passwords are in use and the request brought nothing.

        For `/v2/`: clients learn there, and only there, how to authenticate.
        """
        if self.policy.users is not None and not visitor.presented:
            raise self.challenge(request, ())

    def grant(self, user: str, scopes: Iterable[Scope]) -> list[Scope]:
        """Return what of `scopes` `user` (empty: nobody) may do."""
        granted: list[Scope] = []
        for scope in scopes:
            if scope.kind == "registry":
                actions = scope.actions & {"*"}
            else:
                asked = ALL if "*" in scope.actions else scope.actions
                actions = asked & self.policy.rights.allowed(user, scope.name)
            if actions:
                granted.append(Scope(scope.kind, scope.name, frozenset(actions)))
        return granted

    def challenge(self, request: Request, scopes: tuple[Scope, ...], *, error: str = "") -> Fault:
        """Return the 401 that tells how to authenticate for `scopes`."""
        return Fault(
            Code.UNAUTHORIZED,
            "authentication required",
            detail=[str(scope) for scope in scopes] or None,
            headers=self._challenge_field(request.headers, scopes, error),
        )

    def _challenge_field(
        self, headers: Mapping[str, str], scopes: tuple[Scope, ...], error: str
    ) -> Headers:
        if self.policy.basic:
            return (("WWW-Authenticate", f'Basic realm="{self.policy.realm}"'),)
        base = self.policy.public_url.rstrip("/")
        if not base:
            host = headers.get("host", "")
            # What is no host's name is not sent back.
            base = f"{self.policy.scheme}://{host if _HOST.fullmatch(host) else 'localhost'}"
        field = f'Bearer realm="{base}{TOKEN_PATH}",service="{self.policy.tokens.service}"'
        if scopes:
            field += f',scope="{" ".join(map(str, scopes))}"'
        if error:
            field += f',error="{error}"'
        return (("WWW-Authenticate", field),)


def parse_basic(value: str) -> tuple[str, str] | None:
    """Return user and password of a Basic field's value, None where it is none."""
    try:
        text = base64.b64decode(value.strip(), validate=True).decode()
    except (binascii.Error, ValueError):
        return None
    user, colon, password = text.partition(":")
    return (user, password) if colon else None
