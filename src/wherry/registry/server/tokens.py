"""Tokens: what their bearer may do, signed with a key of this registry, verified without asking anyone.

A JSON Web Token (RFC 7519) with HMAC-SHA-256; only that algorithm is ever accepted, whatever a token's
head says (RFC 8725, 3.1). Scopes and claims are those of Docker's registry token authentication.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import os
import secrets
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from wherry.kernel.durable import write_file
from wherry.model.errors import Invalid
from wherry.registry.names import is_repository

LIFETIME: Final = 300
"""Seconds. A push that takes longer asks for another token on its next 401."""
REFRESH_LIFETIME: Final = 30 * 86400
_LEEWAY: Final = 5
_LONGEST: Final = 16 << 10
_HEAD: Final = b'{"typ":"JWT","alg":"HS256"}'
_KEY_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class Scope:
    """One thing and what is to be done with it: `repository:library/debian:pull,push`."""

    kind: str
    name: str
    actions: frozenset[str]

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}:{','.join(sorted(self.actions, reverse=True))}"


class _Access(msgspec.Struct):
    type: str
    name: str
    actions: list[str]


class _Claims(msgspec.Struct, omit_defaults=True):
    iss: str
    aud: str
    sub: str
    exp: int
    nbf: int
    iat: int
    jti: str
    access: list[_Access] = []
    refresh: str = ""
    """The fingerprint of the user's password, in a refresh token; such a token is good for nothing else."""


_claims: Final = msgspec.json.Decoder(_Claims)


@dataclass(frozen=True, slots=True)
class Bearer:
    """What a token says: the user (empty: anonymous) and what may be done."""

    user: str
    scopes: tuple[Scope, ...]

    def allows(self, kind: str, name: str, action: str) -> bool:
        """Whether the token is for this."""
        return any(
            scope.kind == kind and scope.name == name and action in scope.actions
            for scope in self.scopes
        )


class Tokens:
    """Makes and verifies the tokens of one registry."""

    def __init__(self, key: bytes, service: str) -> None:
        self._key = key
        self.service = service

    def issue(self, user: str, scopes: Iterable[Scope]) -> str:
        """Return a token for `user` (empty: anonymous) that allows `scopes` for LIFETIME seconds."""
        access = [_Access(s.kind, s.name, sorted(s.actions)) for s in scopes]
        return self._sign(self._claims(user, LIFETIME, access))

    def issue_refresh(self, user: str, fingerprint: str) -> str:
        """Return a token that stands for the user's password until that changes."""
        claims = self._claims(user, REFRESH_LIFETIME, [])
        claims.refresh = fingerprint
        return self._sign(claims)

    def verify(self, token: str) -> Bearer | None:
        """Return what `token` says; None where it is not ours, or not good any more."""
        claims = self._read(token)
        if claims is None or claims.refresh:
            return None
        scopes = (Scope(a.type, a.name, frozenset(a.actions)) for a in claims.access)
        return Bearer(claims.sub, tuple(scopes))

    def verify_refresh(self, token: str) -> tuple[str, str] | None:
        """Return user and fingerprint of a refresh token; None as `verify`."""
        claims = self._read(token)
        return None if claims is None or not claims.refresh else (claims.sub, claims.refresh)

    def _claims(self, user: str, lifetime: int, access: list[_Access]) -> _Claims:
        now = int(time.time())
        return _Claims(
            iss=self.service,
            aud=self.service,
            sub=user,
            exp=now + lifetime,
            nbf=now - _LEEWAY,
            iat=now,
            jti=secrets.token_hex(8),
            access=access,
        )

    def _sign(self, claims: _Claims) -> str:
        body = _encode(_HEAD) + b"." + _encode(msgspec.json.encode(claims))
        return (body + b"." + _encode(self._mac(body))).decode()

    def _mac(self, body: bytes) -> bytes:
        return hmac.digest(self._key, body, "sha256")

    def _read(self, token: str) -> _Claims | None:
        if len(token) > _LONGEST or not token.isascii():
            return None
        body, _, mac = token.encode().rpartition(b".")
        try:
            # First of all: nothing of an unsigned token is looked at.
            if not hmac.compare_digest(_decode(mac), self._mac(body)):
                return None
            claims = _claims.decode(_decode(body.partition(b".")[2]))
        except (binascii.Error, ValueError, msgspec.DecodeError):
            return None
        now = time.time()
        timely = claims.nbf - _LEEWAY <= now < claims.exp
        return claims if timely and claims.aud == claims.iss == self.service else None


def _encode(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def _decode(data: bytes) -> bytes:
    return base64.b64decode(data + b"=" * (-len(data) % 4), altchars=b"-_", validate=True)


def parse_scopes(texts: Iterable[str]) -> list[Scope]:
    """Return the scopes that `texts` write, each perhaps several apart by blanks; odd ones are left out."""
    found: list[Scope] = []
    for text in (word for given in texts for word in given.split()):
        kind, _, rest = text.partition(":")
        name, _, actions = rest.rpartition(":")
        kind = kind.partition("(")[0]
        known = kind == "registry" and name == "catalog"
        if (known or (kind == "repository" and is_repository(name))) and actions:
            found.append(Scope(kind, name, frozenset(actions.split(","))))
    return found[:100]


def load_key(root: Path) -> bytes:
    """Return the registry's key, kept in `<root>/token.key`; made where there is none. Raises Invalid."""
    path = root / "token.key"
    try:
        key = path.read_bytes()
    except FileNotFoundError:
        key = os.urandom(_KEY_BYTES)
        write_file(path, key)
    if len(key) < _KEY_BYTES:
        raise Invalid(f"{path} is no key: it has fewer than {_KEY_BYTES} bytes")
    return key
