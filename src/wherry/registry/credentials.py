"""What a user shows a registry, as the API's X-Registry-Auth header carries it.

Source: Engine API v1.51, "Authentication".
"""

from __future__ import annotations

import binascii
from base64 import b64decode, b64encode, urlsafe_b64decode
from dataclasses import dataclass
from typing import cast

import msgspec


@dataclass(frozen=True, slots=True, repr=False)
class Credentials:
    """A name with a password, an identity token (OAuth's refresh token), or a token to be sent as it is."""

    username: str = ""
    password: str = ""
    identity_token: str = ""
    registry_token: str = ""
    server: str = ""

    @property
    def given(self) -> bool:
        """Whether there is anything to show."""
        return bool(self.username or self.identity_token or self.registry_token)

    @property
    def basic(self) -> str:
        """The value of a Basic Authorization header, empty without a password."""
        if not self.username or not self.password:
            return ""
        return f"Basic {b64encode(f'{self.username}:{self.password}'.encode()).decode()}"


ANONYMOUS = Credentials()


def parse_credentials(document: object) -> Credentials:
    """Return the credentials in an AuthConfig object; what it has in other shapes is passed over."""
    if not isinstance(document, dict):
        return ANONYMOUS
    fields = cast(dict[str, object], document)

    def text(name: str) -> str:
        value = fields.get(name)
        return value if isinstance(value, str) else ""

    username, password = text("username"), text("password")
    if not username and text("auth"):
        try:
            decoded = b64decode(text("auth")).decode()
        except (binascii.Error, UnicodeDecodeError):
            decoded = ""
        username, _, password = decoded.partition(":")
    return Credentials(
        username, password, text("identitytoken"), text("registrytoken"), text("serveraddress")
    )


def decode_header(text: str) -> Credentials:
    """Return what X-Registry-Auth carries: base64, URL-safe, of JSON. Anything else is no credentials,
    as with Docker."""
    try:
        padded = text + "=" * (-len(text) % 4)
        return parse_credentials(
            msgspec.json.decode(urlsafe_b64decode(padded.replace("+", "-").replace("/", "_")))
        )
    except (binascii.Error, ValueError, msgspec.DecodeError, RecursionError):
        return ANONYMOUS
