"""An engine's refusals, and its silence, as errors of `wherry.model`."""

from __future__ import annotations

from wherry.model.errors import (
    Conflict,
    Forbidden,
    Full,
    Internal,
    Invalid,
    NotFound,
    Unavailable,
    Unsupported,
    WherryError,
)


class Unreachable(Unavailable):
    """No engine answered at the address; `refused` says whether nothing listens there at all."""

    def __init__(self, message: str, *, refused: bool = False, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.refused = refused


class Missing(NotFound):
    """The engine's 404, with the engine's own message."""

    def __init__(self, message: str) -> None:
        super().__init__("object", "")
        self.message = message
        self.args = (message,)


KIND_OF_STATUS: dict[int, type[WherryError]] = {
    400: Invalid,
    401: Forbidden,
    403: Forbidden,
    404: Missing,
    405: Unsupported,
    406: Invalid,
    409: Conflict,
    413: Invalid,
    431: Invalid,
    500: Internal,
    501: Unsupported,
    503: Unavailable,
    507: Full,
}


def fault_of(status: int, message: str) -> WherryError:
    """Return the error that an answer of `status` with the engine's `message` means."""
    kind = KIND_OF_STATUS.get(status)
    if kind is None:
        kind = Invalid if 400 <= status < 500 else Internal
    return kind(message)
