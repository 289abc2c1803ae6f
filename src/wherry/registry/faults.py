"""What a registry's refusal means, in the house's kinds and in Docker's words.

Source: distribution specification 1.1, "Error Codes"; the texts were observed with Docker 28.5.
"""

from __future__ import annotations

from typing import cast

import msgspec

from wherry.model.errors import (
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    TooManyRequests,
    Unauthorized,
    Unavailable,
    WherryError,
)

_SHOWN = 300
DENIED = "denied: requested access to the resource is denied"
# What docker/distribution takes a status for where the body has no error (the answer to a HEAD has none).
_CODES = {401: "UNAUTHORIZED", 403: "DENIED", 429: "TOOMANYREQUESTS"}
# What docker/distribution says of a code when the server does not.
_WORDS = {
    "UNAUTHORIZED": "authentication required",
    "DENIED": "requested access to the resource is denied",
    "MANIFEST_UNKNOWN": "manifest unknown",
    "NAME_UNKNOWN": "repository name not known to registry",
    "BLOB_UNKNOWN": "blob unknown to registry",
    "TOOMANYREQUESTS": "too many requests",
    "UNSUPPORTED": "The operation is unsupported.",
}


class Refused(WherryError):
    """An answer of 400 and above: its status, the first error code in its body, and what it says."""

    def __init__(self, status: int, code: str, message: str, *, retry_after: float = 0) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.retry_after = retry_after

    @property
    def missing(self) -> bool:
        """Whether it says that the thing is not there."""
        return self.status == 404 or self.code in ("MANIFEST_UNKNOWN", "NAME_UNKNOWN")

    @property
    def denied(self) -> bool:
        """Whether it says that credentials are missing, wrong or not enough."""
        return self.status in (401, 403) or self.code in ("UNAUTHORIZED", "DENIED")

    @property
    def temporary(self) -> bool:
        """Whether trying again later may help."""
        return self.status in (408, 425, 429) or self.status >= 500

    def as_kind(self) -> WherryError:
        """Return the error that a user is to see."""
        if self.status == 429:
            return TooManyRequests(self.message)
        if self.code != "DENIED" and (self.status == 401 or self.code == "UNAUTHORIZED"):
            return Unauthorized(self.message)
        if self.denied:
            return Forbidden(self.message)
        if self.missing:
            return Missing(self.message)
        if self.status == 409:
            return Conflict(self.message)
        if self.temporary:
            return Unavailable(self.message)
        return Invalid(self.message)


class Missing(NotFound):
    """Something that a registry does not have, in its own words."""

    def __init__(self, message: str) -> None:
        super().__init__("object", "")
        self.message = message
        self.args = (message,)


def refusal(status: int, reason: str, body: bytes, *, retry_after: float = 0) -> Refused:
    """Return what an answer of `status` with `body` says."""
    code, message = _first_error(status, body)
    said = message or (_plain(body) if not code else "")
    named = code or _CODES.get(status, "")
    text = f"{status} {_printable(reason)}".rstrip()
    if status >= 500:
        text = f"received unexpected HTTP status: {text}"
        text = f"{text} ({said})" if said else text
    elif named:
        text = named.lower().replace("_", " ")
        detail = said or _WORDS.get(named, "")
        text = f"{text}: {detail}" if detail else text
    else:
        text = f"the registry answered {text}"
        text = f"{text}: {said}" if said else text
    return Refused(status, code, text, retry_after=retry_after)


def _first_error(status: int, body: bytes) -> tuple[str, str]:
    try:
        answer = cast(object, msgspec.json.decode(body))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return "", ""
    if not isinstance(answer, dict):
        return "", ""
    fields = cast(dict[str, object], answer)
    errors = fields.get("errors")
    if isinstance(errors, list) and errors and isinstance(errors[0], dict):
        first = cast(dict[str, object], errors[0])
        return _text(first.get("code")), _text(first.get("message"))
    # Token servers: {"details": "…"} or OAuth's {"error": …, "error_description": …}, with 400 too.
    details = _text(fields.get("details") or fields.get("error_description") or "")
    code = "UNAUTHORIZED" if status == 400 else _CODES.get(status, "")
    return (code if details else "", details)


def _plain(body: bytes) -> str:
    """Return a body that is one line for people; of pages and documents nothing."""
    text = body.decode(errors="replace").strip()
    return "" if text.startswith(("<", "{", "[")) or "\n" in text else _printable(text)


def _text(value: object) -> str:
    return _printable(value) if isinstance(value, str) else ""


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)[:_SHOWN]
