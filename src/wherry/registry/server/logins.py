"""`/auth/token`: credentials in, a signed token out. Source: Docker's "registry token authentication"
and its OAuth2 form (`POST`)."""

from __future__ import annotations

import datetime
from typing import Final
from urllib.parse import parse_qs

import msgspec

from wherry.http.messages import Request, Response
from wherry.registry.server.access import Gate
from wherry.registry.server.bodies import read_whole
from wherry.registry.server.faults import Code, Fault
from wherry.registry.server.tokens import LIFETIME, Scope, parse_scopes

_FORM_LIMIT: Final = 64 << 10
_NOT_KEPT: Final = (("Cache-Control", "no-store"),)


class LoginRoutes:
    """Answers for tokens."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    async def get(self, request: Request) -> Response:
        """`GET`: a password by basic authentication, or none."""
        kind, _, value = request.headers.get("authorization", "").partition(" ")
        user = ""
        if kind:
            known = await self._gate.password(value) if kind.lower() == "basic" else None
            if known is None:
                raise _refused(self._gate.policy.realm)
            user = known
        scopes = parse_scopes(request.query.get("scope", []))
        offline = bool(user) and request.flag("offline_token")
        return self._grant(user, scopes, refresh=offline)

    async def post(self, request: Request) -> Response:
        """`POST`: OAuth2's grants `password` and `refresh_token`."""
        form = parse_qs(
            (await read_whole(request, _FORM_LIMIT, Code.UNSUPPORTED)).decode("utf-8", "replace")
        )

        def field(name: str) -> str:
            return form.get(name, [""])[0]

        policy = self._gate.policy
        match field("grant_type"):
            case "password":
                user = field("username")
                right = policy.users is None or await policy.users.verify(user, field("password"))
                if not right:
                    raise _refused(policy.realm)
                user = user if policy.users is not None else ""
            case "refresh_token":
                user = self._refreshed(field("refresh_token"))
            case other:
                raise Fault(
                    Code.UNSUPPORTED, f"unsupported grant type: {other[:100]!r}", status=400
                )
        scopes = parse_scopes(form.get("scope", []))
        return self._grant(user, scopes, refresh=field("access_type") == "offline" and bool(user))

    def _refreshed(self, token: str) -> str:
        policy = self._gate.policy
        found = policy.tokens.verify_refresh(token)
        # A changed password or a removed user ends every token made with it.
        if found is None or policy.users is None or policy.users.fingerprint(found[0]) != found[1]:
            raise _refused(policy.realm)
        return found[0]

    def _grant(self, user: str, scopes: list[Scope], *, refresh: bool) -> Response:
        policy = self._gate.policy
        token = policy.tokens.issue(user, self._gate.grant(user, scopes))
        now = datetime.datetime.now(datetime.UTC)
        answer: dict[str, object] = {
            "token": token,
            "access_token": token,
            "expires_in": LIFETIME,
            "issued_at": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
        if refresh and policy.users is not None and (mark := policy.users.fingerprint(user)):
            answer["refresh_token"] = policy.tokens.issue_refresh(user, mark)
        return Response(200, msgspec.json.encode(answer), "application/json", _NOT_KEPT)


def _refused(realm: str) -> Fault:
    return Fault(
        Code.UNAUTHORIZED,
        "incorrect username or password",
        headers=(("WWW-Authenticate", f'Basic realm="{realm}"'),),
    )
